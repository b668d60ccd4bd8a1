//! `sheaf_conflicts`: [`Site::conflicts`] as a table in SQL, there on every connection and in no
//! schema.
//!
//! Invariant: a scan shows the conflicts of one moment, in their order; the table is read only.
//! Nothing here panics. Leaves out constraints: there are few rows, and SQLite filters them.

#![expect(unsafe_code, reason = "rusqlite's traits of virtual tables are unsafe to implement")]

use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::sync::Weak;

use rusqlite::vtab::{Context, Filters, IndexInfo, Module, VTab, VTabConnection, VTabCursor};
use rusqlite::{Connection, Result, ffi, types::Value as Sql};
use sheaf_merge::Value;

use super::{Conflict, refusal};
use crate::mutator;
use crate::site::{Inner, Site};
use crate::value::json_array;

const SCHEMA: &CStr = c"CREATE TABLE x(id INTEGER, kind TEXT, decided INTEGER, seq INTEGER,
    time_ms INTEGER, tbl TEXT, key TEXT, col TEXT, base, ours, theirs, stands, siblings TEXT,
    reason TEXT, cut INTEGER)";

/// Adds the table to a connection.
pub(super) fn register(conn: &Connection, site: Weak<Inner>) -> Result<()> {
    const MODULE: Module<'_, Table> = Module::eponymous_only_module();
    conn.create_module(c"sheaf_conflicts", &MODULE, Some(site))
}

#[repr(C)]
struct Table {
    /// SQLite's part; has to be first.
    base: ffi::sqlite3_vtab,
    site: Weak<Inner>,
}

// SAFETY: the structure is `repr(C)` and begins with SQLite's own part, as the trait demands.
unsafe impl<'vtab> VTab<'vtab> for Table {
    type Aux = Weak<Inner>;
    type Cursor = Cursor<'vtab>;

    fn connect(
        _: &mut VTabConnection,
        site: Option<&Weak<Inner>>,
        _: &[u8],
        _: &[u8],
        _: &[u8],
        _: &[&[u8]],
    ) -> Result<(Cow<'static, CStr>, Self)> {
        let site = site.cloned().unwrap_or_default();
        Ok((Cow::Borrowed(SCHEMA), Self { base: ffi::sqlite3_vtab::default(), site }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<bool> {
        info.set_estimated_rows(100);
        Ok(true)
    }

    fn open(&mut self) -> Result<Cursor<'_>> {
        let base = ffi::sqlite3_vtab_cursor::default();
        let site = self.site.clone();
        Ok(Cursor { base, site, rows: Vec::new(), at: 0, table: PhantomData })
    }
}

#[repr(C)]
struct Cursor<'vtab> {
    /// SQLite's part; has to be first.
    base: ffi::sqlite3_vtab_cursor,
    site: Weak<Inner>,
    rows: Vec<Conflict>,
    at: usize,
    table: PhantomData<&'vtab Table>,
}

// SAFETY: as above.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(&mut self, _: c_int, _: Option<&str>, _: &Filters<'_>) -> Result<()> {
        if mutator::is_running() {
            return Err(refusal("the conflicts of one device are not for mutators"));
        }
        let site = self.site.upgrade().map(Site).ok_or_else(|| refusal("the site was closed"))?;
        self.rows = site.conflicts().map_err(|e| refusal(&e.to_string()))?;
        self.at = 0;
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }

    fn eof(&self) -> bool {
        self.at >= self.rows.len()
    }

    fn column(&self, ctx: &mut Context, column: c_int) -> Result<()> {
        let Some(row) = self.rows.get(self.at) else { return Ok(()) };
        let sql = |value: &Option<Value>| match value.clone() {
            None | Some(Value::Null) => Sql::Null,
            Some(Value::Int(int)) => Sql::Integer(int),
            Some(Value::Real(real)) => Sql::Real(real),
            Some(Value::Text(text)) => Sql::Text(text),
            Some(Value::Blob(blob)) => Sql::Blob(blob),
        };
        let int = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok()).into();
        let list = |values: &[Value]| match values {
            [] => Sql::Null,
            values => Sql::Text(json_array(values)),
        };
        let value: Sql = match column {
            0 => int(row.id),
            1 => row.kind.name().to_owned().into(),
            2 => i64::from(row.is_decided).into(),
            3 => int(row.seq),
            4 => int(row.time_ms),
            5 => row.table.clone().into(),
            6 => list(&row.key),
            7 => row.column.clone().into(),
            8 => sql(&row.base),
            9 => sql(&row.ours),
            10 => sql(&row.theirs),
            11 => sql(&row.stands),
            12 => list(&row.siblings),
            13 => row.reason.clone().into(),
            _ => i64::from(row.is_cut).into(),
        };
        ctx.set_result(value)
    }

    fn rowid(&self) -> Result<i64> {
        Ok(i64::try_from(self.at).unwrap_or(i64::MAX))
    }
}
