//! Which pages of a table hold the rows that differ, from the pages that differ.
//!
//! Invariant: a row that is not the same in both states lies, on each side that has it, on a page
//! that is named for that side. Of pages that do not differ, only the inner ones of the trees are
//! read, and one leaf per tree to learn how deep it is: leaves are a hundredth of them or less.
//!
//! A page that differs may also be one of a long value whose row lies on a page that does not.
//! Such pages are recognised by their first byte; when some are left over that no row named here
//! accounts for, every page with a long value is named too.
//!
//! A damaged file ends in an error: no page has two parents in a tree, and none belongs to two long
//! values, so each is read a few times per table at most, whatever the pages say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sheaf_volume::{Page, PageCount, PageIdx, PageSet, Result, Snapshot};

use super::btree::{Cell, Layout, Node, bad, looks_like_tree, next_of_chain};
use crate::limits::BTREE_DEPTH_MAX;
use crate::vfs::Watch;

/// Where the pages of a state are read; a fuzz target has another place than a volume.
pub(super) trait ReadPages: fmt::Debug + Send {
    fn page_count(&self) -> PageCount;
    fn page(&self, idx: PageIdx) -> Result<Page>;
}

impl ReadPages for Snapshot {
    fn page_count(&self) -> PageCount {
        Self::page_count(self)
    }

    fn page(&self, idx: PageIdx) -> Result<Page> {
        Self::page(self, idx)
    }
}

impl ReadPages for Arc<Watch> {
    fn page_count(&self) -> PageCount {
        self.snapshot().page_count()
    }

    fn page(&self, idx: PageIdx) -> Result<Page> {
        Watch::page(self, idx)
    }
}

/// One state's pages.
#[derive(Debug)]
pub(super) struct Pages {
    from: Box<dyn ReadPages>,
    layout: Layout,
}

/// The pages of one table that hold rows which may differ, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) a: Vec<PageIdx>,
    pub(super) b: Vec<PageIdx>,
}

/// A table that both states have: its name, and where its tree begins in each.
pub(super) struct Roots {
    pub(super) name: String,
    pub(super) has_rowids: bool,
    pub(super) a: PageIdx,
    pub(super) b: PageIdx,
}

impl Pages {
    /// The pages of a view; `None` where they cannot be told apart here.
    pub(super) fn of(from: Box<dyn ReadPages>) -> Result<Option<Self>> {
        let layout = Layout::read(&from.page(PageIdx::FIRST)?)?;
        Ok(layout.map(|layout| Self { from, layout }))
    }

    pub(super) fn node(&self, idx: PageIdx) -> Result<Node> {
        if !self.from.page_count().contains(idx) {
            return Err(bad("child beyond the end"));
        }
        Node::read(&self.from.page(idx)?, idx, self.layout)
    }

    /// The pages of a long value behind the first part; added to those of other values, `seen`.
    fn chain(&self, cell: &Cell, seen: &mut PageSet) -> Result<Vec<PageIdx>> {
        let rest = cell.len - cell.local.len();
        let most = rest.div_ceil(self.layout.usable - 4);
        let mut pages = Vec::new();
        let mut next = cell.overflow;
        while let Some(idx) = next.filter(|_| pages.len() < most) {
            if !self.from.page_count().contains(idx) || !seen.insert(idx) {
                return Err(bad("a page of two long values, or beyond the end"));
            }
            pages.push(idx);
            next = next_of_chain(&self.from.page(idx)?)?;
        }
        Ok(pages)
    }

    /// The whole record of a cell; the pages of its rest are added to those of others, `seen`.
    pub(super) fn record(&self, cell: &Cell, seen: &mut PageSet) -> Result<Vec<u8>> {
        let mut record = cell.local.clone();
        for idx in self.chain(cell, seen)? {
            let page = self.from.page(idx)?;
            let content = page.get(4..self.layout.usable).ok_or_else(|| bad("short page"))?;
            let part = content.get(..content.len().min(cell.len - record.len()));
            record.extend_from_slice(part.unwrap_or_default());
        }
        if record.len() == cell.len { Ok(record) } else { Err(bad("record cut off")) }
    }

