//! The in-memory index: which version of which page is where.
//!
//! Invariant: for one page, versions ascend by [`LocalLsn`]; a look-up takes the newest one at or
//! below the asked state, else the slot of the base file. The index is a function of the page map
//! in the meta file and of the records in the log; it holds nothing that is not in them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::{LocalLsn, Lsn, PageCount, PageIdx};

/// Where the content of a page version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loc {
    /// A page of zeros: never written, or cut off by a truncation.
    Zero,
    /// Changed at this position of the global log and not downloaded.
    Pending(Lsn),
    /// In the log file with this number, at this byte offset.
    Log { file: u8, offset: u64, sum: u32 },
    /// In the base file, at the page's own place.
    Base { sum: u32 },
}

impl Loc {
    pub(crate) fn is_base(self) -> bool {
        matches!(self, Self::Base { .. })
    }
}

/// A version: the state it belongs to and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) mark: LocalLsn,
    pub(crate) loc: Loc,
}

/// Hasher without per-process randomness, so that runs repeat. Its keys are page and state
/// numbers that this replica gave out itself, so nobody can choose them to collide.
pub(crate) type FixedState = BuildHasherDefault<NumberHasher>;

/// Mixes whole numbers by multiplication and a fold of the high half into the low one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio (Knuth, TAOCP 6.4): spreads neighbours apart.
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The versions of one page, ascending and never none. Most pages have one, and a site may have
/// millions of pages: that one takes no memory of its own.
#[derive(Clone, Debug)]
enum Versions {
    One(Version),
    Many(Vec<Version>),
}

impl Versions {
    fn as_slice(&self) -> &[Version] {
        match self {
            Self::One(version) => std::slice::from_ref(version),
            Self::Many(list) => list,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Version] {
        match self {
            Self::One(version) => std::slice::from_mut(version),
            Self::Many(list) => list,
        }
    }

    fn push(&mut self, version: Version) {
        match self {
            // Exactly two: a vector that grows by itself begins with room for four.
            Self::One(first) => {
                let mut list = Vec::with_capacity(2);
                list.extend([*first, version]);
                *self = Self::Many(list);
            }
            Self::Many(list) => list.push(version),
        }
    }
}

/// Pages that share one entry of the index. Pages change together with their neighbours, and a
/// table with an entry for each would be half empty.
const GROUP_PAGES: u32 = 16;

/// The versions of the pages of one group that have any, in page order.
type Group = Vec<(u32, Versions)>;

type Groups = HashMap<u32, Group, FixedState>;

fn list_mut(groups: &mut Groups, idx: PageIdx) -> Option<&mut Versions> {
    let group = groups.get_mut(&(idx.get() / GROUP_PAGES))?;
    let at = group.binary_search_by_key(&idx.get(), |(number, _)| *number).ok()?;
    group.get_mut(at).map(|(_, list)| list)
}

/// Versions by page, above the slots of the base file.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    slots: Vec<Option<Version>>,
    groups: Groups,
}

impl PageMap {
    /// The version of a page that a snapshot at `at` sees.
    pub(crate) fn find(&self, idx: PageIdx, at: LocalLsn) -> Version {
        if let Some(list) = self.list(idx)
            && let Some(found) = list.as_slice().iter().rev().find(|version| version.mark <= at)
        {
            return *found;
        }
        match self.slot(idx) {
            Some(version) if version.mark <= at => version,
            _ => Version { mark: LocalLsn::ZERO, loc: Loc::Zero },
        }
    }

    /// The versions of a page above its slot.
    fn list(&self, idx: PageIdx) -> Option<&Versions> {
        let group = self.groups.get(&(idx.get() / GROUP_PAGES))?;
        let at = group.binary_search_by_key(&idx.get(), |(number, _)| *number).ok()?;
        group.get(at).map(|(_, list)| list)
    }

    /// Every page's versions above the slots, in no order.
    fn lists(&self) -> impl Iterator<Item = (PageIdx, &Versions)> {
        let lists = self.groups.values().flatten();
        lists.filter_map(|(number, list)| Some((PageIdx::new(*number)?, list)))
    }

    pub(crate) fn slot(&self, idx: PageIdx) -> Option<Version> {
        *self.slots.get(idx.get() as usize - 1)?
    }

