//! lazy reads return the right version or an error: a read of the past or of what is not here is right or fails.

use crate::oracle::{SiteOracle, model::difference};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "lazy reads return the right version or an error", what }
}

/// What a replica shows of a past position, against the model.
pub(crate) fn past(who: &str, site: &SiteOracle, lsn: u64, seen: &str) -> Checked {
    match site.says(lsn) {
        Some(says) if *says == *seen => Ok(()),
        Some(says) => Err(violated(format!(
            "{who} shows another state of {} at @{lsn}: {}",
            site.name,
            difference(&says, seen)
        ))),
        None => Err(violated(format!("{who} reads @{lsn}, which {} does not have", site.name))),
    }
}
