//! The rule `list`: rows in an order that people change, as insert-after with tombstones.
//!
//! Invariant: an element stands directly behind the one that its author put it behind, before
//! anything that others put there earlier, so that what one mutation inserts stays together. A
//! deleted element keeps its place until its tombstone is purged; nothing that was inserted is
//! lost. Leaves out where lists and tombstones are stored, and whether a row exists: see
//! `merge_row`.

mod parents;
mod position;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
};

pub use parents::Parents;
pub use position::{BadPosition, Position};

use crate::limits::LIST_LEN_MAX;

/// What an element was put behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After<K> {
    /// Nothing: it came first.
    Head,
    /// This element, and where it stood, if that is known.
    Element(K, Option<Position>),
}

/// One change of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListOp<K> {
    /// A new element.
    Insert(After<K>, K),
    /// Another place for an element.
    Move(After<K>, K),
    /// An element goes.
    Delete(K),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<K> {
    /// The change in terms of elements that were alive before it; `None` if it changed nothing.
    pub logged: Option<ListOp<K>>,
    /// What people should be told, if anything.
    pub note: Option<ListNote>,
}

/// Something about a change of a list that its author may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListNote {
    /// Nobody knows what it was put behind: it stands where that stood, or at the end.
    AfterUnknown,
    /// What was moved has been deleted, and stays so.
    Gone,
}

/// The elements under one parent, deleted ones that are still remembered included.
#[derive(Clone, Debug)]
pub struct List<K> {
    order: BTreeSet<Slot<K>>,
    /// Those of `order` that are alive: however many tombstones there are, one look-up each.
    live: BTreeSet<Slot<K>>,
    elements: BTreeMap<K, Element>,
    changed: BTreeSet<K>,
}

/// A place in the order. Every stored one has a key: without one it comes before all elements of
/// that position, which is only for looking up.
type Slot<K> = (Position, Option<K>);

/// One element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Where it stands, or stood.
    pub position: Position,
    /// Whether it is in the list: otherwise it is a tombstone.
    pub is_alive: bool,
}

/// A list that is too long to be merged, or has an element twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadList;

impl<K: Clone + Ord> List<K> {
    /// The list as it is stored, in any order.
    ///
    /// # Errors
    /// [`BadList`] beyond 100,000 elements, or if one is there twice.
    pub fn load(elements: impl IntoIterator<Item = (K, Element)>) -> Result<Self, BadList> {
        let mut list = Self {
            order: BTreeSet::new(),
            live: BTreeSet::new(),
            elements: BTreeMap::new(),
            changed: BTreeSet::new(),
        };
        for (key, element) in elements {
            list.put((element.position.clone(), Some(key.clone())), element.is_alive);
            let is_twice = list.elements.insert(key, element).is_some();
            if is_twice || list.elements.len() > LIST_LEN_MAX {
                return Err(BadList);
            }
        }
        Ok(list)
    }

