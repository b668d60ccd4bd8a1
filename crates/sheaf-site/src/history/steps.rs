//! The log read forward in steps: runs of commits whose states are compared.
//!
//! Invariants: steps follow each other without gaps and end exactly where they are told to; none
//! reaches from one interval into the next, and an interval has a bounded number of them, however
//! many commits it holds. Leaves out what the states hold.

use std::collections::VecDeque;

use sheaf_volume::{
    Commit, DeviceId, Error, ErrorKind, Lsn, PageCount, PageIdx, PageSet, Result, TimelineId,
    Volume,
};

use super::record::Who;
use super::reverse::is_same_interval;
use super::types::Authors;
use crate::limits::{HISTORY_SINGLE_STEPS, HISTORY_STEPS_MAX};

/// Some commits that follow each other, as one.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    pub(super) first_time_ms: u64,
    pub(super) time_ms: u64,
    /// Pages after the last of them.
    pub(super) page_count: PageCount,
    /// The fewest pages of any state on the way.
    fewest: PageCount,
    pages: PageSet,
    pub(super) who: Who,
}

/// The log, from a position up.
pub(super) struct Forward<'a> {
    volume: &'a Volume,
    read: VecDeque<Commit>,
    /// The newest commit that was given.
    at: Lsn,
    /// Time of the interval that steps are counted in, and how many there were.
    interval: (u64, u32),
}

impl<'a> Forward<'a> {
    /// Begins after a position.
    pub(super) fn new(volume: &'a Volume, after: Lsn) -> Self {
        Self { volume, read: VecDeque::new(), at: after, interval: (0, 0) }
    }

    /// The next step, which ends at `to` at the latest. With `whole`, all commits up to there,
    /// whatever interval they are in.
    ///
    /// # Errors
    /// `Expired` when the log does not reach back so far, `Unavailable`, `Corrupt`.
    pub(super) fn next(&mut self, to: Lsn, whole: bool) -> Result<Run> {
        let first = self.commit()?;
        let time_ms = first.time_ms;
        if !is_same_interval(self.interval.0, time_ms) {
            self.interval = (time_ms, 0);
        }
        let most = if whole { u64::MAX } else { commits_in(self.interval.1) };
        self.interval.1 += 1;
        let mut run = Run::new(first);
        while run.last < to && run.last.0 - run.first.0 + 1 < most {
            let is_in = |next: &Commit| whole || is_same_interval(time_ms, next.time_ms);
            self.fill()?;
            match self.read.front().is_some_and(is_in) {
                true => run.add(self.commit()?),
                false => break,
            }
        }
        Ok(run)
    }

    fn commit(&mut self) -> Result<Commit> {
        self.fill()?;
        let commit = self.read.pop_front().filter(|commit| commit.lsn == self.at.next());
        let commit = commit.ok_or_else(|| {
            let text = format!("the log has no commit after lsn=`{}`", self.at);
            Error::new(ErrorKind::NotFound, text)
        })?;
        self.at = commit.lsn;
        Ok(commit)
    }

    fn fill(&mut self) -> Result<()> {
        if self.read.is_empty() {
            self.read = self.volume.remote()?.pull(self.at)?.into();
        }
        Ok(())
    }
}

/// Commits of the step that has so many before it in its interval.
fn commits_in(steps: u32) -> u64 {
    if steps + 1 >= HISTORY_STEPS_MAX {
        return u64::MAX;
    }
    1 << steps.saturating_sub(HISTORY_SINGLE_STEPS - 1)
}

impl Run {
    fn new(commit: Commit) -> Self {
        Self {
            first: commit.lsn,
            last: commit.lsn,
            first_time_ms: commit.time_ms,
            time_ms: commit.time_ms,
            page_count: commit.page_count,
            fewest: commit.page_count,
            who: who(&commit),
            pages: commit.pages,
        }
    }

    fn add(&mut self, commit: Commit) {
        let newer = who(&commit);
        let older = std::mem::replace(&mut self.who, newer.clone());
        self.who = Who::join(older, newer);
        (self.last, self.time_ms, self.page_count) =
            (commit.lsn, commit.time_ms, commit.page_count);
        self.fewest = self.fewest.min(commit.page_count);
        self.pages.union_with(&commit.pages);
    }

    /// The pages that may differ between the states around it, the one before it being of so many.
    pub(super) fn differ(&self, before: PageCount) -> PageSet {
        let mut pages = self.pages.clone();
        let (floor, top) = (self.fewest.min(before), self.page_count.max(before));
        // What was cut off in between and came back need not be named by any commit.
        if let (Some(first), Some(last)) = (PageIdx::new(floor.0 + 1), PageIdx::new(top.0))
            && floor < top
        {
            pages.union_with(&PageSet::range(first, last));
        }
        pages
    }
}

fn who(commit: &Commit) -> Who {
    // Whose device reads it is not known here.
    let nobody = TimelineId::from_bytes([0; 16]);
    let mut authors = Authors::of(&commit.applied, nobody);
    let named = authors.0.len();
    // Numbers that no device gives; the record cannot keep them.
    authors.0.retain(|run| run.first_seq > 0 && i64::try_from(run.last_seq).is_ok());
    let nothing = Who {
        writer: DeviceId::from_bytes(commit.writer),
        authors: Authors::default(),
        more: authors.0.len() < named,
    };
    Who::join(nothing.clone(), Who { authors, ..nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_few_steps_however_many_commits() {
        let (mut commits, mut steps) = (0u64, 0);
        while commits < 1 << 40 {
            commits = commits.saturating_add(commits_in(steps));
            steps += 1;
        }
        assert!(steps <= HISTORY_STEPS_MAX, "{steps}");
        assert_eq!([0, 39, 40, 41].map(commits_in), [1, 1, 2, 4]);
    }
}
