//! A write transaction: pages over a snapshot, saved as one step.
//!
//! Invariant: a draft that is dropped leaves no trace. A local draft lies on the head and is saved
//! with its mutation; a rebase draft lies on a *new* base that no reader can see yet, and is
//! published together with that base as one step. However large it becomes, it holds a bounded
//! number of bytes in memory (`spill.rs`).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{ATTR_PARENTS, ATTR_VOLUME, Snapshot, Volume, WriterGuard};
use crate::store::{
    BaseState, Content, HeldMutation, Incoming, PendingMutation, StagedPage, Step, StepBody,
};
use crate::teeth::{Tooth, bites};
use crate::{
    Changes, Commit, CommitDelta, CommitHash, CommitNews, Error, ErrorKind, HeldPage, Lineage,
    LocalLsn, Lsn, Page, PageCount, PageDelta, PageIdx, PageSet, RemoteHead, Result, Want,
    apply_delta, limits, page_hash,
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
    pub(super) rebase: Option<Rebase>,
    pub(super) dirty: BTreeMap<PageIdx, Content>,
    /// The timeline to be published with a rebase draft.
    pub(super) kept: Vec<HeldMutation>,
    /// Bytes of their bodies that are in memory.
    pub(super) kept_here: usize,
    /// Pages written or fetched since the last spill: no fewer than are in memory.
    pub(super) unspilled: usize,
    /// Pages cut off in this draft: zeros if the draft grows over them again.
    cut_to: u32,
    page_count: PageCount,
}

/// The new base under a rebase draft.
#[derive(Debug)]
pub(super) struct Rebase {
    adopt: Option<Lineage>,
    pub(super) lsn: Lsn,
    pub(super) hash: CommitHash,
    time_ms: u64,
    page_count: PageCount,
    /// Pages after this were cut off on the way: zeros, unless `over` says otherwise.
    cut_to: u32,
    incoming: Vec<Incoming>,
    /// What the new base says about a page that it changed.
    pub(super) over: BTreeMap<PageIdx, Over>,
    /// Requests made for pages of the new base.
    misses: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Over {
    Pending(Lsn),
    Here(Page),
    Staged(StagedPage),
}

impl From<Content> for Over {
    fn from(content: Content) -> Self {
        match content {
            Content::Here(page) => Self::Here(page),
            Content::Staged(staged) => Self::Staged(staged),
        }
    }
}

impl Volume {
    /// Starts a local write transaction on the head.
    #[must_use]
    pub fn draft(&self, writer: WriterGuard) -> Draft {
        let below = self.head();
        let page_count = below.page_count();
        Draft::over(writer, below, None, page_count)
    }

    /// Starts a rebase onto the base plus `commits`, which follow it in order. With no commits
    /// it redoes the drafts on the same base.
    ///
    /// # Errors
    /// `Corrupt` when the commits do not continue this replica's log.
    pub fn rebase(&self, writer: WriterGuard, commits: &[Commit]) -> Result<Draft> {
        let (below, base) = self.global_base();
        let mut rebase = Rebase::onto(base);
        for commit in commits {
            self.check_commit(commit, rebase.lsn.next(), rebase.hash)?;
            rebase.take(commit)?;
        }
        Ok(Draft::on(writer, below, rebase))
    }

