//! exactly-once mutations: every mutation is in the log once, in its author's order.

use sheaf_volume::Applied;

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
