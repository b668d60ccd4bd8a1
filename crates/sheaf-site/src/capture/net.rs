//! The net mutation: touched rows compared with what they are now, and put in order.
//!
//! Invariant: rows of a table go by key; deletes go children first, inserts parents first, DDL
//! before all; a row that is what it was is left out. Equal transactions give equal mutations.
//! Leaves out whether the result can be replayed on a state where others wrote meanwhile.

use rusqlite::Connection;
use sheaf_volume::{Error, ErrorKind, Result};

use super::ddl::HEADER_FIELDS;
use super::lists;
use super::migration::{Lineage, Migration};
use super::state::{Noted, Rows, Tracker, Work, is_fts_content, is_skipped};
use super::table::{Target, changes};
use crate::mutation::{Body, Change, Mutation, Op};
use crate::replay::ddl::check_own;
use crate::replay::failure::Failure;
use crate::rowids::RowIds;
use crate::schema::{
    FtsContent, Schema, TableInfo, TableKind, fold, pragma_int, quote_ident, sql_error, version,
};

/// The net mutation of the noted work, or `None` if nothing changed.
pub(crate) fn mutation(
    noted: &Noted,
    work: &mut Work,
    reader: &Connection,
) -> Result<Option<Mutation>> {
    let mut ops = Vec::new();
    let change = SchemaChange::find(noted, work, reader)?;
    for sql in &change.statements {
        ops.push(Op::Ddl { sql: sql.clone() });
    }
    if work.header {
        header_changes(noted, reader, &mut ops)?;
    }
    let mut net = Net::default();
    let schema = change.new.as_ref().unwrap_or(&noted.schema);
    merge_trackers(noted, work, &change)?;
    for tracker in &work.trackers {
        let Some(info) = change.table_of(noted, tracker)? else {
            continue;
        };
        net.add_touched(tracker, info, schema, reader)?;
    }
    for info in change.made() {
        net.add_made(info, schema, reader)?;
    }
    net.write(&mut ops);
    if ops.is_empty() {
        return Ok(None);
    }
    let places = lists::places(&mut ops, schema, reader)?;
    let foreign_keys = work.foreign_keys.unwrap_or(false);
    let (ids, locks) = (RowIds::default(), work.locks.locks());
    Ok(Some(Mutation { body: Body::Rows(ops), foreign_keys, ids, locks, places }))
}

fn header_changes(noted: &Noted, reader: &Connection, ops: &mut Vec<Op>) -> Result<()> {
    for (field, before) in HEADER_FIELDS.iter().zip(&noted.header) {
        let now = pragma_int(reader, &format!("PRAGMA main.{field}"))?;
        if now != *before {
            ops.push(Op::Ddl { sql: format!("PRAGMA {field} = {now}") });
        }
    }
    Ok(())
}

/// What became of the schema.
#[derive(Debug, Default)]
struct SchemaChange {
    /// The schema to be committed and how it came about; `None` if it is the noted one.
    new: Option<Schema>,
    migration: Migration,
    statements: Vec<String>,
}

impl SchemaChange {
    fn find(noted: &Noted, work: &Work, reader: &Connection) -> Result<Self> {
        // Only a statement that was noted can change the schema. Every effective one moves the
        // cookie, and a rollback moves it back.
        if work.ddl.is_empty() || version(reader)? == noted.schema.version() {
            return Ok(Self::default());
        }
        let new = Schema::read(reader)?;
        let is_same = new.same_objects(&noted.schema);
        let foreign_keys = work.foreign_keys.unwrap_or(false);
        let mut migration =
            Migration::explain(&noted.schema, &new, work.ddl.entries(), foreign_keys)?;
        let mut statements = std::mem::take(&mut migration.statements);
        if is_same && migration.keeps_tables() {
            statements.clear();
        }
        // The log would refuse it, and all that was built upon it here with it.
        for sql in &statements {
            check_own(sql).map_err(Failure::into_error)?;
        }
        Ok(Self { new: Some(new), migration, statements })
    }

