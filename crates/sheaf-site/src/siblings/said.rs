//! What a mutation says of a cell under `mvr` beside its plain changes: as a row of the siblings'
//! table, with columns that no stored row has.
//!
//! Invariant: no such row is ever stored; other columns, or these in another order, are none.
//! Leaves out what becomes of the cell: see `replay/siblings.rs`.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_merge::Value;

use super::{SOMEBODY, TABLE, decode};
use crate::{
    mutation::{Body, Change, Mutation, Op},
    opstream::{decode_key, encode_key},
};

/// A value that was in a cell by a position at the latest.
pub(crate) type Met = (Value, u64);

/// What is said of one cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) table: String,
    pub(crate) key: Vec<Value>,
    pub(crate) column: String,
    pub(crate) what: What,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A change is redone whose author had read up to a position that is not the mutation's base.
    Again { base: Value, left: Value, read: u64, met: Option<Met> },
    /// The newest of several values was chosen.
    Chosen { newest: Value, met: Option<Met> },
    /// The author of a change saw this agreed on in the cell, under an own change that waits.
    Saw(Met),
}

impl Said {
    /// Reads an operation on the siblings' table; `None` for what says nothing.
    pub(crate) fn read(op: &Op) -> Option<Self> {
        let (Op::Update { key, .. } | Op::Delete { key, .. }) = op else { return None };
        let (table, key, column) = cell(key)?;
        let what = match op {
            Op::Update { changes, .. } => changed(changes)?,
            Op::Delete { old, .. } => chosen(old)?,
            _ => return None,
        };
        let (table, column) = (table.to_owned(), column.to_owned());
        Some(Self { table, key: decode_key(key).ok()?, column, what })
    }

    /// An operation that says this, of the row as it is called here.
    pub(crate) fn named(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Op::Update { key, .. } | Op::Delete { key, .. } = &mut op {
            *key = self.name();
        }
        op
    }

    fn name(&self) -> Vec<Value> {
        let (table, key) = (Value::Text(self.table.clone()), encode_key(&self.key));
        vec![table, Value::Blob(key), Value::Text(self.column.clone())]
    }

    /// As an operation; `None` for a choice, which deletes a row that is there.
    pub(crate) fn op(&self) -> Option<Op> {
        let change = |col: &str, base: &Value, left: Value| Change {
            col: col.to_owned(),
            base: base.clone(),
            left,
        };
        let met = |(value, lsn): &Met| change("met", value, position(*lsn));
        let changes = match &self.what {
            What::Again { base, left, read, met: known } => {
                let read = change("read", &Value::Null, position(*read));
                let mut changes = vec![change("value", base, left.clone()), read];
                changes.extend(known.as_ref().map(met));
                changes
            }
            What::Saw(saw) => vec![met(saw)],
            What::Chosen { .. } => return None,
        };
        Some(Op::Update { table: TABLE.to_owned(), key: self.name(), changes })
    }
}

/// The cell that the key of a row of the siblings' table names: table, key as it is encoded, column.
pub(crate) fn cell(key: &[Value]) -> Option<(&str, &[u8], &str)> {
    match key {
        [Value::Text(table), Value::Blob(key), Value::Text(column)] => Some((table, key, column)),
        _ => None,
    }
}

fn changed(changes: &[Change]) -> Option<What> {
    let met = |change: &Change| Some((change.base.clone(), lsn(&change.left)?));
    match changes {
        [saw] if saw.col == "met" => met(saw).map(What::Saw),
        [value, read, rest @ ..] if value.col == "value" && read.col == "read" => {
            let met = match rest {
                [] => None,
                [known] if known.col == "met" => Some(met(known)?),
                _ => return None,
            };
            let (base, left) = (value.base.clone(), value.left.clone());
            Some(What::Again { base, left, read: lsn(&read.left)?, met })
        }
        _ => None,
    }
}

