//! Immutable views of a volume.
//!
//! Invariant: a local snapshot pins its state until it is dropped, so no fold can take away a page
//! version it sees. A snapshot of a past position reads through the remote and pins nothing.

use super::fetch::Lasts;
use super::{Volume, lock};
use crate::prefetch::{Known, plan_fetch};
use crate::store::{BaseState, State};
use crate::teeth::{Tooth, bites};
use crate::{Error, ErrorKind, LocalLsn, Lsn, Page, PageCount, PageIdx, Result, Want, limits};

/// A view of a volume that never changes.
#[derive(Debug)]
pub struct Snapshot {
    volume: Volume,
    pub(super) at: At,
    page_count: PageCount,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Local(LocalLsn),
    Past(Lsn),
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        if let At::Local(local) = self.at {
            *lock(&self.volume.0.pins).entry(local).or_default() += 1;
        }
        Self { volume: self.volume.clone(), at: self.at, page_count: self.page_count }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let At::Local(local) = self.at else { return };
        let mut pins = lock(&self.volume.0.pins);
        if let Some(count) = pins.get_mut(&local) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&local);
            }
        }
    }
}

impl Snapshot {
    /// The local state this views; `None` for a past position.
    #[must_use]
    pub fn local(&self) -> Option<LocalLsn> {
        match self.at {
            At::Local(local) => Some(local),
            At::Past(_) => None,
        }
    }

    /// Pages in this view.
    #[must_use]
    pub fn page_count(&self) -> PageCount {
        self.page_count
    }

    /// The volume viewed.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// A page of this view, fetched if it is not here; zeros beyond the end.
    ///
    /// # Errors
    /// `Unavailable` when it is not here and the remote cannot be reached, `Corrupt` or
    /// `NotFound` when the remote does not have what its log says.
    pub fn page(&self, idx: PageIdx) -> Result<Page> {
        if !self.page_count.contains(idx) {
            return Ok(Page::zeros(self.volume.page_size()));
        }
        match self.at {
            At::Local(_) if bites(Tooth::ReadNewest) => {
                let newest = self.volume.0.store.read().head;
                self.volume.load(idx, newest, self.page_count)
            }
            At::Local(local) => self.volume.load(idx, local, self.page_count),
            At::Past(lsn) => self.volume.load_past(idx, lsn, self.page_count),
        }
    }
}

impl Snapshot {
    /// [`Snapshot::page`] for who knows which pages did not change from the base up to where.
    pub(super) fn page_lasting(&self, idx: PageIdx, lasts: &Lasts<'_>) -> Result<Page> {
        match self.at {
            At::Local(local) if self.page_count.contains(idx) => {
                self.volume.load_lasting(idx, local, self.page_count, Some(lasts))
            }
            _ => self.page(idx),
        }
    }

    /// A page of this view if its content is on this device; zeros beyond the end. Fetches
    /// nothing.
    #[must_use]
    pub fn page_here(&self, idx: PageIdx) -> Option<Page> {
        if !self.page_count.contains(idx) {
            return Some(Page::zeros(self.volume.page_size()));
        }
        self.page_if_here(idx).ok().flatten()
    }

    /// Whether a page's content is on this device.
    pub(super) fn is_here(&self, idx: PageIdx) -> bool {
        let local = self.local();
        local.is_some_and(|local| {
            self.page_count.contains(idx) && !self.volume.0.store.read().is_pending(idx, local)
        })
    }

