//! What capture knows while a transaction runs: one tracker per table and layout.
//!
//! Invariant: nothing here runs SQL, so all of it may be called from within SQLite's callbacks.
//! What cannot be understood there is written down (`fault`, `broken`) and refused when the
//! transaction ends, because an error in a callback cannot stop the statement.

use std::collections::HashMap;
use std::sync::Arc;

use super::ddl::DdlLog;
use super::rows::{FixedState, KeyedSet, RowidSet};
use crate::locks::Notes;
use crate::schema::{Affinity, FtsContent, Schema, TableInfo, TableKind, fold, is_internal};

/// Tables of Sheaf itself whose rows follow from the log and are no part of a mutation.
const OWN_TABLES: [&str; 4] =
    ["__sheaf_lock", "__sheaf_lock_moves", "__sheaf_remap", "__sheaf_timelines"];

/// What the callbacks must know about a table: made from the schema when it is noted.
#[derive(Debug)]
pub(crate) struct Hint {
    /// The virtual table this is a shadow of, folded.
    pub(crate) owner: Option<String>,
    /// Rows are not looked at.
    pub(crate) skip: bool,
    /// Column numbers and affinities of the key, for tables without row ids.
    pub(crate) key: Option<Vec<(i32, Affinity)>>,
    /// Column numbers of the stored columns.
    pub(crate) stored: Vec<i32>,
}

impl Hint {
    fn new(info: &TableInfo, schema: &Schema) -> Self {
        let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let owner = match &info.kind {
            TableKind::Shadow { owner } => Some(owner),
            _ => None,
        };
        let skip = is_skipped(&info.name)
            || owner.is_some_and(|owner| is_derived(&info.name, owner, schema));
        let key = || {
            let columns = info.key_columns();
            columns.into_iter().map(|(at, column)| (number(at), column.affinity)).collect()
        };
        Self {
            owner: owner.map(|owner| fold(owner)),
            skip,
            key: info.without_rowid.then(key),
            stored: info.stored().map(|(at, _)| number(at)).collect(),
        }
    }
}

/// Whether rows of the table follow from something else and are never captured.
pub(crate) fn is_skipped(name: &str) -> bool {
    is_internal(name) || OWN_TABLES.contains(&name)
}

/// Whether a shadow table of FTS5 only repeats what its content table holds.
fn is_derived(name: &str, owner: &str, schema: &Schema) -> bool {
    match schema.table(owner).map(|info| &info.kind) {
        Some(TableKind::Virtual { content: FtsContent::Own, .. }) => !is_fts_content(name, owner),
        Some(TableKind::Virtual { content: FtsContent::External, .. }) => true,
        _ => false,
    }
}

/// Whether this is the shadow table in which FTS5 keeps the text of `owner`.
pub(crate) fn is_fts_content(name: &str, owner: &str) -> bool {
    let suffix = name.get(owner.len()..).unwrap_or("");
    name.len() > owner.len() && suffix.eq_ignore_ascii_case("_content")
}

/// The rows of one table, in the form its kind allows.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Not looked at.
    Skipped,
    /// Made in this transaction as far as is known here: only that it was written.
    Unknown,
    /// With row ids.
    ByRowid(RowidSet),
    /// Without.
    ByKey(KeyedSet),
}

/// What was touched in one table while it had one layout.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// The table, as SQLite names it.
    pub(crate) table: String,
    /// The number of the schema change that made its layout; 0 for the noted schema.
    pub(crate) layout: u64,
    /// What was known about it.
    pub(crate) hint: Option<Arc<Hint>>,
    /// The rows.
    pub(crate) rows: Rows,
    /// Columns in the images, for layouts other than the noted one.
    pub(crate) width: i32,
    /// Why its rows cannot be told, if they cannot.
    pub(crate) fault: Option<String>,
}

