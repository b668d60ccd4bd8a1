//! recovery from a crash at any I/O point: a replica opens after any crash, with a prefix of its history.

use sheaf_volume::Error;

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "recovery from a crash at any I/O point", what }
}

/// A replica must open, whatever the crash left.
pub(crate) fn opens(who: &str, error: &Error) -> Violation {
    violated(format!("{who} does not open: {error}"))
}

/// A restarted replica has a part of what it had: its first unsent numbers are without gaps.
pub(crate) fn is_prefix(who: &str, pending: &[u64]) -> Checked {
    let gap =
        pending.windows(2).find(|pair| pair.first().map(|seq| seq + 1).as_ref() != pair.last());
    match gap {
        None => Ok(()),
        Some(gap) => Err(violated(format!("{who} has a hole in its timeline: {gap:?}"))),
    }
}
