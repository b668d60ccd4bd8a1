//! What a replay tells besides its outcome, as far as the author's device wants to know it.
//!
//! Invariant: bounded; what is beyond a bound is unknown, never nothing. Leaves out what is
//! written down on disk: see `conflicts.rs`.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_merge::Value;

use super::{ByUid, Told};
use crate::limits;
use crate::mutation::{Body, Mutation, Op};
use crate::opstream::decode_key;
use crate::schema::fold;
use crate::siblings;

/// What one replay told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// The rows that a call changed; `None` if nobody knows.
    pub(crate) called: Option<Arc<[Touch]>>,
    /// What it did to them, as an op stream; `None` if nobody knows.
    pub(crate) effects: Option<Bytes>,
    /// What its merges decided by order.
    pub(crate) told: Vec<Told>,
    /// Why it has no effect for now.
    pub(crate) failing: Option<String>,
}

/// One row that a mutation changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    /// The table, in lower case.
    pub(crate) table: String,
    /// The key, as the mutation has it.
    pub(crate) key: Vec<Value>,
    /// The columns, in lower case; `None` for all of them.
    pub(crate) cols: Option<Vec<String>>,
    /// Whether it makes the row.
    pub(crate) is_new: bool,
}

impl Touch {
    /// The row that an operation changes, if it is one of rows.
    pub(crate) fn of(op: &Op) -> Option<Self> {
        if siblings::only_says(op) {
            return None;
        }
        let (table, key, cols, is_new) = match op {
            Op::Ddl { .. } => return None,
            Op::Insert { table, key, .. } => (table, key, None, true),
            Op::Delete { table, key, .. } => (table, key, None, false),
            Op::Update { table, key, changes } => {
                let cols = changes.iter().map(|change| fold(&change.col)).collect();
                (table, key, Some(cols), false)
            }
        };
        if siblings::is_of_siblings(op) {
            return Self::of_siblings(key);
        }
        Some(Self { table: fold(table), key: key.clone(), cols, is_new })
    }

    /// The cell whose values a row of siblings keeps: a change that stands beside others is on
    /// the timeline as such a row, and not as the cell.
    fn of_siblings(key: &[Value]) -> Option<Self> {
        let (table, key, col) = siblings::cell(key)?;
        let key = decode_key(key).ok()?;
        Some(Self { table: fold(table), key, cols: Some(vec![fold(col)]), is_new: false })
    }
}

impl Noted {
    fn rows(&self) -> usize {
        1 + self.called.as_ref().map_or(0, |rows| rows.len())
    }

    fn bytes(&self) -> usize {
        self.effects.as_ref().map_or(0, Bytes::len)
    }

    /// Notes what a call did, as captured.
    pub(crate) fn call(&mut self, captured: sheaf_volume::Result<Option<Mutation>>) {
        let captured = match captured {
            Ok(None) => {
                self.called = Some(Arc::new([]));
                return;
            }
            Ok(Some(captured)) => captured,
            // What cannot be captured is not wrong in a call, only unknown.
            Err(_) => return,
        };
        if let Body::Rows(ops) = &captured.body
            && ops.len() <= limits::PENDING_ROWS_MAX
        {
            self.called = Some(ops.iter().filter_map(Touch::of).collect());
            let stream = captured.encode();
            self.effects = (stream.len() <= limits::DEED_BYTES_MAX).then_some(stream);
        }
    }
}

/// What is noted of the mutations that wait, by identity.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    by_uid: ByUid<Noted>,
    rows: usize,
    /// Of the streams.
    bytes: usize,
}

impl Notes {
    /// Adds what a replay told, unless that is nothing, or too much.
    pub(crate) fn add(&mut self, uid: [u8; 8], mut noted: Noted) {
        if noted.called.is_none() && noted.failing.is_none() {
            return;
        }
        if let Some(before) = self.by_uid.remove(&uid) {
            self.rows -= before.rows();
            self.bytes -= before.bytes();
        }
        if self.bytes + noted.bytes() > limits::DEEDS_BYTES_MAX {
            noted.effects = None;
        }
        if self.rows + noted.rows() <= limits::PENDING_ROWS_MAX {
            self.rows += noted.rows();
            self.bytes += noted.bytes();
            self.by_uid.insert(uid, noted);
        }
    }

    pub(crate) fn get(&self, uid: &[u8]) -> Option<&Noted> {
        self.by_uid.get(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opstream::encode_key;

    #[test]
    fn a_row_of_siblings_is_a_claim_on_its_cell() {
        let pk = vec![Value::Int(7), "x".into()];
        let key = vec!["Note".into(), Value::Blob(encode_key(&pk)), "Body".into()];
        let op = Op::Delete { table: "__sheaf_mvr".into(), key, old: Vec::new() };
        let cols = Some(vec!["body".to_owned()]);
        let touch = Touch { table: "note".to_owned(), key: pk, cols, is_new: false };
        assert_eq!(Touch::of(&op), Some(touch));
    }
}
