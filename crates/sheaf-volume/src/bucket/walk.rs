//! Which commit holds a page as it was at a position: a walk back through the log.
//!
//! Invariant: pure; fed commits one by one from the position downwards, it knows at every moment
//! the answer for each page whose newest version lies in the part it has seen. A page that was
//! cut off by a smaller state is zeros afterwards, never what it was before. It ends at a
//! checkpoint if there is one, and at the beginning of the log if not. Kept between fetches, so
//! that reading a whole state costs one walk, not one per page.

use std::sync::Arc;

use super::checkpoint::Opened;
use super::known::Known;
use crate::{CommitHash, Error, Lsn, PageCount, PageIdx, PageSet, Result, limits};

/// Knowledge of one state, growing towards the past.
#[derive(Debug)]
pub(super) struct Walk {
    /// The state.
    pub(super) at: Lsn,
    /// The checkpoint at which the walk ends; `None` for the beginning of the log.
    pub(super) anchor: Option<Arc<Opened>>,
    /// The next commit to look at; the anchor's position, or zero, when there is none left.
    pub(super) next: Lsn,
    /// The hash it must have.
    hash: Option<CommitHash>,
    /// Pages in the state, once the first commit has been seen.
    page_count: PageCount,
    /// Pages that existed in every state seen so far.
    floor: PageCount,
    /// Pages whose newest version has been seen.
    seen: PageSet,
    /// Per commit, descending, the pages whose newest version it holds.
    layers: Vec<(Lsn, PageSet)>,
    batch: usize,
}

impl Walk {
    /// A walk from `at` back to `anchor`, which is not later.
    pub(super) fn new(at: Lsn, anchor: Option<Arc<Opened>>) -> Self {
        let here = anchor.as_ref().filter(|anchor| anchor.head.lsn == at);
        let count = here.map(|anchor| anchor.head.page_count);
        Self {
            at,
            next: at,
            hash: None,
            page_count: count.unwrap_or_default(),
            floor: count.unwrap_or(PageCount(u32::MAX)),
            anchor,
            seen: PageSet::new(),
            layers: Vec::new(),
            batch: 1,
        }
    }

    /// Refuses pages that the state does not have; valid once the first commit has been seen.
    pub(super) fn require_inside(&self, pages: &PageSet) -> Result<()> {
        match pages.last() {
            Some(last) if !self.page_count.contains(last) => {
                let text = format!("fetch: page beyond the end page=`{last}` lsn=`{}`", self.at);
                Err(Error::invalid(text))
            }
            _ => Ok(()),
        }
    }

    /// Where the walk ends.
    fn end(&self) -> Lsn {
        self.anchor.as_ref().map_or(Lsn::ZERO, |anchor| anchor.head.lsn)
    }

    /// Whether every commit there is has been seen.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.end()
    }

    /// Whether no commit has been seen yet, and one must be.
    pub(super) fn is_fresh(&self) -> bool {
        self.next == self.at && !self.is_done()
    }

    /// Whether anything must be read before an answer about these pages.
    pub(super) fn is_open(&self, pages: &PageSet) -> bool {
        let fresh = self.is_fresh();
        !pages.is_empty() && (fresh || !self.open(pages).is_empty())
    }

    /// Whether more than the first commit was needed: worth keeping.
    pub(super) fn is_long(&self) -> bool {
        self.at.0 - self.next.0 > 1
    }

    /// The pages among these about which the walk must go on.
    fn open(&self, pages: &PageSet) -> PageSet {
        let mut open = pages.clone();
        if self.is_done() {
            return PageSet::new();
        }
        open.truncate(self.floor.0);
        open.subtract(&self.seen);
        open
    }

    /// Positions to visit next, descending. Asks for more each time.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = Lsn> + use<> {
        let last = self.next.0.saturating_sub(self.batch as u64).max(self.end().0);
        (last + 1..=self.next.0).rev().map(Lsn)
    }

    /// Looks at the commit at `next`.
    pub(super) fn visit(&mut self, known: &Known) -> Result<()> {
        let commit = &known.commit;
        if commit.lsn != self.next || self.hash.is_some_and(|hash| hash != known.hash) {
            let text =
                format!("commit is not the one that the next one names lsn=`{}`", commit.lsn);
            return Err(Error::corrupt(text));
        }
        let mut layer = commit.pages.clone();
        layer.truncate(self.floor.0);
        layer.subtract(&self.seen);
        if !layer.is_empty() {
            self.seen.union_with(&layer);
            self.layers.push((commit.lsn, layer));
        }
        if self.next == self.at {
            self.page_count = commit.page_count;
        }
        self.floor = self.floor.min(commit.page_count);
        self.hash = Some(commit.parent);
        self.next = Lsn(self.next.0 - 1);
        if let Some(anchor) = self.anchor.as_ref().filter(|_| self.is_done()) {
            if anchor.head.hash != commit.parent {
                return Err(Error::corrupt("commit does not follow the checkpoint before it"));
            }
            self.floor = self.floor.min(anchor.head.page_count);
        }
        Ok(())
    }

    /// Widens the next batch of commits.
    pub(super) fn hurry(&mut self) {
        self.batch = (self.batch * 4).min(limits::LOG_BATCH_MAX);
    }

    /// Per commit, descending, the pages whose newest version it holds.
    pub(super) fn layers(&self) -> &[(Lsn, PageSet)] {
        &self.layers
    }

    /// Whether a page is in the state what it was at the anchor.
    pub(super) fn is_from_anchor(&self, idx: PageIdx) -> bool {
        self.is_done() && self.floor.contains(idx) && !self.seen.contains(idx)
    }

    /// Splits pages about which nothing is open: those in commits, and the rest.
    pub(super) fn locate(&self, pages: &PageSet) -> (Vec<(Lsn, PageSet)>, PageSet) {
        let mut rest = pages.clone();
        let mut places = Vec::new();
        for (lsn, layer) in &self.layers {
            if rest.is_empty() {
                break;
            }
            let here = layer.intersection(&rest);
            if !here.is_empty() {
                rest.subtract(&here);
                places.push((*lsn, here));
            }
        }
        (places, rest)
    }

    /// Whether this commit holds the page's newest version.
    pub(super) fn is_newest(&self, lsn: Lsn, idx: PageIdx) -> bool {
        let layer = self.layers.binary_search_by(|(at, _)| lsn.cmp(at));
        layer.ok().and_then(|n| self.layers.get(n)).is_some_and(|(_, pages)| pages.contains(idx))
    }
}
