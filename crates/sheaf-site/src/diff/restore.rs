//! Making the present state equal to an earlier one, as an ordinary change.
//!
//! Invariant: nothing of the log is rewritten: what was done since stays in history, and the way
//! back is one mutation on top, made of the rows (and of the schema) that differ. Sheaf's own tables
//! stay as they are, named mutators and merge rules too. Others may change the same rows meanwhile:
//! then it is merged like any mutation.

use rusqlite::config::DbConfig;
use sheaf_volume::Result;

use super::{Change, Diff, Side};
use crate::error::sqlite_detail;
use crate::site::{Site, View};

/// What a restore changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Rows put in again.
    pub inserted: u64,
    /// Rows taken out.
    pub deleted: u64,
    /// Rows given other values.
    pub updated: u64,
    /// Tables, indexes, views and triggers dropped, made or made anew.
    pub schema: u64,
    /// Virtual tables that were left as they are.
    pub left_alone: Vec<String>,
    /// The number of the mutation; none when nothing was to be changed, or nothing was.
    pub seq: Option<u64>,
}

impl Restored {
    /// Rows changed in any way.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.inserted + self.deleted + self.updated
    }
}

impl Site {
    /// Makes the local state equal to a view, as one transaction; with `dry_run`, only says what
    /// that would change. Local commits wait meanwhile.
    ///
    /// # Errors
    /// As [`Site::connection`] for the view; `Limit` when more differs than one mutation may change;
    /// `Busy` while another connection writes. Nothing is changed then.
    pub fn restore(&self, view: View, dry_run: bool) -> Result<Restored> {
        // The state is looked for, and its schema fetched, before others have to wait.
        let old = Side::of_site(self, view)?;
        if dry_run {
            let diff = Diff::new(Side::of_site(self, View::Local)?, old)?;
            return summary(&diff);
        }
        let local = self.open_local()?;
        let told = |e| sqlite_detail(e, &local.failure);
        let run = |sql: &str| local.conn.execute_batch(sql).map_err(told);
        // What triggers and cascades did is among the rows already.
        local.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(told)?;
        run("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE")?;
        let before = self.last_seq();
        let apply = || {
            // ORDER: the writer is ours, so the head compared is the one that is changed.
            let diff = Diff::new(Side::of_site(self, View::Local)?, old)?;
            let summary = summary(&diff)?;
            diff.statements(None, false, &mut |statement| {
                statement.run(&local.conn).map(drop).map_err(told)
            })?;
            Ok(summary)
        };
        let restored = apply();
        match restored {
            Ok(summary) => {
                let committed = run("COMMIT");
                if committed.is_err() && !local.conn.is_autocommit() {
                    run("ROLLBACK")?;
                }
                committed?;
                let seq = Some(self.last_seq()).filter(|seq| *seq > before);
                Ok(Restored { seq, ..summary })
            }
            Err(error) => {
                if !local.conn.is_autocommit() {
                    run("ROLLBACK")?;
                }
                Err(error)
            }
        }
    }
}

fn summary(diff: &Diff) -> Result<Restored> {
    let mut done = Restored {
        schema: diff.schema_changes().len() as u64,
        left_alone: diff.not_compared(),
        ..Restored::default()
    };
    for table in diff.tables() {
        diff.rows(&table, &mut |_, change| {
            let counter = match change {
                Change::Deleted(_) => &mut done.deleted,
                Change::Inserted(_) => &mut done.inserted,
                Change::Updated { .. } => &mut done.updated,
            };
            *counter += 1;
            Ok(())
        })?;
    }
    Ok(done)
}
