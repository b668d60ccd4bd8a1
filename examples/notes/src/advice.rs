//! What to do about an error, for the line at the bottom.
//!
//! Invariant: every kind of error has an answer; what was typed is never lost by following it.

use sheaf::{Error, ErrorKind};

/// The error, and what to do next.
pub(crate) fn text(error: &Error) -> String {
    let next = match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Ambiguous => {
            "the server cannot be reached: go on, your changes are kept; F6 tries again"
        }
        ErrorKind::Busy => "try again in a moment",
        ErrorKind::Conflict => "somebody was first: look at what is there and do it again",
        ErrorKind::NotFound => "it is gone: choose another note",
        ErrorKind::Denied => "the server does not let you in: start again with --token",
        ErrorKind::Invalid => "nothing was changed",
        ErrorKind::Limit => "that is too much at once: do less of it",
        ErrorKind::Expired => "the log is not kept for so long",
        ErrorKind::Closed => "start the program again",
        ErrorKind::Corrupt => "leave with q and run `sheaf verify` on the site",
        ErrorKind::Unsupported => "a newer version has written this: upgrade",
        ErrorKind::Io => "look whether the disk is full; what is on the screen is not saved yet",
        _ => "a bug: please report it",
    };
    format!("{error} - {next}")
}
