//! Ordinary SQL becomes a mutation: what a transaction changed, per row, against what it found.
//!
//! Invariant: the mutation holds the net difference between the state in which the transaction
//! began and the state to be committed, no matter by which statements, triggers, cascades,
//! savepoints or failed statements it came about; what cannot be told makes the commit fail.
//! While the transaction runs, callbacks note only *which* rows are touched and the first image
//! of each (`rows.rs`); new values are read once, from the state to be committed (`net.rs`).
//!
//! Leaves out temporary and attached databases, internal tables, planner statistics, and what a
//! row change means on another replica (`replay.rs`).
//!
//! # Row identity
//!
//! A table with row ids is tracked by row id, and translated to declared keys at the end. Let A
//! and B be the states in which the transaction began and ends, both maps from row id to row, and
//! S the touched row ids. Every change of a row passes the hook with the ids it leaves and takes,
//! so A(r) = B(r) for r outside S, and for r in S the first image is A(r): the row could not
//! change unseen before it. An id that is first seen being taken was free, since SQLite reports
//! a row that REPLACE removes before it takes the place. Reuse of ids is no matter: only A(r) and
//! B(r) are used, never what happened between. Now take a declared key k that is unique in A and
//! in B. If some r outside S has key k in A, the same row has it in B, so no r in S has k in
//! either, and k is unchanged. So the keys that differ are among those of A(r) and B(r) for r in
//! S, and for each of them both sides are known: pairing old and new rows of S by key is exact.
//! Keys compare by bytes, which is finer than any collation, so they are unique too; NULL is the
//! one value that a unique index does not keep unique, so a row with NULL in its declared key is
//! refused. Tables without row ids are tracked by the bytes of their key, with the same argument.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use sheaf_volume::{Error, ErrorKind, Result};

use crate::limits;
use crate::locks::Lock;
use crate::mutation::Mutation;
use crate::opstream::limit;
use crate::schema::{Schema, pragma_int};

pub(crate) mod ddl;
mod hook;
mod lists;
mod migration;
mod net;
mod rows;
pub(crate) mod savepoint;
mod state;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use state::{Noted, Rows, Work};

/// Watches one connection and tells what its transaction changed. Cheap to clone.
///
/// The connection's pre-update, trace, commit and rollback callbacks belong to it: an application
/// that replaces one of them must not be given the connection. [`Capture::clear`] is to be called
/// whenever the writer's transaction is over, in whatever way; the callbacks only make sure that
/// forgetting it once is not fatal.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    shared: Arc<Shared>,
}

/// What the handles and the callbacks share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    enabled: bool,
    /// `finish` has taken the work.
    finishing: bool,
    /// A commit was begun; whether it succeeded shows when the connection is next used.
    ending: bool,
    noted: Option<Arc<Noted>>,
    work: Work,
    /// Where the keys that a row leaves and takes are encoded, kept to save allocations per row.
    keys: (Vec<u8>, Vec<u8>),
}

