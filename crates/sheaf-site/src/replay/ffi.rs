//! The one question rusqlite has no method for.

#![allow(unsafe_code, reason = "sqlite3_db_status has no safe wrapper in rusqlite")]

use rusqlite::{Connection, ffi};
use sheaf_volume::{Error, ErrorKind};

use super::failure::Failure;

/// Whether the open transaction has foreign key violations that SQLite would report at COMMIT.
pub(super) fn has_open_foreign_keys(conn: &Connection) -> Result<bool, Failure> {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is valid as long as `conn` is borrowed, and the call only reads a
    // counter of it and writes the two integers passed by reference.
    let code = unsafe {
        let db = conn.handle();
        ffi::sqlite3_db_status(
            db,
            ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
            &raw mut current,
            &raw mut highest,
            0,
        )
    };
    if code == ffi::SQLITE_OK {
        Ok(current != 0)
    } else {
        Err(Error::new(ErrorKind::Internal, format!("sqlite3_db_status failed with {code}")).into())
    }
}
