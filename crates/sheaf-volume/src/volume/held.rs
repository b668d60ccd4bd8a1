//! Older versions of pages that are still here, as something to build newer ones on.
//!
//! Invariant: nothing is fetched and nothing is held in place: a version that a fold takes away
//! meanwhile is only one that nobody builds on. What the other side builds on is decided by the
//! hash of its bytes, so no position has to be believed.

use super::Volume;
use crate::store::Locate;
use crate::{ErrorKind, HeldPage, LocalLsn, Lsn, Page, PageIdx, Result, limits, page_hash};

impl Volume {
    /// The older versions that are here of pages asked for (page, position, mark).
    pub(super) fn older_versions(&self, asked: &[(PageIdx, Lsn, LocalLsn)]) -> Vec<HeldPage> {
        let places: Vec<(PageIdx, LocalLsn, Lsn)> = {
            let state = self.0.store.read();
            let place = |(idx, _, mark): &(PageIdx, Lsn, LocalLsn)| {
                state.held_before(*idx, *mark).map(|(local, lsn)| (*idx, local, lsn))
            };
            asked.iter().filter_map(place).take(limits::HELD_PAGES_MAX).collect()
        };
        let held = places.into_iter().filter_map(|(idx, local, lsn)| {
            let page = self.page_at(idx, local).ok().flatten()?;
            Some(HeldPage { idx, lsn, page })
        });
        held.collect()
    }

    /// Looks for versions that somebody else says to hold.
    #[must_use]
    pub fn recent_pages(&self) -> RecentPages<'_> {
        RecentPages { volume: self, found: None, searches: limits::HELD_STATES_MAX }
    }

    /// A page as a local state has it, if its content is here and whole.
    pub(super) fn page_at(&self, idx: PageIdx, at: LocalLsn) -> Result<Option<Page>> {
        match self.0.store.page(idx, at) {
            Ok(Locate::Page(page)) => Ok(Some(page)),
            Ok(Locate::Pending { .. }) => Ok(None),
            // A damaged copy is nothing to build on; whoever reads the page finds out.
            Err(e) if e.kind() == ErrorKind::Corrupt => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A search for older versions of pages, cheap as long as they are of few positions.
#[derive(Debug)]
pub struct RecentPages<'a> {
    volume: &'a Volume,
    /// The position searched last, and the state that was found for it.
    found: Option<(Lsn, Option<LocalLsn>)>,
    searches: usize,
}

impl RecentPages<'_> {
    /// The page whose content at `lsn` has this [`page_hash`], if it is still here.
    pub fn find(&mut self, idx: PageIdx, lsn: Lsn, hash: [u8; 16]) -> Option<Page> {
        let page = self.volume.page_at(idx, self.state_at(lsn)?).ok().flatten()?;
        (page_hash(self.volume.id(), lsn, idx, &page) == hash).then_some(page)
    }

    /// The newest state that equalled a global one at or below this position.
    fn state_at(&mut self, lsn: Lsn) -> Option<LocalLsn> {
        if let Some((at, local)) = self.found
            && at == lsn
        {
            return local;
        }
        self.searches = self.searches.checked_sub(1)?;
        let state = self.volume.0.store.read();
        let local = state.bases.iter().rev().find(|(_, at)| **at <= lsn).map(|(local, _)| *local);
        self.found = Some((lsn, local));
        local
    }
}
