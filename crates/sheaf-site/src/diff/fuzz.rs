//! A door for `sheaf-fuzz` to what looks for differing rows in pages, which nothing else can call
//! without a volume and SQLite.
//!
//! Invariant: nothing here changes anything; no other crate may use it. Leaves out what SQLite is
//! asked after that.

use std::sync::{Arc, Mutex, PoisonError};

use sheaf_volume::{Page, PageCount, PageIdx, PageSet, PageSize, Result};

use super::btree::first_values;
use super::walk::{Pages, ReadPages, Roots, plan};

/// The pages of one state, and how often each was read.
#[derive(Clone, Debug)]
pub struct State(Arc<(Vec<Page>, Mutex<Vec<u32>>)>);

/// A table with the first page of its tree in each state.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Whether its rows have row ids.
    pub has_rowids: bool,
    /// In the first state.
    pub a: PageIdx,
    /// In the second state.
    pub b: PageIdx,
}

/// What was found on the pages of one table in one state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Pages with rows that may differ.
    pub pages: usize,
    /// Rows on them.
    pub rows: usize,
    /// Bytes of the rows' records.
    pub bytes: usize,
}

impl State {
    /// A state of these pages, from number one.
    #[must_use]
    pub fn new(pages: Vec<Page>) -> Self {
        let reads = Mutex::new(vec![0; pages.len()]);
        Self(Arc::new((pages, reads)))
    }

    /// How often the page was read that was read most often.
    #[must_use]
    pub fn most_reads(&self) -> u32 {
        let reads = self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        reads.iter().copied().max().unwrap_or(0)
    }
}

impl ReadPages for State {
    fn page_count(&self) -> PageCount {
        PageCount(u32::try_from(self.0.0.len()).unwrap_or(u32::MAX))
    }

    fn page(&self, idx: PageIdx) -> Result<Page> {
        let at = idx.get() as usize - 1;
        let mut reads = self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        reads.get_mut(at).into_iter().for_each(|count| *count += 1);
        // As a snapshot answers beyond its end.
        Ok(self.0.0.get(at).cloned().unwrap_or_else(|| Page::zeros(PageSize::DEFAULT)))
    }
}

/// Finds the pages of each table that may hold differing rows, and reads every row on them; for
/// each table what was found in either state. `None` where pages cannot be told apart.
///
/// # Errors
/// `Corrupt`.
pub fn look(
    (a, b): (&State, &State),
    differ: &PageSet,
    trees: &[Tree],
) -> Result<Option<Vec<[Found; 2]>>> {
    let pages = |state: &State| Pages::of(Box::new(state.clone()));
    let (Some(a), Some(b)) = (pages(a)?, pages(b)?) else { return Ok(None) };
    let named = trees.iter().enumerate();
    let roots: Vec<Roots> = named
        .map(|(n, tree)| {
            let Tree { has_rowids, a, b } = *tree;
            Roots { name: format!("{n:04}"), has_rowids, a, b }
        })
        .collect();
    let plan = plan(&a, &b, differ, &roots)?;
    let found = plan.values().map(|rows| Ok([read(&a, &rows.a)?, read(&b, &rows.b)?]));
    found.collect::<Result<_>>().map(Some)
}

fn read(pages: &Pages, list: &[PageIdx]) -> Result<Found> {
    let mut found = Found { pages: list.len(), ..Found::default() };
    let mut seen = PageSet::new();
    for idx in list {
        for cell in pages.node(*idx)?.cells {
            let record = pages.record(&cell, &mut seen)?;
            found.rows += 1;
            found.bytes += record.len();
            if cell.rowid.is_none() {
                first_values(&record, 1)?;
            }
        }
    }
    Ok(found)
}
