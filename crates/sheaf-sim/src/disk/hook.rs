//! What a test or a simulator is told of every call to the disk, and what it may answer.
//!
//! Invariant: a call is seen before it is carried out. Leaves out lengths of files, which cost no
//! access.

use std::{fmt, io};

/// One call that is about to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp<'a> {
    /// A file is opened, and made if there is none.
    Open {
        /// Of the file.
        name: &'a str,
    },
    /// Bytes are read.
    Read {
        /// Of the file.
        name: &'a str,
        /// Where.
        offset: u64,
        /// Bytes asked for.
        len: usize,
    },
    /// Bytes are written.
    Write {
        /// Of the file.
        name: &'a str,
        /// Where.
        offset: u64,
        /// Bytes to write.
        len: usize,
    },
    /// The length is set.
    Truncate {
        /// Of the file.
        name: &'a str,
        /// The new length.
        len: u64,
    },
    /// A file is flushed.
    Flush {
        /// Of the file.
        name: &'a str,
    },
    /// The names are flushed.
    FlushDir,
    /// A name is removed.
    Remove {
        /// Of the file.
        name: &'a str,
    },
    /// The lock is taken.
    Lock,
    /// The names are listed.
    List,
}

impl DiskOp<'_> {
    /// Whether the call changes what a power cut may leave.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::List | Self::Lock)
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing.
    #[default]
    None,
    /// It fails with this kind and changes nothing.
    Fail(io::ErrorKind),
    /// A write stops with an error after so many bytes; a read gives so many and no error, which
    /// the contract of `File` does not allow. Any other call fails.
    Short {
        /// Bytes done.
        keep: usize,
    },
    /// A flush fails, and later ones of the file claim success for what it did not save. Any other
    /// call fails.
    FlushFails,
}

/// Sees every call before it is carried out, and may spoil it. It may use the disk's own methods,
/// but must not call through its files.
pub trait DiskHook: fmt::Debug + Send + Sync {
    /// What goes wrong with this call.
    fn before(&self, op: &DiskOp<'_>) -> DiskFault;
}
