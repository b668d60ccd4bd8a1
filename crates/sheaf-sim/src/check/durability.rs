//! durability of acknowledged commits: what a device was told is durable is there after any crash.

use std::collections::BTreeMap;

use crate::oracle::ledger::Entry;

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "durability of acknowledged commits", what }
}

/// What a replica has lost with a restart, if it lost anything that it must not.
pub(crate) fn may_lose(who: &str, lost: &BTreeMap<u64, Entry>, power_cut: bool) -> Checked {
    for (seq, entry) in lost {
        if let Some((lsn, _)) = entry.decided {
            return Err(violated(format!(
                "{who} has lost mutation {seq}, which the log holds at @{lsn}"
            )));
        }
        if entry.durable {
            return Err(violated(format!("{who} has lost mutation {seq}, which was flushed")));
        }
        if !power_cut {
            return Err(violated(format!(
                "{who} has lost mutation {seq} although only its process ended"
            )));
        }
    }
    Ok(())
}
