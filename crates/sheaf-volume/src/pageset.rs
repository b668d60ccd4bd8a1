//! A set of page numbers: what a commit changed, what a reader wants, what is in flight.
//!
//! Invariant: page zero is never a member. The byte form is the portable Roaring format
//! (<https://github.com/RoaringBitmap/RoaringFormatSpec>), checked when read.

use std::ops::Bound;

use roaring::RoaringBitmap;

use crate::{Error, ErrorKind, PageIdx, Result};

/// A compressed set of [`PageIdx`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageSet(RoaringBitmap);

impl PageSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All pages from `first` to `last`, both included; empty if `first > last`.
    #[must_use]
    pub fn range(first: PageIdx, last: PageIdx) -> Self {
        let mut set = RoaringBitmap::new();
        set.insert_range(first.get()..=last.get());
        Self(set)
    }

    /// Adds a page; false if it was there.
    pub fn insert(&mut self, idx: PageIdx) -> bool {
        self.0.insert(idx.get())
    }

    /// Removes a page; false if it was not there.
    pub fn remove(&mut self, idx: PageIdx) -> bool {
        self.0.remove(idx.get())
    }

    /// Whether a page is a member.
    #[must_use]
    pub fn contains(&self, idx: PageIdx) -> bool {
        self.0.contains(idx.get())
    }

    /// How many pages are members.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many members are at or below `idx`.
    #[must_use]
    pub fn rank(&self, idx: PageIdx) -> u64 {
        self.0.rank(idx.get())
    }

    /// The largest member.
    #[must_use]
    pub fn last(&self) -> Option<PageIdx> {
        self.0.max().and_then(PageIdx::new)
    }

    /// Members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PageIdx> + '_ {
        self.0.iter().filter_map(PageIdx::new)
    }

    /// The members that are also in `other`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Adds every member of `other`.
    pub fn union_with(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Removes every member of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Drops members above `last` (all of them for zero).
    pub fn truncate(&mut self, last: u32) {
        self.0.remove_range((Bound::Excluded(last), Bound::Unbounded));
    }

    /// Up to `count` members in ascending order, after the `skip` smallest.
    #[must_use]
    pub fn slice(&self, skip: u64, count: usize) -> Vec<PageIdx> {
        let first = u32::try_from(skip).ok().and_then(|skip| self.0.select(skip));
        let from = first.map(|first| self.0.range(first..));
        from.into_iter().flatten().take(count).filter_map(PageIdx::new).collect()
    }

    /// The portable byte form: equal sets give equal bytes, as short as the format allows.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut optimised = self.0.clone();
        // Where runs and a list are equally long the library keeps what it has, which depends on
        // how the set came about; commits are hashed, so start from the same form always.
        optimised.remove_run_compression();
        optimised.optimize();
        let mut bytes = Vec::with_capacity(optimised.serialized_size());
        optimised.serialize_into(&mut bytes).expect("BUG: writing to memory cannot fail");
        bytes
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not one whole, valid set without page zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let set = RoaringBitmap::deserialize_from(&mut rest)
            .map_err(|e| Error::with_source(ErrorKind::Corrupt, "page set", e))?;
        if !rest.is_empty() || set.contains(0) {
            return Err(Error::corrupt("page set has trailing bytes or page zero"));
        }
        Ok(Self(set))
    }
}

impl FromIterator<PageIdx> for PageSet {
    fn from_iter<I: IntoIterator<Item = PageIdx>>(pages: I) -> Self {
        Self(pages.into_iter().map(PageIdx::get).collect())
    }
}

impl Extend<PageIdx> for PageSet {
    fn extend<I: IntoIterator<Item = PageIdx>>(&mut self, pages: I) {
        self.0.extend(pages.into_iter().map(PageIdx::get));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn page(number: u32) -> PageIdx {
        PageIdx::new(number).unwrap()
    }

    fn set(numbers: &[u32]) -> PageSet {
        numbers.iter().map(|&number| page(number)).collect()
    }

    #[test]
    fn truncate_keeps_what_is_at_or_below() {
        let all = set(&[1, 7, 8, 70_000, u32::MAX]);
        for (last, left) in [(0, 0), (1, 1), (7, 2), (69_999, 3), (u32::MAX - 1, 4), (u32::MAX, 5)]
        {
            let mut cut = all.clone();
            cut.truncate(last);
            assert_eq!(cut.len(), left, "last {last}");
            assert!(cut.last().is_none_or(|idx| idx.get() <= last));
        }
    }

    #[test]
    fn slices_are_the_members_in_order() {
        let all = set(&[2, 3, 70_000, 70_001, u32::MAX]);
        assert_eq!(all.slice(0, 2), [page(2), page(3)]);
        assert_eq!(all.slice(1, 3), [page(3), page(70_000), page(70_001)]);
        assert_eq!(all.slice(4, 8), [page(u32::MAX)]);
        assert_eq!(all.slice(5, 8), []);
        assert_eq!(all.slice(u64::MAX, 1), []);
    }

    #[test]
    fn the_way_a_set_came_about_does_not_show_in_its_bytes() {
        let mut with_hole = PageSet::range(page(1), page(9));
        with_hole.remove(page(5));
        let listed = set(&[1, 2, 3, 4, 6, 7, 8, 9]);
        assert_eq!(with_hole, listed);
        assert_eq!(with_hole.to_bytes(), listed.to_bytes());
        // Three in a row are as long as a list as they are as a run.
        let mut short = PageSet::range(page(1), page(100_000));
        short.truncate(3);
        assert_eq!(short.to_bytes(), set(&[1, 2, 3]).to_bytes());
        let many = PageSet::range(page(1), page(100_000));
        let one_by_one: PageSet = (1..=100_000).map(page).collect();
        assert_eq!(many.to_bytes(), one_by_one.to_bytes());
        assert!(many.to_bytes().len() < 64, "runs are not coded as runs");
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let good = set(&[1, 2, 40, 90_000]).to_bytes();
        for cut in 0..good.len() {
            assert!(PageSet::from_bytes(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut long = good;
        long.push(0);
        assert!(PageSet::from_bytes(&long).is_err());
        let mut with_zero = Vec::new();
        RoaringBitmap::from_iter([0, 1]).serialize_into(&mut with_zero).unwrap();
        assert_eq!(PageSet::from_bytes(&with_zero).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            a in prop::collection::btree_set(1..200_000u32, 0..200),
            b in prop::collection::btree_set(1..200_000u32, 0..200),
            at in 1..200_000u32,
        ) {
            let sa: PageSet = a.iter().map(|&n| page(n)).collect();
            let sb: PageSet = b.iter().map(|&n| page(n)).collect();
            prop_assert_eq!(&PageSet::from_bytes(&sa.to_bytes()).unwrap(), &sa);
            prop_assert_eq!(sa.rank(page(at)), a.range(..=at).count() as u64);
            let plain = |set: &PageSet| set.iter().map(PageIdx::get).collect::<BTreeSet<_>>();
            let mut union = sa.clone();
            union.union_with(&sb);
            prop_assert_eq!(plain(&union), &a | &b);
            let mut less = sa.clone();
            less.subtract(&sb);
            prop_assert_eq!(plain(&less), &a - &b);
            prop_assert_eq!(plain(&sa.intersection(&sb)), &a & &b);
            let mut cut = sa.clone();
            cut.truncate(at);
            prop_assert_eq!(plain(&cut), a.range(..=at).copied().collect());
        }

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(set) = PageSet::from_bytes(&bytes) {
                prop_assert_eq!(PageSet::from_bytes(&set.to_bytes()).unwrap(), set);
            }
        }
    }
}
