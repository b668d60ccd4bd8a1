//! What the author of a mutation put rows of a list behind.
//!
//! Invariant: a place belongs to a value that the mutation writes: it stands in the op stream
//! directly behind that value. Leaves out where a row comes to stand: see `replay/lists.rs`.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use sheaf_merge::{Value, list::Position};
use sheaf_volume::Result;

use crate::{
    mutation::Op,
    opstream::{decode_key, encode_key, malformed},
};

/// What a row was put behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing: it came first.
    First,
    /// This row of its list.
    Behind {
        /// Where that row stood.
        position: Position,
        /// What names it.
        key: Vec<Value>,
        /// What names the row in front of which it was put, for when the one behind which it
        /// was put is gone; `None` at the end, and behind a row that the mutation inserts.
        before: Option<Vec<Value>>,
    },
}

/// The places that a mutation gives to rows, by table, encoded key and column, all as its
/// operations name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<(String, Vec<u8>), RowPlaces>);

/// The places of one row, by column.
pub(crate) type RowPlaces = BTreeMap<String, Place>;

impl Places {
    /// Whether no row is given a place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a row was put behind.
    #[must_use]
    pub fn get(&self, table: &str, key: &[Value], col: &str) -> Option<&Place> {
        self.of_row(table, encode_key(key)).and_then(|places| places.get(col))
    }

    /// The places of a row whose key is encoded.
    pub(crate) fn of_row(&self, table: &str, key: Vec<u8>) -> Option<&RowPlaces> {
        // Most mutations have nothing to do with lists.
        if self.0.is_empty() { None } else { self.0.get(&(table.to_owned(), key)) }
    }

    /// Sets what a row was put behind.
    pub fn set(&mut self, table: &str, key: &[Value], col: &str, place: Place) {
        let row = (table.to_owned(), encode_key(key));
        self.0.entry(row).or_default().insert(col.to_owned(), place);
    }

    /// Notes the places of a row that were read. Whether no other one was read for the same value.
    pub(crate) fn note(
        &mut self,
        table: &str,
        key: &[Value],
        read: impl ExactSizeIterator<Item = (String, Place)>,
    ) -> bool {
        if read.len() == 0 {
            return true;
        }
        let places = self.0.entry((table.to_owned(), encode_key(key))).or_default();
        let mut is_one = true;
        for (col, place) in read {
            match places.entry(col) {
                Entry::Occupied(known) => is_one &= *known.get() == place,
                Entry::Vacant(free) => {
                    free.insert(place);
                }
            }
        }
        is_one
    }

    /// Takes over the places of others, which count where both have one.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Forgets the places of these cells: table, encoded key, column.
    pub(crate) fn remove(&mut self, cells: &BTreeSet<(String, Vec<u8>, String)>) {
        self.0.retain(|(table, key), places| {
            places.retain(|col, _| !cells.contains(&(table.clone(), key.clone(), col.clone())));
            !places.is_empty()
        });
    }

    /// Keeps only those of rows that these operations write.
    pub(crate) fn retain(&mut self, ops: &[Op]) {
        if self.0.is_empty() {
            return;
        }
        let written: BTreeSet<_> = ops.iter().filter_map(Op::row).collect();
        self.0.retain(|(table, key), _| written.contains(&(table.as_str(), key.clone())));
    }

    /// What rows were put behind and in front of: tables and keys.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (&str, &[Value])> {
        self.0.iter().flat_map(|((table, _), places)| {
            let keys = places.values().flat_map(|place| match place {
                Place::First => [None, None],
                Place::Behind { key, before, .. } => [Some(key.as_slice()), before.as_deref()],
            });
            keys.flatten().map(|key| (table.as_str(), key))
        })
    }

    /// Every value in the keys of what rows were put behind.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        self.neighbours().flat_map(|(_, key)| key)
    }
}

impl Place {
    /// As a record of the op stream: nothing, or a key of the position and the rows' keys.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::First => Vec::new(),
            Self::Behind { position, key, before } => {
                let mut bytes = encode_key(&[Value::Text(position.to_string())]);
                bytes.extend(encode_key(key));
                bytes.extend(before.as_deref().map(encode_key).unwrap_or_default());
                bytes
            }
        }
    }

    /// Reads what [`Place::encode`] wrote, for a table whose keys have so many columns.
    ///
    /// # Errors
    /// `Invalid` or `Limit` for anything else.
    pub(crate) fn decode(bytes: &[u8], width: usize) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::First);
        }
        let values = decode_key(bytes)?;
        let Some((Value::Text(position), keys)) = values.split_first() else {
            return Err(malformed("a place"));
        };
        let position = Position::parse(position).map_err(malformed)?;
        let (key, before) = keys.split_at_checked(width).ok_or_else(|| malformed("a place"))?;
        if !before.is_empty() && before.len() != width {
            return Err(malformed("a place"));
        }
        let before = (!before.is_empty()).then(|| before.to_vec());
        Ok(Self::Behind { position, key: key.to_vec(), before })
    }
}
