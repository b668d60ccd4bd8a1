//! snapshot reads: a reader sees one state, and nothing but its end changes that.

use crate::{oracle::model::difference, workload::together::agrees};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "snapshot reads", what }
}

/// What a device shows as its own view, against the model.
pub(crate) fn local(who: &str, model: &str, seen: &str) -> Checked {
    if agrees(model, seen) {
        return Ok(());
    }
    Err(violated(format!("{who} shows another local state: {}", difference(model, seen))))
}

/// A reader that is still open sees what it saw when it began.
pub(crate) fn stands_still(who: &str, first: &str, later: &str) -> Checked {
    if first == later {
        return Ok(());
    }
    Err(violated(format!("{who} has a reader that saw: {}", difference(first, later))))
}
