//! Local bytes: the only door from the engine to a disk.
//!
//! Invariant: a name opened through [`Dir::open`] is durable once [`Dir::flush`] returned; written
//! bytes are durable once [`File::flush`] returned; nothing else is. Opening may be asynchronous
//! on some platforms, so a volume opens a small fixed set of files first and no others later.

use std::{fmt, io};

mod conformance;
mod mem;
#[cfg(feature = "native")]
mod std_fs;

pub use conformance::file_conformance;
pub use mem::MemDir;
#[cfg(feature = "native")]
pub use std_fs::StdDir;

/// An open file with positioned reads and writes.
pub trait File: fmt::Debug + Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn len(&self) -> io::Result<u64>;

    /// Reads into `buf` from `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file (with zeros) when needed.
    ///
    /// # Errors
    /// Whatever the platform reports; a full disk is `StorageFull`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Sets the length, cutting bytes or adding zeros.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Makes everything written so far survive a power cut.
    ///
    /// # Errors
    /// Whatever the platform reports. After an error the caller must not try again: the
    /// operating system may have dropped the bytes and would claim success.
    fn flush(&self) -> io::Result<()>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Held for as long as this process owns a store; dropping it gives the store up.
pub trait DirLock: fmt::Debug + Send + Sync {}

/// A flat directory of files. Names are `[a-z0-9._-]+`.
pub trait Dir: fmt::Debug + Send + Sync {
    /// Opens a file, making an empty one if there is none.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Names of the files here, sorted.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file; a missing one is no error.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Takes the exclusive advisory lock of this directory.
    ///
    /// # Errors
    /// `WouldBlock` if another process (or another handle of this one) has it.
    fn lock(&self) -> io::Result<Box<dyn DirLock>>;

    /// Makes the creation and removal of names survive a power cut.
    ///
    /// # Errors
    /// Whatever the platform reports.
    fn flush(&self) -> io::Result<()>;
}
