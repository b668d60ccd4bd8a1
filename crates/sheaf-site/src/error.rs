//! From SQLite's errors to ours.
//!
//! Invariant: an error that our own VFS caused keeps its own kind and message; SQLite's result
//! code alone would only say "disk I/O error".

use rusqlite::ErrorCode;
use sheaf_volume::{Error, ErrorKind};

use crate::vfs::Failure;

/// An error of ours for an error of SQLite.
#[must_use]
pub fn from_sqlite(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            ErrorKind::Io
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            ErrorKind::Denied
        }
        Some(ErrorCode::InternalMalfunction) => ErrorKind::Internal,
        Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => ErrorKind::Limit,
        _ => ErrorKind::Invalid,
    };
    Error::new(kind, error.to_string())
}

/// As [`from_sqlite`], but with the VFS's own reason where there is one.
pub(crate) fn sqlite_detail(error: rusqlite::Error, failure: &Failure) -> Error {
    let reason = failure.take().filter(|_| may_be_ours(&error));
    reason.unwrap_or_else(|| from_sqlite(error))
}

/// Whether the VFS can be behind an error. If not, a reason that is still kept belongs to an
/// earlier failure that SQLite did not report, as during a rollback.
fn may_be_ours(error: &rusqlite::Error) -> bool {
    match error.sqlite_error() {
        // SQLite's own constraints all have extended codes.
        Some(e) if e.code == ErrorCode::ConstraintViolation => {
            e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT
        }
        Some(e) => e.code != ErrorCode::Unknown,
        None => true,
    }
}

/// As [`from_sqlite`] for an error of one of a site's own connections: with the reason that the
/// VFS gave, where SQLite's result code cannot carry it.
#[must_use]
pub fn explain(connection: &rusqlite::Connection, error: rusqlite::Error) -> Error {
    let may_be = may_be_ours(&error);
    let kind: Option<i64> =
        connection.query_row("SELECT sheaf_failure_kind()", [], |row| row.get(0)).ok().flatten();
    let reason: Option<String> =
        connection.query_row("SELECT sheaf_failure()", [], |row| row.get(0)).ok().flatten();
    let plain = from_sqlite(error);
    match reason.filter(|_| may_be) {
        Some(reason) => {
            Error::new(kind.and_then(numbered_kind).unwrap_or_else(|| plain.kind()), reason)
        }
        None => plain,
    }
}

/// Kinds by the number under which a connection's own function gives them.
const KINDS: [ErrorKind; 14] = [
    ErrorKind::Conflict,
    ErrorKind::Busy,
    ErrorKind::Closed,
    ErrorKind::Unavailable,
    ErrorKind::Ambiguous,
    ErrorKind::Invalid,
    ErrorKind::Denied,
    ErrorKind::Limit,
    ErrorKind::NotFound,
    ErrorKind::Expired,
    ErrorKind::Corrupt,
    ErrorKind::Unsupported,
    ErrorKind::Io,
    ErrorKind::Internal,
];

pub(crate) fn kind_number(kind: ErrorKind) -> Option<i64> {
    KINDS.iter().position(|known| *known == kind).and_then(|at| i64::try_from(at).ok())
}

fn numbered_kind(number: i64) -> Option<ErrorKind> {
    usize::try_from(number).ok().and_then(|at| KINDS.get(at)).copied()
}
