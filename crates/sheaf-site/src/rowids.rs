//! Which row an integer means to its author, while the log has not decided that row.
//!
//! Two devices that are apart give the same number to different rows. The one that is ordered
//! later gets another, and its author, who learns of the other row first, shows its own under a
//! number that is a guess until the verdict comes. What it makes meanwhile says which row it
//! means: not by the number shown, but by the one the row was inserted under, its *origin*, which
//! every version of the mutation that inserts it has in common.
//!
//! Invariant: a number that is not listed means what it says: the author's own row that was
//! inserted under it, if one is undecided, and else the row that has it in the log. So nothing is
//! listed, and nothing costs a byte, unless a guess was made.

use std::collections::BTreeMap;

use sheaf_merge::Value;

use crate::{
    mutation::{Body, Mutation, Op},
    places::Places,
    siblings::{self, Said},
};

/// Numbers that do not mean what they say, by table (in lower case) and number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowIds(BTreeMap<String, BTreeMap<i64, Option<i64>>>);

impl RowIds {
    /// Whether every number means what it says.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every entry, ascending by table and number: the origin of the author's own row that is
    /// shown under the number, or `None` if whoever has it in the log is meant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64, Option<i64>)> {
        self.0.iter().flat_map(|(table, ids)| {
            ids.iter().map(|(shown, origin)| (table.as_str(), *shown, *origin))
        })
    }

    /// What a number means; `None` where it means what it says.
    pub(crate) fn get(&self, table: &str, id: i64) -> Option<Option<i64>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&table.to_ascii_lowercase())?.get(&id).copied()
    }

    /// Lists a number.
    pub(crate) fn set(&mut self, table: &str, id: i64, origin: Option<i64>) {
        self.0.entry(table.to_ascii_lowercase()).or_default().insert(id, origin);
    }

    /// The author's own row of this origin is shown under that number.
    pub(crate) fn show(&mut self, table: &str, origin: i64, shown: i64) {
        if shown != origin {
            self.set(table, shown, Some(origin));
            self.hide(table, origin);
        } else if self.get(table, origin).is_some() {
            self.set(table, origin, Some(origin));
        }
    }

    /// The author's own row of this origin is not shown under its number.
    pub(crate) fn hide(&mut self, table: &str, origin: i64) {
        self.0.entry(table.to_ascii_lowercase()).or_default().entry(origin).or_insert(None);
    }

    /// Whether any of these operations inserts a row under a number that is listed.
    pub(crate) fn lists_inserts(&self, ops: &[Op]) -> bool {
        ops.iter().filter_map(inserted).any(|(table, id)| self.get(table, id).is_some())
    }

    /// Takes notice of the rows that a new mutation inserts under numbers of its author's choice.
    pub(crate) fn note_inserts(&mut self, ops: &[Op]) {
        for (table, id) in ops.iter().filter_map(inserted) {
            self.show(table, id, id);
        }
    }

    /// The entries whose numbers these operations and places mention, in whatever column.
    pub(crate) fn mentioned_by(&self, ops: &[Op], places: &Places) -> Self {
        let mut mentioned = Self::default();
        let told = ops.iter().filter(|op| siblings::is_of_siblings(op)).filter_map(Said::read);
        let told = told.flat_map(|said| said.key).filter_map(|id| integer(&id));
        let named = ops.iter().flat_map(values).chain(places.values()).filter_map(integer);
        for id in named.chain(told) {
            for (table, ids) in &self.0 {
                if let Some(origin) = ids.get(&id) {
                    mentioned.set(table, id, *origin);
                }
            }
        }
        mentioned
    }

    /// As an op stream that does nothing.
    pub(crate) fn encode(&self) -> bytes::Bytes {
        let nothing = Mutation::new(Body::Rows(Vec::new()), false);
        Mutation { ids: self.clone(), ..nothing }.encode()
    }

    /// Reads what [`RowIds::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> sheaf_volume::Result<Self> {
        Ok(Mutation::decode(bytes)?.ids)
    }
}

/// The row id of an inserted row.
pub(crate) fn inserted(op: &Op) -> Option<(&str, i64)> {
    match op {
        Op::Insert { table, key, .. } => match key.as_slice() {
            [Value::Int(id)] => Some((table, *id)),
            _ => None,
        },
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(int) => Some(*int),
        _ => None,
    }
}

/// Every value of an operation.
fn values(op: &Op) -> Box<dyn Iterator<Item = &Value> + '_> {
    match op {
        Op::Ddl { .. } => Box::new(std::iter::empty()),
        Op::Insert { key, cols: values, .. } | Op::Delete { key, old: values, .. } => {
            Box::new(key.iter().chain(values.iter().map(|(_, value)| value)))
        }
        Op::Update { key, changes, .. } => {
            Box::new(key.iter().chain(changes.iter().flat_map(|c| [&c.base, &c.left])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(ids: &RowIds) -> Vec<(&str, i64, Option<i64>)> {
        ids.iter().collect()
    }

    #[test]
    fn a_row_shown_elsewhere_leaves_its_number_to_the_log() {
        let mut ids = RowIds::default();
        ids.show("T", 1, 2);
        assert_eq!(listed(&ids), [("t", 1, None), ("t", 2, Some(1))]);
        // The author's own second row is pushed aside by the guess.
        ids.show("t", 2, 3);
        assert_eq!(listed(&ids), [("t", 1, None), ("t", 2, Some(1)), ("t", 3, Some(2))]);
        // Where nothing was guessed, nothing is listed.
        ids.show("t", 9, 9);
        assert_eq!(ids.get("t", 9), None);
        // A new row under a number that somebody else had given up is the author's own.
        ids.show("t", 1, 1);
        assert_eq!(ids.get("T", 1), Some(Some(1)));
    }

    #[test]
    fn only_what_is_mentioned_travels() {
        let mut ids = RowIds::default();
        ids.show("t", 1, 2);
        ids.show("u", 7, 8);
        let key = vec![Value::Int(5)];
        let cols = vec![("ref".to_owned(), Value::Int(2)), ("n".to_owned(), Value::Int(6))];
        let op = Op::Insert { table: "c".into(), key, cols };
        assert_eq!(listed(&ids.mentioned_by(&[op], &Places::default())), [("t", 2, Some(1))]);
    }

    #[test]
    fn what_is_written_down_can_be_read() {
        let mut ids = RowIds::default();
        assert_eq!(RowIds::decode(&ids.encode()).unwrap(), ids);
        ids.show("a b", -3, 9);
        ids.show("t", i64::MIN, i64::MAX);
        assert_eq!(RowIds::decode(&ids.encode()).unwrap(), ids);
    }
}