    pub(crate) fn set_slot(&mut self, idx: PageIdx, version: Option<Version>) {
        let at = idx.get() as usize - 1;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = version;
        }
    }

    /// A map with these slots and no versions above them.
    pub(crate) fn slots_only(&self) -> Self {
        Self { slots: self.slots.clone(), groups: HashMap::default() }
    }

    /// Slots in page order, up to the last one that was ever set.
    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = Option<Version>> + '_ {
        self.slots.iter().copied()
    }

    /// The same, to be looked at in runs.
    pub(crate) fn slot_list(&self) -> &[Option<Version>] {
        &self.slots
    }

    /// Adds a version, replacing one with the same mark.
    pub(crate) fn push(&mut self, idx: PageIdx, version: Version) {
        let group = match self.groups.entry(idx.get() / GROUP_PAGES) {
            Entry::Vacant(free) => {
                // Exactly one: many a commit changes one page here and one there.
                free.insert(vec![(idx.get(), Versions::One(version))]);
                return;
            }
            Entry::Occupied(taken) => taken.into_mut(),
        };
        let at = group.partition_point(|(number, _)| *number < idx.get());
        match group.get_mut(at).filter(|(number, _)| *number == idx.get()) {
            None => group.insert(at, (idx.get(), Versions::One(version))),
            Some((_, list)) => match list.as_mut_slice().last_mut() {
                Some(last) if last.mark == version.mark => *last = version,
                _ => list.push(version),
            },
        }
    }

    /// Adds the first version of a page: to its slot, which takes less memory, if it has none.
    pub(crate) fn begin(&mut self, idx: PageIdx, version: Version) {
        if self.slot(idx).is_some() || self.list(idx).is_some() {
            self.push(idx, version);
        } else {
            self.set_slot(idx, Some(version));
        }
    }

    /// Gives a pending version its content; false if it is not pending (any more).
    pub(crate) fn fill(&mut self, idx: PageIdx, mark: LocalLsn, loc: Loc) -> bool {
        let in_list = list_mut(&mut self.groups, idx)
            .and_then(|list| list.as_mut_slice().iter_mut().find(|version| version.mark == mark));
        let slot = self.slots.get_mut(idx.get() as usize - 1).and_then(Option::as_mut);
        let target = in_list.or_else(|| slot.filter(|version| version.mark == mark));
        match target {
            Some(version) if matches!(version.loc, Loc::Pending(_)) => {
                version.loc = loc;
                true
            }
            _ => false,
        }
    }

    /// Declares a version's content lost, to be fetched again.
    pub(crate) fn forget(&mut self, idx: PageIdx, mark: LocalLsn, lsn: Lsn) {
        let in_list = list_mut(&mut self.groups, idx)
            .and_then(|list| list.as_mut_slice().iter_mut().find(|version| version.mark == mark));
        let slot = self.slots.get_mut(idx.get() as usize - 1).and_then(Option::as_mut);
        if let Some(version) = in_list.or(slot) {
            version.loc = Loc::Pending(lsn);
        }
    }

    /// Pages that have a version above `after` and at or below `through`, ascending.
    pub(crate) fn changed(&self, after: LocalLsn, through: LocalLsn) -> Vec<PageIdx> {
        let mut pages: Vec<PageIdx> = self
            .lists()
            .filter(|(_, list)| list.as_slice().iter().any(|v| v.mark > after && v.mark <= through))
            .map(|(idx, _)| idx)
            .collect();
        pages.sort_unstable();
        pages
    }

    /// Pages after `above` and up to `through` that have a slot or a version, ascending. All others
    /// there were never written.
    pub(crate) fn known(&self, above: PageCount, through: PageCount) -> Vec<PageIdx> {
        let numbers = (1..=through.0).zip(self.slots()).skip(above.0 as usize);
        let slots = numbers.filter_map(|(number, slot)| slot.and_then(|_| PageIdx::new(number)));
        let versions = self.lists().map(|(idx, _)| idx);
        let versions = versions.filter(|idx| !above.contains(*idx) && through.contains(*idx));
        let mut pages: Vec<PageIdx> = slots.chain(versions).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// How many pages have versions above their slots.
    pub(crate) fn listed(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// Every page's versions above the slots, in page order.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (PageIdx, &[Version])> {
        let mut groups: Vec<(&u32, &Group)> = self.groups.iter().collect();
        groups.sort_unstable_by_key(|(number, _)| **number);
        let lists = groups.into_iter().flat_map(|(_, group)| group);
        lists.filter_map(|(number, list)| Some((PageIdx::new(*number)?, list.as_slice())))
    }

    /// The versions of a page that the base file has not.
    pub(crate) fn versions_of(&self, idx: PageIdx) -> &[Version] {
        self.list(idx).map_or(&[], Versions::as_slice)
    }

    /// Replaces all versions by those of a list in page order; the slots stay.
    pub(crate) fn replace_versions(&mut self, versions: &[(PageIdx, Version)]) {
        self.groups = HashMap::default();
        for (idx, version) in versions {
            self.push(*idx, *version);
        }
    }
}