impl Capture {
    /// Watches a connection from now on. To be called before any statement is prepared on it:
    /// SQLite compiles statements differently once there is a hook.
    ///
    /// # Errors
    /// What SQLite reports.
    pub(crate) fn install(conn: &mut Connection) -> Result<Self> {
        let state = State {
            enabled: true,
            finishing: false,
            ending: false,
            noted: None,
            work: Work::default(),
            keys: Default::default(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        hook::install(conn, &shared)?;
        Ok(Self { shared })
    }

    /// Notes the schema in which the next transaction begins. To be called after opening, and
    /// whenever it may have changed: after a commit that changed it, after a rebase.
    ///
    /// # Errors
    /// As [`Schema::read`].
    pub(crate) fn note_schema(&self, conn: &Connection) -> Result<()> {
        let fields = ddl::HEADER_FIELDS.iter();
        let header = fields
            .map(|field| pragma_int(conn, &format!("PRAGMA main.{field}")))
            .collect::<Result<_>>()?;
        let noted = Arc::new(Noted::new(Schema::read(conn)?, header));
        self.shared.lock().noted = Some(noted);
        Ok(())
    }

    /// Asks something of the schema in which the transaction began; `None` if none was noted.
    pub(crate) fn of_schema<T>(&self, ask: impl FnOnce(&Schema) -> T) -> Option<T> {
        let noted = self.shared.lock().noted.clone();
        noted.map(|noted| ask(&noted.schema))
    }

    /// What the transaction changed since the last [`Capture::clear`]; `None` if nothing. `reader`
    /// sees the state to be committed: another connection during the commit, or the watched one
    /// between two statements. May be called again; forgets nothing.
    ///
    /// # Errors
    /// `Invalid` if the transaction did what cannot be captured, `Internal` if rows may have been
    /// missed or the transaction was rolled back meanwhile, and what reading reports. The
    /// transaction must not be committed then.
    pub(crate) fn finish(&self, reader: &Connection) -> Result<Option<Mutation>> {
        let (noted, mut work) = {
            let mut state = self.shared.lock();
            if state.finishing {
                let message = "capture failed: it was interrupted before";
                return Err(Error::new(ErrorKind::Internal, message));
            }
            if state.work.is_empty() {
                return Ok(None);
            }
            if let Some(reason) = &state.work.broken {
                return Err(Error::new(ErrorKind::Internal, format!("capture failed: {reason}")));
            }
            let noted = state.noted.clone().ok_or_else(|| {
                Error::new(ErrorKind::Internal, "capture failed: no schema was noted")
            })?;
            // The lock is not held while SQL runs: on the watched connection, it calls back.
            state.finishing = true;
            (noted, std::mem::take(&mut state.work))
        };
        let mutation = net::mutation(&noted, &mut work, reader);
        let mut state = self.shared.lock();
        if !std::mem::take(&mut state.finishing) {
            // A failure of the machine made SQLite roll back meanwhile, and with the transaction
            // went what it had changed: kept, it would be told as the next one's.
            let message = "the transaction was rolled back while its changes were read";
            return mutation.and(Err(Error::new(ErrorKind::Internal, message)));
        }
        let strays = std::mem::replace(&mut state.work, work);
        match strays.broken {
            None => mutation,
            Some(reason) => {
                let error = Error::new(ErrorKind::Internal, format!("capture failed: {reason}"));
                state.work.broken = Some(reason);
                Err(error)
            }
        }
    }

    /// Forgets what was noted: the transaction is over.
    pub(crate) fn clear(&self) {
        self.shared.lock().clear();
    }

    /// Switches capture on (as it is at first) or off. To be called between transactions.
    #[cfg(test)]
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.shared.lock().enabled = enabled;
    }

    /// Whether nothing was noted since the last [`Capture::clear`]. If not, the net change may
    /// still be nothing.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.lock().work.is_empty()
    }

    /// Whether SQLite has begun to commit, and not to roll back.
    #[must_use]
    pub(crate) fn is_committing(&self) -> bool {
        self.shared.lock().ending
    }

    /// Notes a lock that the transaction takes.
    ///
    /// # Errors
    /// `Limit` if there are too many.
    pub(crate) fn take_lock(&self, lock: Lock) -> Result<()> {
        if self.shared.lock().work.locks.take(lock) {
            return Ok(());
        }
        Err(limit("locks", limits::LOCKS_MAX))
    }

    /// The locks that the transaction has taken.
    #[must_use]
    pub(crate) fn locks(&self) -> BTreeSet<Lock> {
        self.shared.lock().work.locks.locks()
    }

    /// The tables whose rows were touched, by name; shadow tables by their own names.
    #[must_use]
    pub(crate) fn tables(&self) -> Vec<String> {
        let state = self.shared.lock();
        let touched = state.work.trackers.iter();
        let mut names: Vec<String> = touched
            .filter(|tracker| !matches!(tracker.rows, Rows::Skipped))
            .map(|tracker| tracker.table.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Shared {
    /// The state. A panic while it was locked may have lost a row, so the commit has to fail.
    fn lock(&self) -> MutexGuard<'_, State> {
        if self.state.is_poisoned() {
            self.state.clear_poison();
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.work.broken = Some("a panic while rows were noted".to_owned());
            return state;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        self.finishing = false;
        self.ending = false;
        self.work.clear();
    }

    /// Forgets a transaction that was committed without anybody saying so: its commit was begun,
    /// and no transaction is open. If one is open, the commit failed and it goes on.
    fn end_if_over(&mut self, is_autocommit: bool) {
        if std::mem::take(&mut self.ending) && is_autocommit {
            self.work.clear();
        }
    }
}
