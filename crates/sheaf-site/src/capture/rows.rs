//! Which rows a transaction touched, and what they held before it did.
//!
//! Invariant: for every row that differs from what it was when the transaction began, the set
//! holds its key with the *first* image seen; a key that was first seen being inserted is *fresh*:
//! no row had it. A row that is not in the set is unchanged. Entries are never removed, so that
//! savepoints and failed statements need no attention: they leave entries that net out. A long
//! value is noted when it is about to change or to go; until then it is what the row holds.
//! Leaves out new values: they are read when the transaction ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, DefaultHasher};

use sheaf_merge::Value;

/// Without a random seed: the same transaction takes the same path everywhere.
pub(crate) type FixedState = BuildHasherDefault<DefaultHasher>;

/// What a row held, column by column.
pub(crate) type Image = Box<[Cell]>;

/// What a row held in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// This.
    Held(Value),
    /// What it holds now: a long value that no change of the row has touched so far. Rewriting
    /// short columns beside long ones would otherwise take the memory of all of them.
    Unchanged,
}

impl Cell {
    /// What was held, as far as that is known here.
    pub(crate) fn held(&self) -> Option<&Value> {
        match self {
            Self::Held(value) => Some(value),
            Self::Unchanged => None,
        }
    }
}

/// The row as a callback sees it before it changes.
pub(crate) trait Before {
    /// Why a column cannot be read.
    type Error;

    /// The row's image.
    fn image(&self) -> Result<Image, Self::Error>;

    /// What the row holds in a column, unless it is a long value that stays.
    fn cell(&self, column: usize) -> Result<Cell, Self::Error>;
}

/// Notes what the known row is about to lose.
fn look_again<B: Before>(image: Option<&mut Image>, before: &B) -> Result<(), B::Error> {
    for (column, cell) in image.into_iter().flatten().enumerate() {
        if *cell == Cell::Unchanged {
            *cell = before.cell(column)?;
        }
    }
    Ok(())
}

/// Fills up an image from one that was made later: what stayed until then is what was first held.
fn fill_up(image: Option<&mut Image>, later: Option<Image>) {
    for (cell, later) in image.into_iter().flatten().zip(later.into_iter().flatten()) {
        if *cell == Cell::Unchanged {
            *cell = later;
        }
    }
}

/// Touched rows of a table with row ids.
#[derive(Debug, Default)]
pub(crate) struct RowidSet {
    /// Fresh row ids, as ascending, disjoint runs of (first, last): a bulk insert costs nothing
    /// per row.
    runs: Vec<(i64, i64)>,
    /// All others.
    rows: HashMap<i64, Option<Image>, FixedState>,
}

impl RowidSet {
    /// Notes that a row is about to get this id.
    pub(crate) fn insert(&mut self, rowid: i64) {
        if !self.rows.is_empty() && self.rows.contains_key(&rowid) {
            return;
        }
        match self.runs.last_mut() {
            None => self.runs.push((rowid, rowid)),
            Some(run) if run.1.checked_add(1) == Some(rowid) => run.1 = rowid,
            Some(run) if run.1 < rowid => self.runs.push((rowid, rowid)),
            Some(_) => {
                if !self.in_run(rowid) {
                    self.rows.insert(rowid, None);
                }
            }
        }
    }

    /// Notes the row's image, or of a known row the long values that stayed until now.
    pub(crate) fn touch<B: Before>(&mut self, rowid: i64, before: &B) -> Result<(), B::Error> {
        if self.in_run(rowid) {
            return Ok(());
        }
        match self.rows.entry(rowid) {
            Entry::Occupied(known) => look_again(known.into_mut().as_mut(), before),
            Entry::Vacant(free) => {
                free.insert(Some(before.image()?));
                Ok(())
            }
        }
    }

    fn in_run(&self, rowid: i64) -> bool {
        let at = self.runs.partition_point(|run| run.1 < rowid);
        self.runs.get(at).is_some_and(|run| run.0 <= rowid)
    }

    /// Takes over what was noted later; what is known here came first and stays.
    pub(crate) fn absorb(&mut self, later: Self) {
        for (first, last) in later.runs {
            (first..=last).for_each(|rowid| self.insert(rowid));
        }
        let mut rows: Vec<_> = later.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(rowid, _)| *rowid);
        for (rowid, image) in rows {
            if self.in_run(rowid) {
                continue;
            }
            match self.rows.entry(rowid) {
                Entry::Occupied(known) => fill_up(known.into_mut().as_mut(), image),
                Entry::Vacant(free) => _ = free.insert(image),
            }
        }
    }

    /// The runs of fresh ids, ascending.
    pub(crate) fn runs(&self) -> &[(i64, i64)] {
        &self.runs
    }

    /// The other rows, ascending.
    pub(crate) fn rows(&self) -> Vec<(i64, Option<&Image>)> {
        let mut rows: Vec<_> =
            self.rows.iter().map(|(rowid, image)| (*rowid, image.as_ref())).collect();
        rows.sort_unstable_by_key(|(rowid, _)| *rowid);
        rows
    }
}

/// Touched rows of a table without row ids, by their encoded keys.
#[derive(Debug, Default)]
pub(crate) struct KeyedSet(HashMap<Box<[u8]>, Option<Image>, FixedState>);

impl KeyedSet {
    /// Notes that a row is about to get this key.
    pub(crate) fn insert(&mut self, key: &[u8]) {
        if !self.0.contains_key(key) {
            self.0.insert(key.into(), None);
        }
    }

    /// Notes the row's image, or of a known row the long values that stayed until now.
    pub(crate) fn touch<B: Before>(&mut self, key: &[u8], before: &B) -> Result<(), B::Error> {
        if let Some(known) = self.0.get_mut(key) {
            return look_again(known.as_mut(), before);
        }
        self.0.insert(key.into(), Some(before.image()?));
        Ok(())
    }

