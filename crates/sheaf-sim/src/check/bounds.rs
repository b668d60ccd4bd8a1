//! every queue bounded: nothing that waits grows without a limit, and after the faults all of it moves on.

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "every queue bounded", what }
}

/// After the faults have ended, a device still has work that does not move.
pub(crate) fn still_waiting(who: &str, what: &str) -> Violation {
    violated(format!("{who} has not come to rest after the faults ended: {what}"))
}

/// A program hangs, or has panicked.
pub(crate) fn stuck(who: &str) -> Violation {
    violated(format!("{who} hangs: a deadlock or an endless loop"))
}

/// How many mutations a device may keep before it is known that it cannot send them.
pub(crate) fn timeline(who: &str, pending: usize, bound: usize) -> Checked {
    if pending <= bound {
        return Ok(());
    }
    Err(violated(format!("{who} keeps {pending} mutations, it made {bound}")))
}
