//! The callbacks from SQLite: each row about to change, each statement about to run, each end.
//!
//! Invariant: a callback runs no SQL, does not unwind into C, and never loses a row silently: what
//! goes wrong is written to `Work::broken` or `Tracker::fault`, which makes the commit fail. The
//! context belongs to the connection and is freed when SQLite closes it.
//!
//! The row hook is registered through `rusqlite::ffi`: rusqlite's own wrapper needs a feature that
//! runs bindgen at build time, checks two strings per row, and swallows panics.

#![expect(unsafe_code, reason = "SQLite calls the pre-update hook through a C function pointer")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi, trace};
use sheaf_merge::Value;
use sheaf_volume::Result;

use super::Shared;
use super::ddl::{Statement, classify};
use super::rows::{Before, Cell, Image, encode_value, text_or_blob};
use super::state::{Rows, Tracker};
use crate::locks;
use crate::schema::{Affinity, sql_error};

/// The name under which the connection keeps the context.
const CONTEXT: &CStr = c"sheaf_capture";

/// Bytes from which a value is long: looking at the new one too must cost less than a copy.
const LONG: usize = 256;

/// The connection that the callbacks belong to, used only from within them.
#[derive(Clone, Copy)]
struct Handle(*mut ffi::sqlite3);

// SAFETY: the pointer is used only inside callbacks, which SQLite makes on whatever thread is
// using the connection, one at a time.
unsafe impl Send for Handle {}

impl Handle {
    /// Whether no transaction was begun explicitly.
    fn is_autocommit(self) -> bool {
        // SAFETY: a callback is running, so the connection is open.
        unsafe { ffi::sqlite3_get_autocommit(self.0) != 0 }
    }

    /// Whether some statement is in the middle of writing.
    fn is_writing(self) -> bool {
        let mut statement = ptr::null_mut();
        loop {
            // SAFETY: a callback is running, so the connection is open, and none of its statements
            // is finalized while this loops.
            statement = unsafe { ffi::sqlite3_next_stmt(self.0, statement) };
            if statement.is_null() {
                return false;
            }
            // SAFETY: SQLite just named this statement.
            let writes = unsafe {
                ffi::sqlite3_stmt_busy(statement) != 0 && ffi::sqlite3_stmt_readonly(statement) == 0
            };
            if writes {
                return true;
            }
        }
    }

    /// `PRAGMA foreign_keys`.
    fn foreign_keys(self) -> bool {
        let mut on: c_int = 0;
        // SAFETY: a callback is running, so the connection is open; -1 asks and changes nothing;
        // `on` outlives the call.
        let code = unsafe {
            ffi::sqlite3_db_config(
                self.0,
                ffi::SQLITE_DBCONFIG_ENABLE_FKEY,
                -1 as c_int,
                &raw mut on,
            )
        };
        code == ffi::SQLITE_OK && on != 0
    }
}

/// What the connection keeps for the callbacks.
struct Context {
    handle: Handle,
    shared: Arc<Shared>,
}

/// Registers all callbacks.
pub(super) fn install(conn: &mut Connection, shared: &Arc<Shared>) -> Result<()> {
    // SAFETY: the handle is used for registration below and, by the callbacks, only while the
    // connection is open; it is never closed here.
    let handle = Handle(unsafe { conn.handle() });
    let statements = Arc::clone(shared);
    conn.trace_v2(
        trace::TraceEventCodes::SQLITE_TRACE_STMT,
        Some(move |event: trace::TraceEvent<'_>| {
            // A copy of the whole handle: a closure would otherwise take only the pointer in it,
            // which is not `Send`.
            let handle = handle;
            if let trace::TraceEvent::Stmt(statement, text) = event {
                on_statement(&statements, handle, &statement, text);
            }
        }),
    )
    .map_err(sql_error("install trace"))?;

    let context = Box::new(Context { handle, shared: Arc::clone(shared) });
    let context = Box::into_raw(context).cast::<c_void>();
    // SAFETY: the context is a `Box<Context>`, which `drop_context` takes back; SQLite calls that
    // when the connection closes, or at once if the registration fails.
    let code = unsafe {
        ffi::sqlite3_set_clientdata(handle.0, CONTEXT.as_ptr(), context, Some(drop_context))
    };
    if code != ffi::SQLITE_OK {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        return Err(sql_error("install capture")(source));
    }
    // SAFETY: the connection is open, and `drop_context` unregisters these before it frees the
    // context, so it outlives the last callback.
    unsafe {
        ffi::sqlite3_preupdate_hook(handle.0, Some(on_row_raw), context);
        ffi::sqlite3_commit_hook(handle.0, Some(on_commit_raw), context);
        ffi::sqlite3_rollback_hook(handle.0, Some(on_rollback_raw), context);
    }
    Ok(())
}