fn chosen(old: &[(String, Value)]) -> Option<What> {
    let held = old.iter().find(|(col, _)| col == "siblings");
    let Some((_, Value::Blob(bytes))) = held else { return None };
    let values = decode(bytes).ok()??;
    let first = values.iter().next().filter(|first| first.author == SOMEBODY);
    let met = first.map(|first| (first.value.clone(), first.write));
    Some(What::Chosen { newest: values.iter().last()?.value.clone(), met })
}

fn position(lsn: u64) -> Value {
    Value::Int(i64::try_from(lsn).unwrap_or(i64::MAX))
}

fn lsn(value: &Value) -> Option<u64> {
    match value {
        Value::Int(int) => u64::try_from(*int).ok(),
        _ => None,
    }
}

/// Whether an operation only says what its author saw: it does nothing by itself.
pub(crate) fn only_says(op: &Op) -> bool {
    is_of_siblings(op) && matches!(Said::read(op), Some(Said { what: What::Saw(_), .. }))
}

/// Whether an operation is on the siblings' table.
pub(crate) fn is_of_siblings(op: &Op) -> bool {
    op.table().is_some_and(|table| table.eq_ignore_ascii_case(TABLE))
}

/// What the author of a mutation saw agreed on, by cell, in the author's names of rows.
#[derive(Debug, Default)]
pub(crate) struct Saw(BTreeMap<(String, Vec<u8>, String), Met>);

impl Saw {
    /// What is said among these operations.
    pub(crate) fn of(ops: &[Op]) -> Self {
        let said = ops.iter().filter(|op| is_of_siblings(op)).filter_map(Said::read);
        let saw = said.filter_map(|Said { table, key, column, what }| match what {
            What::Saw(met) => Some((name(&table, &key, &column), met)),
            What::Again { .. } | What::Chosen { .. } => None,
        });
        Self(saw.collect())
    }

    pub(crate) fn get(&self, table: &str, key: &[Value], column: &str) -> Option<&Met> {
        (!self.0.is_empty()).then(|| self.0.get(&name(table, key, column))).flatten()
    }
}

fn name(table: &str, key: &[Value], column: &str) -> (String, Vec<u8>, String) {
    (table.to_ascii_lowercase(), encode_key(key), column.to_ascii_lowercase())
}

/// Leaves out of a mutation the plain changes of cells of which these operations tell.
pub(crate) fn strip(mutation: &mut Mutation, told: &[Op]) {
    let Body::Rows(ops) = &mut mutation.body else { return };
    let cells: BTreeSet<(&str, &[u8], &str)> = told
        .iter()
        .filter_map(|op| match op {
            Op::Update { key, .. } => cell(key),
            _ => None,
        })
        .collect();
    if cells.is_empty() {
        return;
    }
    ops.retain_mut(|op| {
        let Op::Update { table, key, changes } = op else { return true };
        let key = encode_key(key);
        changes.retain(|change| !cells.contains(&(table.as_str(), &key, &change.col)));
        !changes.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(what: What) -> Said {
        Said { table: "Note".into(), key: vec![Value::Int(7)], column: "body".into(), what }
    }

    #[test]
    fn what_is_said_is_read_again_and_nothing_else() {
        let (base, left) = (Value::from("base"), Value::from("left"));
        let met = (Value::from("met"), 9);
        let again = |met| What::Again { base: base.clone(), left: left.clone(), read: 3, met };
        let all = [again(None), again(Some(met.clone())), What::Saw(met)];
        for said in all.map(said) {
            let op = said.op().unwrap();
            assert_eq!(Said::read(&op).as_ref(), Some(&said));
            assert_eq!(only_says(&op), matches!(said.what, What::Saw(_)));
            let Op::Update { table, key, changes } = op else { panic!("{op:?}") };
            for wrong in ["value", "read", "met", "siblings"] {
                let mut changes = changes.clone();
                let more = Change { col: wrong.into(), base: Value::Null, left: Value::Int(-1) };
                changes.push(more);
                let op = Op::Update { table: table.clone(), key: key.clone(), changes };
                assert_eq!(Said::read(&op), None, "{wrong}");
            }
        }
    }
}
