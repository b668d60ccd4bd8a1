//! The log read backwards, a run of commits at a time, without their pages.
//!
//! Invariant: the entries held follow each other without gaps and end where the reader stands; the
//! first one is a state only, whose own commit is not looked at with this run. What is no longer
//! kept ends the log, and nothing is guessed about it.

use sheaf_volume::{
    Applied, Commit, DeviceId, Error, ErrorKind, Lsn, PageCount, PageIdx, PageSet, Result, Volume,
    limits::PULL_COMMITS_MAX,
};

use crate::limits::{HISTORY_COMMITS_MIN, HISTORY_GROWTH};

/// What a commit says, besides what its pages hold.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) lsn: Lsn,
    pub(super) page_count: PageCount,
    pub(super) pages: PageSet,
    pub(super) time_ms: u64,
    pub(super) writer: DeviceId,
    pub(super) applied: Vec<Applied>,
}

impl Entry {
    fn new(commit: Commit) -> Self {
        let Commit { lsn, page_count, pages, time_ms, writer, applied, .. } = commit;
        let writer = DeviceId::from_bytes(writer);
        Self { lsn, page_count, pages, time_ms, writer, applied }
    }

    /// The state before every commit.
    fn empty() -> Self {
        Self {
            lsn: Lsn::ZERO,
            page_count: PageCount(0),
            pages: PageSet::new(),
            time_ms: 0,
            writer: DeviceId::from_bytes([0; 16]),
            applied: Vec::new(),
        }
    }

    /// Whether a state in which these pages were read may look different before this commit.
    pub(super) fn touches(&self, read: &PageSet) -> bool {
        !self.pages.intersection(read).is_empty()
            || read.last().is_some_and(|last| !self.page_count.contains(last))
    }

    /// Whether the schema may be another one before this commit.
    pub(super) fn touches_header(&self) -> bool {
        self.pages.contains(PageIdx::FIRST)
    }
}

/// The log, from a position down.
#[derive(Debug)]
pub(super) struct Backwards<'a> {
    volume: &'a Volume,
    /// Ascending.
    held: Vec<Entry>,
    /// Commits to take next.
    size: usize,
    /// The oldest position that is kept, once it has been met.
    oldest: Option<Lsn>,
}

impl<'a> Backwards<'a> {
    pub(super) fn new(volume: &'a Volume) -> Self {
        Self { volume, held: Vec::new(), size: HISTORY_COMMITS_MIN, oldest: None }
    }

    /// Commits that end at `at`, behind the state before them; only that state where nothing older
    /// is kept.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be reached, `Corrupt`.
    pub(super) fn up_to(&mut self, at: Lsn) -> Result<&[Entry]> {
        let keep = self.held.partition_point(|entry| entry.lsn <= at);
        self.held.truncate(keep);
        let is_here = self.held.last().is_some_and(|last| last.lsn == at);
        if !is_here || (self.held.len() < 2 && at > Lsn::ZERO && self.oldest != Some(at)) {
            self.held = self.read(at)?;
            let most = PULL_COMMITS_MAX - 1;
            self.size = self.size.saturating_mul(HISTORY_GROWTH).min(most);
        }
        Ok(&self.held)
    }

    fn read(&mut self, at: Lsn) -> Result<Vec<Entry>> {
        if at == Lsn::ZERO {
            return Ok(vec![Entry::empty()]);
        }
        let first = Lsn(at.0.saturating_sub(self.size as u64));
        match self.run(first, at) {
            Err(e) if e.kind() == ErrorKind::Expired => {}
            other => return other,
        }
        // ORDER: `gone` is not kept, `kept` is, as far as the head of a log always is.
        let (mut gone, mut kept) = (first, at);
        while gone.next() < kept {
            let middle = Lsn(gone.0 + (kept.0 - gone.0) / 2);
            match self.volume.remote()?.pull(Lsn(middle.0 - 1)) {
                Ok(_) => kept = middle,
                Err(e) if e.kind() == ErrorKind::Expired => gone = middle,
                Err(e) => return Err(e),
            }
        }
        self.oldest = Some(kept);
        self.run(kept, at)
    }

    /// The commits from one position through another.
    fn run(&self, first: Lsn, last: Lsn) -> Result<Vec<Entry>> {
        let mut held = Vec::new();
        let mut after = Lsn(first.0.saturating_sub(1));
        if first == Lsn::ZERO {
            held.push(Entry::empty());
        }
        while after < last {
            let commits = self.volume.remote()?.pull(after)?;
            let Some(newest) = commits.last().map(|commit| commit.lsn) else {
                let text = format!("the remote has no commit after lsn=`{after}`");
                return Err(Error::new(ErrorKind::NotFound, text));
            };
            let wanted = commits.into_iter().filter(|commit| commit.lsn <= last);
            held.extend(wanted.map(Entry::new));
            after = newest;
        }
        Ok(held)
    }
}