    /// The trunk of the free list.
    fn free_trunk(&self) -> Result<PageSet> {
        let mut pages = PageSet::new();
        let mut next = self.layout.free_trunk;
        while let Some(idx) = next {
            if !self.from.page_count().contains(idx) || !pages.insert(idx) {
                return Err(bad("free list has a loop"));
            }
            next = next_of_chain(&self.from.page(idx)?)?;
        }
        Ok(pages)
    }
}

/// The pages of one tree.
#[derive(Debug, Default)]
struct Tree {
    /// In key order.
    leaves: Vec<PageIdx>,
    /// Inner pages and what is below them.
    inner: BTreeMap<PageIdx, Vec<PageIdx>>,
}

impl Tree {
    /// Walks down level by level. What `known` has of another state is not read again, unless it
    /// differs.
    fn walk(pages: &Pages, root: PageIdx, known: Option<(&Self, &PageSet)>) -> Result<Self> {
        let mut tree = Self::default();
        let mut level = vec![root];
        let mut seen = PageSet::new();
        for _ in 0..BTREE_DEPTH_MAX {
            if !level.iter().all(|idx| seen.insert(*idx)) {
                return Err(bad("a page has two parents"));
            }
            let known = |idx: &PageIdx| {
                let (other, differ) = known?;
                other.inner.get(idx).filter(|_| !differ.contains(*idx))
            };
            // All leaves of a tree are equally deep.
            let Some(first) = level.first() else { return Err(bad("an empty level")) };
            if known(first).is_none() && pages.node(*first)?.is_leaf() {
                tree.leaves = level;
                return Ok(tree);
            }
            let mut below = Vec::new();
            for idx in level {
                let children = match known(&idx) {
                    Some(children) => children.clone(),
                    None => pages.node(idx)?.children,
                };
                if children.is_empty() {
                    return Err(bad("leaves are not equally deep"));
                }
                below.extend_from_slice(&children);
                tree.inner.insert(idx, children);
            }
            level = below;
        }
        Err(bad("a tree is too deep"))
    }

    fn leaf_set(&self) -> PageSet {
        self.leaves.iter().copied().collect()
    }

    /// Pages with rows that are not the same pages of the other tree.
    fn differing(&self, other: &Self, differ: &PageSet, has_rowids: bool) -> Vec<PageIdx> {
        let theirs = other.leaf_set();
        let leaves = self.leaves.iter().filter(|i| differ.contains(**i) || !theirs.contains(**i));
        let mut pages: Vec<PageIdx> = leaves.copied().collect();
        if !has_rowids {
            let inner = self.inner.keys();
            let differs = |i: &&PageIdx| differ.contains(**i) || !other.inner.contains_key(*i);
            pages.extend(inner.filter(differs));
        }
        pages
    }

    /// Pages with rows that both trees have unchanged.
    fn shared(&self, named: &[PageIdx], has_rowids: bool) -> Vec<PageIdx> {
        let named: BTreeSet<PageIdx> = named.iter().copied().collect();
        let inner = self.inner.keys().filter(|_| !has_rowids);
        self.leaves.iter().chain(inner).filter(|idx| !named.contains(idx)).copied().collect()
    }
}

/// Finds the pages with rows that may differ, per table.
pub(super) fn plan(
    a: &Pages,
    b: &Pages,
    differ: &PageSet,
    tables: &[Roots],
) -> Result<BTreeMap<String, Rows>> {
    let mut found = BTreeMap::new();
    if differ.is_empty() {
        let none = |table: &Roots| (table.name.clone(), Rows::default());
        return Ok(tables.iter().map(none).collect());
    }
    let mut trees = Vec::new();
    for table in tables {
        let before = Tree::walk(a, table.a, None)?;
        let after = Tree::walk(b, table.b, Some((&before, differ)))?;
        let rows = Rows {
            a: before.differing(&after, differ, table.has_rowids),
            b: after.differing(&before, differ, table.has_rowids),
        };
        trees.push((table, before));
        found.insert(table.name.clone(), rows);
    }
    if are_values_hidden(a, b, differ, &found)? {
        for (table, tree) in trees {
            let Some(rows) = found.get_mut(&table.name) else { continue };
            for idx in tree.shared(&rows.a, table.has_rowids) {
                if a.node(idx)?.cells.iter().any(|cell| cell.overflow.is_some()) {
                    rows.a.push(idx);
                    rows.b.push(idx);
                }
            }
        }
    }
    Ok(found)
}

