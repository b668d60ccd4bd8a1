//! ambiguity resolved, never guessed: what a device was told of its push is what the log says.

use sheaf_volume::TimelineId;

use crate::oracle::SiteOracle;

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "ambiguity resolved, never guessed", what }
}

/// A device was told that a mutation is in the log at or before a position.
pub(crate) fn told(site: &SiteOracle, timeline: TimelineId, seq: u64) -> Checked {
    match site.ledger.entry(timeline, seq).and_then(|entry| entry.decided) {
        Some(_) => Ok(()),
        None => Err(violated(format!(
            "a device was told that its mutation {seq} of {timeline} is decided; the log of {} \
             ends at @{} without it",
            site.name,
            site.head()
        ))),
    }
}
