//! Which rows and cells the mutations that wait would change.
//!
//! Invariant: an answer of *no* is certain; what was not looked at (too much waits, a call whose
//! effects were not seen, a mutation that cannot be read) makes it *unknown*. Rows are named as
//! the local view shows them, also those whose number is a guess ([`RowIds`]).
//!
//! The index is made on the first question, extended when a mutation is added, and made again
//! after a redo. It says what waits now, which a transaction that began earlier may not see yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sheaf_merge::Value;
use sheaf_volume::Result;
use sheaf_volume::teeth::{Tooth, bites};

use super::{Notes, Touch};
use crate::capture::ddl::{Statement, classify};
use crate::limits;
use crate::mutation::{Body, Op};
use crate::opstream::{decode_key, encode_key};
use crate::replay::sqltext::tokens;
use crate::rowids::RowIds;
use crate::schema::fold;
use crate::site::{Site, lock};
use crate::status::PendingInfo;
use crate::timeline::MutationRecord;

/// Whether a change of a row or cell waits for the log's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// None does: what the local view shows there is agreed on.
    No,
    /// At least one does.
    Yes,
    /// Nobody can tell: a named mutator waits that has no effect for now or was last run before
    /// the site was opened, the table is altered, or more waits than is looked at.
    Unknown,
}

impl Waiting {
    /// The answer, if there is one.
    #[must_use]
    pub fn known(self) -> Option<bool> {
        match self {
            Self::No => Some(false),
            Self::Yes => Some(true),
            Self::Unknown => None,
        }
    }
}

/// A row, as the local view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// The table, in lower case.
    pub table: String,
    /// Its primary key, or the row id where there is none.
    pub key: Vec<Value>,
}

/// A change of this device that waits, as an application shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// Number, kind and summary.
    pub info: PendingInfo,
    /// Whether it has been handed out for sending since the site was opened.
    pub is_sent: bool,
    /// Why the local view is without it for now: at its last redo it failed. It still waits, and
    /// the log may decide otherwise.
    pub failing: Option<String>,
    /// The rows that it changes; `None` if nobody can tell.
    pub rows: Option<Vec<PendingRow>>,
}

/// Where a number of this device's own rows leads.
#[derive(Debug, Default)]
struct Shown {
    ids: Option<Arc<RowIds>>,
    /// Number shown, by table and origin.
    by_origin: BTreeMap<(String, i64), i64>,
}

/// One mutation's claim on a row: its number, and the columns unless it is all of them.
type Claim = (u64, Option<Vec<String>>);

/// Which mutations that wait touch which rows.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The redo after which it was made; `None` before the first question.
    redone: Option<u64>,
    /// The newest mutation in it.
    through: u64,
    shown: Shown,
    /// Rows with a number that waiting mutations insert: table and origin.
    own: BTreeSet<(String, i64)>,
    tables: BTreeMap<String, BTreeMap<Vec<u8>, Vec<Claim>>>,
    claims: usize,
    bytes: usize,
    /// Mutations of which not every row is in it.
    unknown: BTreeSet<u64>,
    /// Whether one of them changes the schema.
    has_schema: bool,
    /// Those that alter or drop a table, by its name before and after: what they do to rows is not
    /// known.
    altered: BTreeMap<String, BTreeSet<u64>>,
}

impl Shown {
    fn new(ids: Option<Arc<RowIds>>) -> Self {
        let entries = ids.as_deref().into_iter().flat_map(RowIds::iter);
        let own = entries.filter_map(|(table, id, of)| Some(((table.to_owned(), of?), id)));
        Self { by_origin: own.collect(), ids }
    }

    fn is(&self, ids: Option<&Arc<RowIds>>) -> bool {
        match (&self.ids, ids) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        }
    }

    fn get(&self, table: &str, id: i64) -> Option<Option<i64>> {
        self.ids.as_ref()?.get(table, id)
    }

    /// The number of the device's own row of this origin; `None` while it is not shown.
    fn own(&self, table: &str, origin: i64) -> Option<i64> {
        match self.by_origin.get(&(table.to_owned(), origin)) {
            Some(id) => Some(*id),
            None => self.get(table, origin).is_none().then_some(origin),
        }
    }

    /// The number of the row that has this one in the log; `None` while another is shown there.
    fn in_log(&self, table: &str, id: i64) -> Option<i64> {
        (!matches!(self.get(table, id), Some(Some(_)))).then_some(id)
    }
}

impl Index {
    fn new(redone: u64, ids: Option<Arc<RowIds>>) -> Self {
        Self { redone: Some(redone), shown: Shown::new(ids), ..Self::default() }
    }

