//! Locks: numbers without gaps, and transactions that bear so many of others in between.
//!
//! Invariant: a step says what its author had counted; whether it holds follows from the rows that
//! the log has, since every transaction that takes a lock adds one. Leaves out who waits: see
//! `device/answer.rs`.

use rusqlite::Connection;

use super::{Author, Runs, Step, Transaction, refused};
use crate::options::Workload;

const TABLES: &str = "
CREATE TABLE ticket(no INT PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE turn(id TEXT PRIMARY KEY NOT NULL, lock TEXT NOT NULL);
";

/// What kind of lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number: nobody else may have taken one.
    Ticket,
    /// Two others may have come in between.
    Window,
    /// It counts, and never fails.
    Merge,
    /// The author is asked.
    Ask,
}

impl Kind {
    /// Its name, which is the lock's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Window => "window",
            Self::Merge => "merge",
            Self::Ask => "ask",
        }
    }

    fn slack(self) -> Option<u64> {
        match self {
            Self::Ticket | Self::Ask => Some(0),
            Self::Window => Some(2),
            Self::Merge => None,
        }
    }
}

/// A lock that is taken with a row of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taken {
    pub(crate) kind: Kind,
    /// Begins with its author's name.
    pub(crate) id: String,
    /// How often it was taken before, as its author looked last, and how often by its author.
    pub(crate) total: u64,
    pub(crate) own: u64,
    /// Its author does not want it any more.
    pub(crate) withdrawn: bool,
}

/// The tables.
pub(super) fn found(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(TABLES)
}

/// How often a lock was taken in a state, and how often by the author whose ids begin so.
pub(crate) fn counted(conn: &Connection, kind: Kind, author: &str) -> rusqlite::Result<(u64, u64)> {
    let own = "count(*) FILTER (WHERE substr(id, 1, length(?1)) = ?1)";
    let sql = match kind {
        Kind::Ticket => format!("SELECT count(*), {own} FROM ticket WHERE ?2 <> ''"),
        _ => format!("SELECT count(*), {own} FROM turn WHERE lock = ?2"),
    };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    conn.query_row(&sql, [author, kind.name()], |row| Ok((count(row.get(0)?), count(row.get(1)?))))
}

impl Taken {
    /// The part of its id that names its author.
    pub(crate) fn author(&self) -> &str {
        self.id.rfind('-').and_then(|at| self.id.get(..=at)).unwrap_or(&self.id)
    }

    pub(super) fn run(&self, conn: &Connection, runs: Runs) -> rusqlite::Result<()> {
        if runs == Runs::Author {
            return self.take(conn);
        }
        if self.withdrawn {
            return Ok(());
        }
        let (total, own) = counted(conn, self.kind, self.author())?;
        let bears = self.kind.slack().is_none_or(|slack| {
            // On top of one that was refused, or after too many others.
            self.own <= own && total <= self.total + slack
        });
        if !bears {
            return Err(refused("the lock has moved"));
        }
        match self.kind {
            Kind::Ticket => {
                let no = i64::try_from(total).unwrap_or(i64::MAX);
                conn.execute("INSERT INTO ticket VALUES (?2, ?1)", (&self.id, no))
            }
            _ => conn.execute("INSERT INTO turn VALUES (?1, ?2)", [&*self.id, self.kind.name()]),
        }
        .map(drop)
    }

    fn take(&self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = match self.kind {
            Kind::Ticket => "INSERT INTO ticket VALUES (sheaf_lock('ticket', 0, 'reject'), ?1)",
            Kind::Window => {
                "INSERT INTO turn SELECT ?1, 'window' WHERE sheaf_lock('window', 2, 'reject') >= 0"
            }
            Kind::Merge => "INSERT INTO turn SELECT ?1, 'merge' WHERE sheaf_lock('merge') >= 0",
            Kind::Ask => "INSERT INTO turn SELECT ?1, 'ask' WHERE sheaf_lock('ask', 0, 'ask') >= 0",
        };
        conn.execute(sql, [&self.id]).map(drop)
    }
}

impl Transaction {
    /// The lock that asks its author, if this takes one.
    pub(crate) fn asks(&mut self) -> Option<&mut Taken> {
        match self.steps.as_mut_slice() {
            [Step::Lock(taken)] if taken.kind == Kind::Ask => Some(taken),
            _ => None,
        }
    }
}

impl Author {
    /// Takes a lock, now and then for changes of documents; none before there are tables.
    pub(super) fn lock(&mut self, workload: &Workload, conn: &Connection) -> Option<Transaction> {
        let kinds = [Kind::Ticket, Kind::Ticket, Kind::Window, Kind::Merge, Kind::Ask, Kind::Ask];
        let kind = *self.rng.pick(&kinds)?;
        let id = self.fresh();
        let mut taken = Taken { kind, id, total: 0, own: 0, withdrawn: false };
        (taken.total, taken.own) = counted(conn, kind, taken.author()).ok()?;
        let mut transaction = Transaction { steps: vec![Step::Lock(taken)] };
        // What fails for now and holds later would be another test's: it is redone without what
        // finds nothing to do, and only a number that is lost is lost for good.
        let is_lost = kind == Kind::Ticket;
        if is_lost && workload.merge > 0 && self.rng.chance(500_000) {
            // Of a value that was to replace others and is refused nobody knows later what it was
            // to replace (docs/consistency.md 4.4).
            let together = self.together(false, conn);
            transaction.steps.extend(together.map(|together| together.steps).unwrap_or_default());
        }
        if is_lost && workload.pages > 0 && self.rng.chance(500_000) {
            transaction
                .steps
                .extend(self.lays_out(conn).map(|other| other.steps).unwrap_or_default());
        }
        Some(transaction)
    }
}
