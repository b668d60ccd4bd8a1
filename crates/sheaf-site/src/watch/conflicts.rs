//! What became of this device's changes where they met others': values that gave way, mutations
//! that were rejected, cells with several values.
//!
//! Invariant: what a redo tells is written in the very step that publishes it, as attributes of
//! this replica: no table of the user's holds it and nobody else gets it. Bounded: the oldest is
//! dropped first, and a long value is cut. Leaves out what a node merged with changes that came
//! in the same commit: the verdict says *merged*, and no more can be known.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rusqlite::OptionalExtension as _;
use sheaf_merge::{Value, mvr::Siblings};
use sheaf_volume::{HeldMutation, Lsn, Result};

use super::told::{Came, Told};
use crate::error::from_sqlite;
use crate::limits;
use crate::mutation::{Body, Op};
use crate::opstream::{decode_key, encode_key};
use crate::site::{Site, View};
use crate::timeline::MutationRecord;

/// How the names of these attributes begin; the identity of the mutation and the conflict's own
/// number follow.
const PREFIX: &str = "conflict/";

/// What kind of conflict it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictKind {
    /// This device's value stands, and another device's is gone that it had not seen.
    Overridden,
    /// This device's value is gone: an earlier one stands, or the row was deleted.
    Lost,
    /// Both are in the result, but something of one of them is not.
    Partly,
    /// A mutation of this device was recorded and skipped.
    Rejected,
    /// A cell that keeps several values until somebody chooses.
    Siblings,
}

impl ConflictKind {
    /// Its name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overridden => "overridden",
            Self::Lost => "lost",
            Self::Partly => "partly",
            Self::Rejected => "rejected",
            Self::Siblings => "siblings",
        }
    }
}

/// Something that people may want to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// By which it is dismissed, if it can be: siblings go away when one value is written, and
    /// rejected mutations with [`Site::dismiss_rejected`].
    pub id: Option<u64>,
    /// What it is.
    pub kind: ConflictKind,
    /// Whether the log has decided; else it is what would become of a change that waits.
    pub is_decided: bool,
    /// The mutation's number, if it is about one. It names the mutation as long as that waits.
    pub seq: Option<u64>,
    /// When the mutation was made, milliseconds since 1970.
    pub time_ms: Option<u64>,
    /// The table; `None` for a rejected mutation that changed more than one row.
    pub table: Option<String>,
    /// The key of the row, empty where there is no table.
    pub key: Vec<Value>,
    /// The column; `None` for a row that was to be deleted and stays.
    pub column: Option<String>,
    /// What this device saw; `None` for a cell that it made, or where nobody can tell.
    pub base: Option<Value>,
    /// What it wrote.
    pub ours: Option<Value>,
    /// What the other one wrote; `None` where the row is gone.
    pub theirs: Option<Value>,
    /// What the cell became; `None` where the row is gone.
    pub stands: Option<Value>,
    /// All values of a cell that keeps several, oldest first.
    pub siblings: Vec<Value>,
    /// Why a mutation was rejected.
    pub reason: Option<String>,
    /// Whether a value was too long to be kept whole.
    pub is_cut: bool,
}

