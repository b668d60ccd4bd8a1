//! Reclaiming in a bucket, as plain values.
//!
//! Invariant: a step that takes long is told before it begins, and not more than every so many
//! objects while deleting.

use super::{Device, failure};
use crate::{args::RetentionArgs, exit::Failure};

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    pub(crate) name: String,
    pub(crate) head: u64,
    pub(crate) boundary_before: u64,
    pub(crate) boundary: u64,
    pub(crate) checkpoints: Vec<u64>,
    pub(crate) written: u64,
    pub(crate) doomed: Vec<DoomedObject>,
}

/// An object that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DoomedObject {
    pub(crate) key: String,
    pub(crate) why: String,
    pub(crate) bytes: Option<u64>,
}

/// Objects deleted between two lines of progress.
const TELL_EVERY: usize = 4_096;

impl Device {
    /// The sites of the bucket that is named for this command.
    pub(crate) fn bucket_sites(&self) -> Result<Vec<String>, Failure> {
        self.client.bucket_sites().map_err(|error| failed(&error))
    }

    /// Reclaims one of them.
    pub(crate) fn gc(
        &self,
        name: &str,
        retention: RetentionArgs,
        dry_run: bool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reclaimed, Failure> {
        let history = history_retention(retention);
        let retention = sheaf::Retention {
            keep_for_ms: retention.keep_for,
            keep_commits: retention.keep,
            exact: true,
        };
        let mut told = 0;
        let mut watch = |step| {
            match step {
                sheaf::GcStep::Checkpoint(lsn) => {
                    progress(&format!("making a checkpoint at @{lsn}"))
                }
                sheaf::GcStep::Boundary(lsn) if history.is_some() => {
                    progress(&format!("recording what became of rows before @{lsn}"));
                }
                sheaf::GcStep::Delete(done, all) if done >= told + TELL_EVERY => {
                    told = done;
                    progress(&format!("{done} of {all} objects deleted"));
                }
                _ => {}
            }
            Ok(())
        };
        let done = self.client.gc(name, &retention, history, dry_run, &mut watch);
        let done = done.map_err(|error| failed(&error))?;
        let object = |one: sheaf::Doomed| DoomedObject {
            key: one.key,
            why: one.why.to_string(),
            bytes: one.bytes,
        };
        Ok(Reclaimed {
            name: name.to_owned(),
            head: done.head.0,
            boundary_before: done.boundary_before.0,
            boundary: done.boundary.0,
            checkpoints: done.checkpoints.into_iter().map(|lsn| lsn.0).collect(),
            written: done.written,
            doomed: done.doomed.into_iter().map(object).collect(),
        })
    }
}

/// How long recorded changes are kept; `None` records nothing.
pub(crate) fn history_retention(args: RetentionArgs) -> Option<sheaf::HistoryRetention> {
    let keep_for_ms = args.history_for;
    (!args.no_history).then_some(sheaf::HistoryRetention { keep_for_ms })
}

/// As a node takes it, which makes checkpoints for readers anyway.
pub(crate) fn node_retention(args: RetentionArgs) -> sheaf::Retention {
    sheaf::Retention { keep_for_ms: args.keep_for, keep_commits: args.keep, exact: false }
}

fn failed(error: &sheaf::Error) -> Failure {
    match error.kind() {
        // Which server, or which name, is all that is judged here.
        sheaf::ErrorKind::Invalid => Failure::usage(error.to_string()),
        _ => failure::of(error),
    }
}