/// Frees the context. SQLite calls this when the connection closes but before it rolls back what
/// is open, which calls back: the callbacks must be gone by then. (rusqlite 0.41's own rollback
/// hook misses that and is called after it was freed.)
unsafe extern "C" fn drop_context(context: *mut c_void) {
    // SAFETY: `context` is what `Box::into_raw` gave in `install`, and SQLite calls this once.
    let context = unsafe { Box::from_raw(context.cast::<Context>()) };
    let db = context.handle.0;
    // SAFETY: SQLite closes the connection only after this returns.
    unsafe {
        ffi::sqlite3_preupdate_hook(db, None, ptr::null_mut());
        ffi::sqlite3_commit_hook(db, None, ptr::null_mut());
        ffi::sqlite3_rollback_hook(db, None, ptr::null_mut());
    }
}

unsafe extern "C" fn on_commit_raw(context: *mut c_void) -> c_int {
    // SAFETY: `install` registered this with the context of a live connection.
    let shared = unsafe { &(*context.cast::<Context>()).shared };
    let done = catch_unwind(AssertUnwindSafe(|| shared.lock().ending = true));
    // Anything but zero makes SQLite roll back.
    c_int::from(done.is_err())
}

unsafe extern "C" fn on_rollback_raw(context: *mut c_void) {
    // SAFETY: `install` registered this with the context of a live connection.
    let shared = unsafe { &(*context.cast::<Context>()).shared };
    // A panic here leaves the lock poisoned, which makes the next commit fail.
    let _done = catch_unwind(AssertUnwindSafe(|| shared.lock().clear()));
}

unsafe extern "C" fn on_row_raw(
    context: *mut c_void,
    db: *mut ffi::sqlite3,
    action: c_int,
    schema: *const c_char,
    table: *const c_char,
    old_rowid: i64,
    new_rowid: i64,
) {
    // SAFETY: `install` registered this with the context of a live connection, and SQLite passes
    // two C strings that stay as they are until this returns.
    let (shared, schema, table) = unsafe {
        (&(*context.cast::<Context>()).shared, CStr::from_ptr(schema), CStr::from_ptr(table))
    };
    let row = RowEvent { db, action, old_rowid, new_rowid };
    let done = catch_unwind(AssertUnwindSafe(|| {
        if schema == c"main" {
            on_row(shared, &row, table.to_bytes());
        }
    }));
    if done.is_err() {
        shared.lock().work.broken = Some("a panic in the row hook".to_owned());
    }
}

/// One row about to change.
struct RowEvent {
    db: *mut ffi::sqlite3,
    action: c_int,
    old_rowid: i64,
    new_rowid: i64,
}

impl RowEvent {
    /// What the row holds in a column. Valid while the hook runs and until the next call for the
    /// same column.
    fn old_value(&self, column: i32) -> std::result::Result<ValueRef<'_>, String> {
        let mut value = ptr::null_mut();
        // SAFETY: called within the hook for this connection; SQLite checks the column number.
        let code = unsafe { ffi::sqlite3_preupdate_old(self.db, column, &raw mut value) };
        self.value(code, value, column)
    }

    /// What the row will hold in a column.
    fn new_value(&self, column: i32) -> std::result::Result<ValueRef<'_>, String> {
        let mut value = ptr::null_mut();
        // SAFETY: as in `old_value`.
        let code = unsafe { ffi::sqlite3_preupdate_new(self.db, column, &raw mut value) };
        self.value(code, value, column)
    }

    fn width(&self) -> i32 {
        // SAFETY: called within the hook for this connection.
        unsafe { ffi::sqlite3_preupdate_count(self.db) }
    }

    fn value(
        &self,
        code: c_int,
        value: *mut ffi::sqlite3_value,
        column: i32,
    ) -> std::result::Result<ValueRef<'_>, String> {
        if code != ffi::SQLITE_OK || value.is_null() {
            return Err(format!("column={column} cannot be read, code={code}"));
        }
        // SAFETY: SQLite gave a protected value, which lives until the hook returns.
        unsafe { borrow(value) }.ok_or_else(|| format!("out of memory for column={column}"))
    }
}

