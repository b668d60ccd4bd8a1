//! Which commit holds a page as it was at a position: a walk back through the log.
//!
//! Invariant: pure; fed commits one by one from the position downwards, it knows at every moment
//! the answer for each page whose newest version lies in the part it has seen. A page that was
//! cut off by a smaller state is zeros afterwards, never what it was before. Kept between
//! fetches, so that reading a whole state costs one walk, not one per page.

use crate::{CommitHash, Error, Lsn, PageCount, PageIdx, PageSet, Result};

use super::known::Known;
use crate::limits;

/// Knowledge of one state, growing towards the past.
#[derive(Debug)]
pub(super) struct Walk {
    /// The state.
    pub(super) at: Lsn,
    /// The next commit to look at; zero at the beginning of the log.
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
    pub(super) fn new(at: Lsn) -> Self {
        Self {
            at,
            next: at,
            hash: None,
            page_count: PageCount(0),
            floor: PageCount(u32::MAX),
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

    /// Whether anything must be read before an answer about these pages.
    pub(super) fn is_open(&self, pages: &PageSet) -> bool {
        let fresh = self.next == self.at && self.at > Lsn::ZERO;
        !pages.is_empty() && (fresh || !self.open(pages).is_empty())
    }

    /// Whether more than the first commit was needed: worth keeping.
    pub(super) fn is_long(&self) -> bool {
        self.at.0 - self.next.0 > 1
    }

    /// The pages among these about which the walk must go on.
    fn open(&self, pages: &PageSet) -> PageSet {
        let mut open = pages.clone();
        if self.next == Lsn::ZERO {
            return PageSet::new();
        }
        open.truncate(self.floor.0);
        open.subtract(&self.seen);
        open
    }

    /// Positions to visit next, descending. Asks for more each time.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = Lsn> + use<> {
        let last = self.next.0.saturating_sub(self.batch as u64);
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
        Ok(())
    }

    /// Widens the next batch of commits.
    pub(super) fn hurry(&mut self) {
        self.batch = (self.batch * 4).min(limits::LOG_BATCH_MAX);
    }

    /// Splits pages about which nothing is open: those in commits, and those nobody wrote.
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