    /// As [`Volume::rebase`], for commits that came whole or as deltas.
    ///
    /// # Errors
    /// As [`Volume::rebase`].
    pub fn rebase_news(&self, writer: WriterGuard, news: &[CommitNews]) -> Result<Draft> {
        let (below, base) = self.global_base();
        let mut rebase = Rebase::onto(base);
        for news in news {
            let next = (rebase.lsn.next(), rebase.hash);
            match news {
                CommitNews::Whole(commit) => {
                    self.check_commit(commit, next.0, next.1)?;
                    rebase.take(commit)?;
                }
                CommitNews::Delta(delta) => {
                    self.check_place(delta.volume, (delta.lsn, delta.parent), next)?;
                    rebase.take_delta(delta, &below);
                }
            }
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
    pub fn adopt(
        &self,
        writer: WriterGuard,
        lineage: impl Into<Lineage>,
        head: RemoteHead,
    ) -> Result<Draft> {
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
            adopt: Some(lineage.into()),
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
    pub(super) fn onto(base: BaseState) -> Self {
        Self {
            adopt: None,
            lsn: base.lsn,
            hash: base.hash,
            time_ms: base.time_ms,
            page_count: base.page_count,
            cut_to: u32::MAX,
            incoming: Vec::new(),
            over: BTreeMap::new(),
            misses: 0,
        }
    }

    /// The new base is the state at this commit; gives the pages that came with it.
    pub(super) fn take(&mut self, commit: &Commit) -> Result<Vec<(PageIdx, Page)>> {
        let pages = commit.inline_pages()?;
        self.note(commit);
        self.have(&pages);
        Ok(pages)
    }

    /// These pages of the new base are here.
    pub(super) fn have(&mut self, pages: &[(PageIdx, Page)]) {
        self.over.extend(pages.iter().map(|(idx, page)| (*idx, Over::Here(page.clone()))));
    }

    /// As [`Rebase::take`]. A page whose version before is not here, or does not make the page
    /// that its hash names, is pending like any other that did not come along.
    fn take_delta(&mut self, delta: &CommitDelta, below: &Snapshot) {
        let made = |page: &PageDelta| {
            let new = apply_delta(&self.page_here(page.idx, below)?, &page.delta).ok()?;
            let hash = page_hash(delta.volume, delta.lsn, page.idx, &new);
            (hash == page.hash).then_some((page.idx, Over::Here(new)))
        };
        let made: Vec<(PageIdx, Over)> = delta.pages.iter().filter_map(made).collect();
        let (pages, count) = (delta.page_set(), delta.page_count);
        self.forward((delta.lsn, delta.hash, delta.time_ms), count, pages);
        self.over.extend(made);
    }

    /// A page of the new base if it is on this device; zeros beyond the end.
    pub(super) fn page_here(&self, idx: PageIdx, below: &Snapshot) -> Option<Page> {
        match self.over.get(&idx) {
            Some(Over::Here(page)) => Some(page.clone()),
            Some(Over::Staged(staged)) => below.volume().0.store.staged_page(*staged).ok(),
            Some(Over::Pending(_)) => None,
            None if idx.get() > self.cut_to || !self.page_count.contains(idx) => {
                Some(Page::zeros(below.volume().page_size()))
            }
            None if self.adopt.is_some() => None,
            None => below.page_here(idx),
        }
    }

    /// The versions at the base below, at `lsn`, of pages that are asked for.
    fn held(&self, wants: &[Want], below: &Snapshot, lsn: Lsn) -> Vec<HeldPage> {
        if self.adopt.is_some() {
            return Vec::new();
        }
        let asked = wants.iter().flat_map(|want| want.pages.iter());
        let inside = asked.filter(|idx| below.page_count().contains(*idx));
        let held = inside.filter_map(|idx| {
            let page = below.page_here(idx)?;
            Some(HeldPage { idx, lsn, page })
        });
        held.take(limits::HELD_PAGES_MAX).collect()
    }

    /// What to ask for when a page of the new base is missing: it, and pages after it that are
    /// likely to be read as well, twice as many with every request. A short redo stays cheap, and
    /// a long one does not ask for every page by itself.
    ///
    /// Likely are pages that changed and whose version before is here, and when a redo goes on for
    /// long, all that changed. Nothing is here yet when a site is adopted, so its neighbours are
    /// asked for.
    fn plan(&mut self, idx: PageIdx, lsn: Lsn, below: &Snapshot) -> Vec<Want> {
        let window = limits::REDO_PAGES_MAX.min(1 << self.misses.min(16)) as usize;
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
    pub(super) fn note(&mut self, commit: &Commit) {
        let place = (commit.lsn, commit.hash(), commit.time_ms);
        self.forward(place, commit.page_count, commit.pages.clone());
    }

    fn forward(
        &mut self,
        (lsn, hash, time_ms): (Lsn, CommitHash, u64),
        page_count: PageCount,
        pages: PageSet,
    ) {
        // Not page by page: a commit may name any page count.
        if page_count < self.page_count {
            self.over.retain(|idx, _| page_count.contains(*idx));
            self.cut_to = self.cut_to.min(page_count.0);
        }
        for idx in pages.iter() {
            if bites(Tooth::MissOnePage) && pages.len() > 1 && Some(idx) == pages.last() {
                continue;
            }
            self.over.insert(idx, Over::Pending(lsn));
        }
        (self.lsn, self.hash) = (lsn, hash);
        (self.time_ms, self.page_count) = (time_ms, page_count);
        self.incoming.push(Incoming { lsn, page_count, pages });
    }
}

impl Draft {
    fn on(writer: WriterGuard, below: Snapshot, rebase: Rebase) -> Self {
        let page_count = rebase.page_count;
        let mut draft = Self::over(writer, below, Some(rebase), page_count);
        // Pages that came along with the commits count too.
        draft.unspilled = draft.rebase.as_ref().map_or(0, |rebase| rebase.over.len());
        draft
    }

    fn over(
        writer: WriterGuard,
        below: Snapshot,
        rebase: Option<Rebase>,
        page_count: PageCount,
    ) -> Self {
        let (dirty, kept) = (BTreeMap::new(), Vec::new());
        let (kept_here, unspilled, cut_to) = (0, 0, u32::MAX);
        Self { writer, below, rebase, dirty, kept, kept_here, unspilled, cut_to, page_count }
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
        match self.dirty.get(&idx) {
            Some(Content::Here(page)) => return Ok(page.clone()),
            Some(Content::Staged(staged)) => return self.volume().0.store.staged_page(*staged),
            None => {}
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
            None => {
                let (over, cut_to, lsn) = (&rebase.over, rebase.cut_to, rebase.lsn);
                let lasts = |page: PageIdx| {
                    (page.get() <= cut_to && !over.contains_key(&page)).then_some(lsn)
                };
                return self.below.page_lasting(idx, &lasts);
            }
        };
        match over {
            Over::Here(page) => Ok(page),
            Over::Staged(staged) => self.volume().0.store.staged_page(staged),
            Over::Pending(lsn) => {
                let wants = rebase.plan(idx, lsn, &self.below);
                let volume = self.writer.volume();
                // While this holds the writer, the base below stays the newest one.
                let held = rebase.held(&wants, &self.below, volume.base().0);
                let remote = volume.remote()?;
                let fetched = match remote.fetch_holding(&wants, &held) {
                    // Reclaimed meanwhile; what is pending lasts until the new base.
                    Err(e)
                        if e.kind() == ErrorKind::Expired
                            && wants.iter().any(|want| want.lsn < rebase.lsn) =>
                    {
                        let pages = wants.iter().flat_map(|want| want.pages.iter()).collect();
                        remote.fetch_holding(&[Want { lsn: rebase.lsn, pages }], &held)?
                    }
                    answer => answer?,
                };
                for page in fetched {
                    let wanted = match rebase.over.get(&page.idx) {
                        Some(Over::Pending(at)) => [*at, rebase.lsn].contains(&page.lsn),
                        None if page.idx.get() > rebase.cut_to => false,
                        None => rebase.adopt.is_some() && rebase.lsn == page.lsn,
                        Some(_) => false,
                    };
                    if wanted && page.page.len() == self.writer.volume().page_size().bytes() {
                        rebase.over.insert(page.idx, Over::Here(page.page));
                        self.unspilled += 1;
                    }
                }
                let Some(Over::Here(page)) = rebase.over.get(&idx).cloned() else {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("the remote did not send page `{idx}` lsn=`{lsn}`"),
                    ));
                };
                self.spill_if_large();
                Ok(page)
            }
        }
    }

    /// A page as it lies below this draft, if its content is on this device; zeros beyond the end.
    /// Fetches nothing.
    #[must_use]
    pub fn below_here(&self, idx: PageIdx) -> Option<Page> {
        match &self.rebase {
            Some(rebase) => rebase.page_here(idx, &self.below),
            None => self.below.page_here(idx),
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
        self.dirty.insert(idx, Content::Here(page));
        self.unspilled += 1;
        self.spill_if_large();
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
        let written: Vec<PageIdx> = self.dirty.keys().copied().collect();
        written.into_iter().try_for_each(|idx| self.drop_if_unchanged(idx))
    }

    /// Drops the written form of one page if it is what lies below.
    ///
    /// # Errors
    /// As [`Snapshot::page`].
    pub fn drop_if_unchanged(&mut self, idx: PageIdx) -> Result<()> {
        if !self.dirty.contains_key(&idx) {
            return Ok(());
        }
        let page = self.page(idx)?;
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
        let mutation = mutation.map(HeldMutation::from);
        let mutation = mutation.map(|held| volume.place(held)).transpose()?;
        let (page_count, pages, contents) = self.written();
        let body = StepBody::Commit { page_count, pages, mutation };
        volume.0.store.append_contents(&Step { body, attrs }, &contents)?;
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
        timeline.into_iter().try_for_each(|mutation| self.keep(mutation.into()))?;
        let timeline = std::mem::take(&mut self.kept);
        let unchanged = self.is_unchanged();
        let replayed = (!unchanged).then(|| self.written());
        let Some(rebase) = self.rebase.take() else {
            return Err(Error::new(ErrorKind::Internal, "publishing a local draft"));
        };
        let volume = self.volume().clone();
        let adopt = rebase.adopt.is_some();
        if let Some(lineage) = rebase.adopt {
            let id = Bytes::copy_from_slice(lineage.volume().as_bytes());
            attrs.push((ATTR_VOLUME.to_owned(), Some(id)));
            let parents = (!lineage.parents().is_empty()).then(|| lineage.encode());
            attrs.push((ATTR_PARENTS.to_owned(), parents));
        }
        let here = rebase.over.into_iter().filter_map(|(idx, over)| match over {
            Over::Here(page) => Some((idx, Content::Here(page))),
            Over::Staged(staged) => Some((idx, Content::Staged(staged))),
            Over::Pending(_) => None,
        });
        let (filled, mut contents): (Vec<PageIdx>, Vec<Content>) = here.unzip();
        let replayed = replayed.map(|(page_count, pages, drafts)| {
            contents.extend(drafts);
            (page_count, pages)
        });
        let body = StepBody::Advance {
            adopt,
            lsn: rebase.lsn,
            hash: rebase.hash,
            time_ms: rebase.time_ms,
            page_count: rebase.page_count,
            incoming: rebase.incoming,
            filled,
            replayed,
            timeline,
        };
        volume.0.store.append_contents(&Step { body, attrs }, &contents)?;
        drop(contents);
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
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a local draft was pushed"))?;
        rebase.note(commit);
        rebase.over.extend(written.into_iter().map(|(idx, content)| (idx, content.into())));
        self.page_count = commit.page_count;
        self.cut_to = u32::MAX;
        Ok(())
    }

    /// Cut off and grown over again without being written: they are zeros now.
    fn write_zeros(&mut self) {
        let zeros = Page::zeros(self.volume().page_size());
        for number in self.cut_to.saturating_add(1)..=self.page_count.0 {
            let Some(idx) = PageIdx::new(number) else { continue };
            if self.has_below(idx) {
                self.dirty.entry(idx).or_insert_with(|| Content::Here(zeros.clone()));
            }
        }
    }

    fn written(&mut self) -> (PageCount, Vec<PageIdx>, Vec<Content>) {
        self.write_zeros();
        let (pages, contents) = std::mem::take(&mut self.dirty).into_iter().unzip();
        (self.page_count, pages, contents)
    }

    /// Numbers of the pages written, to be read one by one.
    pub(super) fn written_pages(&mut self) -> Vec<PageIdx> {
        self.write_zeros();
        self.dirty.keys().copied().collect()
    }

    /// Gives the writer back and forgets the draft.
    #[must_use]
    pub fn discard(self) -> WriterGuard {
        self.writer
    }
}
