//! Plain values that the library's answers are turned into, and the settings it is opened with.
//!
//! Invariant: an empty environment variable counts as unset, and a flag wins over its variable.

use std::{ffi::OsString, path::PathBuf};

use crate::{args::GlobalArgs, exit::Failure};

/// Where this device keeps its replicas and whom it talks to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) server: Option<String>,
    pub(crate) token: Option<String>,
}

// By hand, so that no token ends up in a log.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "...");
        f.debug_struct("Settings")
            .field("dir", &self.dir)
            .field("server", &self.server)
            .field("token", &token)
            .finish()
    }
}

impl Settings {
    /// Flags first, then the environment, then the defaults.
    pub(crate) fn resolve(
        global: &GlobalArgs,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let text = |name: &str| match env(name).map(OsString::into_string) {
            Some(Err(_)) => Err(Failure::usage(format!("{name} is not UTF-8; mend it"))),
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
        };
        let set = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
        let dir = global.dir.clone().or_else(|| env("SHEAF_DIR").map(PathBuf::from));
        let server = set(&global.server).map_or_else(|| text("SHEAF_SERVER"), |v| Ok(Some(v)))?;
        let token = set(&global.token).map_or_else(|| text("SHEAF_TOKEN"), |v| Ok(Some(v)))?;
        Ok(Self { dir: dir.map_or_else(default_dir, Ok)?, server, token })
    }
}

fn default_dir() -> Result<PathBuf, Failure> {
    directories::ProjectDirs::from("", "", "sheaf")
        .map(|dirs| dirs.data_dir().to_path_buf())
        .ok_or_else(|| Failure::usage("there is no home directory; give --dir DIR"))
}

/// The merge rule of a column, or the row policy of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) table: String,
    /// `*` for the rows.
    pub(crate) column: String,
    pub(crate) decltype: String,
    /// None for what names the row.
    pub(crate) rule: Option<String>,
    /// Where it comes from, in one word.
    pub(crate) declared: &'static str,
    pub(crate) problem: Option<String>,
}

pub(super) fn rule(info: sheaf::RuleInfo) -> Rule {
    let sheaf::RuleInfo { table, column, decltype, rule, declared, problem } = info;
    Rule { table, column, decltype, rule, declared: declared.name(), problem }
}

/// What an exchange did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// Commits learnt.
    pub(crate) pulled: u64,
    /// Mutations sent.
    pub(crate) pushed: u64,
    /// Mutations that are now part of the log.
    pub(crate) confirmed: u64,
    /// Mutations that were merged with what others did.
    pub(crate) merged: u64,
    /// Mutations that were refused, with the reason.
    pub(crate) rejected: Vec<(u64, String)>,
    /// What was left of the operations of mutations that were merged.
    pub(crate) merges: Vec<Merge>,
    /// The position in the log that this device now knows.
    pub(crate) base: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) round_trips: u64,
    pub(crate) ms: u64,
}

/// What a merge left of a mutation's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) seq: u64,
    /// Whether each of them came out as it was.
    pub(crate) stands: Vec<bool>,
    /// The first of the others: place and summary.
    pub(crate) altered: Vec<(usize, String)>,
}

fn merge((seq, ops): (u64, sheaf::MergedOps)) -> Merge {
    let altered = ops.altered.into_iter().map(|op| (op.at, op.summary)).collect();
    Merge { seq, stands: ops.stands.iter().collect(), altered }
}

/// The row that a mutation failed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedAt {
    pub(crate) table: String,
    /// As people write it; `None` if nobody knows.
    pub(crate) key: Option<String>,
    pub(crate) columns: Vec<String>,
}

/// A mutation that has not been confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) seq: u64,
    pub(crate) kind: &'static str,
    pub(crate) summary: String,
    pub(crate) time_ms: u64,
    pub(crate) bytes: u64,
}

/// A mutation that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) seq: u64,
    pub(crate) summary: String,
    pub(crate) reason: String,
    pub(crate) row: Option<FailedAt>,
    pub(crate) time_ms: u64,
}

