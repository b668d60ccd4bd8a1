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
use sheaf_volume::{
    HeldMutation, Lsn, Result,
    teeth::{Tooth, bites},
};

use super::code::{decode, encode, of_mutation};
use super::told::Told;
use crate::error::from_sqlite;
use crate::limits;
use crate::mutation::Op;
use crate::opstream::decode_key;
use crate::replay::cell;
use crate::site::{Site, View};
use crate::status::RejectedRecord;
use crate::timeline::MutationRecord;

/// How the names of these attributes begin; the identity of the mutation and the conflict's own
/// number follow.
pub(super) const PREFIX: &str = "conflict/";

/// What kind of conflict it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictKind {
    /// This device's value stands, and another one is gone that it had not seen: another device's,
    /// or an own one of a mutation that failed when this was written.
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
        all.extend(self.rejected_records().into_iter().map(
            |RejectedRecord { record, reason, .. }| {
                let (table, key) = only_row(&record).unwrap_or_default();
                Conflict {
                    seq: Some(record.seq),
                    time_ms: Some(record.time_ms),
                    table,
                    key,
                    reason: Some(reason),
                    ..Conflict::of(ConflictKind::Rejected)
                }
            },
        ));
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

    /// The attributes that forget what was told of mutations beyond their bases, where they were
    /// kept as they had been: a redo tells it again, and nothing of it came to be where the log
    /// took them as they are.
    pub(crate) fn conflicts_beyond<'a>(
        &self,
        held: impl IntoIterator<Item = &'a HeldMutation>,
    ) -> Vec<(String, Option<Bytes>)> {
        let attrs = self.volume().attrs(PREFIX);
        if attrs.is_empty() {
            return Vec::new();
        }
        let bases: BTreeMap<&[u8], Lsn> =
            held.into_iter().map(|held| (held.head(), held.base)).collect();
        let is_beyond = |name: &str, bytes: &Bytes| {
            decode(name, bytes).is_some_and(|(uid, (lsn, ..), _)| {
                bases.get(uid.as_slice()).is_some_and(|base| lsn > base.0)
            })
        };
        let gone = attrs.into_iter().filter(|(name, bytes)| is_beyond(name, bytes));
        gone.map(|(name, _)| (name, None)).collect()
    }

    /// The attributes that write down what a redo onto `lsn` told, where `gone` go in the same step.
    pub(crate) fn conflict_attrs(
        &self,
        lsn: Lsn,
        told: Vec<(MutationRecord, Vec<Told>)>,
        gone: &BTreeSet<String>,
    ) -> Vec<(String, Option<Bytes>)> {
        if told.is_empty() || bites(Tooth::ForgetConflicts) {
            return Vec::new();
        }
        let old = self.volume().attrs(PREFIX);
        let old = old.into_iter().filter(|(name, _)| !gone.contains(name)).map(|(name, bytes)| {
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
            let sql = "SELECT tbl, pk, col, siblings FROM main.__sheaf_mvr
                WHERE typeof(tbl) = 'text' AND typeof(pk) = 'blob' AND typeof(col) = 'text'
                AND typeof(siblings) = 'blob' LIMIT ?1";
            let mut statement = conn.prepare(sql).map_err(from_sqlite)?;
            let max = i64::try_from(limits::CONFLICTS_MAX).unwrap_or(i64::MAX);
            let cells = statement.query_map([max], |row| {
                let (table, key): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let (column, blob): (String, Vec<u8>) = (row.get(2)?, row.get(3)?);
                Ok(siblings(table, &key, column, &blob))
            });
            let cells = cells.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
            let cells = cells.map_err(from_sqlite)?.into_iter().flatten();
            let mut all = Vec::new();
            for (table, column, cell) in cells.filter_map(|cell| cell.named()) {
                // They count only while the newest of them is what the cell holds.
                let held = cell::read(conn, &table, &cell.key, Some(&column))?;
                let held = held.and_then(|row| row.into_iter().next());
                if held.map(|(_, value)| value) == cell.stands {
                    all.push(cell);
                }
            }
            Ok(all)
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
        stands: siblings.iter().last().map(|sibling| sibling.value.clone()),
        siblings: siblings.iter().map(|sibling| sibling.value.clone()).collect(),
        ..Conflict::of(ConflictKind::Siblings)
    })
}

impl Conflict {
    /// With its table and column, for a cell.
    fn named(self) -> Option<(String, String, Self)> {
        Some((self.table.clone()?, self.column.clone()?, self))
    }

    pub(super) fn of(kind: ConflictKind) -> Self {
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
pub(super) type Order = (u64, u64, u64);

/// The only row that a mutation changes.
fn only_row(record: &MutationRecord) -> Option<(Option<String>, Vec<Value>)> {
    let mutation = record.mutation().ok()?;
    let mut ops = mutation.deeds();
    let (
        Some(
            Op::Insert { table, key, .. }
            | Op::Update { table, key, .. }
            | Op::Delete { table, key, .. },
        ),
        None,
    ) = (ops.next(), ops.next())
    else {
        return None;
    };
    Some((Some(table.clone()), key.clone()))
}