    /// Takes over what was noted later; what is known here came first and stays.
    pub(crate) fn absorb(&mut self, later: Self) {
        for (key, image) in later.0 {
            match self.0.entry(key) {
                Entry::Occupied(known) => fill_up(known.into_mut().as_mut(), image),
                Entry::Vacant(free) => _ = free.insert(image),
            }
        }
    }

    /// All rows, in the order of their encoded keys.
    pub(crate) fn rows(&self) -> Vec<(&[u8], Option<&Image>)> {
        let mut rows: Vec<_> =
            self.0.iter().map(|(key, image)| (key.as_ref(), image.as_ref())).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }
}

/// Appends a value so that different values give different bytes, also in a row of several.
pub(crate) fn encode_value(out: &mut Vec<u8>, value: rusqlite::types::ValueRef<'_>) {
    use rusqlite::types::ValueRef;
    let mut bytes = |tag: u8, body: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(body);
    };
    match value {
        ValueRef::Null => out.push(0),
        ValueRef::Integer(int) => {
            out.push(1);
            out.extend_from_slice(&int.to_le_bytes());
        }
        ValueRef::Real(real) => {
            out.push(2);
            out.extend_from_slice(&real.to_bits().to_le_bytes());
        }
        ValueRef::Text(text) => bytes(3, text),
        ValueRef::Blob(blob) => bytes(4, blob),
    }
}

/// Reads back what [`encode_value`] wrote; `None` if it is nothing of the kind. Text that is not
/// UTF-8 comes back as a blob.
pub(crate) fn decode_values(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at_checked(count)?;
            bytes = tail;
            Some(head)
        };
        values.push(match tag {
            0 => {
                take(0)?;
                Value::Null
            }
            1 => Value::Int(i64::from_le_bytes(take(8)?.try_into().ok()?)),
            2 => Value::Real(f64::from_bits(u64::from_le_bytes(take(8)?.try_into().ok()?))),
            3 | 4 => {
                let (head, _) = rest.split_at_checked(8)?;
                let count = usize::try_from(u64::from_le_bytes(head.try_into().ok()?)).ok()?;
                let body = take(8 + count)?.get(8..)?.to_vec();
                if *tag == 3 { text_or_blob(body) } else { Value::Blob(body) }
            }
            _ => return None,
        });
    }
    Some(values)
}

/// Old text that is not UTF-8 is kept as a blob: it equals no text, so nothing is taken for
/// unchanged because of it.
pub(crate) fn text_or_blob(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::Text(text),
        Err(raw) => Value::Blob(raw.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rusqlite::types::ValueRef;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(i64),
        Touch(i64, i64),
        Merge,
    }

    struct Shown(i64);

    impl Before for Shown {
        type Error = ();

        fn image(&self) -> Result<Image, ()> {
            Ok([self.cell(0)?].into())
        }

        fn cell(&self, _: usize) -> Result<Cell, ()> {
            Ok(Cell::Held(Value::Int(self.0)))
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = prop_oneof![0_i64..20, Just(i64::MAX), Just(i64::MAX - 1), Just(i64::MIN)];
        prop_oneof![
            8 => id.clone().prop_map(Step::Insert),
            4 => (id, any::<i64>()).prop_map(|(id, image)| Step::Touch(id, image)),
            1 => Just(Step::Merge),
        ]
    }

    proptest! {
        #[test]
        fn the_first_entry_of_a_row_stays(steps in prop::collection::vec(step(), 0..60)) {
            let mut model: BTreeMap<i64, Option<i64>> = BTreeMap::new();
            let (mut set, mut current) = (RowidSet::default(), RowidSet::default());
            for step in steps {
                match step {
                    Step::Insert(id) => {
                        model.entry(id).or_insert(None);
                        current.insert(id);
                    }
                    Step::Touch(id, image) => {
                        model.entry(id).or_insert(Some(image));
                        current.touch(id, &Shown(image)).unwrap();
                    }
                    Step::Merge => set.absorb(std::mem::take(&mut current)),
                }
            }
            set.absorb(current);
            let mut found: BTreeMap<i64, Option<i64>> = BTreeMap::new();
            for (first, last) in set.runs() {
                prop_assert!(first <= last);
                for id in *first..=*last {
                    prop_assert!(found.insert(id, None).is_none());
                }
            }
            for (id, image) in set.rows() {
                let image = image.map(|image| match &image[0] {
                    Cell::Held(Value::Int(int)) => *int,
                    other => panic!("{other:?}"),
                });
                prop_assert!(found.insert(id, image).is_none());
            }
            prop_assert_eq!(found, model);
        }

        #[test]
        fn keys_survive_their_encoding(ints in prop::collection::vec(any::<i64>(), 0..4),
                                       texts in prop::collection::vec(".{0,9}", 0..4)) {
            let mut bytes = Vec::new();
            let mut expect = Vec::new();
            for int in ints {
                encode_value(&mut bytes, ValueRef::Integer(int));
                expect.push(Value::Int(int));
            }
            encode_value(&mut bytes, ValueRef::Null);
            encode_value(&mut bytes, ValueRef::Real(-0.0));
            expect.extend([Value::Null, Value::Real(-0.0)]);
            for text in texts {
                encode_value(&mut bytes, ValueRef::Text(text.as_bytes()));
                encode_value(&mut bytes, ValueRef::Blob(text.as_bytes()));
                expect.push(Value::Text(text.clone()));
                expect.push(Value::Blob(text.into_bytes()));
            }
            prop_assert_eq!(decode_values(&bytes), Some(expect));
            bytes.pop();
            let _short = decode_values(&bytes);
        }
    }
}
