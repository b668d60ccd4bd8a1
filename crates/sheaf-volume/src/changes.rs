//! What many commits changed, as one step: for a replica that was away for long.
//!
//! Invariant: a replica at any position from `after` up to the head that takes these changes has
//! the state of the head: every page that differs there is a member of `pages`, or lies beyond
//! `floor` and reads as zeros. The chain of hashes is checked where the commits were read; across
//! a part of the log that is gone it cannot be. Leaves out the order in which things happened.

use std::collections::BTreeMap;

use crate::{
    Commit, CommitHash, Error, Lsn, Page, PageCount, PageIdx, PageSet, Remote, RemoteHead, Result,
    TimelineId, VolumeId, limits,
};

/// The difference between two global states of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Whose.
    pub volume: VolumeId,
    /// The position from which on this tells everything.
    pub after: Lsn,
    /// Hash of the commit at `after`, as the one behind it names it; `None` when that one was not
    /// read, so that nothing ties these changes to what the replica has.
    pub parent: Option<CommitHash>,
    /// The state that they lead to.
    pub head: RemoteHead,
    /// Pages in the smallest state on the way: what lies beyond it was cut off.
    pub floor: PageCount,
    /// Pages that changed and are there at the head.
    pub pages: PageSet,
    /// Commits on the way that tell what became of one timeline, ascending, and the newest commit:
    /// as far as they were read, and the newest [`limits::CHANGES_COMMITS_MAX`] of them only.
    pub told: Vec<Commit>,
    /// Content at the head of some of `pages`: what came along with the commits.
    here: BTreeMap<PageIdx, Page>,
}

impl Changes {
    /// What is known without the commits on the way: the state at `head`, and which of its pages
    /// may differ from the state at `after`. From an index of pages, those are all that changed
    /// after `after` and all that the index does not have.
    #[must_use]
    pub fn of_state(volume: VolumeId, after: Lsn, head: RemoteHead, pages: PageSet) -> Self {
        Self {
            volume,
            after,
            parent: None,
            floor: head.page_count,
            head,
            pages,
            told: Vec::new(),
            here: BTreeMap::new(),
        }
    }

    /// What the remote has after `begun`, or after `after`, added to it; `None` when that is
    /// nothing.
    ///
    /// # Errors
    /// As [`Remote::pull`], and `Corrupt` for commits that do not follow each other.
    pub fn read(
        remote: &(impl Remote + ?Sized),
        begun: Option<Self>,
        after: Lsn,
        timeline: TimelineId,
    ) -> Result<Option<Self>> {
        let mut changes = begun;
        loop {
            let at = changes.as_ref().map_or(after, |changes| changes.head.lsn);
            let commits = remote.pull(at)?;
            if commits.is_empty() {
                return Ok(changes);
            }
            Self::extend(&mut changes, commits, timeline)?;
        }
    }

    /// Adds commits that follow on these changes, or begins with them.
    ///
    /// # Errors
    /// `Corrupt` for commits that do not follow each other, or inline pages that fail their hash.
    pub fn extend(
        changes: &mut Option<Self>,
        commits: Vec<Commit>,
        timeline: TimelineId,
    ) -> Result<()> {
        for commit in commits {
            match changes {
                Some(changes) => changes.take(commit, timeline)?,
                None => *changes = Some(Self::first(commit)?),
            }
        }
        Ok(())
    }

    fn first(commit: Commit) -> Result<Self> {
        let mut changes = Self {
            volume: commit.volume,
            after: Lsn(commit.lsn.0 - 1),
            parent: Some(commit.parent),
            head: head_of(&commit),
            floor: commit.page_count,
            pages: PageSet::new(),
            told: Vec::new(),
            here: BTreeMap::new(),
        };
        changes.note(commit)?;
        Ok(changes)
    }

    fn take(&mut self, commit: Commit, timeline: TimelineId) -> Result<()> {
        let head = self.head;
        if commit.volume != self.volume
            || commit.page_size != head.page_size
            || (commit.lsn, commit.parent) != (head.lsn.next(), head.hash)
        {
            let text = format!("commit does not follow the one before it lsn=`{}`", commit.lsn);
            return Err(Error::corrupt(text));
        }
        // The newest so far was kept for being the newest only.
        let tells = |commit: &Commit| commit.applied.iter().any(|a| a.timeline == timeline);
        if self.told.last().is_some_and(|last| !tells(last)) {
            self.told.pop();
        }
        if self.told.len() >= limits::CHANGES_COMMITS_MAX {
            self.told.remove(0);
        }
        self.note(commit)
    }

    fn note(&mut self, commit: Commit) -> Result<()> {
        self.head = head_of(&commit);
        self.floor = self.floor.min(commit.page_count);
        self.pages.truncate(commit.page_count.0);
        self.pages.union_with(&commit.pages);
        if let Some(beyond) = commit.page_count.0.checked_add(1).and_then(PageIdx::new) {
            self.here.split_off(&beyond);
        }
        for idx in commit.pages.iter() {
            self.here.remove(&idx);
        }
        self.keep_inline(&commit)?;
        self.told.push(commit);
        Ok(())
    }

    fn keep_inline(&mut self, commit: &Commit) -> Result<()> {
        if self.here.len() < limits::CHANGES_PAGES_MAX {
            self.here.extend(commit.inline_pages()?);
        }
        Ok(())
    }

    /// Changes that somebody else has merged. What its commits tell must agree with the rest.
    ///
    /// # Errors
    /// `Corrupt` when it does not.
    pub fn checked(mut self) -> Result<Self> {
        let wrong = |why: &str| Err(Error::corrupt(format!("merged changes: {why}")));
        let head = self.head;
        if self.after >= head.lsn || head.lsn.0 > limits::LSN_MAX {
            return wrong("they lead nowhere");
        }
        if self.floor > head.page_count
            || self.pages.last().is_some_and(|last| !head.page_count.contains(last))
        {
            return wrong("a page lies beyond the end");
        }
        let mut before = self.after;
        for commit in &self.told {
            if commit.volume != self.volume || commit.lsn <= before {
                return wrong("their commits are in no order");
            }
            before = commit.lsn;
        }
        let Some(newest) = self.told.last().filter(|newest| newest.lsn >= head.lsn).cloned() else {
            return Ok(self);
        };
        if head_of(&newest) != head {
            return wrong("their head is not the commit that they name");
        }
        self.keep_inline(&newest)?;
        Ok(self)
    }

    /// The pages whose content came along.
    pub(crate) fn here(&self) -> &BTreeMap<PageIdx, Page> {
        &self.here
    }
}

fn head_of(commit: &Commit) -> RemoteHead {
    RemoteHead {
        lsn: commit.lsn,
        hash: commit.hash(),
        page_count: commit.page_count,
        page_size: commit.page_size,
        time_ms: commit.time_ms,
    }
}
