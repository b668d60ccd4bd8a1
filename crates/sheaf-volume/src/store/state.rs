//! The state of a store and the steps that move it forward.
//!
//! Invariant: [`State::apply`] is the only way a state changes, for a live step and for a record
//! read back after a crash alike, so both end in the same state.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::held::HeldMutation;
use super::map::{Loc, PageMap, Version};
use crate::{CommitHash, LocalLsn, Lsn, PageCount, PageIdx, PageSet, limits};

/// The newest local state that equals a global one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BaseState {
    pub(crate) local: LocalLsn,
    pub(crate) lsn: Lsn,
    pub(crate) hash: CommitHash,
    pub(crate) page_count: PageCount,
    pub(crate) time_ms: u64,
}

/// A push whose outcome is not known yet: made durable before the append is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) lsn: Lsn,
    pub(crate) nonce: [u8; 16],
}

/// One atomic transition: what it does, and attributes that change with it (`None` removes one).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) body: StepBody,
    pub(crate) attrs: Vec<(String, Option<Bytes>)>,
}

/// The kinds of transition. Page bytes travel beside the step, in the order of its page lists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StepBody {
    /// A local transaction: pages and, in the same record, its mutation.
    Commit { page_count: PageCount, pages: Vec<PageIdx>, mutation: Option<HeldMutation> },
    /// Forward to a new base. Drafts are dropped; `incoming` says what the log changed, oldest
    /// first; `filled` are pages whose bytes came along; `replayed` are the redone drafts. With
    /// `adopt` this is first contact: every page of the new base is pending.
    Advance {
        adopt: bool,
        lsn: Lsn,
        hash: CommitHash,
        time_ms: u64,
        page_count: PageCount,
        incoming: Vec<Incoming>,
        filled: Vec<PageIdx>,
        replayed: Option<(PageCount, Vec<PageIdx>)>,
        timeline: Vec<HeldMutation>,
    },
    /// A push is about to be tried.
    Push(Intent),
    /// The outcome of the push is known; what it committed comes with the next advance.
    Pushed,
    /// Pending pages arrived.
    Fill { pages: Vec<(PageIdx, LocalLsn)> },
    /// Only attributes change.
    Attrs,
    /// Bytes for a later step to refer to: nothing changes. Pages may travel along.
    Stage { bodies: Vec<Bytes> },
}

/// What one commit of the log changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Incoming {
    pub(crate) lsn: Lsn,
    pub(crate) page_count: PageCount,
    pub(crate) pages: PageSet,
}

/// Everything a store knows, besides the page bytes.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) head: LocalLsn,
    pub(crate) head_pages: PageCount,
    pub(crate) base: BaseState,
    /// Local states since the last fold that equal a global one, with its Lsn.
    pub(crate) bases: BTreeMap<LocalLsn, Lsn>,
    pub(crate) timeline: Vec<HeldMutation>,
    pub(crate) attrs: BTreeMap<String, Bytes>,
    pub(crate) intent: Option<Intent>,
    pub(crate) map: PageMap,
}

impl State {
    /// Moves to the state after `step`, whose page bytes are at `locs` in order.
    pub(crate) fn apply(&mut self, step: &Step, locs: &[Loc]) {
        let mut locs = locs.iter().copied();
        match &step.body {
            StepBody::Commit { page_count, pages, mutation } => {
                let mark = self.head.next();
                self.put(mark, *page_count, pages, &mut locs);
                self.timeline.extend(mutation.clone());
            }
            StepBody::Advance { replayed, timeline, .. } => {
                self.advance(&step.body, &mut locs);
                if let Some((page_count, pages)) = replayed {
                    let mark = self.head.next();
                    self.put(mark, *page_count, pages, &mut locs);
                }
                self.timeline.clone_from(timeline);
                self.intent = None;
            }
            StepBody::Push(intent) => self.intent = Some(*intent),
            StepBody::Pushed => self.intent = None,
            StepBody::Fill { pages } => {
                for (&(idx, mark), loc) in pages.iter().zip(locs) {
                    self.map.fill(idx, mark, loc);
                }
            }
            StepBody::Attrs | StepBody::Stage { .. } => {}
        }
        for (name, value) in &step.attrs {
            match value {
                Some(value) => self.attrs.insert(name.clone(), value.clone()),
                None => self.attrs.remove(name),
            };
        }
    }