impl Tracker {
    /// Takes over what was touched later.
    pub(crate) fn absorb(&mut self, later: Self) {
        match (&mut self.rows, later.rows) {
            (Rows::ByRowid(known), Rows::ByRowid(rows)) => known.absorb(rows),
            (Rows::ByKey(known), Rows::ByKey(rows)) => known.absorb(rows),
            _ => self.fault = Some("its identity changed on the way".to_owned()),
        }
        self.fault = self.fault.take().or(later.fault);
    }
}

/// The schema at the start of a transaction, and what follows from it.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) schema: Schema,
    /// Fields of the header by name, in the order of `HEADER_FIELDS`.
    pub(crate) header: Vec<i64>,
    hints: HashMap<String, Arc<Hint>, FixedState>,
}

impl Noted {
    pub(crate) fn new(schema: Schema, header: Vec<i64>) -> Self {
        let hints = schema
            .tables()
            .map(|info| (fold(&info.name), Arc::new(Hint::new(info, &schema))))
            .collect();
        Self { schema, header, hints }
    }
}

/// What one transaction did so far.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) trackers: Vec<Tracker>,
    pub(crate) ddl: DdlLog,
    /// What it has taken of `sheaf_lock`: no change by itself.
    pub(crate) locks: Notes,
    /// A pragma may have changed the header.
    pub(crate) header: bool,
    /// `PRAGMA foreign_keys` when the first change was made.
    pub(crate) foreign_keys: Option<bool>,
    /// Why nothing can be told any more.
    pub(crate) broken: Option<String>,
    /// Trackers by table name, under the layouts of now.
    index: HashMap<Box<[u8]>, usize, FixedState>,
    /// The tracker used last.
    last: usize,
}

impl Work {
    pub(crate) fn is_empty(&self) -> bool {
        self.trackers.is_empty() && self.ddl.is_empty() && !self.header && self.broken.is_none()
    }

    /// Forgets the transaction.
    pub(crate) fn clear(&mut self) {
        let mut ddl = std::mem::take(&mut self.ddl);
        ddl.clear();
        *self = Self { ddl, ..Self::default() };
    }

    /// Layouts may have changed: trackers are looked up anew.
    pub(crate) fn layouts_changed(&mut self) {
        self.index.clear();
        self.last = usize::MAX;
    }

    /// The tracker of a table under its layout of now.
    pub(crate) fn tracker(&mut self, table: &[u8], noted: Option<&Noted>) -> &mut Tracker {
        let last = self.trackers.get(self.last);
        if last.is_none_or(|last| last.table.as_bytes() != table) {
            self.last = match self.index.get(table) {
                Some(at) => *at,
                None => self.add_tracker(table, noted),
            };
        }
        self.trackers.get_mut(self.last).expect("BUG: the index points into the trackers")
    }

    fn add_tracker(&mut self, table: &[u8], noted: Option<&Noted>) -> usize {
        let name = String::from_utf8_lossy(table).into_owned();
        let folded = fold(&name);
        let start = self.ddl.name_at_start(&folded);
        let hint = noted.and_then(|noted| noted.hints.get(&start)).map(Arc::clone);
        let owner = hint.as_ref().and_then(|hint| hint.owner.as_deref()).unwrap_or("");
        let layout = self.ddl.layout_of(&folded).max(self.ddl.layout_of(owner));
        let known = self
            .trackers
            .iter()
            .position(|tracker| tracker.layout == layout && tracker.table == name);
        let at = known.unwrap_or_else(|| {
            let rows = match &hint {
                _ if is_skipped(&name) => Rows::Skipped,
                None => Rows::Unknown,
                Some(hint) if hint.skip => Rows::Skipped,
                Some(hint) if hint.key.is_some() => Rows::ByKey(KeyedSet::default()),
                Some(_) => Rows::ByRowid(RowidSet::default()),
            };
            self.trackers.push(Tracker { table: name, layout, hint, rows, width: 0, fault: None });
            self.trackers.len() - 1
        });
        self.index.insert(table.into(), at);
        at
    }
}
