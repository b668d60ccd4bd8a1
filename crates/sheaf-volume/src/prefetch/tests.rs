//! The planner against readers that read in one order or another.

use super::*;

fn page(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

/// A replica that has nothing, a planner, and what they did.
struct Reader {
    count: PageCount,
    bytes: u64,
    present: PageSet,
    history: History,
    plans: Vec<PageSet>,
    /// Where pages lead, told when they arrive.
    leads: fn(PageIdx) -> Vec<PageIdx>,
}

impl Reader {
    fn new(count: u32) -> Self {
        Self {
            count: PageCount(count),
            bytes: u64::MAX,
            present: PageSet::new(),
            history: History::default(),
            plans: Vec::new(),
            leads: |_| Vec::new(),
        }
    }

    fn small(count: u32) -> Self {
        Self { bytes: u64::from(count) * 4_096, ..Self::new(count) }
    }

    /// Reads pages by number, fetching what the planner says.
    fn read(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for wanted in numbers.into_iter().map(page) {
            if self.present.contains(wanted) {
                continue;
            }
            let missing = |idx| !self.present.contains(idx);
            let (count, bytes) = (self.count, self.bytes);
            let known = Known { count, bytes, at_once: 8_192, missing: &missing };
            let plan = plan_fetch(wanted, &known, &mut self.history);
            assert!(plan.contains(wanted), "the wanted page is not asked for");
            assert!(plan.iter().all(|idx| count.contains(idx)), "beyond the end");
            assert!(plan.iter().all(|idx| !self.present.contains(idx)), "asked again");
            self.present.union_with(&plan);
            for idx in plan.iter() {
                self.history.leads(idx, (self.leads)(idx));
            }
            self.plans.push(plan);
        }
    }

    fn last(&self) -> Vec<u32> {
        self.plans.last().unwrap().iter().map(PageIdx::get).collect()
    }
}

/// The better half of the usual linear congruential generator.
fn draws() -> impl Iterator<Item = u32> {
    let step = |draw: &u32| Some(draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), step).map(|draw: u32| draw >> 16)
}

/// A tree as a table that grew at random has it: leaves anywhere, in 80 families of 320.
mod scattered {
    use super::*;

    pub(super) const LEAVES: u32 = 25_600;
    const PER_FAMILY: u32 = 320;
    pub(super) const FAMILIES: u32 = LEAVES / PER_FAMILY;
    pub(super) const PAGES: u32 = LEAVES + FAMILIES + 1;

    /// Page of the n-th leaf in key order.
    pub(super) fn leaf(n: u32) -> u32 {
        (n * 7_919) % LEAVES + FAMILIES + 2
    }

    pub(super) fn leads(idx: PageIdx) -> Vec<PageIdx> {
        match idx.get() {
            1 => (2..FAMILIES + 2).map(page).collect(),
            n if n < FAMILIES + 2 => {
                let first = (n - 2) * PER_FAMILY;
                (first..first + PER_FAMILY).map(|n| page(leaf(n))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a reader of these leaves looks at: root, then interior page and leaf for each.
    pub(super) fn path(leaves: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        [1].into_iter().chain(leaves.flat_map(|n| [n / PER_FAMILY + 2, leaf(n)]))
    }
}

#[test]
fn a_scan_grows_its_window_and_reasks_nothing() {
    let mut reader = Reader::new(25_600);
    reader.read(1..=25_600);
    let requests = reader.plans.len();
    assert!(requests <= 10, "{requests} requests for a scan of 100 MB");
}

#[test]
fn what_a_scan_meets_on_its_way_does_not_end_it() {
    let mut reader = Reader::new(10_000);
    // Every few hundred leaves an interior page that lies elsewhere.
    let jumps = |number: u32| number.is_multiple_of(300).then(|| 10_000 - number / 300);
    reader.read((1..=9_000).flat_map(|number| jumps(number).into_iter().chain([number])));
    let requests = reader.plans.len();
    assert!(requests < 20, "{requests} requests");
}

#[test]
fn a_scan_follows_the_tree_where_pages_lie_in_no_order() {
    for backward in [false, true] {
        let mut reader = Reader { leads: scattered::leads, ..Reader::new(scattered::PAGES) };
        let leaves =
            (0..scattered::LEAVES).map(|n| if backward { scattered::LEAVES - 1 - n } else { n });
        reader.read(scattered::path(leaves));
        let requests = reader.plans.len();
        assert!(requests <= 16, "{requests} requests, backward={backward}");
    }
}

#[test]
fn a_scan_of_the_tree_asks_for_the_children_that_come_next() {
    let mut reader = Reader { leads: scattered::leads, ..Reader::new(scattered::PAGES) };
    reader.read(scattered::path(100..102));
    let mut next: Vec<u32> = (101..105).map(scattered::leaf).collect();
    next.sort_unstable();
    assert_eq!(reader.last(), next);
}

#[test]
fn a_tree_that_runs_in_circles_leads_nowhere() {
    let circle = |idx: PageIdx| vec![page(idx.get() % 3 + 1), page(idx.get() % 3 + 1), idx];
    let mut reader = Reader { leads: circle, ..Reader::new(500) };
    reader.read([1, 2, 3].into_iter().chain(400..500));
}

#[test]
fn a_site_read_in_any_order_is_asked_for_in_regions() {
    let mut reader = Reader::new(8_000);
    for draw in draws() {
        reader.read([draw % 8_000 + 1]);
        if reader.present.len() == 8_000 {
            break;
        }
    }
    let requests = reader.plans.len();
    assert!(requests < 400, "{requests} requests for 8,000 pages in no order");
}

#[test]
fn a_small_site_that_is_read_here_and_there_comes_whole() {
    let mut reader = Reader::small(200);
    reader.read((1..=200).map(|k| k * 77 % 199 + 1));
    assert_eq!(reader.present.len(), 200);
    let requests = reader.plans.len();
    assert!(requests <= limits::SMALL_SITE_PLANS as usize + 1, "{requests} requests");
}

#[test]
fn random_reads_ask_for_one_page() {
    let mut reader = Reader::new(5_000);
    for number in [900, 17, 4_000, 333] {
        reader.read([number]);
        assert_eq!(reader.last(), [number]);
    }
}

#[test]
fn the_first_page_of_a_large_site_brings_the_roots_behind_it() {
    let mut reader = Reader::new(5_000);
    reader.read([1]);
    assert_eq!(reader.last(), [1, 2, 3, 4]);
    reader.read([40]);
    assert_eq!(reader.last(), [40]);
    // They do not make a scan that has come far.
    reader.read([5]);
    assert_eq!(reader.last(), [5, 6, 7, 8]);
}

#[test]
fn what_was_read_after_the_last_opening_comes_together() {
    let used: PageSet = [3, 700, 4_000].map(page).into_iter().collect();
    let mut reader = Reader { history: History::with_working_set(used), ..Reader::new(5_000) };
    reader.present.insert(page(3));
    reader.read([2_000]);
    assert_eq!(reader.last(), [2_000], "nothing of it was wanted yet");
    reader.read([4_000]);
    assert_eq!(reader.last(), [700, 4_000]);
    reader.present.remove(page(700));
    reader.read([700]);
    assert_eq!(reader.last(), [700], "once");
}