    /// Where to ask for a page that is not here at this state, and the mark to fill.
    pub(crate) fn pending(&self, idx: PageIdx, at: LocalLsn) -> Option<(Lsn, LocalLsn)> {
        let version = self.map.find(idx, at);
        match version.loc {
            Loc::Pending(lsn) => Some((lsn, version.mark)),
            _ => None,
        }
    }

    /// The newest state before the one at `mark` that equals a global one and has this page's
    /// content here, and which global one that is.
    pub(crate) fn held_before(&self, idx: PageIdx, mut mark: LocalLsn) -> Option<(LocalLsn, Lsn)> {
        for _ in 0..limits::HELD_STEPS_MAX {
            let (&local, &lsn) = self.bases.range(..mark).next_back()?;
            let version = self.map.find(idx, local);
            match version.loc {
                Loc::Pending(_) => mark = version.mark,
                Loc::Zero => return None,
                Loc::Log { .. } | Loc::Base { .. } => return Some((local, lsn)),
            }
        }
        None
    }

    /// Up to which position a page has the version with this mark: the base's or, if the caller
    /// knows of one, `beyond`; `None` if the base has another. States between say nothing: a fold
    /// keeps versions only for those that somebody holds.
    pub(crate) fn lasts_until(
        &self,
        idx: PageIdx,
        mark: LocalLsn,
        beyond: Option<Lsn>,
    ) -> Option<Lsn> {
        let is_same = self.map.find(idx, self.base.local).mark == mark;
        is_same.then(|| beyond.unwrap_or(self.base.lsn))
    }

    pub(crate) fn is_pending(&self, idx: PageIdx, at: LocalLsn) -> bool {
        self.pending(idx, at).is_some()
    }

    /// New content for `pages` at `mark`, which becomes the head. Pages beyond a smaller page
    /// count read as zeros from here on, also if the volume grows over them again.
    fn put(
        &mut self,
        mark: LocalLsn,
        page_count: PageCount,
        pages: &[PageIdx],
        locs: &mut impl Iterator<Item = Loc>,
    ) {
        self.cut(mark, self.head_pages, page_count);
        for (&idx, loc) in pages.iter().zip(locs) {
            self.map.push(idx, Version { mark, loc });
        }
        self.head = mark;
        self.head_pages = page_count;
    }

    fn cut(&mut self, mark: LocalLsn, from: PageCount, to: PageCount) {
        if to >= from {
            return;
        }
        // Only what is there: a page count says nothing about how many pages were ever written.
        for idx in self.map.known(to, from) {
            self.map.push(idx, Version { mark, loc: Loc::Zero });
        }
    }

    fn advance(&mut self, body: &StepBody, locs: &mut impl Iterator<Item = Loc>) {
        let StepBody::Advance { adopt, lsn, hash, time_ms, page_count, incoming, filled, .. } =
            body
        else {
            return;
        };
        let mark = self.head.next();
        let old = self.base;
        // Drafts go: their pages take the version that the old base saw.
        for idx in self.map.changed(old.local, self.head) {
            let before = self.map.find(idx, old.local);
            self.map.push(idx, Version { mark, loc: before.loc });
        }
        let all = if *adopt { page_count.0 } else { 0 };
        for idx in (1..=all).filter_map(PageIdx::new) {
            self.map.begin(idx, Version { mark, loc: Loc::Pending(*lsn) });
        }
        let mut count = old.page_count;
        for commit in incoming {
            self.cut(mark, count, commit.page_count);
            count = commit.page_count;
            for idx in commit.pages.iter() {
                self.map.push(idx, Version { mark, loc: Loc::Pending(commit.lsn) });
            }
        }
        for (&idx, loc) in filled.iter().zip(locs) {
            self.map.push(idx, Version { mark, loc });
        }
        self.head = mark;
        self.head_pages = *page_count;
        self.base = BaseState {
            local: mark,
            lsn: *lsn,
            hash: *hash,
            page_count: *page_count,
            time_ms: *time_ms,
        };
        self.bases.insert(mark, *lsn);
    }
}
