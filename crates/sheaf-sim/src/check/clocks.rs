//! clocks harmless: the log's times never go back, whatever the writers' clocks do.

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "clocks harmless", what }
}

/// A commit's time is not before that of its parent.
pub(crate) fn time_goes_on(lsn: u64, parent_ms: u64, time_ms: u64) -> Checked {
    if time_ms >= parent_ms {
        return Ok(());
    }
    Err(violated(format!("@{lsn} is from {time_ms} ms, its parent from {parent_ms} ms")))
}