    /// The table as it is now to which a tracker's rows belong; `None` if there is none, or if
    /// all its rows are new anyway.
    ///
    /// # Errors
    /// `Invalid` if the table was changed after the rows were touched.
    fn table_of<'a>(
        &'a self,
        noted: &'a Noted,
        tracker: &Tracker,
    ) -> Result<Option<&'a TableInfo>> {
        if matches!(tracker.rows, Rows::Skipped) {
            return Ok(None);
        }
        let found = match &self.new {
            None => noted.schema.table(&tracker.table),
            Some(new) => self.followed(noted, new, tracker)?,
        };
        let Some(info) = found else { return Ok(None) };
        // Images show columns by number, keys were made from columns by number.
        let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let key = info.key_columns().into_iter().map(|(at, c)| (number(at), c.affinity)).collect();
        let hint = tracker.hint.as_ref().map(|hint| &hint.key);
        let fits = match &tracker.rows {
            Rows::Unknown | Rows::Skipped => false,
            Rows::ByRowid(_) => !info.without_rowid,
            Rows::ByKey(_) => info.without_rowid && hint == Some(&Some(key)),
        };
        if !fits || tracker.width != number(info.columns.len()) {
            return Err(changed_after(&tracker.table));
        }
        match &tracker.fault {
            None => Ok(Some(info)),
            Some(fault) => {
                let table = &tracker.table;
                let message = format!("capture failed: rows of `{table}` were lost: {fault}");
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }

    fn followed<'a>(
        &self,
        noted: &Noted,
        new: &'a Schema,
        tracker: &Tracker,
    ) -> Result<Option<&'a TableInfo>> {
        let Some(table) = self.migration.table_at(tracker.layout, &tracker.table) else {
            // There was no such table then. If there is an old one of that name now, it got the
            // name in a way that is not understood here.
            let now = self.migration.end().get(&fold(&tracker.table));
            return match now.is_some_and(|table| self.migration.is_old(*table)) {
                true => Err(changed_after(&tracker.table)),
                false => Ok(None),
            };
        };
        let Some(info) = self.name_now(table).and_then(|name| new.table(name)) else {
            return Ok(None);
        };
        if !self.migration.is_old(table) {
            return Ok(None);
        }
        let then = self.migration.layout(tracker.layout, table);
        let is_as_noted = || {
            let before = noted.schema.table(&tracker.table);
            then == 0 && before.is_some_and(|before| *before == *info)
        };
        if then == self.migration.layout(u64::MAX, table) || is_as_noted() {
            return Ok(Some(info));
        }
        Err(changed_after(&tracker.table))
    }

    fn name_now(&self, table: Lineage) -> Option<&String> {
        let mut now = self.migration.end().iter();
        now.find(|(_, lineage)| **lineage == table).map(|(name, _)| name)
    }

    /// The tables that were made: all their rows are new.
    fn made(&self) -> impl Iterator<Item = &TableInfo> {
        let names = self.migration.end().iter();
        let made = names.filter(|(_, table)| !self.migration.is_old(**table));
        made.filter_map(|(name, _)| self.new.as_ref()?.table(name))
    }
}

fn changed_after(table: &str) -> Error {
    Error::invalid(format!("change the schema and the rows of `{table}` in separate transactions"))
}

/// Drops trackers whose layout was rolled back, with all that was written under it, and joins
/// those of one table that only a statement without effect divides.
fn merge_trackers(noted: &Noted, work: &mut Work, change: &SchemaChange) -> Result<()> {
    if work.ddl.is_empty() && work.trackers.iter().all(|tracker| tracker.layout == 0) {
        return Ok(());
    }
    let entries = work.ddl.entries();
    let mut trackers = std::mem::take(&mut work.trackers);
    trackers.retain(|tracker| {
        tracker.layout == 0 || entries.iter().any(|entry| entry.id == tracker.layout)
    });
    let mut merged: Vec<Tracker> = Vec::new();
    let mut failed = Ok(());
    for tracker in trackers {
        let same = |known: &Tracker| -> Result<bool> {
            let (a, b) = (change.table_of(noted, known)?, change.table_of(noted, &tracker)?);
            Ok(a.zip(b).is_some_and(|(a, b)| std::ptr::eq(a, b)))
        };
        let mut found = None;
        for (at, known) in merged.iter().enumerate() {
            match same(known) {
                Ok(true) => found = Some(at),
                Ok(false) => {}
                Err(error) => failed = Err(error),
            }
        }
        match found.and_then(|at| merged.get_mut(at)) {
            Some(known) => known.absorb(tracker),
            None => merged.push(tracker),
        }
    }
    work.trackers = merged;
    work.layouts_changed();
    failed
}

/// Operations of one table.
#[derive(Debug)]
struct TableOps {
    rank: usize,
    table: String,
    deletes: Vec<Op>,
    updates: Vec<Op>,
    inserts: Vec<Op>,
}

/// Operations of all tables.
#[derive(Debug, Default)]
struct Net {
    tables: Vec<TableOps>,
}

impl Net {
    fn add_touched(
        &mut self,
        tracker: &Tracker,
        info: &TableInfo,
        schema: &Schema,
        reader: &Connection,
    ) -> Result<()> {
        let target = target_of(info, schema);
        let mut ops = TableOps::new(&target, schema);
        changes(reader, info, &target, Some(&tracker.rows), &mut |change| {
            ops.add(&target, change)
        })?;
        self.push(target, ops)
    }

