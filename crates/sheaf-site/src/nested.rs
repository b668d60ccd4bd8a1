//! The connection on which an SQL function runs, for functions that read or write there.
//!
//! Invariant: the connection is used only while the function runs, on the thread that runs it.

#![expect(unsafe_code, reason = "rusqlite leaves the threads of this connection to its caller")]

use rusqlite::{Connection, ErrorCode, ffi, functions::Context};
use sheaf_volume::ErrorKind;

/// Lends a function its own connection.
///
/// # Errors
/// What `f` returns, in a form that keeps its code outside the function.
pub(crate) fn with_connection<T>(
    context: &Context<'_>,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // SAFETY: SQLite calls the function on the thread that uses the connection, which is open and
    // lent to nobody else until `f` returns; `f` cannot keep the reference.
    let conn = unsafe { context.get_connection()? };
    f(&conn).map_err(|error| match error.sqlite_error() {
        // With a message SQLite makes a plain error of it, and whoever asked takes a disk that
        // fails for a mistake of his own. The connection knows the reason.
        Some(e) if !matches!(e.code, ErrorCode::Unknown | ErrorCode::ConstraintViolation) => {
            rusqlite::Error::SqliteFailure(*e, None)
        }
        _ => error,
    })
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

/// What a function says when it fails: what another try may not meet, by its code.
pub(crate) fn user_error(error: &sheaf_volume::Error) -> rusqlite::Error {
    let code = match error.kind() {
        ErrorKind::Io => ffi::SQLITE_IOERR,
        ErrorKind::Busy => ffi::SQLITE_BUSY,
        // Where SQLite was given a page that is damaged; the connection knows which.
        ErrorKind::Corrupt if is_of_sqlite(error) => ffi::SQLITE_CORRUPT,
        _ => return rusqlite::Error::UserFunctionError(error.to_string().into()),
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

fn is_of_sqlite(error: &sheaf_volume::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<ffi::Error>())
}

#[cfg(test)]
mod tests {
    use rusqlite::functions::FunctionFlags;
    use sheaf_volume::Error;

    use super::*;

    #[test]
    fn a_machine_that_fails_inside_a_function_is_told_as_that_outside() {
        let conn = Connection::open_in_memory().unwrap();
        let flags = FunctionFlags::SQLITE_UTF8;
        let failed = |code, text: &str| {
            rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
        };
        conn.create_scalar_function("f", 1, flags, move |context| {
            let how: i64 = context.get(0)?;
            with_connection(context, |_| match how {
                0 => Err(failed(ffi::SQLITE_IOERR_READ, "disk I/O error")),
                1 => Err(failed(ffi::SQLITE_ERROR, "no such table: t")),
                2 => Err(user_error(&Error::io("read", std::io::Error::other("gone")))),
                3 => Err(user_error(&Error::new(ErrorKind::Busy, "later"))),
                4 => {
                    let source = failed(ffi::SQLITE_CORRUPT, "malformed");
                    let error = Error::with_source(ErrorKind::Corrupt, "replay failed", source);
                    Err(user_error(&error))
                }
                5 => Err(user_error(&Error::corrupt("no siblings"))),
                _ => Err(user_error(&Error::invalid("no rule of that name"))),
            })
            .map(|()| 0)
        })
        .unwrap();
        for (how, code, text) in [
            (0, ffi::SQLITE_IOERR, ""),
            (1, ffi::SQLITE_ERROR, "no such table: t"),
            (2, ffi::SQLITE_IOERR, ""),
            (3, ffi::SQLITE_BUSY, ""),
            (4, ffi::SQLITE_CORRUPT, ""),
            (5, ffi::SQLITE_ERROR, "no siblings"),
            (6, ffi::SQLITE_ERROR, "no rule of that name"),
        ] {
            let told = conn.query_row("SELECT f(?1)", [how], |_| Ok(())).unwrap_err();
            let seen = told.sqlite_error().unwrap().extended_code & 0xff;
            assert_eq!(seen, code, "{how}: {told}");
            assert!(told.to_string().contains(text), "{how}: {told}");
        }
    }
}
