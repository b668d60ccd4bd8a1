//! A write transaction: pages over a snapshot, kept in memory until they are saved as one step.
//!
//! Invariant: a draft that is dropped leaves no trace. A local draft lies on the head and is saved
//! with its mutation; a rebase draft lies on a *new* base that no reader can see yet, and is
//! published together with that base as one step.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{ATTR_VOLUME, Snapshot, Volume, WriterGuard};
use crate::store::{Incoming, PendingMutation, Step, StepBody};
use crate::teeth::{Tooth, bites};
use crate::{
    Changes, Commit, CommitHash, Error, LocalLsn, Lsn, Page, PageCount, PageIdx, PageSet,
    RemoteHead, Result, VolumeId, Want, limits,
};

/// Where a commit must be before it returns. `Remote` is the business of the layer that pushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Written; flushed when something else is.
    Memory,
    /// Written; flushed within milliseconds by the owner's flusher, together with others.
    #[default]
    Normal,
    /// Flushed to disk.
    Local,
}

/// What saving a draft did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A new local state.
    State(LocalLsn),
    /// Nothing had changed: no record, no state.
    Unchanged,
}

/// Changed pages that are looked at for each that is asked for.
const PLAN_SCAN: usize = 16;

/// Pages being written.
#[derive(Debug)]
pub struct Draft {
    writer: WriterGuard,
    below: Snapshot,
    rebase: Option<Rebase>,
    dirty: BTreeMap<PageIdx, Page>,
    /// Pages cut off in this draft: zeros if the draft grows over them again.
    cut_to: u32,
    page_count: PageCount,
}

/// The new base under a rebase draft.
#[derive(Debug)]
struct Rebase {
    adopt: Option<VolumeId>,
    lsn: Lsn,
    hash: CommitHash,
    time_ms: u64,
    page_count: PageCount,
    /// Pages after this were cut off on the way: zeros, unless `over` says otherwise.
    cut_to: u32,
    incoming: Vec<Incoming>,
    /// What the new base says about a page that it changed.
    over: BTreeMap<PageIdx, Over>,
    /// Requests made for pages of the new base.
    misses: u32,
}

#[derive(Clone, Debug)]
enum Over {
    Pending(Lsn),
    Here(Page),
}

impl Volume {
    /// Starts a local write transaction on the head.
    #[must_use]
    pub fn draft(&self, writer: WriterGuard) -> Draft {
        let below = self.head();
        let page_count = below.page_count();
        let dirty = BTreeMap::new();
        Draft { writer, below, rebase: None, dirty, cut_to: u32::MAX, page_count }
    }

    /// Starts a rebase onto the base plus `commits`, which follow it in order. With no commits
    /// it redoes the drafts on the same base.
    ///
    /// # Errors
    /// `Corrupt` when the commits do not continue this replica's log.
    pub fn rebase(&self, writer: WriterGuard, commits: &[Commit]) -> Result<Draft> {
        let below = self.global();
        let base = self.0.store.read().base;
        let mut rebase = Rebase {
            adopt: None,
            lsn: base.lsn,
            hash: base.hash,
            time_ms: base.time_ms,
            page_count: base.page_count,
            cut_to: u32::MAX,
            incoming: Vec::with_capacity(commits.len()),
            over: BTreeMap::new(),
            misses: 0,
        };
        for commit in commits {
            self.check_commit(commit, rebase.lsn.next(), rebase.hash)?;
            rebase.take(commit)?;
        }
        Ok(Draft::on(writer, below, rebase))
    }

    /// Starts a rebase onto the state that merged changes lead to, whatever lies between: every
    /// changed page is pending there, or here where its content came along. The hash of this
    /// replica's base is checked where the changes name it, the commits between cannot be.
    ///
    /// # Errors
    /// `Corrupt` when the changes do not continue this replica's log.
    pub fn jump(&self, writer: WriterGuard, changes: &Changes) -> Result<Draft> {
        self.check_changes(changes)?;
        let base = self.0.store.read().base;
        let head = changes.head;
        let over = changes.pages.iter().map(|idx| {
            let here = changes.here().get(&idx).cloned();
            (idx, here.map_or(Over::Pending(head.lsn), Over::Here))
        });
        let step = |page_count, pages| Incoming { lsn: head.lsn, page_count, pages };
        let rebase = Rebase {
            adopt: None,
            lsn: head.lsn,
            hash: head.hash,
            time_ms: head.time_ms,
            page_count: head.page_count,
            cut_to: if changes.floor < base.page_count { changes.floor.0 } else { u32::MAX },
            // Down to the smallest state, and up again with what changed.
            incoming: vec![
                step(changes.floor, PageSet::new()),
                step(head.page_count, changes.pages.clone()),
            ],
            over: over.collect(),
            misses: 0,
        };
        Ok(Draft::on(writer, self.global(), rebase))
    }