/// Borrows a value from SQLite; `None` if it ran out of memory.
///
/// # Safety
/// `value` is a protected value that lives as long as the result and is not converted meanwhile.
unsafe fn borrow<'a>(value: *mut ffi::sqlite3_value) -> Option<ValueRef<'a>> {
    // SAFETY: by this function's contract; the length is asked after the text or blob, as SQLite
    // requires, and a null pointer is no slice.
    unsafe {
        let bytes = |start: *const u8| {
            let count = usize::try_from(ffi::sqlite3_value_bytes(value)).ok()?;
            match (start.is_null(), count) {
                (_, 0) => Some(&[][..]),
                (true, _) => None,
                (false, _) => Some(std::slice::from_raw_parts(start, count)),
            }
        };
        Some(match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => ValueRef::Text(bytes(ffi::sqlite3_value_text(value))?),
            ffi::SQLITE_BLOB => ValueRef::Blob(bytes(ffi::sqlite3_value_blob(value).cast())?),
            _ => ValueRef::Null,
        })
    }
}

fn on_row(shared: &Shared, row: &RowEvent, table: &[u8]) {
    let mut guard = shared.lock();
    let state = &mut *guard;
    if !state.enabled {
        return;
    }
    let handle = Handle(row.db);
    state.end_if_over(handle.is_autocommit());
    if state.finishing {
        state.work.broken = Some("rows were written while the mutation was made".to_owned());
        return;
    }
    if state.work.foreign_keys.is_none() {
        state.work.foreign_keys = Some(handle.foreign_keys());
    }
    let tracker = state.work.tracker(table, state.noted.as_deref());
    if tracker.fault.is_none()
        && let Err(fault) = note_row(tracker, row, &mut state.keys)
    {
        tracker.fault = Some(fault);
    }
}

fn note_row(
    tracker: &mut Tracker,
    row: &RowEvent,
    (left, taken): &mut (Vec<u8>, Vec<u8>),
) -> std::result::Result<(), String> {
    let (is_old, is_new) = match row.action {
        ffi::SQLITE_INSERT => (false, true),
        ffi::SQLITE_DELETE => (true, false),
        ffi::SQLITE_UPDATE => (true, true),
        other => return Err(format!("unknown action={other}")),
    };
    let stored = match (&tracker.hint, tracker.layout) {
        (Some(hint), 0) => Some(hint.stored.as_slice()),
        _ => None,
    };
    let width = row.width();
    if tracker.width != 0 && tracker.width != width {
        return Err("the columns changed on the way".to_owned());
    }
    tracker.width = width;
    match &mut tracker.rows {
        Rows::Skipped | Rows::Unknown => {}
        Rows::ByRowid(rows) => {
            let stays = is_old && is_new && row.old_rowid == row.new_rowid;
            if is_old {
                rows.touch(row.old_rowid, &Old { row, stored, width, stays })?;
            }
            if is_new && !stays {
                rows.insert(row.new_rowid);
            }
        }
        Rows::ByKey(rows) => {
            let columns = tracker.hint.as_ref().and_then(|hint| hint.key.as_deref());
            let columns = columns.unwrap_or(&[]);
            if is_old {
                encode_key(left, columns, |column| row.old_value(column))?;
            }
            if is_new {
                encode_key(taken, columns, |column| row.new_value(column))?;
            }
            let stays = is_old && is_new && left == taken;
            if is_old {
                rows.touch(left, &Old { row, stored, width, stays })?;
            }
            if is_new && !stays {
                rows.insert(taken);
            }
        }
    }
    Ok(())
}

/// A row before it changes.
struct Old<'a> {
    row: &'a RowEvent,
    /// Column numbers of the stored columns, where they are known.
    stored: Option<&'a [i32]>,
    width: i32,
    /// The row is updated and remains the row that it is.
    stays: bool,
}