impl Site {
    /// What should be looked at, oldest first: values that gave way since they were dismissed
    /// last (at most [`limits::CONFLICTS_MAX`]), rejected mutations, and cells with several
    /// values (likewise).
    ///
    /// # Errors
    /// As [`Site::read`], for the cells with several values.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let held = self.volume().held();
        let waiting: BTreeSet<&[u8]> = held.iter().map(HeldMutation::head).collect();
        let mut kept = self.kept_conflicts();
        for (uid, _, conflict) in &mut kept {
            conflict.is_decided = !waiting.contains(uid.as_slice());
        }
        kept.sort_by_key(|(_, order, _)| *order);
        let mut all: Vec<Conflict> = kept.into_iter().map(|(.., conflict)| conflict).collect();
        all.extend(self.rejected_records().into_iter().map(|(record, reason)| {
            let (table, key) = only_row(&record).unwrap_or_default();
            Conflict {
                seq: Some(record.seq),
                time_ms: Some(record.time_ms),
                table,
                key,
                reason: Some(reason),
                ..Conflict::of(ConflictKind::Rejected)
            }
        }));
        all.extend(self.cells_with_siblings()?);
        Ok(all)
    }

    /// Forgets a conflict, once its author has seen it; whether it was there. It comes back if
    /// the same cell meets another change.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_conflict(&self, id: u64) -> Result<bool> {
        self.drop_conflicts(|name| name.ends_with(&format!("/{id:016x}")))
    }

    /// Forgets all values that gave way and whose mutations the log has decided; whether there
    /// were any.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_conflicts(&self) -> Result<bool> {
        let held = self.volume().held();
        let waiting: Vec<String> = held.iter().map(|held| of_mutation(held.head())).collect();
        self.drop_conflicts(|name| !waiting.iter().any(|prefix| name.starts_with(prefix)))
    }

    fn drop_conflicts(&self, is_seen: impl Fn(&str) -> bool) -> Result<bool> {
        let attrs = self.volume().attrs(PREFIX).into_iter();
        let attrs = attrs.filter(|(name, _)| is_seen(name)).map(|(name, _)| (name, None));
        let attrs: Vec<_> = attrs.collect();
        let was_there = !attrs.is_empty();
        if was_there {
            self.volume().set_attrs(attrs)?;
        }
        Ok(was_there)
    }

    /// The attributes that forget what mutations that have no effect told.
    pub(crate) fn conflicts_gone<'a>(
        &self,
        of: impl IntoIterator<Item = &'a HeldMutation>,
    ) -> Vec<(String, Option<Bytes>)> {
        let of = of.into_iter().map(|held| of_mutation(held.head()));
        let gone = of.flat_map(|prefix| self.volume().attrs(&prefix));
        gone.map(|(name, _)| (name, None)).collect()
    }

    /// The attributes that write down what a redo onto `lsn` told.
    pub(crate) fn conflict_attrs(
        &self,
        lsn: Lsn,
        told: Vec<(MutationRecord, Vec<Told>)>,
    ) -> Vec<(String, Option<Bytes>)> {
        if told.is_empty() {
            return Vec::new();
        }
        let old = self.volume().attrs(PREFIX);
        let old = old.into_iter().map(|(name, bytes)| {
            let (order, base) = decode(&name, &bytes)
                .map_or_else(Default::default, |known| (known.1, known.2.base));
            (name, (order, base, None))
        });
        let mut all: BTreeMap<String, (Order, Option<Value>, Option<Bytes>)> = old.collect();
        for (record, told) in told {
            let prefix = of_mutation(&record.uid());
            for (at, mut told) in (0..).zip(told) {
                let name = format!("{prefix}{:016x}", told.number(&record.uid()));
                // What this device saw at first, not what it met at an earlier redo.
                if let Some((_, base, _)) = all.remove(&name) {
                    told.base = base;
                }
                let order = (lsn.0, record.seq, at);
                let bytes = encode(order, record.time_ms, &told);
                all.insert(name, (order, told.base, Some(bytes)));
            }
        }
        let mut ages: Vec<Order> = all.values().map(|(order, ..)| *order).collect();
        ages.sort_unstable();
        let oldest = ages.len().checked_sub(limits::CONFLICTS_MAX).and_then(|at| ages.get(at));
        let oldest = oldest.copied().unwrap_or_default();
        let changes = all.into_iter().filter_map(|(name, (order, _, bytes))| {
            let is_kept = order >= oldest;
            (!is_kept || bytes.is_some()).then_some((name, bytes.filter(|_| is_kept)))
        });
        changes.collect()
    }

    fn kept_conflicts(&self) -> Vec<(Vec<u8>, Order, Conflict)> {
        let attrs = self.volume().attrs(PREFIX);
        attrs.iter().filter_map(|(name, bytes)| decode(name, bytes)).collect()
    }

    /// Cells under the rule `mvr` of which more than one value stands, in the local view.
    fn cells_with_siblings(&self) -> Result<Vec<Conflict>> {
        self.read(View::Local, |conn| {
            let has = "SELECT 1 FROM main.sqlite_schema WHERE name = '__sheaf_mvr'";
            let has = conn.query_row(has, [], |_| Ok(())).optional().map_err(from_sqlite)?;
            if has.is_none() {
                return Ok(Vec::new());
            }
            let sql = "SELECT tbl, pk, col, blob FROM main.__sheaf_mvr LIMIT ?1";
            let mut statement = conn.prepare(sql).map_err(from_sqlite)?;
            let max = i64::try_from(limits::CONFLICTS_MAX).unwrap_or(i64::MAX);
            let cells = statement.query_map([max], |row| {
                let (table, key): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let (column, blob): (String, Vec<u8>) = (row.get(2)?, row.get(3)?);
                Ok(siblings(table, &key, column, &blob))
            });
            let cells = cells.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
            Ok(cells.map_err(from_sqlite)?.into_iter().flatten().collect())
        })
    }
}

/// A cell with several values; `None` for one that is settled or that this version cannot read.
fn siblings(table: String, key: &[u8], column: String, blob: &[u8]) -> Option<Conflict> {
    let siblings = Siblings::decode(blob).ok().filter(|siblings| !siblings.is_settled())?;
    Some(Conflict {
        table: Some(table),
        key: decode_key(key).ok()?,
        column: Some(column),
        stands: siblings.shown(None),
        siblings: siblings.iter().map(|sibling| sibling.value.clone()).collect(),
        ..Conflict::of(ConflictKind::Siblings)
    })
}

