//! Why a step of a replay failed: for good, or because of the machine it ran on.
//!
//! Invariant: an error that another machine, or this one tomorrow, might not have is never a
//! rejection. A rejection drops somebody's work; an abort only postpones it.

use rusqlite::ffi;
use sheaf_volume::{Error, ErrorKind};

use crate::value::quote_key;
use sheaf_merge::Value;

/// A failed step.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The whole pass must be given up; with `Unsupported`, this mutation and those behind it.
    Abort(Error),
    /// This mutation is refused.
    Reject {
        /// For people.
        reason: String,
        /// Another row holds a value that must be unique: it may yet go away.
        is_unique: bool,
    },
}

impl Failure {
    pub(crate) fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into(), is_unique: false }
    }

    /// As an error, for whoever asked in person and not in a mutation.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Abort(error) => error,
            Self::Reject { reason, .. } => Error::invalid(reason),
        }
    }

    /// Says which row it was about.
    pub(crate) fn at(self, table: &str, key: &[Value]) -> Self {
        match self {
            Self::Reject { reason, is_unique } => {
                let reason = format!("{table} {}: {reason}", quote_key(key));
                Self::Reject { reason, is_unique }
            }
            Self::Abort(error) if error.kind() == ErrorKind::Unsupported => {
                let text = format!("{table} {}: {error}", quote_key(key));
                Self::Abort(Error::new(ErrorKind::Unsupported, text))
            }
            abort @ Self::Abort(_) => abort,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Abort(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqliteFailure(code, _) => code.extended_code,
            rusqlite::Error::SqlInputError { error, .. } => error.extended_code,
            _ => ffi::SQLITE_ERROR,
        };
        match environmental(code) {
            Some(kind) => Self::Abort(Error::with_source(kind, "replay failed", error)),
            None => {
                let is_unique = matches!(
                    code,
                    ffi::SQLITE_CONSTRAINT_UNIQUE
                        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                        | ffi::SQLITE_CONSTRAINT_ROWID
                );
                Self::Reject { reason: words(&error), is_unique }
            }
        }
    }
}

/// SQLite's own words, without the position and the statement that rusqlite adds.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn environmental(extended_code: i32) -> Option<ErrorKind> {
    match extended_code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_INTERRUPT | ffi::SQLITE_PROTOCOL => {
            Some(ErrorKind::Busy)
        }
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Some(ErrorKind::Corrupt),
        ffi::SQLITE_IOERR
        | ffi::SQLITE_NOMEM
        | ffi::SQLITE_FULL
        | ffi::SQLITE_CANTOPEN
        | ffi::SQLITE_PERM
        | ffi::SQLITE_READONLY => Some(ErrorKind::Io),
        ffi::SQLITE_INTERNAL | ffi::SQLITE_MISUSE => Some(ErrorKind::Internal),
        _ => None,
    }
}
