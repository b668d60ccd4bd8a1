//! Reading a page of a local state, fetching it when it is missing.
//!
//! Invariants: concurrent readers of one missing page share one request; an answer is stored under
//! the state where the page's mark stands, so no page appears at a state where it did not yet
//! hold; a damaged local copy of a global page is fetched again, a damaged draft is an error.
//!
//! A page is asked for at the commit that wrote it, where it is found at once. When that commit has
//! been reclaimed, it is asked for at the newest position where it is known to be the same.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Volume, lock};
use crate::prefetch::{Known, plan_fetch};
use crate::store::{Locate, Step, StepBody};
use crate::sync::MutexGuard;
use crate::teeth::{Tooth, bites};
use crate::{
    Error, ErrorKind, FetchedPage, HeldPage, LocalLsn, Lsn, Page, PageCount, PageIdx, PageSet,
    Remote, Result, Want, limits,
};

/// Up to which position, beyond the base, a page of the base did not change; `None` for one that
/// changed, and is of no use to who asks.
pub(super) type Lasts<'a> = dyn Fn(PageIdx) -> Option<Lsn> + 'a;

/// Pages that one request has asked for. However the request ends, by a panic too, those who wait
/// for it go on.
struct UnderWay<'a> {
    volume: &'a Volume,
    asked: Vec<(PageIdx, Lsn, LocalLsn)>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut in_flight = lock(&self.volume.0.in_flight);
        for (idx, _, mark) in &self.asked {
            in_flight.pages.remove(&(*idx, *mark));
        }
        drop(in_flight);
        self.volume.0.arrived.notify_all();
    }
}

impl Volume {
    pub(super) fn load(&self, idx: PageIdx, at: LocalLsn, count: PageCount) -> Result<Page> {
        self.load_lasting(idx, at, count, None)
    }