impl Old<'_> {
    fn at(&self, column: i32) -> std::result::Result<Cell, String> {
        let held = match self.stored {
            Some(stored) if stored.binary_search(&column).is_err() => ValueRef::Null,
            Some(_) => self.row.old_value(column)?,
            None => self.row.old_value(column).unwrap_or(ValueRef::Null),
        };
        let is_long = matches!(held, ValueRef::Text(v) | ValueRef::Blob(v) if v.len() >= LONG);
        // Where both are the same bytes, so is what SQLite stores; of nothing else is the new
        // value believed.
        if is_long && self.stays && self.row.new_value(column).is_ok_and(|new| new == held) {
            return Ok(Cell::Unchanged);
        }
        Ok(Cell::Held(owned(held)))
    }
}

impl Before for Old<'_> {
    type Error = String;

    /// One value for each column of the table; NULL for generated ones, which a row does not hold.
    /// Where it is not known which these are, SQLite's refusal tells.
    fn image(&self) -> std::result::Result<Image, String> {
        (0..self.width).map(|column| self.at(column)).collect()
    }

    fn cell(&self, column: usize) -> std::result::Result<Cell, String> {
        self.at(i32::try_from(column).unwrap_or(i32::MAX))
    }
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => text_or_blob(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

fn encode_key<'a>(
    key: &mut Vec<u8>,
    columns: &[(i32, Affinity)],
    read: impl Fn(i32) -> std::result::Result<ValueRef<'a>, String>,
) -> std::result::Result<(), String> {
    key.clear();
    for (column, affinity) in columns {
        let value = match (read(*column)?, affinity) {
            #[expect(clippy::cast_precision_loss, reason = "SQLite's own conversion")]
            (ValueRef::Integer(int), Affinity::Real) => ValueRef::Real(int as f64),
            // SQLite applies the column's affinity before it calls. If it ever did not, the key
            // would be one that no row has, and the row would be lost.
            (ValueRef::Integer(_) | ValueRef::Real(_), Affinity::Text) => {
                return Err(format!("the key in column={column} is not in its stored form"));
            }
            (value, _) => value,
        };
        encode_value(key, value);
    }
    Ok(())
}

/// Whether a statement is the making of a table of Sheaf itself.
fn makes_own_table(sql: &str) -> bool {
    match classify(sql) {
        Statement::Ddl(ddl) => ddl.table.is_some_and(|table| table.starts_with("__sheaf_")),
        _ => false,
    }
}

fn on_statement(shared: &Shared, handle: Handle, statement: &trace::StmtRef<'_>, text: &str) {
    // Triggers, and statements that run inside others, are announced as comments. What a virtual
    // table does to its own tables follows from what was done to it; what our functions do does not.
    let sql = statement.sql();
    let mut text = text;
    if text.starts_with("--") && sql != text {
        if text.strip_prefix("-- ") != Some(&*sql) || !makes_own_table(&sql) {
            return;
        }
        text = &sql;
    }
    let mut guard = shared.lock();
    let state = &mut *guard;
    if !state.enabled || state.finishing {
        return;
    }
    state.end_if_over(handle.is_autocommit());
    let work = &mut state.work;
    if handle.is_autocommit() && !locks::is_own_query(text) {
        // Taken by a transaction that wrote nothing, of whose end nobody tells.
        work.locks.clear();
    }
    match classify(text) {
        Statement::Ddl(names) => {
            // Bound parameters occur only in CREATE TABLE AS, whose rows are captured as rows.
            work.ddl.push(names, text);
            work.layouts_changed();
            if work.foreign_keys.is_none() {
                work.foreign_keys = Some(handle.foreign_keys());
            }
        }
        // In the middle of a write SQLite refuses to open a savepoint.
        Statement::Savepoint(name) if !handle.is_writing() => {
            work.ddl.savepoint(&name);
            work.locks.savepoint(&name);
        }
        Statement::Release(name) => {
            work.ddl.release(&name);
            work.locks.release(&name);
        }
        Statement::RollbackTo(name) => {
            work.locks.rollback_to(&name);
            if work.ddl.rollback_to(&name) {
                work.layouts_changed();
            }
        }
        Statement::HeaderPragma => work.header = true,
        Statement::Savepoint(_) | Statement::Other => {}
    }
}
