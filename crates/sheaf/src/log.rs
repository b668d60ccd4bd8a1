//! The log of a site, for people.
//!
//! Invariant: entries are commits as the server has them, newest first; nothing is guessed for
//! those that cannot be fetched.

use std::{collections::BTreeMap, fmt::Write as _};

use sheaf_site::Result;
use sheaf_volume::{Commit, Lsn, Remote, TimelineId, Verdict};

/// One commit of a site's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub lsn: Lsn,
    /// When it was made, milliseconds since 1970, by its writer's clock.
    pub time_ms: u64,
    /// The device or node that made it.
    pub writer: String,
    /// Pages it changed.
    pub pages: u64,
    /// Compressed bytes of those pages.
    pub bytes: u64,
    /// Tables it touched.
    pub tables: Vec<String>,
    /// Whose mutations made it, in the order they ran; [`LogEntry::authors`] has each once.
    pub applied: Vec<AppliedRun>,
    /// The same as one line.
    pub summary: String,
}

/// Consecutive mutations of one device in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedRun {
    /// The device's timeline.
    pub timeline: TimelineId,
    /// Sequence number of the first.
    pub first_seq: u64,
    /// How many were applied as they were.
    pub ok: u64,
    /// How many were merged.
    pub merged: u64,
    /// How many were recorded and skipped.
    pub rejected: u64,
}

/// The newest `limit` commits before `before` (exclusive; `None`: from the head), newest first.
pub(crate) fn read(
    remote: &dyn Remote,
    limit: usize,
    before: Option<Lsn>,
) -> Result<Vec<LogEntry>> {
    let limit = limit.min(crate::limits::LOG_ENTRIES_MAX);
    let end = match before {
        Some(before) => before.0.saturating_sub(1),
        None => remote.head()?.lsn.0,
    };
    let mut at = Lsn(end.saturating_sub(limit as u64));
    let mut entries = Vec::new();
    while at.0 < end {
        let commits = remote.pull(at)?;
        let Some(last) = commits.last() else { break };
        at = last.lsn;
        entries.extend(commits.iter().filter(|commit| commit.lsn.0 <= end).map(LogEntry::new));
    }
    entries.reverse();
    Ok(entries)
}

impl LogEntry {
    /// The timelines whose mutations it holds, rejected ones too, each once: a node's commit has
    /// those of several devices. Which device a timeline is of the log does not say.
    #[must_use]
    pub fn authors(&self) -> Vec<TimelineId> {
        let mut authors: Vec<TimelineId> = self.applied.iter().map(|run| run.timeline).collect();
        authors.sort_unstable();
        authors.dedup();
        authors
    }

    fn new(commit: &Commit) -> Self {
        let applied: Vec<AppliedRun> = commit
            .applied
            .iter()
            .map(|applied| {
                let mut counts = BTreeMap::new();
                for run in &applied.runs {
                    *counts.entry(rank(run.verdict)).or_insert(0) += u64::from(run.count);
                }
                let count = |verdict| counts.get(&rank(verdict)).copied().unwrap_or_default();
                AppliedRun {
                    timeline: applied.timeline,
                    first_seq: applied.first_seq,
                    ok: count(Verdict::Ok),
                    merged: count(Verdict::Merged),
                    rejected: count(Verdict::Rejected),
                }
            })
            .collect();
        Self {
            lsn: commit.lsn,
            time_ms: commit.time_ms,
            writer: sheaf_volume::DeviceId::from_bytes(commit.writer).to_string(),
            pages: commit.pages.len(),
            bytes: commit.frames.iter().map(|frame| u64::from(frame.len)).sum(),
            tables: commit.tables.clone(),
            summary: summary(&applied, &commit.tables),
            applied,
        }
    }
}

const fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Ok => 0,
        Verdict::Merged => 1,
        Verdict::Rejected => 2,
    }
}

fn summary(applied: &[AppliedRun], tables: &[String]) -> String {
    let sum = |of: fn(&AppliedRun) -> u64| applied.iter().map(of).sum::<u64>();
    let (ok, merged, rejected) = (sum(|a| a.ok), sum(|a| a.merged), sum(|a| a.rejected));
    let mut line = format!("{} applied", ok + merged);
    for (count, what) in [(merged, "merged"), (rejected, "rejected")] {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = write!(line, ", {count} {what}").is_ok();
        }
    }
    if !tables.is_empty() {
        let _ = write!(line, ": {}", tables.join(", ")).is_ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_author_is_named_once() {
        let run = |n| AppliedRun {
            timeline: TimelineId::from_bytes([n; 16]),
            first_seq: 1,
            ok: 1,
            merged: 0,
            rejected: 0,
        };
        let entry = LogEntry {
            lsn: Lsn(1),
            time_ms: 0,
            writer: String::new(),
            pages: 0,
            bytes: 0,
            tables: Vec::new(),
            applied: vec![run(2), run(1), run(2)],
            summary: String::new(),
        };
        assert_eq!(entry.authors(), [1, 2].map(|n| TimelineId::from_bytes([n; 16])));
    }

    #[test]
    fn a_summary_names_only_what_happened() {
        let run = AppliedRun {
            timeline: TimelineId::from_bytes([1; 16]),
            first_seq: 4,
            ok: 2,
            merged: 1,
            rejected: 1,
        };
        let tables = ["a".to_owned(), "b".to_owned()];
        assert_eq!(summary(&[run], &tables), "3 applied, 1 merged, 1 rejected: a, b");
        let plain = AppliedRun { merged: 0, rejected: 0, ..run };
        assert_eq!(summary(&[plain], &[]), "2 applied");
    }
}
