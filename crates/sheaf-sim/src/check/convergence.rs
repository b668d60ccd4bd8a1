//! convergence: replicas at one position have the same bytes, and all come to the newest one.

use crate::oracle::{SiteOracle, model::difference};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "convergence", what }
}

/// Every page of a replica's base, against the observer's at the same position.
pub(crate) fn same_bytes(who: &str, site: &SiteOracle, lsn: u64, content: [u8; 32]) -> Checked {
    match site.position(lsn) {
        Some(position) if position.content != content => {
            Err(violated(format!("{who} has other bytes at @{lsn} of {} than the log", site.name)))
        }
        _ => Ok(()),
    }
}

/// What a replica shows as agreed, against the model.
pub(crate) fn agreed(who: &str, site: &SiteOracle, lsn: u64, seen: &str) -> Checked {
    let Some(says) = site.says(lsn) else {
        return Err(violated(format!("{who} is at @{lsn}, the log ends at @{}", site.head())));
    };
    if *says == *seen {
        return Ok(());
    }
    let how = difference(&says, seen);
    Err(violated(format!("{who} shows another state of {} at @{lsn}: {how}", site.name)))
}
