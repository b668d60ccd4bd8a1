//! A difference as SQL: the statements that turn the first state into the second.
//!
//! Invariant: no order of the rows trips over a unique key: what leaves a key goes before what
//! takes it, and a row whose unique columns change is taken out and put in again. Foreign keys are
//! to be off while the statements run, and triggers either off or among those dropped and made
//! again. Generated columns are never named. Nothing is held but one row.

use std::collections::BTreeSet;

use rusqlite::Connection;
use sheaf_merge::Value;
use sheaf_volume::Result;

use super::rows::{Change, Row, TableShape};
use super::{Diff, Side, objects};
use crate::error::explain;
use crate::schema::{FtsContent, SchemaObject, TableKind, fold, is_own, pragma_int, quote_ident};
use crate::value::{Bind, as_ref};

/// One statement, with its values apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    /// What stands around the values: one more than there are values.
    parts: Vec<String>,
    values: Vec<Value>,
}

impl Statement {
    fn new(sql: impl Into<String>) -> Self {
        Self { parts: vec![sql.into()], values: Vec::new() }
    }

    fn push(&mut self, sql: &str) {
        if let Some(last) = self.parts.last_mut() {
            last.push_str(sql);
        }
    }

    fn bind(&mut self, value: &Value) {
        self.values.push(value.clone());
        self.parts.push(String::new());
    }

    /// The statement as text, values and all.
    #[must_use]
    pub fn text(&self) -> String {
        let mut values = self.values.iter().map(literal);
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(part);
            text.extend(values.next());
        }
        text
    }

    /// Runs it; gives the number of rows it changed.
    pub(super) fn run(&self, conn: &Connection) -> rusqlite::Result<usize> {
        let mut statement = conn.prepare_cached(&self.parts.join("?"))?;
        let values = self.values.iter().map(Bind);
        statement.execute(rusqlite::params_from_iter(values))
    }
}

