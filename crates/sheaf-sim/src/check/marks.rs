//! local and agreed are told apart: what differs between both views is marked as waiting, and what
//! gave way to others, and only that, is listed.

use sheaf_site::{Conflict, ConflictKind, PendingChange, Value};
use sheaf_volume::{TimelineId, Verdict};

use crate::oracle::{
    SiteOracle,
    ledger::{Entry, Ledger, Writer},
};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "local and agreed are told apart", what }
}

/// The changes that a device lists as waiting: all of them, in order, each with the rows that it is
/// known to change.
pub(crate) fn pending(
    who: &str,
    ledger: &Ledger,
    timeline: TimelineId,
    waiting: &[u64],
    listed: &[PendingChange],
) -> Checked {
    let numbers: Vec<u64> = listed.iter().map(|change| change.info.seq).collect();
    if numbers != waiting {
        return Err(violated(format!("{who} lists {numbers:?} as waiting, which are {waiting:?}")));
    }
    for change in listed {
        let entry = ledger.entry(timeline, change.info.seq);
        let touched = entry.and_then(|entry| entry.transaction.touches());
        let (Some((table, key)), Some(rows)) = (touched, &change.rows) else { continue };
        let key = Value::Text(key);
        if !rows.iter().any(|row| row.table == table && row.key.first() == Some(&key)) {
            let what = format!("{who} lists change {} without {table} {key:?}", change.info.seq);
            return Err(violated(what));
        }
    }
    Ok(())
}

/// Where nothing waits, nothing is marked and nothing differs.
pub(crate) fn nothing_waits(who: &str, table: &str, marked: i64, differing: &[String]) -> Checked {
    if marked == 0 && differing.is_empty() {
        return Ok(());
    }
    let what =
        format!("{who}: nothing waits, {marked} rows of {table} are marked, {differing:?} differ");
    Err(violated(what))
}

/// A row that differs was changed here.
pub(crate) fn differs(who: &str, table: &str, id: &str, mark: Option<bool>) -> Checked {
    if mark != Some(false) {
        return Ok(());
    }
    Err(violated(format!("{who} shows another {table} {id} than is agreed on, and marks nothing")))
}

/// What a device lists as values that gave way, with what waits on it at its base, and whether
/// that was redone since it was opened.
pub(crate) fn conflicts(
    who: &str,
    site: &SiteOracle,
    (timeline, base): (TimelineId, u64),
    (waiting, is_redone): (&[PendingChange], bool),
    listed: &[Conflict],
) -> Checked {
    let seqs: Vec<u64> = waiting.iter().map(|change| change.info.seq).collect();
    for conflict in listed.iter().filter(|conflict| conflict.table.as_deref() == Some("note")) {
        if conflict.kind != ConflictKind::Rejected {
            was_decided(who, &site.ledger, timeline, &seqs, conflict)?;
        }
    }
    let kept = listed.iter().filter(|conflict| conflict.id.is_some()).count();
    if kept >= sheaf_site::limits::CONFLICTS_MAX || !is_redone {
        // The oldest are forgotten; and which mutations fail is known after a redo.
        return Ok(());
    }
    is_whole(who, site, (timeline, base), waiting, listed)
}

