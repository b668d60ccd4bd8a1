//! A state whose reads are noted: which pages an answer rests on.
//!
//! Invariant: every page that SQLite gets through this view since [`Watch::begin`] is in what
//! [`Watch::end`] gives; a page that is carried along is the state's own. Leaves out who knows
//! that: see `history/walk.rs`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_volume::{Page, PageCount, PageIdx, PageSet, Result, Snapshot};

use crate::limits::WATCH_PAGES_MAX;

/// Pages of a state that need not be asked for.
pub(crate) type Carried = BTreeMap<PageIdx, Page>;

/// A state, what is carried of it, and what was read.
#[derive(Debug)]
pub(crate) struct Watch {
    snapshot: Snapshot,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    carried: Carried,
    read: PageSet,
}

impl Watch {
    /// A state of which some pages are at hand.
    pub(crate) fn new(snapshot: Snapshot, carried: Carried) -> Self {
        let pages = Mutex::new(Pages { carried, read: PageSet::new() });
        Self { snapshot, pages }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A page, from what is carried if it is there.
    pub(crate) fn page(&self, idx: PageIdx) -> Result<Page> {
        if let Some(page) = self.note(idx) {
            return Ok(page);
        }
        // Outside the lock: this may ask the network.
        let page = self.snapshot.page(idx)?;
        let mut pages = self.lock();
        if pages.carried.len() < WATCH_PAGES_MAX {
            pages.carried.insert(idx, page.clone());
        }
        Ok(page)
    }

    fn note(&self, idx: PageIdx) -> Option<Page> {
        let mut pages = self.lock();
        pages.read.insert(idx);
        pages.carried.get(&idx).cloned()
    }

    /// Forgets what was read so far.
    pub(crate) fn begin(&self) {
        self.lock().read = PageSet::new();
    }

    /// What was read since, and the pages at hand.
    pub(crate) fn end(&self) -> (PageSet, Carried) {
        let Pages { carried, read } = std::mem::take(&mut *self.lock());
        (read, carried)
    }

    /// Pages at hand that a commit did not change.
    pub(crate) fn unchanged(&self, changed: &PageSet, count: PageCount) -> Carried {
        let pages = self.lock();
        let kept = pages.carried.iter();
        let kept = kept.filter(|(idx, _)| !changed.contains(**idx) && count.contains(**idx));
        kept.map(|(idx, page)| (*idx, page.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
