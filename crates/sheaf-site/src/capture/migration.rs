//! Proves that the recorded DDL leads from the old schema to the new one, and follows each table.
//!
//! Invariant: a [`Migration`] exists only if running its statements on the old schema gives
//! exactly the new schema, as text; so replaying them on an equal schema does too. Tables are
//! followed statement by statement by their root pages, so a table that was dropped and made anew
//! under its old name is known to be another one. All of it happens in a scratch database without
//! rows; a statement that failed or did nothing there is left out. Leaves out data: rows of
//! tables made on the way are read as they are in the end.

use std::collections::BTreeMap;

use rusqlite::Connection;
use sheaf_volume::{Error, Result};

use super::ddl::DdlEntry;
use crate::schema::{Schema, SchemaObject, fold, is_internal, sorted, sql_error};

/// Statements one transaction may hold if some of them must be left out to explain its outcome:
/// each takes a run of the others to try.
const PRUNED_STATEMENTS_MAX: usize = 64;

/// Where a table came from: one number for each table of the old schema and each made since.
pub(crate) type Lineage = usize;

/// The tables by folded name, at one moment.
type Names = BTreeMap<String, Lineage>;

/// A checked schema change.
#[derive(Debug, Default)]
pub(crate) struct Migration {
    /// The statements to replay.
    pub(crate) statements: Vec<String>,
    /// The tables of the old schema.
    start: Names,
    steps: Vec<Step>,
}

/// What a statement with an effect left behind.
#[derive(Debug)]
struct Step {
    /// Its number.
    id: u64,
    /// The tables after it.
    names: Names,
    /// The table it made, changed or dropped.
    about: Option<Lineage>,
}

impl Migration {
    /// No statement yet.
    fn none(schema: &Schema) -> Self {
        Self { statements: Vec::new(), start: number(schema.objects()), steps: Vec::new() }
    }

    /// Finds out which of the recorded statements made `new` out of `old`.
    ///
    /// # Errors
    /// `Invalid` if they do not explain it.
    pub(crate) fn explain(
        old: &Schema,
        new: &Schema,
        entries: &[DdlEntry],
        foreign_keys: bool,
    ) -> Result<Self> {
        let mut kept: Vec<&DdlEntry> = entries.iter().collect();
        let mut best = Trial::run(old, new, &kept, foreign_keys)?;
        // A statement can fail where it ran and succeed without rows (a unique index over
        // duplicates): leave out the one that brings the outcome nearest, and again.
        while best.distance > 0 && kept.len() <= PRUNED_STATEMENTS_MAX {
            let mut better = None;
            for at in 0..kept.len() {
                let mut fewer = kept.clone();
                fewer.remove(at);
                let trial = Trial::run(old, new, &fewer, foreign_keys)?;
                if trial.distance < better.as_ref().map_or(best.distance, distance) {
                    better = Some((trial, fewer));
                }
            }
            let Some((trial, fewer)) = better else { break };
            (best, kept) = (trial, fewer);
        }
        if best.distance > 0 {
            return Err(Error::invalid(
                "the schema changes of this transaction cannot be captured; run each in its own \
                 transaction",
            ));
        }
        Ok(best.migration)
    }

    /// The table that had a name under the layout that the statement with this number made.
    pub(crate) fn table_at(&self, layout: u64, name: &str) -> Option<Lineage> {
        self.names_at(layout).get(&fold(name)).copied()
    }

    /// The tables in the end.
    pub(crate) fn end(&self) -> &Names {
        self.steps.last().map_or(&self.start, |step| &step.names)
    }

    /// Whether the table was there when the transaction began.
    pub(crate) fn is_old(&self, table: Lineage) -> bool {
        table < self.start.len()
    }

    /// The last statement up to this one that changed the table: what its layout is the work of.
    pub(crate) fn layout(&self, upto: u64, table: Lineage) -> u64 {
        let mut steps = self.steps.iter().rev().filter(|step| step.id <= upto);
        steps.find(|step| step.about == Some(table)).map_or(0, |step| step.id)
    }

    /// Whether every table is the one that had its name in the beginning.
    pub(crate) fn keeps_tables(&self) -> bool {
        *self.end() == self.start
    }

    fn names_at(&self, layout: u64) -> &Names {
        self.steps
            .iter()
            .rev()
            .find(|step| step.id <= layout)
            .map_or(&self.start, |step| &step.names)
    }
}

fn distance(found: &(Trial, Vec<&DdlEntry>)) -> usize {
    found.0.distance
}

/// One run of statements, and how many objects differ from what they should be.
struct Trial {
    migration: Migration,
    distance: usize,
}