/// Whether a page of a long value differs that no row on a named page accounts for.
fn are_values_hidden(
    a: &Pages,
    b: &Pages,
    differ: &PageSet,
    found: &BTreeMap<String, Rows>,
) -> Result<bool> {
    let mut hidden = PageSet::new();
    for idx in differ.iter() {
        let is_in_both = [a, b].iter().all(|side| side.from.page_count().contains(idx));
        if is_in_both
            && !looks_like_tree(&a.from.page(idx)?)
            && !looks_like_tree(&b.from.page(idx)?)
        {
            hidden.insert(idx);
        }
    }
    if hidden.is_empty() {
        return Ok(false);
    }
    hidden.subtract(&b.free_trunk()?);
    // Page 1 begins with letters, and is a page of the schema's tree.
    hidden.remove(PageIdx::FIRST);
    for (side, is_first) in [(a, true), (b, false)] {
        let mut seen = PageSet::new();
        for rows in found.values() {
            for idx in if is_first { &rows.a } else { &rows.b } {
                for cell in side.node(*idx)?.cells {
                    side.chain(&cell, &mut seen)?;
                }
            }
        }
        hidden.subtract(&seen);
    }
    Ok(!hidden.is_empty())
}

#[cfg(test)]
mod tests {
    use sheaf_volume::ErrorKind;

    use super::*;
    use crate::diff::fuzz::State;

    fn idx(number: u32) -> PageIdx {
        PageIdx::new(number).unwrap()
    }

    /// A leaf of two rows, whose long values begin on page 3, and an overflow page that leads to
    /// `next`.
    fn pages(len: u8, next: u8) -> (Pages, State) {
        let mut first = vec![0; 512];
        first[59] = 1;
        let mut leaf = vec![0; 512];
        (leaf[0], leaf[4]) = (13, 2);
        for (n, at) in [200_u16, 350].into_iter().enumerate() {
            leaf[8 + 2 * n..10 + 2 * n].copy_from_slice(&at.to_be_bytes());
            let at = usize::from(at);
            // Length 16,384 times `len`, row id, and as much of the value as stays on the page.
            leaf[at..at + 4].copy_from_slice(&[0x80 | len, 0x80, 0, 1]);
            let len = usize::from(len) << 14;
            let (least, most) = (39, 477);
            let fitting = least + (len - least) % 508;
            let local = if fitting <= most { fitting } else { least };
            leaf[at + 4 + local + 3] = 3;
        }
        let mut long = vec![0; 512];
        long[3] = next;
        let state = State::new([first, leaf, long].map(Page::from).to_vec());
        (Pages::of(Box::new(state.clone())).unwrap().unwrap(), state)
    }

    #[test]
    fn a_loop_of_a_long_value_ends() {
        for next in [3, 4] {
            let (pages, state) = pages(100, next);
            let cell = pages.node(idx(2)).unwrap().cells.remove(0);
            let error = pages.record(&cell, &mut PageSet::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(state.most_reads() < 4, "{}", state.most_reads());
        }
    }

    #[test]
    fn a_page_belongs_to_one_long_value() {
        let (pages, _) = pages(100, 0);
        let cells = pages.node(idx(2)).unwrap().cells;
        let mut seen = PageSet::new();
        assert_eq!(pages.chain(&cells[0], &mut seen).unwrap(), [idx(3)]);
        pages.chain(&cells[1], &mut seen).unwrap_err();
    }
}
