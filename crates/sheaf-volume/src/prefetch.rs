//! What else to ask for when a page is missing: a pure plan.
//!
//! Invariant: a plan never contains a page that is present or in flight, always contains the
//! wanted one, and has at most [`limits::FETCH_PAGES_MAX`] pages or [`limits::SMALL_SITE_BYTES`],
//! whichever is more. Leaves out the neighbours in the
//! wanted page's frame: the remote gives those without being asked.

use std::ops::Range;

use crate::{PageCount, PageIdx, PageSet, limits};

/// Scans followed at once: one of leaves, and what it meets on the way (interior pages, overflow
/// pages, another index) must not end it.
const STREAMS: usize = 4;

/// Pages of a region, smaller ones first: see [`dense_region`].
const REGIONS: [u32; 3] = [8, 64, limits::FETCH_PAGES_MAX];

/// A region is dense if one page of so many is here.
const DENSE_PART: usize = 8;

/// What was asked for before: enough to see sequential scans, the newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Plans made so far.
    plans: u32,
    streams: [Stream; STREAMS],
}

/// A place where somebody may read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stream {
    /// The page after the end of the last plan.
    next: u32,
    /// Pages in the last plan's window; zero if there is no stream.
    window: u32,
}

impl Stream {
    /// A scan asks next for the first page it did not get; pages it had already may lie between.
    fn goes_on_at(&self, first: u32, missing: &impl Fn(PageIdx) -> bool) -> bool {
        let is_near = self.window > 0 && first >= self.next && first - self.next <= self.window;
        is_near && !(self.next..first).filter_map(PageIdx::new).any(missing)
    }
}

impl History {
    /// Puts what became of a stream first: in the place of the one it continues, or of the one
    /// that nobody has continued for longest.
    fn follow(mut self, continued: Option<usize>, stream: Stream) -> Self {
        let at = continued.unwrap_or(STREAMS - 1);
        if let Some(moved) = self.streams.get_mut(..=at) {
            moved.rotate_right(1);
        }
        let [newest, ..] = &mut self.streams;
        *newest = stream;
        self
    }
}

/// Plans one request. `bytes` is the size of all pages; `missing` says whether a page is neither
/// present nor in flight.
///
/// A small site whose pages are asked for again and again is asked for whole, and so is a region
/// that is here in good part already: the round trips saved are worth more than the bytes.
pub(crate) fn plan_fetch(
    wanted: PageIdx,
    count: PageCount,
    bytes: u64,
    mut history: History,
    missing: impl Fn(PageIdx) -> bool,
) -> (PageSet, History) {
    history.plans = history.plans.saturating_add(1);
    if bytes <= limits::SMALL_SITE_BYTES && history.plans > limits::SMALL_SITE_PLANS {
        let all = (1..=count.0).filter_map(PageIdx::new).filter(|idx| missing(*idx));
        return (all.chain([wanted]).collect(), history);
    }
    let first = wanted.get();
    let continued = history.streams.iter().position(|stream| stream.goes_on_at(first, &missing));
    let before = continued.and_then(|at| history.streams.get(at)).map_or(0, |s| s.window);
    let window = before.saturating_mul(2).clamp(1, limits::FETCH_PAGES_MAX);
    let scan = first..first.saturating_add(window).min(count.0.saturating_add(1));
    let run = match continued {
        Some(_) => scan,
        None => dense_region(first, count.0, &missing).unwrap_or(scan),
    };
    let stream = Stream { next: run.end, window: window.max(run.end - first) };
    let mut pages: PageSet = run.filter_map(PageIdx::new).filter(|idx| missing(*idx)).collect();
    pages.insert(wanted);
    (pages, history.follow(continued, stream))
}