    /// [`Volume::load`] for who may know how long pages of the base last.
    pub(super) fn load_lasting(
        &self,
        idx: PageIdx,
        at: LocalLsn,
        count: PageCount,
        lasts: Option<&Lasts<'_>>,
    ) -> Result<Page> {
        self.0.working_set.note(idx);
        for _ in 0..limits::READ_ATTEMPTS_MAX {
            match self.0.store.page(idx, at) {
                Ok(Locate::Page(page)) => return Ok(page),
                Ok(Locate::Pending { lsn, mark }) => {
                    match self.fetch(idx, (at, lasts), count, (lsn, mark)) {
                        Err(_) if bites(Tooth::ZerosForMissing) => {
                            return Ok(Page::zeros(self.page_size()));
                        }
                        fetched => fetched?,
                    }
                }
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    if self.remote().is_err() || !self.0.store.forget(idx, at) {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("page `{idx}` does not arrive")))
    }

    /// Fetches a missing page, or waits for the request that already does.
    fn fetch(
        &self,
        idx: PageIdx,
        (at, lasts): (LocalLsn, Option<&Lasts<'_>>),
        count: PageCount,
        (lsn, mark): (Lsn, LocalLsn),
    ) -> Result<()> {
        let remote = self.remote()?;
        let mut in_flight = lock(&self.0.in_flight);
        if in_flight.pages.contains(&(idx, mark)) {
            while in_flight.pages.contains(&(idx, mark)) {
                in_flight = self.0.arrived.wait(in_flight).unwrap_or_else(PoisonError::into_inner);
            }
            return Ok(());
        }
        let mut asked = self.plan(&mut in_flight, idx, at, count);
        if let Some(lasts) = lasts {
            asked.retain(|(idx, ..)| lasts(*idx).is_some());
        }
        if asked.is_empty() {
            // It arrived after the caller had looked.
            return Ok(());
        }
        let under_way = self.send_for(in_flight, asked);
        self.request(remote.as_ref(), under_way, (Some(idx), at, lasts))?;
        if matches!(self.0.store.page(idx, at), Ok(Locate::Pending { .. })) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the remote did not send page `{idx}` lsn=`{lsn}`"),
            ));
        }
        Ok(())
    }

    /// Says that these pages are on their way, before the lock is let go.
    fn send_for(
        &self,
        mut in_flight: MutexGuard<'_, super::InFlight>,
        asked: Vec<(PageIdx, Lsn, LocalLsn)>,
    ) -> UnderWay<'_> {
        in_flight.pages.extend(asked.iter().map(|(idx, _, mark)| (*idx, *mark)));
        UnderWay { volume: self, asked }
    }

    /// One request, and what it brings stored.
    fn request(
        &self,
        remote: &dyn Remote,
        under_way: UnderWay<'_>,
        (wanted, at, lasts): (Option<PageIdx>, LocalLsn, Option<&Lasts<'_>>),
    ) -> Result<()> {
        let held = self.older_versions(&under_way.asked);
        let ask = |places: &[(PageIdx, Lsn)]| {
            self.0.counters.requests.fetch_add(1, Ordering::Relaxed);
            ask(remote, places, &held)
        };
        let places = self.places(&under_way.asked, lasts);
        let fetched = match ask(&places) {
            Err(e) if e.kind() == ErrorKind::Expired => {
                let newest = places.iter().map(|(_, lsn)| lsn.0).max().unwrap_or_default();
                self.0.expired.fetch_max(newest, Ordering::Relaxed);
                let mut later = self.places(&under_way.asked, lasts);
                // What cannot be had elsewhere would make all of it fail once more.
                later.retain(|place| !places.contains(place));
                let has_wanted = wanted.is_none_or(|idx| later.iter().any(|one| one.0 == idx));
                if later.is_empty() || !has_wanted {
                    return Err(e);
                }
                ask(&later)?
            }
            answer => answer?,
        };
        // Stored before those who wait for the pages go on.
        self.fill(fetched, (at, lasts))
    }

    /// Where each page is asked for: at the commit that wrote it, unless that may be gone.
    fn places(
        &self,
        asked: &[(PageIdx, Lsn, LocalLsn)],
        lasts: Option<&Lasts<'_>>,
    ) -> Vec<(PageIdx, Lsn)> {
        let expired = self.0.expired.load(Ordering::Relaxed);
        let state = self.0.store.read();
        let place = |(idx, lsn, mark): &(PageIdx, Lsn, LocalLsn)| {
            let beyond = || lasts.and_then(|lasts| lasts(*idx));
            let later = (lsn.0 <= expired).then(|| state.lasts_until(*idx, *mark, beyond()));
            (*idx, later.flatten().map_or(*lsn, |later| later.max(*lsn)))
        };
        asked.iter().map(place).collect()
    }

    fn plan(
        &self,
        in_flight: &mut super::InFlight,
        idx: PageIdx,
        at: LocalLsn,
        count: PageCount,
    ) -> Vec<(PageIdx, Lsn, LocalLsn)> {
        let state = self.0.store.read();
        let pending = |idx: PageIdx| state.pending(idx, at);
        if pending(idx).is_none() {
            return Vec::new();
        }
        let super::InFlight { pages: under_way, history, .. } = in_flight;
        let missing = |page: PageIdx| {
            pending(page).is_some_and(|(_, mark)| !under_way.contains(&(page, mark)))
        };
        let size = self.page_size().bytes();
        let at_once = u32::try_from(limits::FETCH_BYTES_MAX / size).unwrap_or(u32::MAX);
        let known = Known {
            count,
            bytes: u64::from(count.0) * size as u64,
            at_once: at_once.min(limits::FETCH_PAGES_MAX),
            missing: &missing,
        };
        let pages = plan_fetch(idx, &known, history);
        let places =
            pages.iter().filter_map(|idx| pending(idx).map(|(lsn, mark)| (idx, lsn, mark)));
        places.collect()
    }

    fn fill(
        &self,
        fetched: Vec<FetchedPage>,
        (at, lasts): (LocalLsn, Option<&Lasts<'_>>),
    ) -> Result<()> {
        let mut fills: Vec<(PageIdx, LocalLsn, Page)> = Vec::with_capacity(fetched.len());
        {
            let state = self.0.store.read();
            for page in fetched {
                // Frame neighbours come unasked: take those that are wanted at this state too.
                if page.page.len() != self.page_size().bytes() {
                    return Err(Error::corrupt(format!("page `{}` has a wrong size", page.idx)));
                }
                let Some((lsn, mark)) = state.pending(page.idx, at) else { continue };
                let beyond = || lasts.and_then(|lasts| lasts(page.idx));
                let until = || state.lasts_until(page.idx, mark, beyond());
                if lsn == page.lsn
                    || lsn < page.lsn && until().is_some_and(|until| page.lsn <= until)
                {
                    fills.push((page.idx, mark, page.page));
                }
            }
        }
        fills.sort_unstable_by_key(|(idx, ..)| *idx);
        fills.dedup_by_key(|(idx, ..)| *idx);
        if fills.is_empty() {
            return Ok(());
        }
        self.learn_leads(&fills);
        self.0.counters.pages.fetch_add(fills.len() as u64, Ordering::Relaxed);
        let at_once = (limits::HYDRATE_BYTES / self.page_size().bytes()).max(1);
        for fills in fills.chunks(at_once) {
            let places = fills.iter().map(|(idx, mark, _)| (*idx, *mark)).collect();
            let pages: Vec<Page> = fills.iter().map(|(_, _, page)| page.clone()).collect();
            let step = Step { body: StepBody::Fill { pages: places }, attrs: Vec::new() };
            self.0.store.append(&step, &pages)?;
        }
        Ok(())
    }

    /// Remembers where the pages that arrived lead, for the next plan.
    fn learn_leads(&self, fills: &[(PageIdx, LocalLsn, Page)]) {
        let Some(children) = self.0.children else { return };
        let leads = fills.iter().map(|(idx, _, page)| (*idx, children(*idx, page)));
        let leads: Vec<_> = leads.filter(|(_, children)| !children.is_empty()).collect();
        if leads.is_empty() {
            return;
        }
        let mut in_flight = lock(&self.0.in_flight);
        for (parent, children) in leads {
            in_flight.history.leads(parent, children);
        }
    }

    /// Fetches every page of the head that is not here, [`limits::HYDRATE_BYTES`] at a time.
    /// `progress` gets pages done and in all.
    ///
    /// # Errors
    /// As [`super::Snapshot::page`].
    pub fn hydrate(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let Some(last) = PageIdx::new(self.head().page_count().0) else { return Ok(()) };
        self.fetch_pages(&PageSet::range(PageIdx::FIRST, last), progress)
    }

    /// Fetches those of these pages of the head that are not here, as [`Volume::hydrate`] does.
    ///
    /// # Errors
    /// As [`super::Snapshot::page`].
    pub fn fetch_pages(&self, pages: &PageSet, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let head = self.head();
        let count = head.page_count();
        let Some(at) = head.local() else { return Ok(()) };
        let missing: Vec<PageIdx> = {
            let state = self.0.store.read();
            let is_missing = |idx: &PageIdx| count.contains(*idx) && state.is_pending(*idx, at);
            pages.iter().filter(is_missing).collect()
        };
        self.bring(&missing, (at, count), progress)
    }

    fn bring(
        &self,
        missing: &[PageIdx],
        (at, count): (LocalLsn, PageCount),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let (mut done, all) = (0, missing.len() as u64);
        let at_once = limits::HYDRATE_BYTES / self.page_size().bytes();
        let mut carried = self.0.store.log_len();
        for pages in missing.chunks(at_once.clamp(1, limits::HYDRATE_PAGES_MAX)) {
            self.fetch_run(pages, at)?;
            for idx in pages {
                // Nothing to do, unless it was on its way already, or did not come.
                if self.0.store.read().is_pending(*idx, at) {
                    self.load(*idx, at, count)?;
                }
                done += 1;
                progress(done, all);
            }
            // Into the base file on the way: the log, and its index, stay small.
            let full = limits::HYDRATE_FOLD_LOG_BYTES.max(carried.saturating_mul(3));
            if self.0.store.log_len() >= full
                && let Some(writer) = self.try_writer()
            {
                self.checkpoint(&writer)?;
                carried = self.0.store.log_len();
            }
        }
        Ok(())
    }

    /// Asks once for those of the pages that are neither here nor on their way.
    fn fetch_run(&self, pages: &[PageIdx], at: LocalLsn) -> Result<()> {
        let remote = self.remote()?;
        let in_flight = lock(&self.0.in_flight);
        let asked: Vec<(PageIdx, Lsn, LocalLsn)> = {
            let state = self.0.store.read();
            let places = pages.iter().filter_map(|idx| {
                let (lsn, mark) = state.pending(*idx, at)?;
                (!in_flight.pages.contains(&(*idx, mark))).then_some((*idx, lsn, mark))
            });
            places.collect()
        };
        if asked.is_empty() {
            return Ok(());
        }
        let under_way = self.send_for(in_flight, asked);
        self.request(remote.as_ref(), under_way, (None, at, None))
    }
}

/// Asks for each of these pages at its position.
fn ask(
    remote: &dyn Remote,
    places: &[(PageIdx, Lsn)],
    held: &[HeldPage],
) -> Result<Vec<FetchedPage>> {
    let mut wants: Vec<Want> = Vec::new();
    for (idx, lsn) in places {
        match wants.iter_mut().find(|want| want.lsn == *lsn) {
            Some(want) => _ = want.pages.insert(*idx),
            None => wants.push(Want { lsn: *lsn, pages: [*idx].into_iter().collect() }),
        }
    }
    if bites(Tooth::FetchOlder) {
        wants.iter_mut().for_each(|want| want.lsn = Lsn(want.lsn.0.saturating_sub(1).max(1)));
    }
    let mut fetched = remote.fetch_holding(&wants, held)?;
    if bites(Tooth::FetchOlder) {
        for page in &mut fetched {
            let asked = places.iter().find(|(idx, _)| *idx == page.idx);
            page.lsn = asked.map_or(page.lsn, |(_, lsn)| *lsn);
        }
    }
    Ok(fetched)
}
