//! What else to ask for when a page is missing: a pure plan.
//!
//! Invariant: a plan never contains a page that is present or in flight, always contains the
//! wanted one, and has at most [`limits::FETCH_PAGES_MAX`] pages. Leaves out the neighbours in the
//! wanted page's frame: the remote gives those without being asked.

use crate::{PageCount, PageIdx, PageSet, limits};

/// What was asked for before: enough to see a sequential scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The page after the end of the last plan.
    next: u32,
    /// Pages in the last plan's window.
    window: u32,
}

/// Plans one request. `missing` says whether a page is neither present nor in flight.
pub(crate) fn plan_fetch(
    wanted: PageIdx,
    count: PageCount,
    history: History,
    missing: impl Fn(PageIdx) -> bool,
) -> (PageSet, History) {
    let first = wanted.get();
    // A scan asks next for the first page it did not get; pages it had already may lie between.
    let sequential = first >= history.next && first - history.next <= history.window.max(1);
    let window = if sequential && history.window > 0 {
        history.window.saturating_mul(2).min(limits::FETCH_PAGES_MAX)
    } else {
        1
    };
    let end = first.saturating_add(window).min(count.0.saturating_add(1));
    let mut pages: PageSet =
        (first + 1..end).filter_map(PageIdx::new).filter(|idx| missing(*idx)).collect();
    pages.insert(wanted);
    (pages, History { next: end.max(first + 1), window })
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
            let (plan, next) = plan_fetch(page(number), count, history, |p| !present.contains(p));
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
    fn random_reads_ask_for_one_page() {
        let mut history = History { next: 1, window: 0 };
        for number in [900, 17, 4_000, 333] {
            let (plan, next) = plan_fetch(page(number), PageCount(5_000), history, |_| true);
            assert_eq!(plan.iter().collect::<Vec<_>>(), [page(number)]);
            history = next;
        }
    }
}
