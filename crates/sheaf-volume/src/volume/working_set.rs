//! What was read after an opening: remembered, so that the next opening fetches it together.
//!
//! Invariant: a hint and nothing more: bounded, and a read costs one look at a flag once enough is
//! known. A remembered set that cannot be read is none. Leaves out when to fetch: the planner's.

use std::sync::atomic::Ordering;

use super::{Volume, lock};
use crate::store::{Step, StepBody, Store};
use crate::sync::{AtomicBool, Mutex};
use crate::{PageIdx, PageSet, Result, limits};

/// Attribute with the page set of the last opening.
const ATTR_WORKING_SET: &str = "volume/working-set";

/// The first pages read since opening.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    is_full: AtomicBool,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    pages: PageSet,
    reads: u32,
}

impl WorkingSet {
    pub(super) fn note(&self, idx: PageIdx) {
        if self.is_full.load(Ordering::Relaxed) {
            return;
        }
        let mut read = lock(&self.read);
        read.pages.insert(idx);
        read.reads += 1;
        if read.reads >= limits::WORKING_SET_READS || read.pages.len() >= limits::WORKING_SET_PAGES
        {
            self.is_full.store(true, Ordering::Relaxed);
        }
    }
}

/// What the last opening read.
pub(super) fn remembered(store: &Store) -> PageSet {
    let bytes = store.read().attrs.get(ATTR_WORKING_SET).cloned();
    bytes.and_then(|bytes| PageSet::from_bytes(&bytes).ok()).unwrap_or_default()
}

impl Volume {
    /// Keeps what was read since opening for the next one. Not flushed: it is a hint.
    pub(super) fn remember_working_set(&self) -> Result<()> {
        let bytes = {
            let read = lock(&self.0.working_set.read);
            if read.pages.is_empty() {
                return Ok(());
            }
            read.pages.to_bytes()
        };
        if self.attr(ATTR_WORKING_SET).is_some_and(|before| before == bytes) {
            return Ok(());
        }
        let attrs = vec![(ATTR_WORKING_SET.to_owned(), Some(bytes.into()))];
        self.0.store.append(&Step { body: StepBody::Attrs, attrs }, &[])
    }
}
