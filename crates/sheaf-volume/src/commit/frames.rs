//! Where in a commit's payload a page is.
//!
//! Invariant: frames hold the page set's members in ascending order and follow each other without
//! gaps, so a page's rank gives its frame and the lengths before it give its bytes.

use std::ops::Range;

use super::Commit;
use crate::frame::decode_frame;
use crate::{Error, Page, PageIdx, Result};

/// One frame of a commit, found by a page in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    /// Its position in the commit's frame table.
    pub(crate) index: usize,
    /// Its bytes in the segment or inline payload.
    pub(crate) range: Range<u64>,
    /// The pages it holds.
    pub(crate) members: Vec<PageIdx>,
}

/// Prefix sums of a commit's frame table, for finding many frames.
#[derive(Clone, Debug)]
pub(crate) struct FrameIndex {
    /// Per frame, the pages in it and all before it, and the offset of its end.
    ends: Vec<(u64, u64)>,
}

impl FrameIndex {
    pub(crate) fn new(commit: &Commit) -> Self {
        let sum = |total: &mut (u64, u64), frame: &super::FrameRef| {
            total.0 += u64::from(frame.pages);
            total.1 += u64::from(frame.len);
            Some(*total)
        };
        Self { ends: commit.frames.iter().scan((0, 0), sum).collect() }
    }

    /// Every frame of `commit`, which this was made of, in order.
    pub(crate) fn frames(&self, commit: &Commit) -> Vec<FrameAt> {
        let mut members = commit.pages.iter();
        let mut start = 0;
        let frame = |(index, (frame, &(_, end))): (usize, (&super::FrameRef, &(u64, u64)))| {
            let members: Vec<PageIdx> = members.by_ref().take(frame.pages as usize).collect();
            FrameAt { index, range: std::mem::replace(&mut start, end)..end, members }
        };
        commit.frames.iter().zip(&self.ends).enumerate().map(frame).collect()
    }

    /// The frame of `commit`, which this was made of, that holds the page; `None` if the commit
    /// did not change it.
    pub(crate) fn frame_of(&self, commit: &Commit, idx: PageIdx) -> Option<FrameAt> {
        if !commit.pages.contains(idx) {
            return None;
        }
        let rank = commit.pages.rank(idx) - 1;
        let index = self.ends.partition_point(|&(pages, _)| pages <= rank);
        let &(pages_end, end) = self.ends.get(index)?;
        let (first, start) = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or((0, 0));
        let count = usize::try_from(pages_end - first).ok()?;
        Some(FrameAt { index, range: start..end, members: commit.pages.slice(first, count) })
    }
}

impl Commit {
    /// The pages of a commit that carries them inline; none when they are in a segment.
    ///
    /// # Errors
    /// `Corrupt` when a frame does not match its hash.
    pub fn inline_pages(&self) -> Result<Vec<(PageIdx, Page)>> {
        if self.segment.is_some() {
            return Ok(Vec::new());
        }
        let mut pages = Vec::new();
        let mut members = self.pages.iter();
        let mut rest: &[u8] = &self.inline;
        for frame in &self.frames {
            // The bound guards a commit that never went through `check`.
            let held = frame.pages.min(crate::limits::FRAME_PAGES_MAX);
            let held: Vec<PageIdx> = members.by_ref().take(held as usize).collect();
            let cut = rest.split_at_checked(frame.len as usize);
            let (bytes, after) = cut.ok_or_else(|| Error::corrupt("frame: beyond the payload"))?;
            let content = decode_frame(self.volume, self.page_size, frame, &held, bytes)?;
            pages.extend(held.into_iter().zip(content));
            rest = after;
        }
        Ok(pages)
    }
}
