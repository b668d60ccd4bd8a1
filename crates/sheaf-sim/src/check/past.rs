//! history is what happened: the changes that are told of a row lead from what it is, one by one,
//! through what it was at every position, and name who decided them.

use std::collections::BTreeMap;

use sheaf_site::{
    Error, ErrorKind, Value,
    history::{Cell, End, History, RowChange, RowEvent},
};
use sheaf_volume::Verdict;

use crate::{
    oracle::SiteOracle,
    workload::{Step, Transaction},
};

use super::{Checked, Violation};

/// A row by the names of its columns.
type Row = BTreeMap<String, Value>;

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "history is what happened", what }
}

/// What is told of one row, at a position of which the oracle knows all that came before.
pub(crate) fn of_row(
    who: &str,
    site: &SiteOracle,
    base: u64,
    (table, id): (&str, &str),
    (now, history): (Option<Row>, &History),
) -> Checked {
    let wrong = |what: String| {
        Err(violated(format!("{who}, {table} {id}: {what}; told: {:?}", history.events)))
    };
    let oldest = history.events.last().and_then(|event| event.origin.at).map_or(base, |at| at.0);
    let floor = match &history.end {
        End::Beginning => 0,
        End::Expired { lsn } => lsn.0,
        // The oldest commit that is told may have changed the row before, by another mutation.
        End::Limit => oldest,
        // Of what is older nothing was asked.
        _ => oldest.saturating_sub(1),
    };
    let mut events = history.events.iter().peekable();
    let mut row = now;
    for lsn in (floor..=base).rev() {
        let says = site.says(lsn).unwrap_or_default();
        let (model, told) =
            (line(&says, table, id), row.as_ref().map(|row| written(&says, table, id, row)));
        if model != told.as_deref() {
            return wrong(format!("@{lsn} it was {model:?}, by what is told {told:?}"));
        }
        // Several of one commit where their device remembers them.
        let is_of_it = |event: &&RowEvent| event.origin.at.is_some_and(|at| at.0 == lsn);
        while let Some(event) = events.next_if(is_of_it) {
            row = match back(row, &event.change) {
                Ok(row) => row,
                Err(why) => return wrong(format!("@{lsn} {why}")),
            };
            is_theirs(site, lsn, event).or_else(wrong)?;
        }
    }
    if events.next().is_some() {
        return wrong("what is told is not in the log's order".to_owned());
    }
    let begins = matches!(history.end, End::Beginning | End::NoTable { .. });
    if begins && row.is_some() {
        return wrong("it was never made".to_owned());
    }
    Ok(())
}

/// Who may not take something back: it shares its commit, is not kept, or cannot be reached; only
/// a member to which somebody refers is refused for what it is.
pub(crate) fn may_refuse(who: &str, seq: u64, opposite: &Transaction, error: &Error) -> Checked {
    let refers = matches!(*opposite.steps, [Step::Remove { .. }]);
    match error.kind() {
        ErrorKind::Internal => {}
        ErrorKind::Invalid if !refers => {}
        _ => return Ok(()),
    }
    Err(violated(format!("{who} cannot take back {seq} by {opposite:?}: {error}")))
}

/// A row before a change.
fn back(row: Option<Row>, change: &RowChange) -> Result<Option<Row>, String> {
    let of = |cells: &[Cell]| -> Row {
        cells.iter().map(|cell| (cell.name.clone(), cell.value.clone())).collect()
    };
    match (change, row) {
        (RowChange::Inserted(cells), Some(row)) if of(cells) == row => Ok(None),
        (RowChange::Deleted(cells), None) => Ok(Some(of(cells))),
        (RowChange::Updated(changes), Some(mut row)) => {
            for change in changes {
                if row.get(&change.name) != change.new.as_ref() {
                    return Err(format!("{change:?} does not lead to {row:?}"));
                }
                match &change.old {
                    Some(old) => row.insert(change.name.clone(), old.clone()),
                    None => row.remove(&change.name),
                };
            }
            Ok(Some(row))
        }
        (change, row) => Err(format!("{change:?} does not lead to {row:?}")),
    }
}

/// Who is named had something applied by that commit.
fn is_theirs(site: &SiteOracle, lsn: u64, event: &RowEvent) -> Result<(), String> {
    let runs = &event.origin.authors.0;
    if runs.is_empty() {
        return Err(format!("@{lsn} nobody is named"));
    }
    for run in runs {
        for seq in run.first_seq..=run.last_seq {
            let entry = site.ledger.entry(run.timeline, seq);
            let decided = entry.and_then(|entry| entry.decided);
            if !decided.is_some_and(|(at, verdict)| at == lsn && verdict != Verdict::Rejected) {
                return Err(format!("@{lsn} names {seq} of {}, {decided:?}", run.timeline));
            }
        }
    }
    Ok(())
}

/// A row of what a state says; texts are said without the name of their table.
fn line<'a>(says: &'a str, table: &str, id: &str) -> Option<&'a str> {
    let begin = begins(table, id);
    says.lines().find(|line| line.starts_with(&begin))
}

fn begins(table: &str, id: &str) -> String {
    if table == "note" { format!("{id} ") } else { format!("{table} {id} ") }
}

/// A row as a state would say it.
fn written(says: &str, table: &str, id: &str, row: &Row) -> String {
    let header = says.lines().find_map(|line| line.strip_prefix("note(")?.strip_suffix(')'));
    let columns: Vec<&str> = match table {
        "note" => header.unwrap_or_default().split(", ").filter(|name| *name != "id").collect(),
        _ => vec!["n"],
    };
    let value = |name: &&str| match row.get(*name) {
        None => "(not there)".to_owned(),
        Some(Value::Null) => "NULL".to_owned(),
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Int(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let more = if row.len() == columns.len() + 1 { "" } else { " (and more columns)" };
    format!("{}{}{more}", begins(table, id), values.join(" "))
}

#[cfg(test)]
mod tests {
    use sheaf_site::history::ColumnChange;

    use super::*;

    #[test]
    fn a_chain_that_breaks_is_seen() {
        let row = |n: i64| Row::from([("n".to_owned(), Value::Int(n))]);
        let change = |old: i64, new: i64| {
            let (old, new) = (Some(Value::Int(old)), Some(Value::Int(new)));
            RowChange::Updated(vec![ColumnChange { name: "n".to_owned(), old, new }])
        };
        assert_eq!(back(Some(row(3)), &change(1, 3)), Ok(Some(row(1))));
        assert!(back(Some(row(3)), &change(1, 2)).is_err());
        assert!(back(None, &change(1, 2)).is_err());
    }
}