    fn add_made(&mut self, info: &TableInfo, schema: &Schema, reader: &Connection) -> Result<()> {
        if is_skipped(&info.name) {
            return Ok(());
        }
        match &info.kind {
            TableKind::View => return Ok(()),
            TableKind::Virtual { content: FtsContent::Own | FtsContent::External, .. } => {
                return Ok(());
            }
            TableKind::Virtual { module, .. } => return check_empty(info, module, schema, reader),
            TableKind::Shadow { owner } if !is_fts_shadow(info, owner, schema) => return Ok(()),
            TableKind::Shadow { .. } | TableKind::Table => {}
        }
        let target = target_of(info, schema);
        let mut ops = TableOps::new(&target, schema);
        changes(reader, info, &target, None, &mut |change| ops.add(&target, change))?;
        self.push(target, ops)
    }

    fn push(&mut self, target: Target, ops: TableOps) -> Result<()> {
        if ops.deletes.is_empty() && ops.updates.is_empty() && ops.inserts.is_empty() {
            return Ok(());
        }
        if let Some(module) = target.refused {
            return Err(cannot_capture(&target.table, &module));
        }
        self.tables.push(ops);
        Ok(())
    }

    fn write(mut self, out: &mut Vec<Op>) {
        self.tables.sort_by(|a, b| (a.rank, &a.table).cmp(&(b.rank, &b.table)));
        for table in self.tables.iter_mut().rev() {
            out.append(&mut table.deletes);
        }
        for table in &mut self.tables {
            out.append(&mut table.updates);
        }
        for table in &mut self.tables {
            out.append(&mut table.inserts);
        }
    }
}

impl TableOps {
    fn new(target: &Target, schema: &Schema) -> Self {
        Self {
            rank: schema.rank(&target.table),
            table: target.table.clone(),
            deletes: Vec::new(),
            updates: Vec::new(),
            inserts: Vec::new(),
        }
    }

    fn add(&mut self, target: &Target, change: super::table::RowChange) {
        let table = target.table.clone();
        let key = change.key;
        match (change.old, change.new) {
            (None, None) => {}
            (None, Some(new)) => {
                self.inserts.push(Op::Insert { table, key, cols: target.named(new) });
            }
            (Some(old), None) => {
                self.deletes.push(Op::Delete { table, key, old: target.named(old) });
            }
            (Some(old), Some(new)) => {
                let pairs = target.named(old).into_iter().zip(new);
                let changes: Vec<Change> = pairs
                    .filter(|((_, base), left)| !base.same(left))
                    .map(|((col, base), left)| Change { col, base, left })
                    .collect();
                if !changes.is_empty() {
                    self.updates.push(Op::Update { table, key, changes });
                }
            }
        }
    }
}

/// What the rows of a physical table are called in a mutation.
fn target_of(info: &TableInfo, schema: &Schema) -> Target {
    let TableKind::Shadow { owner } = &info.kind else {
        return Target::itself(info);
    };
    let Some(parent) = schema.table(owner) else {
        return Target::itself(info);
    };
    match &parent.kind {
        TableKind::Virtual { content: FtsContent::Own, .. } => Target::fts(info, parent),
        TableKind::Virtual { module, .. } => {
            let mut target = Target::itself(info);
            target.table.clone_from(&parent.name);
            target.refused = Some(module.clone());
            target
        }
        _ => Target::itself(info),
    }
}

fn is_fts_shadow(info: &TableInfo, owner: &str, schema: &Schema) -> bool {
    let kind = schema.table(owner).map(|parent| &parent.kind);
    let is_own = matches!(kind, Some(TableKind::Virtual { content: FtsContent::Own, .. }));
    is_own && is_fts_content(&info.name, owner)
}

/// Refuses rows in a virtual table made in this transaction, if it keeps them in this database.
fn check_empty(info: &TableInfo, module: &str, schema: &Schema, reader: &Connection) -> Result<()> {
    let has_shadows = schema.tables().any(|other| match &other.kind {
        TableKind::Shadow { owner } => fold(owner) == fold(&info.name),
        _ => false,
    });
    if !has_shadows {
        return Ok(());
    }
    let sql = format!("SELECT EXISTS(SELECT rowid FROM main.{})", quote_ident(&info.name));
    let has_rows = reader.query_row(&sql, [], |row| row.get(0));
    if has_rows.map_err(sql_error("read virtual table"))? {
        return Err(cannot_capture(&info.name, module));
    }
    Ok(())
}

fn cannot_capture(table: &str, module: &str) -> Error {
    Error::invalid(format!(
        "rows of virtual table `{table}` (module `{module}`) cannot be captured; write it from a \
         named mutator"
    ))
}
