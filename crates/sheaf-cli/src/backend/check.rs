//! Verifying and repairing, as plain values with commands in them.
//!
//! Invariant: every remedy of the library becomes one command or one thing to do, in words.

use super::{Device, failure};
use crate::exit::Failure;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// Places of pages that are whole.
    pub(crate) pages: u64,
    /// Pages that are not on this device.
    pub(crate) pending: u64,
    pub(crate) records: u64,
    pub(crate) mutations: u64,
    pub(crate) log: Option<CheckedLog>,
    /// Whether SQLite looked at the database.
    pub(crate) sqlite: bool,
    /// Whether every page was compared with the log.
    pub(crate) compared: bool,
    pub(crate) findings: Vec<CheckFinding>,
    /// Findings that are only counted.
    pub(crate) more: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) unreachable: Option<String>,
}

/// What was looked at of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedLog {
    pub(crate) commits: u64,
    pub(crate) frames: u64,
    pub(crate) head: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckFinding {
    pub(crate) place: String,
    pub(crate) lsn: Option<u64>,
    pub(crate) pages: Vec<u32>,
    pub(crate) what: String,
    /// All of it in one line.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// Whether `sheaf repair` tries to mend it.
    pub(crate) by_repair: bool,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Findings before it.
    pub(crate) found: u64,
    /// Damaged pages that were fetched again.
    pub(crate) fetched: u64,
    /// Pending changes whose pages were made again.
    pub(crate) redone: u64,
    /// Objects of the store that were written again.
    pub(crate) rewritten: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) after: Check,
}

impl Device {
    /// Verifies a site that nobody has open.
    pub(crate) fn verify(
        &self,
        name: &str,
        full: bool,
        progress: &mut dyn FnMut(&'static str, u64, u64),
    ) -> Result<Check, Failure> {
        self.known(name)?;
        let verified = self.client.verify_site(name, full, progress);
        verified.map(|v| self.check(name, v)).map_err(|error| failure::of(&error))
    }

    /// Mends what can be mended of a site that nobody has open.
    pub(crate) fn repair(
        &self,
        name: &str,
        full: bool,
        progress: &mut dyn FnMut(&'static str, u64, u64),
    ) -> Result<Mended, Failure> {
        self.known(name)?;
        let done = self.client.repair_site(name, full, progress);
        let done = done.map_err(|error| failure::refusal(&error).into_failure())?;
        Ok(Mended {
            found: done.before.findings.len() as u64 + more(&done.before),
            fetched: done.fetched.len(),
            redone: done.redone,
            rewritten: done.rewritten,
            failed: done.failed,
            after: self.check(name, done.after),
        })
    }

    fn check(&self, name: &str, from: sheaf::Verified) -> Check {
        Check {
            pages: from.local.pages,
            pending: from.local.pending,
            records: from.local.records,
            mutations: from.local.mutations,
            more: more(&from),
            log: from.log.as_ref().map(|log| CheckedLog {
                commits: log.commits,
                frames: log.frames,
                head: log.head.0,
            }),
            sqlite: from.sqlite,
            compared: from.compared,
            findings: from.findings.iter().map(|f| self.finding(name, f)).collect(),
            notes: from.notes,
            unreachable: from.unreachable,
        }
    }

    fn finding(&self, name: &str, from: &sheaf::Finding) -> CheckFinding {
        CheckFinding {
            place: from.place.clone(),
            lsn: from.lsn.map(|lsn| lsn.0),
            pages: from.pages.iter().map(sheaf::PageIdx::get).collect(),
            what: from.what.clone(),
            text: from.to_string(),
            remedy: self.remedy(name, from.remedy),
            by_repair: matches!(from.remedy, sheaf::Remedy::Repair | sheaf::Remedy::Rewrite),
        }
    }

    fn remedy(&self, name: &str, remedy: sheaf::Remedy) -> String {
        match remedy {
            sheaf::Remedy::Repair => format!("run `sheaf repair {name}`"),
            sheaf::Remedy::Rewrite => format!(
                "run `sheaf repair {name}` on a device that has these pages, or restore the \
                 object from a copy of the store"
            ),
            sheaf::Remedy::Reclaim => format!("run `sheaf gc {name}`"),
            sheaf::Remedy::RestoreStore => "restore the object from a copy of the store".to_owned(),
            sheaf::Remedy::CloneAfresh => {
                let dir = self.client.site_path(name).unwrap_or_default();
                format!(
                    "restore {} from a backup, or move it away and run `sheaf clone {name}` \
                     (changes that were never sent are lost then)",
                    dir.display()
                )
            }
            sheaf::Remedy::Upgrade => "install a newer sheaf".to_owned(),
        }
    }
}

fn more(verified: &sheaf::Verified) -> u64 {
    verified.local.more + verified.log.as_ref().map_or(0, |log| log.more)
}
