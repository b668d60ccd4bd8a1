//! Foreign keys at the end of a mutation.
//!
//! Invariant: a child whose parent was deleted meanwhile follows the action its schema declares
//! for exactly that (CASCADE: the child goes; SET NULL: the reference goes); without one the
//! mutation is rejected, and the message names a row.

use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use sheaf_merge::Value;

use super::{
    failure::Failure,
    ffi::has_open_foreign_keys,
    rows::{key_condition, read_row},
    table::{ForeignKey, Table, Tables, has as table_exists},
};
use crate::schema::quote_ident;
use crate::value::{Bind, from_ref, quote_key};

/// A row that a mutation wrote.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) table: String,
    pub(super) key: Vec<Value>,
    /// The number of the operation that wrote it.
    pub(super) op: usize,
}

/// What a mutation has done, as far as references may suffer from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done<'a> {
    pub(super) written: &'a [Written],
    pub(super) touched: &'a [String],
    /// Tables of which SQLite has not seen what their rows no longer hold.
    pub(super) unseen: &'a [String],
    /// SQLite has not counted orphans: every written row is looked at.
    pub(super) all: bool,
}

/// Settles orphans among the written rows. Returns the operations whose rows were changed for that.
pub(super) fn settle(
    conn: &Connection,
    tables: &mut Tables,
    done: Done<'_>,
) -> Result<Vec<usize>, Failure> {
    let Done { written, touched, unseen, all } = done;
    if !all && unseen.is_empty() && !has_open_foreign_keys(conn)? {
        return Ok(Vec::new());
    }
    let mut settled = Vec::new();
    for Written { table, key, op } in written {
        let table = tables.get(conn, table)?;
        for foreign in &table.foreign_keys {
            if settle_row(conn, &table, key, foreign)? {
                settled.push(*op);
            }
        }
    }
    if has_open_foreign_keys(conn)? {
        let orphan = orphan_of(conn, tables, touched)?;
        return Err(orphan.unwrap_or_else(|| Failure::reject("FOREIGN KEY constraint failed")));
    }
    if let Some(orphan) = orphan_of(conn, tables, unseen)? {
        return Err(orphan);
    }
    Ok(settled)
}

fn settle_row(
    conn: &Connection,
    table: &Table,
    key: &[Value],
    foreign: &ForeignKey,
) -> Result<bool, Failure> {
    let from: Vec<&str> = foreign.from.iter().map(String::as_str).collect();
    let Some(values) = read_row(conn, table, key, &from)? else {
        return Ok(false);
    };
    if from.is_empty() || values.contains(&Value::Null) || has_parent(conn, foreign, &values)? {
        return Ok(false);
    }
    let (name, condition) = (quote_ident(&table.name), key_condition(table, 1));
    let sql = match foreign.on_delete.as_str() {
        "CASCADE" => format!("DELETE FROM main.{name} WHERE {condition}"),
        "SET NULL" => {
            let nulls: Vec<String> =
                from.iter().map(|c| format!("{} = NULL", quote_ident(c))).collect();
            format!("UPDATE OR ABORT main.{name} SET {} WHERE {condition}", nulls.join(", "))
        }
        _ => {
            let reason = format!("{}, which is gone", foreign.said_of(&values));
            return Err(Failure::reject(reason).at(&table.name, key));
        }
    };
    conn.prepare_cached(&sql)?.execute(params_from_iter(key.iter().map(Bind)))?;
    Ok(true)
}

fn has_parent(conn: &Connection, foreign: &ForeignKey, values: &[Value]) -> Result<bool, Failure> {
    if !table_exists(conn, &foreign.parent)? {
        return Ok(false);
    }
    let condition: Vec<String> =
        foreign.to.iter().zip(1..).map(|(to, i)| format!("{} = ?{i}", quote_ident(to))).collect();
    let sql = format!(
        "SELECT 1 FROM main.{} WHERE {}",
        quote_ident(&foreign.parent),
        condition.join(" AND ")
    );
    let found = conn
        .prepare_cached(&sql)?
        .query_row(params_from_iter(values.iter().map(Bind)), |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

impl ForeignKey {
    fn said_of(&self, values: &[Value]) -> String {
        let columns = self.from.join(", ");
        format!("foreign key ({columns}) refers to {} {}", self.parent, quote_key(values))
    }
}

/// A failure that names an orphan in these tables or in those that refer to them, if there is one.
fn orphan_of(
    conn: &Connection,
    tables: &mut Tables,
    touched: &[String],
) -> Result<Option<Failure>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT l.name FROM pragma_table_list AS l WHERE l.schema = 'main' AND l.type = 'table'
         AND (l.name = ?1 COLLATE NOCASE OR EXISTS
           (SELECT 1 FROM pragma_foreign_key_list(l.name, 'main') AS f
            WHERE f.\"table\" = ?1 COLLATE NOCASE)) ORDER BY l.name",
    )?;
    for table in touched {
        let children: Vec<String> =
            statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for child in children {
            let child = tables.get(conn, &child)?;
            for foreign in &child.foreign_keys {
                if let Some(failure) = find_orphan(conn, &child, foreign)? {
                    return Ok(Some(failure));
                }
            }
        }
    }
    Ok(None)
}

/// A failure that names a row which refers to nothing by this key, if there is one.
fn find_orphan(
    conn: &Connection,
    child: &Table,
    foreign: &ForeignKey,
) -> Result<Option<Failure>, Failure> {
    if foreign.from.is_empty() {
        return Ok(None);
    }
    let column = |name: &str| format!("c.{}", quote_ident(name));
    let key = child.identity.columns().into_iter().map(column);
    let from: Vec<String> = foreign.from.iter().map(|name| column(name)).collect();
    let shown: Vec<String> = key.chain(from.iter().cloned()).collect();
    let mut conditions: Vec<String> = from.iter().map(|c| format!("{c} IS NOT NULL")).collect();
    if table_exists(conn, &foreign.parent)? {
        let pairs = foreign.to.iter().zip(&from);
        let pairs: Vec<String> =
            pairs.map(|(to, from)| format!("p.{} = {from}", quote_ident(to))).collect();
        conditions.push(format!(
            "NOT EXISTS (SELECT 1 FROM main.{} AS p WHERE {})",
            quote_ident(&foreign.parent),
            pairs.join(" AND ")
        ));
    }
    let sql = format!(
        "SELECT {} FROM main.{} AS c WHERE {} LIMIT 1",
        shown.join(", "),
        quote_ident(&child.name),
        conditions.join(" AND ")
    );
    let read = |row: &Row<'_>| {
        (0..shown.len()).map(|at| Ok(from_ref(row.get_ref(at)?))).collect::<Result<Vec<_>, _>>()
    };
    let found = conn.prepare_cached(&sql)?.query_row([], read).optional()?;
    let Some(values) = found else { return Ok(None) };
    let mut values = values
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::reject(error.to_string()))?;
    let from = values.split_off(values.len().saturating_sub(foreign.from.len()));
    let what = foreign.said_of(&from);
    let reason = format!("FOREIGN KEY constraint failed: {what}, which does not exist");
    Ok(Some(Failure::reject(reason).at(&child.name, &values)))
}