/// One that is listed was decided against somebody whom its author had not seen.
fn was_decided(
    who: &str,
    ledger: &Ledger,
    timeline: TimelineId,
    waiting: &[u64],
    conflict: &Conflict,
) -> Checked {
    let wrong = |why: &str| Err(violated(format!("{who} lists {conflict:?}: {why}")));
    if conflict.kind != ConflictKind::Overridden {
        return wrong("of texts that nobody deletes the later stands");
    }
    let text = |value: &Option<Value>| match value {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let ours = text(&conflict.ours).and_then(|text| ledger.wrote(&text));
    let Some(ours) = ours.filter(|ours| ours.timeline == timeline) else {
        return wrong("it was never written here");
    };
    if conflict.is_decided == waiting.contains(&ours.seq) {
        return wrong("it waits, or does not");
    }
    if matches!(ours.entry.decided, Some((_, Verdict::Rejected))) && conflict.is_decided {
        return wrong("it was refused");
    }
    let theirs = text(&conflict.theirs).and_then(|text| ledger.wrote(&text));
    let others = theirs.as_ref().is_some_and(|theirs| is_news(theirs, &ours));
    // An own value that failed then is news as well: what was seen is older than it.
    let hidden = theirs.is_some_and(|theirs| {
        let saw = text(&conflict.base).and_then(|saw| ledger.wrote(&saw));
        let is_older = saw.is_none_or(|saw| saw.timeline != timeline || saw.seq < theirs.seq);
        theirs.timeline == timeline && theirs.seq < ours.seq && is_older
    });
    if others || hidden || rests_on_lost(ledger, &ours) {
        return Ok(());
    }
    wrong("nobody else had written that meanwhile")
}

/// Whether somebody else's value came after what an author had seen.
fn is_news(theirs: &Writer<'_>, ours: &Writer<'_>) -> bool {
    let (Some((at, verdict)), Some(made_on)) = (theirs.entry.decided, ours.entry.made_on) else {
        // Of one whose commit was cut short nobody knows what it had seen.
        return theirs.entry.decided.is_some() && ours.entry.made_on.is_none();
    };
    theirs.timeline != ours.timeline && verdict != Verdict::Rejected && at > made_on
}

/// Whether an author wrote over an own value that may never have come to be.
fn rests_on_lost(ledger: &Ledger, ours: &Writer<'_>) -> bool {
    let before = ledger.of(ours.timeline).filter(|(seq, _)| *seq < ours.seq);
    let lost = |entry: &Entry| {
        let undecided = entry.decided.is_none_or(|(_, verdict)| verdict == Verdict::Rejected);
        undecided && entry.transaction.edits(ours.cell).is_some()
    };
    before.into_iter().any(|(_, entry)| lost(entry))
}

/// Whatever waits here and stands over a value that its author had not seen is listed.
fn is_whole(
    who: &str,
    site: &SiteOracle,
    (timeline, base): (TimelineId, u64),
    waiting: &[PendingChange],
    listed: &[Conflict],
) -> Checked {
    let mut seen = Vec::new();
    for change in waiting {
        let Some(entry) = site.ledger.entry(timeline, change.info.seq) else { continue };
        for cell in entry.transaction.edited() {
            // What comes later here has seen the first.
            if seen.contains(&cell) {
                continue;
            }
            seen.push(cell.clone());
            let (Some(ours), Some(made_on)) =
                (entry.transaction.edits((cell.0, &cell.1)), entry.made_on)
            else {
                continue;
            };
            let there = site.note_at(base, cell.0, &cell.1);
            let Some(theirs) = there.as_deref().and_then(|text| site.ledger.wrote(text)) else {
                continue;
            };
            let since = theirs.entry.decided.is_some_and(|(at, _)| at > made_on && at <= base);
            if change.failing.is_some() || theirs.timeline == timeline || !since {
                continue;
            }
            let ours = Some(Value::Text(ours.to_owned()));
            if !listed.iter().any(|conflict| conflict.ours == ours) {
                return Err(violated(format!(
                    "{who} does not list that {ours:?} of change {} stands over {there:?}",
                    change.info.seq
                )));
            }
        }
    }
    Ok(())
}

/// The cells that are listed as keeping several values, against those that do.
pub(crate) fn siblings(who: &str, doc: &str, keeps: &[String], listed: &[Conflict]) -> Checked {
    let key = [Value::Text(doc.to_owned())];
    let listed = listed
        .iter()
        .find(|conflict| conflict.kind == ConflictKind::Siblings && conflict.key == key);
    let listed: Vec<Value> = listed.map(|listed| listed.siblings.clone()).unwrap_or_default();
    let keeps: Vec<Value> = keeps.iter().cloned().map(Value::Text).collect();
    if keeps.len() < 2 && listed.is_empty() || keeps == listed {
        return Ok(());
    }
    Err(violated(format!("{who} keeps {keeps:?} in {doc} and lists {listed:?}")))
}
