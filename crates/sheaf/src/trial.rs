//! Trying a store by its URL.
//!
//! Leaves out sites: a store is tried before there is any.

use sheaf_site::Result;
use sheaf_volume::{StoreTrial, StoreVerdict, SystemEnv, open_url};

/// Tries whether the store that `url` names keeps what Sheaf relies on; `progress` is told races
/// done and in all. What it writes is deleted again.
///
/// # Errors
/// `Invalid` for a URL that names no store, `Unavailable`, `Denied` or `Io` when the store could
/// not be asked. A promise that it broke is no error: the verdict says so.
pub fn verify_store(
    url: &str,
    trial: StoreTrial,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreVerdict> {
    sheaf_volume::verify_store(&*open_url(url)?, &SystemEnv, trial, progress)
}