impl Trial {
    fn run(old: &Schema, new: &Schema, entries: &[&DdlEntry], foreign_keys: bool) -> Result<Self> {
        let scratch = build(old, foreign_keys)?;
        let mut migration = Migration::none(old);
        let mut names = migration.start.clone();
        let mut next = names.len();
        let mut before = Picture::take(&scratch)?;
        for entry in entries {
            if scratch.execute_batch(&entry.sql).is_err() {
                continue;
            }
            let after = Picture::take(&scratch)?;
            if after.objects == before.objects {
                continue;
            }
            let now = before.follow(&after, &names, &mut next);
            let about = entry.names.table.as_ref();
            let about = about.and_then(|table| names.get(table).or_else(|| now.get(table)));
            let about = about.copied();
            migration.statements.push(replayable(entry, &after));
            migration.steps.push(Step { id: entry.id, names: now.clone(), about });
            names = now;
            before = after;
        }
        let (found, wanted) = (sorted(&before.objects), sorted(new.objects()));
        let distance = found.iter().filter(|object| !wanted.contains(object)).count()
            + wanted.iter().filter(|object| !found.contains(object)).count();
        Ok(Self { migration, distance })
    }
}

/// The statement, or for `CREATE TABLE ... AS SELECT` the statement that makes the same table
/// without its rows: they are captured as rows, so that every replica gets the same ones.
fn replayable(entry: &DdlEntry, after: &Picture) -> String {
    let made = entry.names.table.as_deref().filter(|_| entry.names.as_select);
    made.and_then(|name| {
        after.objects.iter().find(|object| object.kind == "table" && fold(&object.name) == name)
    })
    .and_then(|object| object.sql.clone())
    .unwrap_or_else(|| entry.sql.clone())
}

/// Makes the old schema in an empty database.
fn build(old: &Schema, foreign_keys: bool) -> Result<Connection> {
    let scratch = Connection::open_in_memory().map_err(sql_error("open scratch database"))?;
    scratch
        .pragma_update(None, "foreign_keys", foreign_keys)
        .map_err(sql_error("set up scratch database"))?;
    let mut objects: Vec<&SchemaObject> = old.objects().iter().collect();
    // Indexes and triggers need their tables; triggers may need views. VACUUM moves rows of the
    // schema table, so its order alone does not say that they came later.
    objects.sort_by_key(|object| match object.kind.as_str() {
        "table" => 0,
        "index" => 1,
        "view" => 2,
        _ => 3,
    });
    let is_virtual = |object: &&SchemaObject| {
        object.sql.as_deref().is_some_and(|sql| {
            sql.get(..14).is_some_and(|head| head.eq_ignore_ascii_case("CREATE VIRTUAL"))
        })
    };
    // Virtual tables first: they make their shadow tables themselves.
    let (virtuals, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_virtual);
    for object in virtuals.into_iter().chain(others) {
        let Some(sql) = &object.sql else { continue };
        if exists(&scratch, object).map_err(sql_error("read scratch schema"))? {
            continue;
        }
        scratch.execute_batch(sql).map_err(|source| {
            Error::invalid(format!(
                "the schema cannot be changed together with others here: {} `{}` cannot be made \
                 anew: {source}",
                object.kind, object.name
            ))
        })?;
    }
    Ok(scratch)
}

fn exists(scratch: &Connection, object: &SchemaObject) -> rusqlite::Result<bool> {
    scratch
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE type = ?1 AND name = ?2)")?
        .query_row([&object.kind, &object.name], |row| row.get(0))
}

/// The scratch schema between two statements.
#[derive(Debug)]
struct Picture {
    objects: Vec<SchemaObject>,
    /// Root pages of tables by folded name; 0 for virtual tables.
    roots: BTreeMap<String, i64>,
}

impl Picture {
    fn take(scratch: &Connection) -> Result<Self> {
        Self::read(scratch).map_err(sql_error("read scratch schema"))
    }

    fn read(scratch: &Connection) -> rusqlite::Result<Self> {
        let mut statement = scratch.prepare_cached(
            "SELECT type, name, tbl_name, sql, rootpage FROM main.sqlite_schema ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        let mut picture = Self { objects: Vec::new(), roots: BTreeMap::new() };
        while let Some(row) = rows.next()? {
            let object = SchemaObject {
                kind: row.get(0)?,
                name: row.get(1)?,
                table: row.get(2)?,
                sql: row.get(3)?,
            };
            if is_internal(&object.name) {
                continue;
            }
            if object.kind == "table" {
                picture.roots.insert(fold(&object.name), row.get(4)?);
            }
            picture.objects.push(object);
        }
        Ok(picture)
    }

    /// The tables after a statement, from those before it: a name that stays keeps its table, a
    /// new name has the table whose root page or, for a virtual table, whose place it took.
    fn follow(&self, after: &Self, names: &Names, next: &mut Lineage) -> Names {
        let gone: Vec<_> =
            self.roots.iter().filter(|(name, _)| !after.roots.contains_key(*name)).collect();
        let mut now = Names::new();
        for (name, root) in &after.roots {
            let before = match self.roots.get(name) {
                Some(_) => Some(name),
                None => gone.iter().find(|(_, old)| *old == root).map(|(name, _)| *name),
            };
            let table = before.and_then(|before| names.get(before)).copied();
            now.insert(
                name.clone(),
                table.unwrap_or_else(|| {
                    *next += 1;
                    *next - 1
                }),
            );
        }
        now
    }
}

fn number(objects: &[SchemaObject]) -> Names {
    let tables = objects.iter().filter(|object| object.kind == "table");
    tables.enumerate().map(|(number, object)| (fold(&object.name), number)).collect()
}
