//! Trying a store, before there is a site in it.
//!
//! Invariant: a store that could not be asked is a failure, one that broke a promise is not: the
//! verdict says so.

use super::failure::refusal;
use crate::exit::Failure;

/// What a store was asked to keep, and whether it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptPromise {
    pub(crate) name: &'static str,
    /// What would happen to data if it is broken.
    pub(crate) at_stake: &'static str,
    pub(crate) broken: Option<String>,
}

/// What a trial of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreVerdict {
    pub(crate) promises: Vec<KeptPromise>,
    pub(crate) creators: usize,
    pub(crate) rounds: u64,
    /// Races with several winners.
    pub(crate) several: u64,
    /// Races that nobody won.
    pub(crate) none: u64,
    /// Creates whose outcome had to be looked up.
    pub(crate) looked_up: u64,
}

impl StoreVerdict {
    pub(crate) fn first_broken(&self) -> Option<&KeptPromise> {
        self.promises.iter().find(|promise| promise.broken.is_some())
    }
}

/// Tries the store that `url` names; `progress` is told races done and in all.
pub(crate) fn verify_store(
    url: &str,
    creators: usize,
    rounds: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreVerdict, Failure> {
    let trial = sheaf::StoreTrial { creators, rounds };
    let verdict =
        sheaf::verify_store(url, trial, progress).map_err(|error| match error.kind() {
            sheaf::ErrorKind::Invalid | sheaf::ErrorKind::Limit => {
                Failure::usage(error.to_string())
            }
            _ => refusal(&error).into_failure(),
        })?;
    let promises = verdict.tried.into_iter().map(|tried| KeptPromise {
        name: tried.promise.name(),
        at_stake: tried.promise.at_stake(),
        broken: tried.broken,
    });
    Ok(StoreVerdict {
        promises: promises.collect(),
        creators: verdict.races.creators,
        rounds: verdict.races.rounds,
        several: verdict.races.several,
        none: verdict.races.none + verdict.races.changed,
        looked_up: verdict.races.looked_up,
    })
}
