//! Where a page of a SQLite file leads: what the volume's prefetcher is told, and who makes a
//! checkpoint.
//!
//! Invariant: any bytes give an answer, at worst a wrong guess that costs a page fetched for
//! nothing. Leaves out overflow chains and free pages: they lead where page order leads too.
//!
//! Format: "Database File Format", section 1.6 "B-tree Pages", of the SQLite documentation.

use sheaf_volume::PageIdx;

use sheaf_merge::Value;

use super::handle::read_u32;
use crate::diff::btree::{Cell, Layout, Node, first_values};

/// The header of the file lies before the tree page in page 1.
const FILE_HEADER: usize = 100;
const INTERIOR_INDEX: u8 = 2;
const INTERIOR_TABLE: u8 = 5;
/// Bytes before the cell pointers of an interior page.
const INTERIOR_HEADER: usize = 12;

/// The children of an interior page in key order; none of any other page.
pub(crate) fn children(idx: PageIdx, page: &[u8]) -> Vec<PageIdx> {
    let start = if idx == PageIdx::FIRST { FILE_HEADER } else { 0 };
    let Some(tree) = page.get(start..) else { return Vec::new() };
    if !matches!(tree.first(), Some(&(INTERIOR_INDEX | INTERIOR_TABLE))) {
        return Vec::new();
    }
    let cells = tree.get(3..5).map_or(0, |count| usize::from(read_u16(count)));
    let pointers = tree.get(INTERIOR_HEADER..).unwrap_or_default().chunks_exact(2).take(cells);
    let lefts = pointers.map(|pointer| read_u32(page, usize::from(read_u16(pointer))));
    lefts
        .chain([read_u32(tree, 8)])
        .filter_map(PageIdx::new)
        .filter(|child| *child != idx)
        .collect()
}

/// A page of the schema's tree, as page 1 is.
const SCHEMA: u8 = 0;
/// A page of another tree.
const TREE: u8 = 1;
/// Of a row of the schema, the values up to the root page.
const UP_TO_ROOT: usize = 4;

/// Which pages of a site a reader needs first, for [`sheaf_volume::BucketRemote::with_leads`]: the
/// schema, and the trees from their roots down.
#[must_use]
pub fn leads(idx: PageIdx, kind: u8, page: &[u8]) -> Vec<(Vec<PageIdx>, u8)> {
    let below = children(idx, page);
    match kind {
        _ if !below.is_empty() => vec![(below, kind)],
        SCHEMA => roots(idx, page).into_iter().map(|root| (vec![root], TREE)).collect(),
        _ => Vec::new(),
    }
}

/// The root pages that a leaf of the schema names.
fn roots(idx: PageIdx, page: &[u8]) -> Vec<PageIdx> {
    // Bytes that SQLite leaves free at the end of a page are in no row.
    let layout = Layout { usable: page.len(), free_trunk: None };
    let Ok(node) = Node::read(page, idx, layout) else { return Vec::new() };
    let root = |cell: Cell| match first_values(&cell.local, UP_TO_ROOT).ok()?.pop()? {
        Value::Int(root) => u32::try_from(root).ok().and_then(PageIdx::new),
        _ => None,
    };
    node.cells.into_iter().filter_map(root).collect()
}

fn read_u16(bytes: &[u8]) -> u16 {
    bytes.try_into().map_or(0, u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A database whose one table has a root, interior pages and leaves; its pages.
    #[expect(clippy::disallowed_methods, reason = "a real file, to read what SQLite wrote")]
    fn pages(size: usize) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA page_size = {size}; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
             CREATE INDEX i ON t(b);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO t SELECT i, 'value number ' || i FROM n"
        ))
        .unwrap();
        drop(db);
        std::fs::read(path).unwrap().chunks(size).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn the_tree_reaches_every_page() {
        for size in [512, 4_096] {
            let pages = pages(size);
            let schema_and_roots = [1, 2, 3];
            let mut reached: Vec<u32> = schema_and_roots.to_vec();
            for (number, page) in (1..).zip(&pages) {
                let idx = PageIdx::new(number).unwrap();
                reached.extend(children(idx, page).into_iter().map(PageIdx::get));
            }
            reached.sort_unstable();
            let all: Vec<u32> = (1..).take(pages.len()).collect();
            assert_eq!(reached, all, "page size {size}");
        }
    }

    #[test]
    fn the_schema_leads_to_every_root() {
        for size in [512, 4_096] {
            let pages = pages(size);
            let first = PageIdx::FIRST;
            let groups = leads(first, SCHEMA, &pages[0]);
            let root = |number| (vec![PageIdx::new(number).unwrap()], TREE);
            assert_eq!(groups, [root(2), root(3)], "page size {size}");
            let table = PageIdx::new(2).unwrap();
            let below = children(table, &pages[1]);
            assert!(below.len() > 1);
            assert_eq!(leads(table, TREE, &pages[1]), [(below.clone(), TREE)]);
            let leaf = pages[below[0].get() as usize - 1].as_slice();
            if children(below[0], leaf).is_empty() {
                assert_eq!(leads(below[0], TREE, leaf), []);
            }
        }
    }

    #[test]
    fn any_bytes_lead_somewhere_or_nowhere() {
        for idx in [PageIdx::FIRST, PageIdx::new(2).unwrap()] {
            for len in [0, 1, 11, 12, 13, 99, 100, 101, 112, 512] {
                for kind in [INTERIOR_INDEX, INTERIOR_TABLE, 0xff] {
                    let page = vec![kind; len];
                    assert!(children(idx, &page).len() <= len / 2 + 1);
                }
            }
        }
    }
}