    /// A page of this view if its content is on this device and whole; never fetches.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn page_if_here(&self, idx: PageIdx) -> Result<Option<Page>> {
        match self.local().filter(|_| self.page_count.contains(idx)) {
            Some(local) => self.volume.page_at(idx, local),
            None => Ok(None),
        }
    }

    /// BLAKE3 over the pages in order: equal for equal states, on every replica. Fetches what is
    /// not here.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn content_hash(&self) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        for idx in (1..=self.page_count.0).filter_map(PageIdx::new) {
            hasher.update(&self.page(idx)?);
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl Volume {
    /// The newest local state: what has been agreed plus this device's own drafts.
    #[must_use]
    pub fn head(&self) -> Snapshot {
        let state = self.0.store.read();
        self.pin(&state, state.head, state.head_pages)
    }

    /// The newest local state that equals a global one.
    #[must_use]
    pub fn global(&self) -> Snapshot {
        self.global_base().0
    }

    /// The newest local state that equals a global one, and which one that is.
    pub(super) fn global_base(&self) -> (Snapshot, BaseState) {
        let state = self.0.store.read();
        let base = state.base;
        (self.pin(&state, base.local, base.page_count), base)
    }

    /// The newest global state that is here, if it is the one at this position.
    fn global_at(&self, lsn: Lsn) -> Option<Snapshot> {
        let state = self.0.store.read();
        let base = state.base;
        (base.lsn == lsn).then(|| self.pin(&state, base.local, base.page_count))
    }

    /// The pin is set while the caller keeps the state from moving, so that no fold comes in
    /// between.
    fn pin(&self, _held: &State, local: LocalLsn, page_count: PageCount) -> Snapshot {
        *lock(&self.0.pins).entry(local).or_default() += 1;
        Snapshot { volume: self.clone(), at: At::Local(local), page_count }
    }

    /// The state at a position of the global log.
    ///
    /// # Errors
    /// `NotFound` for a position that does not exist yet, and as [`Snapshot::page`].
    pub fn at(&self, lsn: Lsn) -> Result<Snapshot> {
        if let Some(snapshot) = self.global_at(lsn) {
            return Ok(snapshot);
        }
        if lsn == Lsn::ZERO {
            return Ok(Snapshot {
                volume: self.clone(),
                at: At::Past(lsn),
                page_count: PageCount(0),
            });
        }
        let commits = self.remote()?.pull(Lsn(lsn.0 - 1))?;
        let commit = commits.first().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no commit with lsn=`{lsn}` yet"))
        })?;
        let page_count = commit.page_count;
        Ok(Snapshot { volume: self.clone(), at: At::Past(lsn), page_count })
    }

    /// The state at a position whose number of pages the caller knows from its commit. Asks
    /// nobody, unlike [`Volume::at`].
    #[must_use]
    pub fn at_known(&self, lsn: Lsn, page_count: PageCount) -> Snapshot {
        let here = self.global_at(lsn);
        here.unwrap_or_else(|| Snapshot { volume: self.clone(), at: At::Past(lsn), page_count })
    }

    /// The newest position whose commit was made at or before this time, by its writer's clock; the
    /// empty state where the log begins later. Halves the log: times never decrease along it.
    ///
    /// # Errors
    /// As [`Volume::at`]; `Expired` when everything that is kept is newer.
    pub fn lsn_at_time(&self, time_ms: u64) -> Result<Lsn> {
        let remote = self.remote()?;
        // ORDER: `found` is old enough, or no longer kept; `newer` is too new, or not there.
        let (mut found, mut is_kept, mut newer) = (Lsn::ZERO, true, remote.head()?.lsn.next());
        while found.next() < newer {
            let middle = Lsn(found.0 + (newer.0 - found.0) / 2);
            let commits = match remote.pull(Lsn(middle.0 - 1)) {
                Ok(commits) => commits,
                Err(e) if e.kind() == ErrorKind::Expired => {
                    (found, is_kept) = (middle, false);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let first_newer = commits.iter().find(|commit| commit.time_ms > time_ms);
            let last_older = commits.iter().rfind(|commit| commit.time_ms <= time_ms);
            if let Some(older) = last_older {
                (found, is_kept) = (older.lsn, true);
            }
            newer = first_newer.map_or(newer, |commit| newer.min(commit.lsn));
            if commits.is_empty() {
                newer = middle;
            }
        }
        if is_kept {
            return Ok(found);
        }
        let text = format!("nothing of that time is kept: what is, begins at @{newer}");
        Err(Error::new(ErrorKind::Expired, text))
    }

    fn load_past(&self, idx: PageIdx, lsn: Lsn, count: PageCount) -> Result<Page> {
        let past = &self.0.past;
        if let Some(page) = past.get(&(lsn.0, idx.get())) {
            return Ok(page);
        }
        let pages = {
            let mut in_flight = lock(&self.0.in_flight);
            let missing = |page: PageIdx| !past.contains_key(&(lsn.0, page.get()));
            let at_once = limits::FETCH_PAST_PAGES_MAX;
            let known = Known { count, bytes: u64::MAX, at_once, missing: &missing };
            plan_fetch(idx, &known, &mut in_flight.past)
        };
        let mut wanted = None;
        for fetched in self.remote()?.fetch(&[Want { lsn, pages }])? {
            if fetched.idx == idx && fetched.lsn == lsn {
                wanted = Some(fetched.page.clone());
            }
            past.insert((fetched.lsn.0, fetched.idx.get()), fetched.page);
        }
        wanted.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the remote has no page `{idx}` lsn=`{lsn}`"))
        })
    }

    /// Pages as they were at a position, for somebody who asks this replica for them.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn pages_at(&self, lsn: Lsn, pages: &crate::PageSet) -> Result<Vec<(PageIdx, Page)>> {
        if let Some(snapshot) = self.global_at(lsn) {
            return pages.iter().map(|idx| Ok((idx, snapshot.page(idx)?))).collect();
        }
        let fetched = self.remote()?.fetch(&[Want { lsn, pages: pages.clone() }])?;
        let wanted = fetched.into_iter().filter(|page| pages.contains(page.idx));
        Ok(wanted.map(|page| (page.idx, page.page)).collect())
    }
}
