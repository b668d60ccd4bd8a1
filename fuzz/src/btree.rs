//! Two states of a database as pages, and the search for the rows that differ between them.
//!
//! Asserts: it ends, with rows or a refusal; no page is read more than a few times per table, and
//! the rows of a table are no larger than the file.

use sheaf_site::diff::fuzz::{State, Tree, look};
use sheaf_volume::{Page, PageIdx, PageSet};

use crate::input::{Input, assert_refusal, page_size};

/// Tables of one input.
const TREES_MAX: u8 = 4;
/// Reads of one page for each table: walking down twice, rows, long values, rows again; and those
/// that are made once.
const READS_PER_TREE: u32 = 8;
const READS: u32 = 4;

/// Page size; how many tables, and for each its first pages and kind; a section of the first
/// state's pages, then the second's.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let size = page_size(input.byte()).bytes();
    let trees: Vec<Tree> = (0..input.byte() % (TREES_MAX + 1))
        .filter_map(|_| {
            let (a, b, kind) = (input.byte(), input.byte(), input.byte());
            let has_rowids = kind.is_multiple_of(2);
            Some(Tree { has_rowids, a: PageIdx::new(a.into())?, b: PageIdx::new(b.into())? })
        })
        .collect();
    let (a, b) = (pages(input.section(), size), pages(input.0, size));
    if a.is_empty() || b.is_empty() {
        return;
    }
    let number = |at: usize| u32::try_from(at + 1).ok().and_then(PageIdx::new);
    let differs = |at: &usize| a.get(*at) != b.get(*at);
    let differ: PageSet = (0..a.len().max(b.len())).filter(differs).filter_map(number).collect();
    let bytes = [a.len() * size, b.len() * size];
    let (a, b) = (State::new(a), State::new(b));
    let found = look((&a, &b), &differ, &trees);
    let most = READS + READS_PER_TREE * u32::try_from(trees.len()).unwrap_or(0);
    let reads = a.most_reads().max(b.most_reads());
    assert!(reads <= most, "a page is read {reads} times");
    match found {
        Ok(found) => {
            for (found, bytes) in found.iter().flatten().flat_map(|pair| pair.iter().zip(bytes)) {
                assert!(found.bytes <= bytes && found.pages <= bytes / size, "{found:?}");
            }
        }
        Err(error) => assert_refusal(&error),
    }
}

/// The last page is filled up with zeros.
fn pages(bytes: &[u8], size: usize) -> Vec<Page> {
    let page = |bytes: &[u8]| {
        let mut page = bytes.to_vec();
        page.resize(size, 0);
        Page::from(page)
    };
    bytes.chunks(size).map(page).collect()
}
