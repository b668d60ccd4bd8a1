//! Which pages may differ between two views, from what is known about them without reading one.
//!
//! Invariant: a page that is not named is byte for byte the same in both views. More pages than
//! differ may be named. Leaves out what is in them.

use super::{Snapshot, Volume, snapshot::At};
use crate::{Error, ErrorKind, Lineage, LocalLsn, Lsn, PageCount, PageIdx, PageSet, Result};

/// A view as a global state and what this device has changed on top.
struct Position {
    lsn: Lsn,
    drafts: PageSet,
}

impl Snapshot {
    /// The pages that may differ between this view and another one, of the same history or of one
    /// that branched from it. `None` when the two have no history in common: nothing is known then.
    /// Asks the remotes for the commits that lie between them.
    ///
    /// # Errors
    /// `Unavailable` when those commits are needed and a remote cannot be reached, `Expired` when
    /// they are gone.
    pub fn differing_pages(&self, other: &Self) -> Result<Option<PageSet>> {
        let (ours, theirs) = (self.volume().lineage(), other.volume().lineage());
        let (here, there) = (self.position(), other.position());
        let Some(shared) = ours.common(&theirs) else { return Ok(None) };
        let shared = shared.min(here.lsn).min(there.lsn);
        if shared == Lsn::ZERO && !same_replica(self, other) {
            return Ok(None);
        }
        let mut pages = here.drafts;
        pages.union_with(&there.drafts);
        let mut floor = self.page_count().min(other.page_count());
        for (view, through) in [(self, here.lsn), (other, there.lsn)] {
            floor = floor.min(view.volume().changed_between(shared, through, &mut pages)?);
        }
        // What was cut off in between and came back need not be named by any commit.
        let top = self.page_count().max(other.page_count());
        if let (Some(first), Some(last)) = (PageIdx::new(floor.0 + 1), PageIdx::new(top.0))
            && floor < top
        {
            pages.union_with(&PageSet::range(first, last));
        }
        Ok(Some(pages))
    }

    fn position(&self) -> Position {
        match self.at {
            At::Past(lsn) => Position { lsn, drafts: PageSet::new() },
            At::Local(local) => {
                let state = self.volume().0.store.read();
                let known = state.bases.range(..=local).next_back();
                let known = known.map(|(at, lsn)| (*at, *lsn));
                let base = (state.base.local, state.base.lsn);
                let (at, lsn) = if base.0 <= local { base } else { known.unwrap_or_default() };
                Position { lsn, drafts: changed_since(&state, at, local, self.page_count()) }
            }
        }
    }
}

/// Whether two views are of one replica: what it holds is the same pages even before any commit.
fn same_replica(a: &Snapshot, b: &Snapshot) -> bool {
    std::sync::Arc::ptr_eq(&a.volume().0, &b.volume().0)
}

/// Pages whose version in a state is younger than a state before it.
fn changed_since(
    state: &crate::store::State,
    after: LocalLsn,
    at: LocalLsn,
    count: PageCount,
) -> PageSet {
    let pages = (1..=count.0).filter_map(PageIdx::new);
    pages.filter(|idx| state.map.find(*idx, at).mark > after).collect()
}

impl Volume {
    /// This volume with those it branched from, as far as this replica knows.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        let parents = self.attr(super::ATTR_PARENTS);
        // Damage would have failed the checksum of its record; what cannot be read is of no use.
        let known = parents.and_then(|bytes| Lineage::decode(self.id(), &bytes).ok());
        known.unwrap_or_else(|| self.id().into())
    }

    /// Adds the pages that the commits after a position changed; gives the fewest pages that any
    /// state on the way had.
    fn changed_between(&self, after: Lsn, through: Lsn, pages: &mut PageSet) -> Result<PageCount> {
        let mut fewest = PageCount(u32::MAX);
        let mut at = after;
        while at < through {
            let commits = self.remote()?.pull(at)?;
            if commits.is_empty() {
                let text = format!("the remote has no commit after lsn=`{at}`");
                return Err(Error::new(ErrorKind::NotFound, text));
            }
            for commit in commits.iter().take_while(|commit| commit.lsn <= through) {
                pages.union_with(&commit.pages);
                fewest = fewest.min(commit.page_count);
            }
            at = commits.last().map_or(through, |last| last.lsn);
        }
        Ok(fewest)
    }
}