    /// The elements that are alive, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.live.iter().filter_map(|(_, key)| key.as_ref())
    }

    /// What differs from what was loaded: new, moved and deleted elements, and all of them when
    /// the list had to be given new positions.
    pub fn changes(&self) -> impl Iterator<Item = (&K, &Element)> {
        self.changed.iter().filter_map(|key| self.elements.get_key_value(key))
    }

    /// Puts an element, new or moved, where its author put it, if that is still directly behind
    /// `after` and nothing else has the position. Otherwise nothing is changed, and the change is
    /// to be applied.
    pub fn keep(&mut self, after: &After<K>, key: &K, at: &Position) -> bool {
        let slot = (at.clone(), Some(key.clone()));
        let own = self.elements.get(key).map(|element| (element.position.clone(), Some(key)));
        let is_other =
            |(position, other): &&Slot<K>| own != Some((position.clone(), other.as_ref()));
        let before = self.live.range(..(at.clone(), None)).rev().find(is_other);
        let is_behind = match after {
            After::Head => before.is_none(),
            After::Element(after, was) => match self.elements.get(after) {
                Some(_) => before.is_some_and(|(_, before)| before.as_ref() == Some(after)),
                None => {
                    before.is_none_or(|(before, _)| was.as_ref().is_some_and(|was| before <= was))
                }
            },
        };
        let ties = (at.clone(), None)..(at.clone().bound_above(), None);
        if !is_behind || self.order.range(ties).any(|slot| is_other(&slot)) {
            return false;
        }
        self.take(key);
        self.put(slot, true);
        self.elements.insert(key.clone(), Element { position: at.clone(), is_alive: true });
        self.changed.insert(key.clone());
        true
    }

    /// Applies a change to the list as it is now.
    pub fn apply(&mut self, op: ListOp<K>) -> Applied<K> {
        match op {
            ListOp::Insert(_, key) if self.is_alive(&key) => Applied { logged: None, note: None },
            ListOp::Insert(after, key) => {
                // A row that comes back is an element like any other: its old place is forgotten.
                self.take(&key);
                let (after, note) = self.place(after, key.clone());
                Applied { logged: Some(ListOp::Insert(after, key)), note }
            }
            ListOp::Move(_, key) if !self.is_alive(&key) => {
                Applied { logged: None, note: Some(ListNote::Gone) }
            }
            ListOp::Move(After::Element(after, _), key) if after == key => {
                Applied { logged: None, note: None }
            }
            ListOp::Move(after, key) => {
                self.take(&key);
                let (after, note) = self.place(after, key.clone());
                Applied { logged: Some(ListOp::Move(after, key)), note }
            }
            ListOp::Delete(key) => match self.elements.get_mut(&key) {
                Some(element) if element.is_alive => {
                    element.is_alive = false;
                    self.live.remove(&(element.position.clone(), Some(key.clone())));
                    self.changed.insert(key.clone());
                    Applied { logged: Some(ListOp::Delete(key)), note: None }
                }
                _ => Applied { logged: None, note: None },
            },
        }
    }

    /// Whether it has an element, deleted or not.
    pub fn has(&self, key: &K) -> bool {
        self.elements.contains_key(key)
    }

    /// The place directly in front of an element, behind the live one before it; the end of the
    /// list for an element that it does not have.
    pub fn before(&self, key: &K) -> After<K> {
        let Some(element) = self.elements.get(key) else { return self.end() };
        Self::behind_last(
            self.live.range(..(element.position.clone(), Some(key.clone()))).next_back(),
        )
    }

    /// The place behind all live elements.
    pub fn end(&self) -> After<K> {
        Self::behind_last(self.live.last())
    }

    fn behind_last(slot: Option<&Slot<K>>) -> After<K> {
        match slot {
            Some((position, Some(key))) => After::Element(key.clone(), Some(position.clone())),
            _ => After::Head,
        }
    }

    fn is_alive(&self, key: &K) -> bool {
        self.elements.get(key).is_some_and(|element| element.is_alive)
    }

    fn take(&mut self, key: &K) {
        if let Some(element) = self.elements.remove(key) {
            let slot = (element.position, Some(key.clone()));
            self.order.remove(&slot);
            self.live.remove(&slot);
        }
    }

    fn put(&mut self, slot: Slot<K>, is_alive: bool) {
        if is_alive {
            self.live.insert(slot.clone());
        }
        self.order.insert(slot);
    }

    /// Puts an element directly behind another; returns the nearest live one before it.
    fn place(&mut self, after: After<K>, key: K) -> (After<K>, Option<ListNote>) {
        let (after, note) = match after {
            After::Head => (None, None),
            After::Element(after, at) => match self.elements.get(&after) {
                Some(element) => (Some((element.position.clone(), Some(after))), None),
                None => (self.gap(at), Some(ListNote::AfterUnknown)),
            },
        };
        let live = after.as_ref().and_then(|after| self.live_until(after));
        let position = self.behind(after.as_ref()).unwrap_or_else(|| self.respread(after.as_ref()));
        self.put((position.clone(), Some(key.clone())), true);
        self.elements.insert(key.clone(), Element { position, is_alive: true });
        self.changed.insert(key);
        let live = live.map_or(After::Head, |live| {
            let at = self.elements.get(&live).map(|element| element.position.clone());
            After::Element(live, at)
        });
        (live, note)
    }

    /// The last element that stands at or before a position; without one, the last of all.
    fn gap(&self, at: Option<Position>) -> Option<Slot<K>> {
        match at {
            Some(at) => self.order.range(..(at.bound_above(), None)).next_back().cloned(),
            None => self.order.last().cloned(),
        }
    }

    /// The last live element up to a place.
    fn live_until(&self, slot: &Slot<K>) -> Option<K> {
        self.live.range(..=slot).next_back().and_then(|(_, key)| key.clone())
    }

    /// A position directly behind an element, or in front of all; `None` without room.
    fn behind(&self, after: Option<&Slot<K>>) -> Option<Position> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.order.range((from, Bound::Unbounded)).next();
        Position::between(after.map(|(position, _)| position), next.map(|(position, _)| position))
    }

    /// Gives all elements new positions in their order, with one left free behind `after`, which
    /// is returned.
    fn respread(&mut self, after: Option<&Slot<K>>) -> Position {
        let old = std::mem::take(&mut self.order);
        self.live.clear();
        let before = after.map_or(0, |after| old.range(..=after).count());
        let mut positions = Position::spread(old.len() + 1);
        let mut free = None;
        for (i, (_, key)) in old.into_iter().enumerate() {
            if i == before {
                free = positions.next();
            }
            let position = positions.next().expect("BUG: one position per element");
            let Some(key) = key else { continue };
            let is_alive = self.elements.get_mut(&key).is_some_and(|element| {
                element.position = position.clone();
                element.is_alive
            });
            self.changed.insert(key.clone());
            self.put((position, Some(key)), is_alive);
        }
        free.or_else(|| positions.next()).expect("BUG: one position more than elements")
    }
}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list has at most {LIST_LEN_MAX} elements, each once")
    }
}

impl std::error::Error for BadList {}
