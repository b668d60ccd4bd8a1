//! exactly-once mutations: every mutation is in the log once, in its author's order.

use sheaf_volume::{Applied, TimelineId};

use crate::oracle::ledger::Ledger;

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "exactly-once mutations", what }
}

/// A run of one timeline's mutations follows what the log has of that timeline already.
pub(crate) fn in_order(ledger: &Ledger, site: &str, lsn: u64, applied: &Applied) -> Checked {
    let before = ledger.decided_to(applied.timeline);
    if applied.first_seq == before + 1 {
        return Ok(());
    }
    Err(violated(format!(
        "@{lsn} of {site} applies {} from {} on, the log has it up to {before}",
        applied.timeline, applied.first_seq
    )))
}

/// What the log has decided at or below a replica's base is not pending there as well: it would be
/// applied once more on top of itself.
pub(crate) fn not_both(
    who: &str,
    ledger: &Ledger,
    timeline: TimelineId,
    base: u64,
    pending: &[u64],
) -> Checked {
    let decided = |seq: &&u64| {
        let entry = ledger.entry(timeline, **seq).and_then(|entry| entry.decided);
        entry.is_some_and(|(lsn, _)| lsn <= base)
    };
    match pending.iter().find(decided) {
        None => Ok(()),
        Some(seq) => Err(violated(format!(
            "{who} is at @{base}, which contains its mutation {seq}, and still keeps it"
        ))),
    }
}
