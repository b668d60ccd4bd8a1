//! Scans in page order, seen from what was asked for before.
//!
//! Invariant: a stream goes on at the first page it did not get (pages that were here already may
//! lie between), the newest one, once it is long, also a little further on. Leaves out scans in any other order.

use std::ops::Range;

use super::Known;
use crate::PageIdx;

/// Scans followed at once: one of leaves, and what it meets on the way (interior pages, overflow
/// pages, another index) must not end it.
const STREAMS: usize = 4;

/// Window from which a scan is taken for one that goes on, also where it skips pages.
const READ_AHEAD_WINDOW: u32 = 16;

/// The scans followed, the newest first.
#[derive(Debug, Default)]
pub(super) struct Streams([Stream; STREAMS]);

/// A place where somebody may read on.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The page after the end of the last plan.
    next: u32,
    /// Pages in the last plan's window; zero if there is no stream.
    window: u32,
}

impl Streams {
    /// What to ask for if this page continues a scan.
    pub(super) fn follow(&mut self, wanted: PageIdx, known: &Known<'_>) -> Option<Range<u32>> {
        let first = wanted.get();
        let [newest, ..] = &self.0;
        let (at, start) = if newest.reads_ahead_at(first) {
            (0, newest.next)
        } else {
            (self.0.iter().position(|stream| stream.goes_on_at(first, known))?, first)
        };
        let window = known.grown(self.0.get(at)?.window);
        let end = start.saturating_add(window).min(known.count.0.saturating_add(1));
        self.put(at, Stream { next: end.max(first + 1), window });
        Some(start..end)
    }

    /// A scan may have begun that goes on at `next`, in the place of the one that nobody has
    /// continued for longest.
    pub(super) fn begin(&mut self, next: u32, window: u32) {
        self.put(STREAMS - 1, Stream { next, window });
    }

    fn put(&mut self, at: usize, stream: Stream) {
        if let Some(moved) = self.0.get_mut(..=at) {
            moved.rotate_right(1);
        }
        let [newest, ..] = &mut self.0;
        *newest = stream;
    }
}

impl Stream {
    /// A scan reads the interior page first that leads to the pages before it: such a page lies
    /// within the window that would come next anyway.
    fn reads_ahead_at(&self, first: u32) -> bool {
        self.window >= READ_AHEAD_WINDOW && first > self.next && first - self.next < self.window
    }

    fn goes_on_at(&self, first: u32, known: &Known<'_>) -> bool {
        let is_near = self.window > 0 && first >= self.next && first - self.next <= self.window;
        let mut between = (self.next..first).filter_map(PageIdx::new);
        is_near && !between.any(|idx| known.is_missing(idx))
    }
}