impl Conflict {
    fn of(kind: ConflictKind) -> Self {
        Self {
            id: None,
            kind,
            is_decided: true,
            seq: None,
            time_ms: None,
            table: None,
            key: Vec::new(),
            column: None,
            base: None,
            ours: None,
            theirs: None,
            stands: None,
            siblings: Vec::new(),
            reason: None,
            is_cut: false,
        }
    }
}

/// Position of the base, number of the mutation, place within it: by age.
type Order = (u64, u64, u64);

/// The beginning of the names of what one mutation told.
fn of_mutation(uid: &[u8]) -> String {
    format!("{PREFIX}{}/", crate::value::encode_hex(uid))
}

/// The only row that a mutation changes.
fn only_row(record: &MutationRecord) -> Option<(Option<String>, Vec<Value>)> {
    let mutation = record.mutation().ok()?;
    let Body::Rows(ops) = &mutation.body else { return None };
    let [
        Op::Insert { table, key, .. }
        | Op::Update { table, key, .. }
        | Op::Delete { table, key, .. },
    ] = ops.as_slice()
    else {
        return None;
    };
    Some((Some(table.clone()), key.clone()))
}

impl Told {
    /// Numbers the cell, so that it is told once for each mutation.
    fn number(&self, uid: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let column = self.column.clone().map_or(Value::Null, Value::Text);
        let cell = [Value::Text(self.table.clone()), column];
        hasher.update(uid).update(&encode_key(&cell)).update(&encode_key(&self.key));
        let hash = hasher.finalize();
        let first = hash.as_bytes().split_first_chunk();
        // 63 bits, so that it is an integer in SQL.
        first.map_or(0, |(first, _)| u64::from_le_bytes(*first) >> 1)
    }
}

const CAME: [Came; 3] = [Came::Overridden, Came::Lost, Came::Partly];

/// A list of values, as keys are written: numbers, then the cell, then a value or nothing in
/// twos, since a value may be NULL.
fn encode(order: Order, time_ms: u64, told: &Told) -> Bytes {
    let int = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let came = CAME.iter().position(|came| *came == told.came).unwrap_or_default();
    let mut is_cut = false;
    let mut fields = vec![int(order.0), int(order.1), int(order.2), int(time_ms), int(came as u64)];
    fields.push(Value::Text(told.table.clone()));
    fields.push(Value::Blob(encode_key(&told.key)));
    fields.push(told.column.clone().map_or(Value::Null, Value::Text));
    for value in [&told.base, &told.ours, &told.theirs, &told.stands] {
        fields.push(int(u64::from(value.is_some())));
        fields.push(value.as_ref().map_or(Value::Null, |value| cut(value, &mut is_cut)));
    }
    fields.push(int(u64::from(is_cut)));
    encode_key(&fields).into()
}

/// The beginning of a value that is too long to be kept.
fn cut(value: &Value, is_cut: &mut bool) -> Value {
    let max = limits::CONFLICT_VALUE_BYTES_MAX;
    match value {
        Value::Text(text) if text.len() > max => {
            *is_cut = true;
            Value::Text(text.get(..text.floor_char_boundary(max)).unwrap_or_default().to_owned())
        }
        Value::Blob(blob) if blob.len() > max => {
            *is_cut = true;
            Value::Blob(blob.get(..max).unwrap_or_default().to_vec())
        }
        value => value.clone(),
    }
}

fn decode(name: &str, bytes: &[u8]) -> Option<(Vec<u8>, Order, Conflict)> {
    let (uid, id) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let mut fields = decode_key(bytes).ok()?.into_iter();
    let mut next = || fields.next();
    let int = |value: Option<Value>| match value? {
        Value::Int(int) => u64::try_from(int).ok(),
        _ => None,
    };
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    let order = (int(next())?, int(next())?, int(next())?);
    let time_ms = int(next());
    let kind = match CAME.get(usize::try_from(int(next())?).ok()?)? {
        Came::Overridden => ConflictKind::Overridden,
        Came::Lost => ConflictKind::Lost,
        Came::Partly => ConflictKind::Partly,
    };
    let table = text(next());
    let Some(Value::Blob(key)) = next() else { return None };
    let column = text(next());
    let mut value = || {
        let is_there = int(next())? == 1;
        let value = next()?;
        is_there.then_some(value)
    };
    let (base, ours, theirs, stands) = (value(), value(), value(), value());
    let is_cut = int(next())? == 1;
    let conflict = Conflict {
        id: u64::from_str_radix(id, 16).ok(),
        seq: Some(order.1),
        time_ms,
        table,
        key: decode_key(&key).ok()?,
        column,
        base,
        ours,
        theirs,
        stands,
        is_cut,
        ..Conflict::of(kind)
    };
    Some((crate::value::decode_hex(uid)?, order, conflict))
}
