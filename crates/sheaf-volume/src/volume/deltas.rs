//! Commits of the log as deltas against the state before each, for those who follow it live.
//!
//! Invariant: nothing is fetched for a delta: a commit that changed a page which is not here has
//! none, and goes out whole. Leaves out who is told.

use super::draft::Rebase;
use super::{Snapshot, Volume};
use crate::{Commit, CommitDelta, Page, PageIdx, Result, limits};

/// Follows the log from the newest global state that was here, commit by commit. Holds that state
/// until it is dropped.
#[derive(Debug)]
pub struct Deltas {
    below: Snapshot,
    now: Rebase,
}

impl Volume {
    /// Deltas of the commits that follow the base, which are not part of this replica yet or were
    /// just added to it.
    #[must_use]
    pub fn deltas(&self) -> Deltas {
        let (below, base) = self.global_base();
        Deltas { below, now: Rebase::onto(base) }
    }
}

impl Deltas {
    /// The delta form of the next commit; `None` for one that does not follow, one of too many
    /// pages, and one that changed a page which is not here. Pages that are not inline are here
    /// once the commit is the replica's base.
    ///
    /// # Errors
    /// `Corrupt` when the commit's frames do not match their hashes.
    pub fn next(&mut self, commit: &Commit) -> Result<Option<CommitDelta>> {
        let volume = self.below.volume();
        if volume.check_commit(commit, self.now.lsn.next(), self.now.hash).is_err() {
            return Ok(None);
        }
        if commit.pages.len() > limits::DELTA_PAGES_MAX {
            self.now.note(commit);
            return Ok(None);
        }
        let before: Vec<_> =
            commit.pages.iter().map(|idx| self.now.page_here(idx, &self.below)).collect();
        let mut after = self.now.take(commit)?;
        if commit.segment.is_some() {
            after = self.published(commit);
            self.now.have(&after);
        }
        if after.len() != before.len() {
            return Ok(None);
        }
        let pages = before.into_iter().zip(after);
        let pages: Option<Vec<_>> =
            pages.map(|(before, (idx, after))| Some((idx, before?, after))).collect();
        Ok(pages.map(|pages| CommitDelta::new(commit, &pages)))
    }

    /// Those pages of a commit that the replica has, if that commit is its base.
    fn published(&self, commit: &Commit) -> Vec<(PageIdx, Page)> {
        let (after, base) = self.below.volume().global_base();
        if base.hash != self.now.hash {
            return Vec::new();
        }
        commit.pages.iter().filter_map(|idx| Some((idx, after.page_here(idx)?))).collect()
    }
}
