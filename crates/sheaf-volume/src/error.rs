//! The one public error of this crate. Its kind says what the caller should do next.
//!
//! Invariant: bytes from disk, network and users end here, never in a panic. Adding a kind needs
//! a decision record.

use std::{fmt, sync::Arc};

/// Result of an operation on a volume.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another writer was first: rebase and try again.
    Conflict,
    /// Somebody else holds the writer or the store right now: try again later.
    Busy,
    /// The handle is poisoned or closed: reopen it.
    Closed,
    /// The other side cannot be reached: try again with back-off.
    Unavailable,
    /// The outcome is unknown: recover before trying again.
    Ambiguous,
    /// The call or its input is wrong: mend it.
    Invalid,
    /// The caller has no right to this.
    Denied,
    /// A named bound was reached.
    Limit,
    /// The named thing does not exist.
    NotFound,
    /// The thing existed but has been reclaimed.
    Expired,
    /// Bytes fail their checksum or contradict each other: stop and verify.
    Corrupt,
    /// Made by a newer version of Sheaf: upgrade.
    Unsupported,
    /// The local disk failed or is full.
    Io,
    /// A bug in Sheaf: report it.
    Internal,
}

/// An error with its kind, a message for people, and its cause.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An error with the cause below it.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// Bytes that fail their checksum or contradict each other.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A wrong call or wrong input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A failed operation on local files; `doing` is verb and noun, as in `write log`.
    pub fn io(doing: &str, source: std::io::Error) -> Self {
        let full = source.kind() == std::io::ErrorKind::StorageFull;
        let hint = if full { ": the disk is full, free some space and try again" } else { "" };
        Self::with_source(ErrorKind::Io, format!("{doing} failed{hint}"), source)
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Display already prints the cause; its own causes follow.
        self.0.source.as_deref().and_then(std::error::Error::source)
    }
}
