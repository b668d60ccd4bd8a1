//! What must hold inside one commit, whoever made it.
//!
//! Invariant: a reader's decoder and a writer's append apply the same rules, so nothing is ever
//! appended that no replica can read. Leaves out the chain between commits.

use super::{Applied, Commit, CommitHash, FrameRef, Verdict};
use crate::limits::{
    COMMIT_APPLIED_MAX, COMMIT_FRAMES_MAX, COMMIT_MUTATIONS_MAX, COMMIT_TABLES_MAX,
    FRAME_PAGES_MAX, INLINE_BYTES_MAX, LSN_MAX, TEXT_BYTES_MAX,
};
use crate::{Error, Lsn, PageCount, PageSet, Result};

impl Commit {
    /// Checks everything that can be checked without another commit or the page bytes.
    ///
    /// # Errors
    /// `Corrupt` when the fields contradict each other or a limit.
    pub fn check(&self) -> Result<()> {
        self.check_frames()?;
        let (place, size) = ((self.lsn, self.parent), (&self.pages, self.page_count));
        check_claims(place, size, &self.tables, &self.applied)
    }

    fn check_frames(&self) -> Result<()> {
        require(self.frames.len() <= COMMIT_FRAMES_MAX, "too many frames")?;
        // A frame is never larger than its pages as they are, with the byte that says so.
        let fits = |frame: &FrameRef| {
            let raw = u64::from(frame.pages) * u64::from(self.page_size.get()) + 1;
            (1..=FRAME_PAGES_MAX).contains(&frame.pages) && (2..=raw).contains(&frame.len.into())
        };
        require(self.frames.iter().all(fits), "frame out of bounds")?;
        let pages: u64 = self.frames.iter().map(|frame| u64::from(frame.pages)).sum();
        require(pages == self.pages.len(), "frames do not hold the pages")?;
        let len: u64 = self.frames.iter().map(|frame| u64::from(frame.len)).sum();
        let inline = self.inline.len() as u64;
        if self.segment.is_some() {
            require(inline == 0, "both inline and segment")?;
            return require(!self.frames.is_empty(), "segment without frames");
        }
        require(len == inline, "inline length differs from its frames")?;
        require(self.inline.len() <= INLINE_BYTES_MAX, "inline frames too large")
    }
}

/// Checks what a commit says, wherever its page bytes are.
pub(super) fn check_claims(
    (lsn, parent): (Lsn, CommitHash),
    (pages, page_count): (&PageSet, PageCount),
    tables: &[String],
    applied: &[Applied],
) -> Result<()> {
    let first = lsn == Lsn(1);
    require((1..=LSN_MAX).contains(&lsn.0), "position out of range")?;
    require(!first || parent == CommitHash::default(), "first commit has a parent")?;
    let inside = pages.last().is_none_or(|last| page_count.contains(last));
    require(inside, "page beyond the end")?;
    require(tables.len() <= COMMIT_TABLES_MAX, "too many tables")?;
    require(tables.is_sorted_by(|a, b| a < b), "tables not sorted")?;
    let short = tables.iter().all(|name| name.len() <= TEXT_BYTES_MAX);
    require(short, "table name too long")?;
    require(applied.len() <= COMMIT_APPLIED_MAX, "too many timelines")?;
    let mut mutations = 0;
    for applied in applied {
        mutations += check_applied(applied)?;
    }
    require(mutations <= COMMIT_MUTATIONS_MAX, "too many mutations")
}

/// The number of mutations.
fn check_applied(applied: &Applied) -> Result<u64> {
    require(!applied.runs.is_empty(), "nothing applied")?;
    let mut seq = applied.first_seq;
    let mut rejects = applied.rejects.iter();
    for run in &applied.runs {
        require(run.count > 0, "empty run of verdicts")?;
        let end = seq.checked_add(u64::from(run.count));
        let end = end.ok_or_else(|| Error::corrupt("commit: sequence numbers overflow"))?;
        if run.verdict == Verdict::Rejected {
            for seq in seq..end {
                let reject = rejects.next().filter(|reject| reject.seq == seq);
                let fits = reject.is_some_and(|reject| reject.reason.len() <= TEXT_BYTES_MAX);
                require(fits, "rejections do not match the verdicts")?;
            }
        }
        seq = end;
    }
    require(rejects.next().is_none(), "rejections do not match the verdicts")?;
    Ok(seq - applied.first_seq)
}

fn require(holds: bool, else_why: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::corrupt(format!("commit: {else_why}"))) }
}
