//! How durable a write is when it returns, and what became of it.
//!
//! Invariant: a write that says `Confirmed` is in the log; one whose fate cannot be known now says
//! so and stays in the timeline, which sends it again under the same number, so that it is never
//! applied twice. Leaves out the disk: see `sheaf_volume::Durability`.

use std::time::Duration;

use rusqlite::Transaction;
use sheaf_site::{Error, Result, Standing};
use sheaf_volume::Durability as Disk;

use crate::site::Site;

/// Where a commit must be before a write returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// In this process and the system's cache: a power cut may lose it, and commits after it.
    Memory,
    /// As `Memory`, and on the disk within about 20 ms, together with others.
    #[default]
    Normal,
    /// On this device's disk.
    Local,
    /// In the log, so on the server's store, if it answers in this time.
    Remote(Duration),
}

/// What a write did.
#[derive(Debug)]
pub struct Written<T> {
    /// What the closure gave.
    pub value: T,
    /// Number of its mutation; `None` when nothing changed.
    pub seq: Option<u64>,
    /// Where the mutation stands now.
    pub standing: Standing,
    /// Why it could not be learnt what the log says, when that was asked for: the mutation is
    /// `Local` then, and may be in the log.
    pub unknown: Option<Error>,
}

impl Site {
    /// As [`Site::write`], returning once the commit is where it must be.
    ///
    /// # Errors
    /// As [`Site::write`]. That the log cannot be asked is no error: see [`Written::unknown`].
    pub fn write_with<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<Written<T>> {
        let (disk, wait) = match durability {
            Durability::Memory => (Disk::Memory, None),
            Durability::Normal => (Disk::Normal, None),
            Durability::Local => (Disk::Local, None),
            Durability::Remote(timeout) => (Disk::Local, Some(timeout)),
        };
        let (value, seq) = self.engine().write_with(disk, f)?;
        let (standing, unknown) = match (seq, wait) {
            (Some(seq), Some(timeout)) => self.settle(seq, timeout),
            _ => (Standing::Local, None),
        };
        Ok(Written { value, seq, standing, unknown })
    }

    /// Sends what is pending and waits until the log has decided about one of this device's
    /// mutations, or it cannot be known in this time, and why.
    pub fn settle(&self, seq: u64, timeout: Duration) -> (Standing, Option<Error>) {
        let sent = self.push(timeout);
        match (self.engine().standing(seq), sent) {
            (Standing::Local, Err(error)) => (Standing::Local, Some(error)),
            (standing, _) => (standing, None),
        }
    }
}