    /// Takes in one more mutation.
    fn add(&mut self, record: &MutationRecord, notes: &Notes) {
        self.through = record.seq;
        self.bytes += record.bytes.len();
        let mutation = match record.mutation() {
            Ok(mutation) if self.bytes <= limits::PENDING_BYTES_MAX => mutation,
            _ => {
                self.unknown.insert(record.seq);
                return;
            }
        };
        match &mutation.body {
            Body::Rows(ops) => {
                self.has_schema |= mutation.kind() == "ddl";
                let altered = ops.iter().flat_map(|op| match op {
                    Op::Ddl { sql } => altered(sql),
                    _ => Vec::new(),
                });
                for table in altered {
                    self.altered.entry(table).or_default().insert(record.seq);
                }
                for touch in ops.iter().filter_map(Touch::of) {
                    self.touch(record.seq, &touch, &mutation.ids);
                }
            }
            Body::Call { .. } => match notes.get(&record.uid()).and_then(|n| n.called.clone()) {
                // Without effect it claims nothing, and may do anything once the log runs it.
                Some(rows) => {
                    rows.iter().for_each(|row| self.touch(record.seq, row, &mutation.ids));
                }
                None => {
                    self.unknown.insert(record.seq);
                }
            },
        }
    }

    fn touch(&mut self, seq: u64, touch: &Touch, meant: &RowIds) {
        if self.claims >= limits::PENDING_ROWS_MAX {
            self.unknown.insert(seq);
            return;
        }
        let key = match self.shown_key(touch, meant) {
            Some(key) => encode_key(&key),
            // A row that is not shown: no row of the local view waits because of it.
            None => return,
        };
        self.claims += 1;
        let rows = self.tables.entry(touch.table.clone()).or_default();
        rows.entry(key).or_default().push((seq, touch.cols.clone()));
    }

    /// The key under which the local view shows the row that is meant.
    fn shown_key(&mut self, touch: &Touch, meant: &RowIds) -> Option<Vec<Value>> {
        let Touch { table, key, is_new, .. } = touch;
        let [Value::Int(id)] = key.as_slice() else { return Some(key.clone()) };
        let says = meant.get(table, *id);
        if *is_new {
            self.own.insert((table.clone(), says.flatten().unwrap_or(*id)));
        }
        if says.is_none() && self.shown.ids.is_none() {
            return Some(key.clone());
        }
        let shown = match says {
            Some(Some(origin)) => self.shown.own(table, origin),
            None if self.own.contains(&(table.clone(), *id)) => self.shown.own(table, *id),
            Some(None) | None => self.shown.in_log(table, *id),
        };
        shown.map(|id| vec![Value::Int(id)])
    }

    fn claims(&self, table: &str, key: &[Value]) -> &[Claim] {
        let rows = self.tables.get(&fold(table));
        rows.and_then(|rows| rows.get(&encode_key(key))).map_or(&[], Vec::as_slice)
    }

    /// Which mutations touch a row, or one column of it.
    pub(super) fn outstanding(
        &self,
        table: &str,
        key: &[Value],
        column: Option<&str>,
    ) -> BTreeSet<u64> {
        let claims = self.claims(table, key).iter();
        let touches = |claim: &&Claim| column.is_none_or(|column| claims_column(claim, column));
        claims.filter(touches).map(|(seq, _)| *seq).collect()
    }

    /// Mutations of which it is not known whether they change rows of a table.
    pub(super) fn unknown(&self, table: &str) -> impl Iterator<Item = u64> {
        let altered = self.altered.get(&fold(table)).into_iter().flatten();
        self.unknown.iter().chain(altered).copied()
    }

    /// The tables whose rows wait, if all are known.
    pub(super) fn tables(&self) -> Option<impl Iterator<Item = String>> {
        let is_known = self.unknown.is_empty() && !self.has_schema;
        is_known.then(|| self.tables.keys().cloned())
    }

    /// The number under which this device inserts a row that is shown under this one.
    pub(super) fn own_origin(&self, table: &str, id: i64) -> Option<i64> {
        match self.shown.get(table, id) {
            Some(origin) => origin,
            None => self.own.contains(&(table.to_owned(), id)).then_some(id),
        }
    }

    /// The number under which an own row of this origin is shown, if it is; `None` once it is
    /// not among those that wait.
    pub(super) fn shown_as(&self, table: &str, origin: i64) -> Option<Option<i64>> {
        let waits = self.own.contains(&(table.to_owned(), origin));
        (waits || !self.unknown.is_empty()).then(|| self.shown.own(table, origin))
    }

    fn alters(&self, seq: u64) -> bool {
        self.altered.values().any(|seqs| seqs.contains(&seq))
    }

