//! The connection on which an SQL function runs, for functions that read or write there.
//!
//! Invariant: the connection is used only while the function runs, on the thread that runs it.

#![expect(unsafe_code, reason = "rusqlite leaves the threads of this connection to its caller")]

use rusqlite::{Connection, functions::Context};

/// Lends a function its own connection.
pub(crate) fn with_connection<T>(
    context: &Context<'_>,
    f: impl FnOnce(&Connection) -> T,
) -> rusqlite::Result<T> {
    // SAFETY: SQLite calls the function on the thread that uses the connection, which is open and
    // lent to nobody else until `f` returns; `f` cannot keep the reference.
    let conn = unsafe { context.get_connection()? };
    Ok(f(&conn))
}

/// Runs `f` in a savepoint of the function's connection: it is done whole or not at all.
///
/// # Errors
/// What `f` returns, and where SQLite refuses a savepoint, in the middle of another write.
pub(crate) fn in_savepoint<T>(
    conn: &Connection,
    f: impl FnOnce() -> sheaf_volume::Result<T>,
) -> rusqlite::Result<T> {
    conn.execute_batch("SAVEPOINT sheaf_nested")?;
    let done = f().map_err(|error| user_error(&error));
    let done = done.and_then(|value| conn.execute_batch("RELEASE sheaf_nested").map(|()| value));
    if done.is_err() {
        conn.execute_batch("ROLLBACK TO sheaf_nested; RELEASE sheaf_nested")?;
    }
    done
}

/// What a function says when it fails.
pub(crate) fn user_error(error: &sheaf_volume::Error) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(error.to_string().into())
}