/// A value as SQL writes it.
#[must_use]
pub fn literal(value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(int) => int.to_string(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        Value::Real(real) => format!("{real:?}"),
        // A literal ends at the first NUL.
        Value::Text(text) if text.contains('\0') => {
            format!("CAST(x'{}' AS TEXT)", hex(text.as_bytes()))
        }
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

/// Rows are gone through three times, so that none has to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Delete,
    Update,
    Insert,
}

impl Diff {
    /// Tells the statements that turn the first state into the second, in order; with `only`, just
    /// those of one table's rows. With `guard`, triggers that would fire are dropped and made again.
    ///
    /// # Errors
    /// What `f` returns, and as [`Diff::rows`].
    pub fn statements(
        &self,
        only: Option<&str>,
        guard: bool,
        f: &mut dyn FnMut(&Statement) -> Result<()>,
    ) -> Result<()> {
        if let Some(table) = only {
            return self.row_statements(&[table.to_owned()], &BTreeSet::new(), f).map(drop);
        }
        let rebuilt = self.rebuilt();
        let guarded = if guard { self.changed_tables(&rebuilt)? } else { BTreeSet::new() };
        let moves = |object: &SchemaObject, other: &Side| {
            let table = fold(&object.table);
            rebuilt.contains(&table)
                || (object.kind == "trigger" && guarded.contains(&table))
                || !has(other, object)
        };
        // What hangs on a table goes before it, and comes after its rows.
        let (before, after) = (objects(&self.a.schema), objects(&self.b.schema));
        let hangers = before.iter().filter(|o| o.kind != "table" && moves(o, &self.b));
        for kind in ["trigger", "view", "index"] {
            for object in hangers.clone().filter(|object| object.kind == kind) {
                f(&dropping(object))?;
            }
        }
        let is_moved = |o: &&&SchemaObject, other| o.kind == "table" && moves(o, other);
        for table in before.iter().filter(|o| is_moved(o, &self.b)) {
            f(&dropping(table))?;
        }
        for table in after.iter().filter(|o| is_moved(o, &self.a)) {
            f(&Statement::new(table.sql.clone().unwrap_or_default()))?;
        }
        let touched = self.row_statements(&self.tables(), &rebuilt, f)?;
        for object in after.iter().filter(|o| o.kind != "table" && moves(o, &self.a)) {
            f(&Statement::new(object.sql.clone().unwrap_or_default()))?;
        }
        self.text_indexes(&touched).iter().try_for_each(&mut *f)?;
        self.header(f)
    }

    /// Tables that are made anew, because what makes them differs.
    fn rebuilt(&self) -> BTreeSet<String> {
        let changes = self.schema_changes().into_iter();
        changes.filter(|c| c.kind == "table").map(|change| fold(&change.name)).collect()
    }

    fn changed_tables(&self, rebuilt: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut changed = rebuilt.clone();
        for table in self.tables() {
            let mut any = false;
            self.rows(&table, &mut |_, _| {
                any = true;
                Ok(())
            })?;
            if any {
                changed.insert(fold(&table));
            }
        }
        Ok(changed)
    }

    /// The statements for the rows of these tables; which of them have any.
    fn row_statements(
        &self,
        tables: &[String],
        rebuilt: &BTreeSet<String>,
        f: &mut dyn FnMut(&Statement) -> Result<()>,
    ) -> Result<BTreeSet<String>> {
        let mut touched = BTreeSet::new();
        for turn in [Turn::Delete, Turn::Update, Turn::Insert] {
            for table in tables {
                if self.turn(table, rebuilt.contains(&fold(table)), turn, f)? {
                    touched.insert(fold(table));
                }
            }
        }
        Ok(touched)
    }

    /// What one turn does to a table; whether it did anything.
    fn turn(
        &self,
        table: &str,
        is_rebuilt: bool,
        turn: Turn,
        f: &mut dyn FnMut(&Statement) -> Result<()>,
    ) -> Result<bool> {
        let mut any = false;
        let mut tell = |statement: Option<Statement>| {
            any |= statement.is_some();
            statement.map_or(Ok(()), |statement| f(&statement))
        };
        if is_rebuilt {
            // Dropped with its rows, and empty.
            if let Some(new) = self.b.table(table).filter(|_| turn == Turn::Insert) {
                super::rows::only(&new, Change::Inserted, &mut |shape, change| match change {
                    Change::Inserted(row) => tell(Some(insert(shape, &row))),
                    _ => Ok(()),
                })?;
            }
            return Ok(any);
        }
        let unique = unique_columns(&self.b.conn, table)?;
        self.rows(table, &mut |shape, change| {
            tell(match (turn, &change) {
                (Turn::Delete, Change::Deleted(row)) => Some(delete(shape, row)),
                (Turn::Insert, Change::Inserted(row)) => Some(insert(shape, row)),
                (_, Change::Updated { old, new }) => {
                    match (turn, moves_key(shape, unique.as_ref(), old, new)) {
                        (Turn::Delete, true) => Some(delete(shape, old)),
                        (Turn::Insert, true) => Some(insert(shape, new)),
                        (Turn::Update, false) => Some(update(shape, old, new)),
                        _ => None,
                    }
                }
                _ => None,
            })
        })?;
        Ok(any)
    }

    /// Text indexes over tables that were touched.
    fn text_indexes(&self, touched: &BTreeSet<String>) -> Vec<Statement> {
        let tables = self.b.schema.tables();
        let indexes = tables.filter(|info| match &info.kind {
            TableKind::Virtual { content, .. } => *content == FtsContent::External,
            _ => false,
        });
        if touched.is_empty() {
            return Vec::new();
        }
        let rebuild = |name: &str| {
            let name = quote_ident(name);
            Statement::new(format!("INSERT INTO {name}({name}) VALUES('rebuild')"))
        };
        indexes.filter(|info| !is_own(&info.name)).map(|info| rebuild(&info.name)).collect()
    }

    /// The fields of the header that applications own.
    fn header(&self, f: &mut dyn FnMut(&Statement) -> Result<()>) -> Result<()> {
        for field in ["application_id", "user_version"] {
            let pragma = format!("PRAGMA main.{field}");
            let value = pragma_int(&self.b.conn, &pragma)?;
            if value != pragma_int(&self.a.conn, &pragma)? {
                f(&Statement::new(format!("PRAGMA {field} = {value}")))?;
            }
        }
        Ok(())
    }
}

/// Whether a state has the very same object.
fn has(side: &Side, object: &SchemaObject) -> bool {
    let same = |o: &&SchemaObject| {
        o.kind == object.kind && o.name.eq_ignore_ascii_case(&object.name) && o.sql == object.sql
    };
    objects(&side.schema).into_iter().any(|o| same(&o))
}

fn dropping(object: &SchemaObject) -> Statement {
    let kind = object.kind.to_ascii_uppercase();
    Statement::new(format!("DROP {kind} {}", quote_ident(&object.name)))
}

/// Columns of unique indexes; `None` when an index is over something else than columns.
fn unique_columns(conn: &Connection, table: &str) -> Result<Option<BTreeSet<String>>> {
    let read = || -> rusqlite::Result<Option<BTreeSet<String>>> {
        let sql = "SELECT i.name FROM pragma_index_list(?1, 'main') l \
                   JOIN pragma_index_info(l.name, 'main') i WHERE l.\"unique\"";
        let mut statement = conn.prepare_cached(sql)?;
        let names = statement.query_map([table], |row| row.get::<_, Option<String>>(0))?;
        let names: Vec<Option<String>> = names.collect::<rusqlite::Result<_>>()?;
        Ok(names.into_iter().collect())
    };
    read().map_err(|e| explain(conn, e))
}

/// Whether an update could take a unique key that another row has yet to leave.
fn moves_key(shape: &TableShape, unique: Option<&BTreeSet<String>>, old: &Row, new: &Row) -> bool {
    let Some(unique) = unique else { return true };
    let values = old.values.iter().zip(&new.values);
    let mut columns = shape.columns.iter().zip(values);
    columns.any(|(name, (old, new))| old != new && unique.contains(name))
}

fn delete(shape: &TableShape, row: &Row) -> Statement {
    let mut statement = Statement::new(format!("DELETE FROM {}", quote_ident(&shape.name)));
    this_row(&mut statement, shape, row);
    statement
}

fn update(shape: &TableShape, old: &Row, new: &Row) -> Statement {
    let mut statement = Statement::new(format!("UPDATE {} SET ", quote_ident(&shape.name)));
    let values = old.values.iter().zip(&new.values);
    let mut between = "";
    for (name, (_, new)) in shape.columns.iter().zip(values).filter(|(_, (old, new))| old != new) {
        statement.push(&format!("{between}{} = ", quote_ident(name)));
        statement.bind(new);
        between = ", ";
    }
    this_row(&mut statement, shape, old);
    statement
}

fn insert(shape: &TableShape, row: &Row) -> Statement {
    let id = row.rowid.and(shape.rowid.as_ref());
    let columns = shape.columns.iter().map(|name| quote_ident(name));
    let names: Vec<String> = id.cloned().into_iter().chain(columns).collect();
    let (table, names) = (quote_ident(&shape.name), names.join(", "));
    let mut statement = Statement::new(format!("INSERT INTO {table}({names}) VALUES("));
    let id = row.rowid.filter(|_| id.is_some()).map(Value::Int);
    let mut between = "";
    for value in id.iter().chain(&row.values) {
        statement.push(between);
        statement.bind(value);
        between = ", ";
    }
    statement.push(")");
    statement
}

/// The condition that only this row meets.
fn this_row(statement: &mut Statement, shape: &TableShape, row: &Row) {
    let names: Vec<String> = match (row.rowid, &shape.rowid) {
        (Some(_), Some(name)) => vec![name.clone()],
        _ => shape
            .key
            .iter()
            .filter_map(|at| shape.columns.get(*at))
            .map(|c| quote_ident(c))
            .collect(),
    };
    let mut between = " WHERE ";
    for (name, value) in names.iter().zip(shape.key_of(row)) {
        let is_null = matches!(as_ref(&value), rusqlite::types::ValueRef::Null);
        statement.push(&format!("{between}{name} {} ", if is_null { "IS" } else { "=" }));
        statement.bind(&value);
        between = " AND ";
    }
}