    fn answer(&self, table: &str, is_touched: bool) -> Waiting {
        let is_known = self.unknown(table).next().is_none();
        match (is_touched && !bites(Tooth::DenyPending), is_known) {
            (true, _) => Waiting::Yes,
            (false, true) => Waiting::No,
            (false, false) => Waiting::Unknown,
        }
    }

    /// The rows of the mutations up to one.
    fn rows(&self, through: u64) -> BTreeMap<u64, Vec<PendingRow>> {
        let mut rows: BTreeMap<u64, Vec<PendingRow>> = BTreeMap::new();
        for (table, key, (seq, _)) in self.all_claims() {
            if *seq <= through
                && let Ok(key) = decode_key(key)
            {
                let of = rows.entry(*seq).or_default();
                of.push(PendingRow { table: table.clone(), key });
            }
        }
        rows
    }

    fn all_claims(&self) -> impl Iterator<Item = (&String, &Vec<u8>, &Claim)> {
        self.tables.iter().flat_map(|(table, rows)| {
            let claims = rows.iter().flat_map(|(key, claims)| claims.iter().map(move |c| (key, c)));
            claims.map(move |(key, claim)| (table, key, claim))
        })
    }
}

/// The tables that a schema change alters or drops, before and after.
fn altered(sql: &str) -> Vec<String> {
    let verb = tokens(sql).first().copied();
    match classify(sql) {
        Statement::Ddl(ddl) if verb.is_some_and(|v| v.is("ALTER") || v.is("DROP")) => {
            ddl.table.into_iter().chain(ddl.rename_to).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a claim is on this column.
fn claims_column(claim: &Claim, column: &str) -> bool {
    claim.1.as_ref().is_none_or(|cols| cols.iter().any(|col| col.eq_ignore_ascii_case(column)))
}

impl Site {
    /// Whether a change that waits touches a row, by its key as the local view shows it: the
    /// values of its primary key in order, as stored, or its row id where none is declared.
    ///
    /// The first question after a rebase reads what waits, once; the others are look-ups.
    ///
    /// # Errors
    /// `Io` or `Corrupt` when what waits cannot be read.
    pub fn waiting(&self, table: &str, key: &[Value]) -> Result<Waiting> {
        self.with_index(|index| index.answer(table, !index.claims(table, key).is_empty()))
    }

    /// As [`Site::waiting`], for one column of the row. A row that is made or deleted waits in
    /// all of its columns.
    ///
    /// # Errors
    /// As [`Site::waiting`].
    pub fn waiting_cell(&self, table: &str, key: &[Value], column: &str) -> Result<Waiting> {
        self.with_index(|index| {
            let claims = index.claims(table, key);
            index.answer(table, claims.iter().any(|claim| claims_column(claim, column)))
        })
    }

    /// The changes of this device that the log has not decided, oldest first, as far as
    /// [`crate::limits::PENDING_LIST_MAX`].
    ///
    /// # Errors
    /// As [`Site::waiting`].
    pub fn pending(&self) -> Result<Vec<PendingChange>> {
        let sent = self.0.watch.sent_of(self.timeline());
        let held = self.volume().held();
        let held: Vec<_> = held.into_iter().take(limits::PENDING_LIST_MAX).collect();
        let infos = self.pending_infos(&held);
        self.with_index(|index| {
            let notes = lock(&self.0.watch.notes);
            let mut rows = index.rows(held.last().map_or(0, |held| held.seq));
            let changes = infos.into_iter().zip(&held).map(|(info, held)| PendingChange {
                is_sent: info.seq <= sent,
                failing: notes.get(held.head()).and_then(|noted| noted.failing.clone()),
                rows: (!index.unknown.contains(&info.seq) && !index.alters(info.seq))
                    .then(|| rows.remove(&info.seq).unwrap_or_default()),
                info,
            });
            changes.collect()
        })
    }

    /// Lends the index, brought up to date.
    pub(super) fn with_index<T>(&self, f: impl FnOnce(&Index) -> T) -> Result<T> {
        let hub = &self.0.watch;
        let mut index = lock(&hub.index);
        let redone = hub.redone.load(Ordering::Acquire);
        let ids = self.row_ids()?;
        if index.redone != Some(redone) || !index.shown.is(ids.as_ref()) {
            *index = Index::new(redone, ids);
            index.through = self.decided().seq;
        }
        let last = self.volume().last_pending_seq().unwrap_or(0);
        if index.through < last {
            let notes = lock(&hub.notes);
            for seq in index.through + 1..=last {
                // One that was decided meanwhile belongs to a redo that will be noticed.
                if let Some(pending) = self.volume().mutation(seq)? {
                    index.add(&pending.into(), &notes);
                }
            }
        }
        Ok(f(&index))
    }
}