    /// Starts a rebase onto a site that others made: its volume id and state become ours, with
    /// every page pending.
    ///
    /// # Errors
    /// `Invalid` when this replica already has a base in another history, or pages of another
    /// size.
    pub fn adopt(&self, writer: WriterGuard, id: VolumeId, head: RemoteHead) -> Result<Draft> {
        if head.page_size != self.page_size() {
            return Err(Error::invalid(format!(
                "this replica was made with pages of {} bytes, the site has pages of {}; clone \
                 the site into another directory",
                self.page_size().get(),
                head.page_size.get()
            )));
        }
        if self.base().0 != Lsn::ZERO {
            return Err(Error::invalid(
                "this replica already belongs to another site; \
                 open the site under another name or in another directory",
            ));
        }
        let rebase = Rebase {
            adopt: Some(id),
            lsn: head.lsn,
            hash: head.hash,
            time_ms: head.time_ms,
            page_count: head.page_count,
            cut_to: u32::MAX,
            incoming: Vec::new(),
            over: BTreeMap::new(),
            misses: 0,
        };
        Ok(Draft::on(writer, self.global(), rebase))
    }
}

impl Rebase {
    fn take(&mut self, commit: &Commit) -> Result<()> {
        self.note(commit);
        for (idx, page) in commit.inline_pages()? {
            self.over.insert(idx, Over::Here(page));
        }
        Ok(())
    }

    /// What to ask for when a page of the new base is missing: it, and pages after it that are
    /// likely to be read as well, twice as many with every request. A short redo stays cheap, and
    /// a long one does not ask for every page by itself.
    ///
    /// Likely are pages that changed and whose version before is here, and when a redo goes on for
    /// long, all that changed. Nothing is here yet when a site is adopted, so its neighbours are
    /// asked for.
    fn plan(&mut self, idx: PageIdx, lsn: Lsn, below: &Snapshot) -> Vec<Want> {
        let window = limits::FETCH_PAGES_MAX.min(1 << self.misses.min(16)) as usize;
        self.misses += 1;
        if self.adopt.is_some() {
            let pages = (idx.get() + 1..=self.page_count.0.min(self.cut_to)).take(window - 1);
            let missing = pages.filter_map(PageIdx::new).filter(|at| !self.over.contains_key(at));
            return vec![Want { lsn, pages: missing.chain([idx]).collect() }];
        }
        let mut wants = vec![Want { lsn, pages: [idx].into_iter().collect() }];
        let after = (Bound::Excluded(idx), Bound::Unbounded);
        let around = self.over.range(after).chain(self.over.range(..idx));
        let is_long = self.misses > limits::SHORT_REDO_MISSES;
        let pending = around.take(window * PLAN_SCAN).filter_map(|(at, over)| match over {
            Over::Pending(lsn) if is_long || below.is_here(*at) => Some((*at, *lsn)),
            _ => None,
        });
        for (at, lsn) in pending.take(window - 1) {
            match wants.iter_mut().find(|want| want.lsn == lsn) {
                Some(want) => _ = want.pages.insert(at),
                None => wants.push(Want { lsn, pages: [at].into_iter().collect() }),
            }
        }
        wants
    }

    /// The new base is the state at this commit, its pages pending.
    fn note(&mut self, commit: &Commit) {
        // Not page by page: a commit may name any page count.
        if commit.page_count < self.page_count {
            self.over.retain(|idx, _| commit.page_count.contains(*idx));
            self.cut_to = self.cut_to.min(commit.page_count.0);
        }
        for idx in commit.pages.iter() {
            if bites(Tooth::MissOnePage)
                && commit.pages.len() > 1
                && Some(idx) == commit.pages.last()
            {
                continue;
            }
            self.over.insert(idx, Over::Pending(commit.lsn));
        }
        self.lsn = commit.lsn;
        self.hash = commit.hash();
        self.time_ms = commit.time_ms;
        self.page_count = commit.page_count;
        self.incoming.push(Incoming {
            lsn: commit.lsn,
            page_count: commit.page_count,
            pages: commit.pages.clone(),
        });
    }
}

impl Draft {
    fn on(writer: WriterGuard, below: Snapshot, rebase: Rebase) -> Self {
        let page_count = rebase.page_count;
        let dirty = BTreeMap::new();
        Self { writer, below, rebase: Some(rebase), dirty, cut_to: u32::MAX, page_count }
    }

