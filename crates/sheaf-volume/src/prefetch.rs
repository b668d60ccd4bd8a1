//! What else to ask for when a page is missing: a pure plan.
//!
//! Invariant: a plan never contains a page that is present or in flight, always contains the
//! wanted one, and is bounded by [`Known::at_once`], unless a small site is asked for whole or the
//! pages of the last opening come along. The planner knows no file format: which pages are
//! below which is told by the layer above ([`Children`]). Leaves out the neighbours in the wanted
//! page's frame: the remote gives those without being asked.

use std::ops::Range;

use crate::{PageCount, PageIdx, PageSet, limits};

mod streams;
#[cfg(test)]
mod tests;
mod tree;

use streams::Streams;
use tree::Tree;

/// Tells which pages a page leads to, in the order in which a scan would read them; none if it
/// leads nowhere. Any bytes may come.
pub type Children = fn(PageIdx, &[u8]) -> Vec<PageIdx>;

/// Pages of a region, smaller ones first: see [`dense_region`].
const REGIONS: [u32; 3] = [8, 64, 256];
/// A region is dense if one page of so many is here.
const DENSE_PART: usize = 8;

/// What the planner may know of the state that is read.
pub(crate) struct Known<'a> {
    pub(crate) count: PageCount,
    /// The size of all its pages.
    pub(crate) bytes: u64,
    /// Pages that a scan may ask for at once.
    pub(crate) at_once: u32,
    /// Whether a page is neither present nor in flight.
    pub(crate) missing: &'a dyn Fn(PageIdx) -> bool,
}

impl Known<'_> {
    fn is_missing(&self, idx: PageIdx) -> bool {
        self.count.contains(idx) && (self.missing)(idx)
    }

    fn is_small(&self) -> bool {
        self.bytes <= limits::SMALL_SITE_BYTES
    }

    /// The next window of a scan: short scans stay cheap, and a long one needs few round trips.
    fn grown(&self, window: u32) -> u32 {
        window.saturating_mul(limits::FETCH_GROWTH).clamp(1, self.at_once)
    }
}

/// What was asked for before, and what the layer above said about it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Plans made so far.
    plans: u32,
    streams: Streams,
    tree: Tree,
    /// What was read after the last opening, until something of it is missing.
    working_set: PageSet,
}

impl History {
    /// A planner that knows what was read after the last opening.
    pub(crate) fn with_working_set(working_set: PageSet) -> Self {
        Self { working_set, ..Self::default() }
    }

    /// A page arrived that leads to these.
    pub(crate) fn leads(&mut self, parent: PageIdx, children: Vec<PageIdx>) {
        self.tree.learn(parent, children);
    }
}

/// Plans one request for a missing page.
///
/// - A scan goes on: in page order, or in the order in which interior pages name their children.
///   Its window grows with every request.
/// - Reads without an order: a region that is here in good part is asked for whole, and so is a
///   small site whose pages are asked for again and again. The round trips saved are worth more
///   than the bytes.
/// - What was read after the last opening and is missing now comes with the first of its pages.
pub(crate) fn plan_fetch(wanted: PageIdx, known: &Known<'_>, history: &mut History) -> PageSet {
    history.plans = history.plans.saturating_add(1);
    if known.is_small() && history.plans > limits::SMALL_SITE_PLANS {
        let all = (1..=known.count.0).filter_map(PageIdx::new);
        return all.filter(|idx| known.is_missing(*idx)).chain([wanted]).collect();
    }
    let in_page_order = history.streams.follow(wanted, known);
    let in_tree_order = history.tree.follow(wanted, known);
    let mut pages = match (in_page_order, in_tree_order) {
        (None, None) => {
            let run = dense_region(wanted, known).unwrap_or_else(|| first_run(wanted, known));
            // What came along with the first page says nothing of how somebody reads on.
            let window = if is_beginning(wanted, known) { 1 } else { run.end - run.start };
            history.streams.begin(run.end, window);
            pages_of(run, known)
        }
        (run, branch) => {
            let mut pages = run.map_or_else(PageSet::new, |run| pages_of(run, known));
            pages.union_with(&branch.unwrap_or_default());
            pages
        }
    };
    if history.working_set.contains(wanted) {
        let used = std::mem::take(&mut history.working_set);
        pages.union_with(&used.iter().filter(|idx| known.is_missing(*idx)).collect());
    }
    pages.insert(wanted);
    pages
}

/// Whether this is how a large site is first read.
fn is_beginning(wanted: PageIdx, known: &Known<'_>) -> bool {
    wanted == PageIdx::FIRST && !known.is_small()
}

/// The wanted page, and in a small site the two after it: they cost next to nothing. Of a large one
/// the first page comes with those where the roots of its first tables lie, which saves a round
/// trip of every first query.
fn first_run(wanted: PageIdx, known: &Known<'_>) -> Range<u32> {
    let len = match known.is_small() {
        true => limits::SMALL_SITE_RUN,
        false if is_beginning(wanted, known) => limits::FIRST_RUN,
        false => 1,
    };
    let first = wanted.get();
    first..first.saturating_add(len).min(known.count.0.saturating_add(1))
}

fn pages_of(run: Range<u32>, known: &Known<'_>) -> PageSet {
    run.filter_map(PageIdx::new).filter(|idx| known.is_missing(*idx)).collect()
}

/// The largest aligned region around a page of which an eighth is here.
///
/// Reads without an order meet some region twice before long. It is asked for whole, which makes
/// the region around it denser: requests for a site read in any order grow with its regions, not
/// with its pages, while few reads of a large site still ask for single pages.
fn dense_region(wanted: PageIdx, known: &Known<'_>) -> Option<Range<u32>> {
    let place = wanted.get() - 1;
    let mut regions = REGIONS.iter().rev().map(|size| {
        let start = place - place % size;
        start + 1..start.saturating_add(*size).min(known.count.0).saturating_add(1)
    });
    regions.find(|region| {
        let absent =
            region.clone().filter_map(PageIdx::new).filter(|idx| known.is_missing(*idx)).count();
        let len = region.len();
        len > absent && (len - absent) * DENSE_PART >= len
    })
}