/// The state of a site on this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) server: Option<String>,
    /// Whether there is a live connection right now.
    pub(crate) online: bool,
    /// The newest local state, and the newest that equals the one at `base`.
    pub(crate) head_local: u64,
    pub(crate) base_local: u64,
    /// Number of the newest own change that the log has decided.
    pub(crate) acknowledged: u64,
    /// The newest position of the log heard of.
    pub(crate) remote: u64,
    pub(crate) base: u64,
    pub(crate) base_time_ms: u64,
    pub(crate) page_count: u64,
    pub(crate) pages_present: u64,
    pub(crate) pages_missing: u64,
    pub(crate) pending: Vec<Pending>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) local_bytes: u64,
    /// Whether an earlier disk error closed the replica.
    pub(crate) poisoned: bool,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) lsn: u64,
    pub(crate) time_ms: u64,
    pub(crate) writer: String,
    /// The timelines whose changes it holds.
    pub(crate) authors: Vec<String>,
    pub(crate) pages: u64,
    /// Compressed bytes of those pages.
    pub(crate) bytes: u64,
    pub(crate) tables: Vec<String>,
    pub(crate) summary: String,
}

pub(super) fn exchanged(from: sheaf::Exchange) -> Exchanged {
    Exchanged {
        pulled: from.pulled,
        pushed: from.pushed,
        confirmed: from.confirmed,
        merged: from.merged,
        rejected: from.rejected,
        merges: from.merges.into_iter().map(merge).collect(),
        base: from.base.0,
        bytes_up: from.bytes_up,
        bytes_down: from.bytes_down,
        round_trips: from.round_trips,
        ms: from.ms,
    }
}

pub(super) fn status(from: sheaf::Status) -> Status {
    let pending = from.pending.into_iter().map(|p| Pending {
        seq: p.seq,
        kind: p.kind,
        summary: p.summary,
        time_ms: p.time_ms,
        bytes: p.bytes,
    });
    let rejected = from.rejected.into_iter().map(|r| Rejected {
        seq: r.seq,
        summary: r.summary,
        reason: r.reason,
        row: r.row.map(|row| FailedAt { table: row.table, key: row.key, columns: row.columns }),
        time_ms: r.time_ms,
    });
    Status {
        name: from.name,
        server: from.server,
        online: from.online,
        head_local: from.head.0,
        base_local: from.base_local.0,
        acknowledged: from.acknowledged,
        remote: from.remote.0,
        base: from.base.0,
        base_time_ms: from.base_time_ms,
        page_count: from.page_count.into(),
        pages_present: from.pages_present,
        pages_missing: from.pages_pending,
        pending: pending.collect(),
        rejected: rejected.collect(),
        local_bytes: from.local_bytes,
        poisoned: from.poisoned,
    }
}

pub(super) fn entry(from: sheaf::LogEntry) -> Entry {
    let authors = from.authors().iter().map(ToString::to_string).collect();
    Entry {
        authors,
        lsn: from.lsn.0,
        time_ms: from.time_ms,
        writer: from.writer,
        pages: from.pages,
        bytes: from.bytes,
        tables: from.tables,
        summary: from.summary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: Option<&str>, server: Option<&str>, token: Option<&str>) -> GlobalArgs {
        GlobalArgs {
            dir: dir.map(PathBuf::from),
            server: server.map(str::to_owned),
            token: token.map(str::to_owned),
            json: false,
        }
    }

    fn env(name: &str) -> Option<OsString> {
        match name {
            "SHEAF_DIR" => Some("from-env".into()),
            "SHEAF_SERVER" => Some("http://env:1".into()),
            _ => Some("".into()),
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_empty_is_unset() {
        let settings = Settings::resolve(&args(None, None, None), env).unwrap();
        assert_eq!(settings.dir, PathBuf::from("from-env"));
        assert_eq!(settings.server.as_deref(), Some("http://env:1"));
        assert_eq!(settings.token, None);
        let flags = args(Some("d"), Some("file:///b"), Some("t"));
        let settings = Settings::resolve(&flags, env).unwrap();
        assert_eq!(settings.dir, PathBuf::from("d"));
        assert_eq!(settings.server.as_deref(), Some("file:///b"));
        assert_eq!(settings.token.as_deref(), Some("t"));
        assert!(!format!("{settings:?}").contains("\"t\""));
    }
}