    /// The volume written.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        self.writer.volume()
    }

    /// Pages in the draft.
    #[must_use]
    pub fn page_count(&self) -> PageCount {
        self.page_count
    }

    /// Whether this draft lies on a new base.
    #[must_use]
    pub fn is_rebase(&self) -> bool {
        self.rebase.is_some()
    }

    /// The global position under a rebase draft, else that of the base.
    #[must_use]
    pub fn base_lsn(&self) -> Lsn {
        self.rebase.as_ref().map_or_else(|| self.volume().base().0, |rebase| rebase.lsn)
    }

    /// The local state this draft was started on; `None` for a rebase draft.
    #[must_use]
    pub fn started_on(&self) -> Option<LocalLsn> {
        if self.is_rebase() { None } else { self.below.local() }
    }

    /// A page as this draft sees it; zeros beyond its end.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn page(&mut self, idx: PageIdx) -> Result<Page> {
        if let Some(page) = self.dirty.get(&idx) {
            return Ok(page.clone());
        }
        if idx.get() > self.cut_to || !self.page_count.contains(idx) {
            return Ok(Page::zeros(self.volume().page_size()));
        }
        self.page_below(idx)
    }

    fn page_below(&mut self, idx: PageIdx) -> Result<Page> {
        let Some(rebase) = &mut self.rebase else { return self.below.page(idx) };
        let over = match rebase.over.get(&idx) {
            Some(over) => over.clone(),
            None if idx.get() > rebase.cut_to => {
                return Ok(Page::zeros(self.writer.volume().page_size()));
            }
            None if rebase.adopt.is_some() => Over::Pending(rebase.lsn),
            None => return self.below.page(idx),
        };
        match over {
            Over::Here(page) => Ok(page),
            Over::Pending(lsn) => {
                let wants = rebase.plan(idx, lsn, &self.below);
                let fetched = self.writer.volume().remote()?.fetch(&wants)?;
                for page in fetched {
                    let wanted = match rebase.over.get(&page.idx) {
                        Some(Over::Pending(at)) => *at == page.lsn,
                        None if page.idx.get() > rebase.cut_to => false,
                        None => rebase.adopt.is_some() && rebase.lsn == page.lsn,
                        Some(_) => false,
                    };
                    if wanted && page.page.len() == self.writer.volume().page_size().bytes() {
                        rebase.over.insert(page.idx, Over::Here(page.page));
                    }
                }
                match rebase.over.get(&idx) {
                    Some(Over::Here(page)) => Ok(page.clone()),
                    _ => Err(Error::new(
                        crate::ErrorKind::NotFound,
                        format!("the remote did not send page `{idx}` lsn=`{lsn}`"),
                    )),
                }
            }
        }
    }

    /// Writes a page, growing the draft when needed.
    pub fn write(&mut self, idx: PageIdx, page: Page) {
        if bites(Tooth::LoseWrites)
            && page.iter().map(|byte| u64::from(*byte)).sum::<u64>() % 50 == 7
        {
            return;
        }
        self.page_count = self.page_count.max(PageCount(idx.get()));
        self.dirty.insert(idx, page);
    }

    /// Sets the number of pages. Pages cut off read as zeros if the draft grows over them again.
    pub fn truncate(&mut self, count: PageCount) {
        if count < self.page_count {
            self.cut_to = self.cut_to.min(count.0);
            self.dirty
                .split_off(&PageIdx::new(count.0.saturating_add(1)).unwrap_or(PageIdx::FIRST));
        }
        self.page_count = count;
    }

    /// Drops written pages whose content is what lies below, as a rolled-back transaction leaves.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn drop_unchanged(&mut self) -> Result<()> {
        for (idx, page) in std::mem::take(&mut self.dirty) {
            if idx.get() > self.cut_to || !self.has_below(idx) || self.page_below(idx)? != page {
                self.dirty.insert(idx, page);
            }
        }
        Ok(())
    }

    /// Drops the written form of one page if it is what lies below.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn drop_if_unchanged(&mut self, idx: PageIdx) -> Result<()> {
        let Some(page) = self.dirty.get(&idx).cloned() else { return Ok(()) };
        if idx.get() <= self.cut_to && self.has_below(idx) && self.page_below(idx)? == page {
            self.dirty.remove(&idx);
        }
        Ok(())
    }

    fn has_below(&self, idx: PageIdx) -> bool {
        let count = match &self.rebase {
            Some(rebase) => rebase.page_count,
            None => self.below.page_count(),
        };
        count.contains(idx)
    }

    fn is_unchanged(&self) -> bool {
        let same = match &self.rebase {
            Some(rebase) => rebase.page_count,
            None => self.below.page_count(),
        };
        self.dirty.is_empty() && self.page_count == same && self.cut_to >= same.0
    }

    /// Saves a local draft and its mutation as one step; with neither, does nothing.
    ///
    /// # Errors
    /// `Io` when the disk fails; nothing is saved then.
    pub fn save(
        mut self,
        mutation: Option<PendingMutation>,
        attrs: Vec<(String, Option<Bytes>)>,
        durability: Durability,
    ) -> Result<(Saved, WriterGuard)> {
        if self.is_unchanged() && mutation.is_none() && attrs.is_empty() {
            return Ok((Saved::Unchanged, self.writer));
        }
        let volume = self.volume().clone();
        let (page_count, pages, contents) = self.written();
        let body = StepBody::Commit { page_count, pages, mutation };
        volume.0.store.append(&Step { body, attrs }, &contents)?;
        if durability == Durability::Local {
            volume.flush()?;
        }
        volume.maybe_checkpoint(&self.writer);
        let head = volume.0.store.read().head;
        Ok((Saved::State(head), self.writer))
    }

    /// Publishes a rebase draft: the new base, the redone drafts and the remaining timeline, as
    /// one step. Readers see the state before or the state after.
    ///
    /// # Errors
    /// `Io` when the disk fails; the old state stays.
    pub fn publish(
        mut self,
        timeline: Vec<PendingMutation>,
        mut attrs: Vec<(String, Option<Bytes>)>,
    ) -> Result<WriterGuard> {
        let unchanged = self.is_unchanged();
        let replayed = (!unchanged).then(|| self.written());
        let Some(rebase) = self.rebase.take() else {
            return Err(Error::new(crate::ErrorKind::Internal, "publishing a local draft"));
        };
        let volume = self.volume().clone();
        attrs.extend(
            rebase
                .adopt
                .map(|id| (ATTR_VOLUME.to_owned(), Some(Bytes::copy_from_slice(id.as_bytes())))),
        );
        let mut filled: Vec<(PageIdx, Page)> = rebase
            .over
            .into_iter()
            .filter_map(|(idx, over)| match over {
                Over::Here(page) => Some((idx, page)),
                Over::Pending(_) => None,
            })
            .collect();
        filled.sort_unstable_by_key(|(idx, _)| *idx);
        let (filled, mut contents): (Vec<PageIdx>, Vec<Page>) = filled.into_iter().unzip();
        let replayed = replayed.map(|(page_count, pages, drafts)| {
            contents.extend(drafts);
            (page_count, pages)
        });
        let body = StepBody::Advance {
            adopt: rebase.adopt.is_some(),
            lsn: rebase.lsn,
            hash: rebase.hash,
            time_ms: rebase.time_ms,
            page_count: rebase.page_count,
            incoming: rebase.incoming,
            filled,
            replayed,
            timeline,
        };
        volume.0.store.append(&Step { body, attrs }, &contents)?;
        volume.maybe_checkpoint(&self.writer);
        Ok(self.writer)
    }

    /// The commit that appends this rebase draft to the log: its new base is its parent.
    pub(super) fn parent(&self) -> Option<(Lsn, CommitHash, u64)> {
        self.rebase.as_ref().map(|rebase| (rebase.lsn, rebase.hash, rebase.time_ms))
    }

    /// After its append: what the draft held is part of its base now.
    pub(super) fn committed(&mut self, commit: &Commit) -> Result<()> {
        let written = std::mem::take(&mut self.dirty);
        let rebase = self
            .rebase
            .as_mut()
            .ok_or_else(|| Error::new(crate::ErrorKind::Internal, "a local draft was pushed"))?;
        rebase.note(commit);
        rebase.over.extend(written.into_iter().map(|(idx, page)| (idx, Over::Here(page))));
        self.page_count = commit.page_count;
        self.cut_to = u32::MAX;
        Ok(())
    }

    pub(super) fn written(&mut self) -> (PageCount, Vec<PageIdx>, Vec<Page>) {
        // Cut off and grown over again without being written: they are zeros now.
        let zeros = Page::zeros(self.volume().page_size());
        for number in self.cut_to.saturating_add(1)..=self.page_count.0 {
            let Some(idx) = PageIdx::new(number) else { continue };
            if self.has_below(idx) {
                self.dirty.entry(idx).or_insert_with(|| zeros.clone());
            }
        }
        let (pages, contents) = self.dirty.iter().map(|(idx, page)| (*idx, page.clone())).unzip();
        (self.page_count, pages, contents)
    }

    /// Gives the writer back and forgets the draft.
    #[must_use]
    pub fn discard(self) -> WriterGuard {
        self.writer
    }
}
