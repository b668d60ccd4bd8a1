//! The caches of pages, and why they are made alike everywhere.
//!
//! Invariant: what a cache keeps follows from what was put into it and looked up, and from nothing
//! else: no per-process randomness, and no number of cores. A simulated run therefore fetches the
//! same pages on every machine.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use crate::store::FixedState;
use crate::{Error, Page, Result};

/// Pages by key, up to a number of them.
pub(crate) type PageCache<K> = Cache<K, Page, UnitWeighter, FixedState>;

/// Parts of a large cache that lock for themselves: more than there are readers at a time.
const SHARDS: usize = 32;
/// Parts of a cache whose pages each cost a request: few, so that a plan's pages find room
/// whichever parts they fall into.
const SHARDS_AHEAD: usize = 8;
/// What of such a cache is kept for pages that were read more than once. The rest is for pages
/// that were fetched ahead and nobody has read yet.
const HOT_AHEAD: f64 = 0.5;

/// Pages that can be read again from this device: those read twice are worth most.
pub(crate) fn pages<K: Eq + Hash>(pages: usize) -> Result<PageCache<K>> {
    build(OptionsBuilder::new().shards(SHARDS), pages)
}

/// Pages that are fetched ahead of their reader.
pub(crate) fn fetched_ahead<K: Eq + Hash>(pages: usize) -> Result<PageCache<K>> {
    build(OptionsBuilder::new().shards(SHARDS_AHEAD).hot_allocation(HOT_AHEAD), pages)
}

fn build<K: Eq + Hash>(options: &mut OptionsBuilder, pages: usize) -> Result<PageCache<K>> {
    let options = options
        .estimated_items_capacity(pages)
        .weight_capacity(pages as u64)
        .build()
        .map_err(|e| Error::invalid(format!("a cache of {pages} pages cannot be made: {e}")))?;
    let lifecycle = DefaultLifecycle::default();
    Ok(Cache::with_options(options, UnitWeighter, FixedState::default(), lifecycle))
}