/// The largest aligned region around a page of which an eighth is here.
///
/// Reads without an order meet some region twice before long. It is asked for whole, which makes
/// the region around it denser: requests for a site read in any order grow with its regions, not
/// with its pages, while few reads of a large site still ask for single pages.
fn dense_region(wanted: u32, count: u32, missing: &impl Fn(PageIdx) -> bool) -> Option<Range<u32>> {
    let place = wanted - 1;
    let mut regions = REGIONS.iter().rev().map(|size| {
        let start = place - place % size;
        start + 1..start.saturating_add(*size).min(count).saturating_add(1)
    });
    regions.find(|region| {
        let absent = region.clone().filter_map(PageIdx::new).filter(|idx| missing(*idx)).count();
        let len = region.len();
        len > absent && (len - absent) * DENSE_PART >= len
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32) -> PageIdx {
        PageIdx::new(number).unwrap()
    }

    #[test]
    fn a_scan_grows_its_window_and_reasks_nothing() {
        let count = PageCount(10_000);
        let mut present = PageSet::new();
        let mut history = History::default();
        let mut requests = 0;
        for number in 1..=count.0 {
            if present.contains(page(number)) {
                continue;
            }
            let (plan, next) =
                plan_fetch(page(number), count, u64::MAX, history, |p| !present.contains(p));
            assert!(plan.contains(page(number)));
            assert!(plan.iter().all(|p| !present.contains(p)), "asked again");
            assert!(plan.len() <= u64::from(limits::FETCH_PAGES_MAX));
            present.union_with(&plan);
            history = next;
            requests += 1;
        }
        assert!(requests < 60, "{requests} requests for a scan of 10,000 pages");
    }

    #[test]
    fn what_a_scan_meets_on_its_way_does_not_end_it() {
        let count = PageCount(10_000);
        let mut present = PageSet::new();
        let (mut history, mut requests) = (History::default(), 0);
        // Every few hundred leaves an interior page that lies elsewhere.
        let jumps = |number: u32| number.is_multiple_of(300).then(|| 10_000 - number / 300);
        for number in (1..=9_000).flat_map(|number| jumps(number).into_iter().chain([number])) {
            if !present.contains(page(number)) {
                let (plan, next) =
                    plan_fetch(page(number), count, u64::MAX, history, |p| !present.contains(p));
                present.union_with(&plan);
                history = next;
                requests += 1;
            }
        }
        assert!(requests < 90, "{requests} requests");
    }

    #[test]
    fn a_small_site_that_is_read_here_and_there_comes_whole() {
        let count = PageCount(200);
        let (mut history, mut present, mut requests) = (History::default(), PageSet::new(), 0);
        for number in (1..=200).map(|k| k * 77 % 199 + 1) {
            if !present.contains(page(number)) {
                let missing = |p| !present.contains(p);
                let (plan, next) = plan_fetch(page(number), count, 800_000, history, missing);
                assert!(plan.iter().all(|p| !present.contains(p)), "asked again");
                present.union_with(&plan);
                history = next;
                requests += 1;
            }
        }
        assert_eq!(requests, limits::SMALL_SITE_PLANS + 1);
        assert_eq!(present.len(), 200);
    }

    #[test]
    fn a_site_read_in_any_order_is_asked_for_in_regions() {
        let count = PageCount(8_000);
        let (mut history, mut present, mut requests) = (History::default(), PageSet::new(), 0);
        let mut draw = 1_u32;
        while present.len() < 8_000 {
            // The usual linear congruential generator, its better half.
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (draw >> 16) % 8_000 + 1;
            if !present.contains(page(number)) {
                let missing = |p| !present.contains(p);
                let (plan, next) = plan_fetch(page(number), count, u64::MAX, history, missing);
                assert!(plan.iter().all(|p| !present.contains(p)), "asked again");
                present.union_with(&plan);
                history = next;
                requests += 1;
            }
        }
        assert!(requests < 400, "{requests} requests for 8,000 pages in no order");
    }

    #[test]
    fn random_reads_ask_for_one_page() {
        let mut history = History::default();
        for number in [900, 17, 4_000, 333] {
            let (plan, next) =
                plan_fetch(page(number), PageCount(5_000), u64::MAX, history, |_| true);
            assert_eq!(plan.iter().collect::<Vec<_>>(), [page(number)]);
            history = next;
        }
    }
}
