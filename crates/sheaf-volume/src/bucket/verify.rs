//! Whether a volume's objects are what its log says: the chain, the references, every frame.
//!
//! Invariant: everything is read from the store anew and nothing is believed from a cache; damage
//! is a finding, a store that cannot be asked is an error, and a verification that ended without
//! an error has looked at every object of a kind it knows. What is not referred to is no damage:
//! an append that was cut short leaves a segment behind.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::keys::{log_key, refused};
use crate::finding::{Finding, Findings, Remedy};
use crate::{
    Commit, CommitHash, Lineage, Lsn, Objects, ObjectsError, PageSize, Result, VolumeId, limits,
};

mod inventory;
mod kept;
mod segment;
#[cfg(test)]
mod tests;

use inventory::Inventory;

pub use segment::{Rewritten, rewrite_segment};

/// What a verification of a log looked at and found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogCheck {
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// Findings beyond [`limits::FINDINGS_MAX`].
    pub more: u64,
    /// Commits that are whole.
    pub commits: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Segments that no commit names: appends that were cut short, or are under way.
    pub unreferenced: u64,
    /// Objects of kinds that this version does not know.
    pub unknown: u64,
    /// The newest position in the log.
    pub head: Lsn,
}

/// A log whose commits are looked at one after the other.
struct Checker<'a> {
    objects: &'a dyn Objects,
    volume: VolumeId,
    page_size: PageSize,
    /// What a replica knows of the log.
    known: Option<(Lsn, CommitHash)>,
    findings: Findings,
    check: LogCheck,
    /// Hash of the commit before, if that one is whole.
    before: Option<CommitHash>,
    /// Segments that commits name.
    named: BTreeSet<String>,
}

/// Checks the log of a volume, not those of its parents: from the oldest commit that is kept to the newest, each commit's
/// bytes, place and parent, each segment it names, each frame; then the boundary marks and the
/// checkpoints, with their frames. `known` is a position and hash that
/// a replica has seen. `progress` is told commits done and in all.
///
/// # Errors
/// `Unavailable`, `Denied` or `Io` when the store could not be asked.
pub fn verify_log(
    objects: &dyn Objects,
    lineage: &Lineage,
    page_size: PageSize,
    known: Option<(Lsn, CommitHash)>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LogCheck> {
    let (volume, fork) = (lineage.volume(), lineage.fork());
    let inventory = Inventory::take(objects, volume)?;
    let head = inventory.commits.last().copied().unwrap_or(fork);
    let mut checker = Checker {
        objects,
        volume,
        page_size,
        known,
        findings: Findings::default(),
        check: LogCheck { head, unknown: inventory.unknown, ..LogCheck::default() },
        before: None,
        named: BTreeSet::new(),
    };
    let boundary = checker.marks(&inventory)?;
    let oldest = boundary.max(fork.next());
    checker.before = (oldest == Lsn(1)).then(CommitHash::default);
    let all = (head.0 + 1).saturating_sub(oldest.0);
    let mut at = oldest.0;
    while at <= head.0 {
        let end = head.0.min(at + limits::LOG_BATCH_MAX as u64 - 1);
        checker.batch(&inventory, (at..=end).map(Lsn))?;
        at = end + 1;
        progress(at - oldest.0, all);
    }
    checker.checkpoints(&inventory, boundary)?;
    checker.hint(&inventory)?;
    checker.look_behind_the_end(head);
    let named = &checker.named;
    checker.check.unreferenced =
        inventory.segments.iter().filter(|key| !named.contains(*key)).count() as u64;
    let Checker { findings, check, .. } = checker;
    Ok(LogCheck { findings: findings.list, more: findings.more, ..check })
}

impl Checker<'_> {
    fn batch(&mut self, inventory: &Inventory, lsns: impl Iterator<Item = Lsn>) -> Result<()> {
        let (there, missing): (Vec<Lsn>, Vec<Lsn>) =
            lsns.partition(|lsn| inventory.commits.contains(lsn));
        let keys: Vec<String> = there.iter().map(|&lsn| log_key(self.volume, lsn)).collect();
        let mut answers: Vec<(Lsn, Option<Bytes>)> =
            missing.into_iter().map(|lsn| (lsn, None)).collect();
        for (lsn, answer) in there.into_iter().zip(self.objects.get_many(&keys)) {
            match answer {
                Ok(bytes) => answers.push((lsn, Some(bytes))),
                Err(ObjectsError::NotFound(_)) => answers.push((lsn, None)),
                Err(e) => return Err(refused("read commit", e)),
            }
        }
        answers.sort_unstable_by_key(|(lsn, _)| *lsn);
        let mut commits = Vec::new();
        for (lsn, bytes) in answers {
            let found = match bytes {
                Some(bytes) => self.commit(lsn, &bytes),
                None => {
                    let what = "this commit is missing, and later ones are there";
                    Err(Finding::new(log_key(self.volume, lsn), what, Remedy::RestoreStore))
                }
            };
            self.before = match found {
                Ok((commit, hash)) => {
                    commits.push(commit);
                    Some(hash)
                }
                Err(finding) => {
                    self.findings.push(finding.at(lsn));
                    None
                }
            };
        }
        self.frames(&commits)
    }

    /// The commit at a position, or what is wrong with what is there.
    fn commit(&mut self, lsn: Lsn, bytes: &Bytes) -> Result<(Commit, CommitHash), Finding> {
        let key = log_key(self.volume, lsn);
        let bad = |what: String| Finding::new(key.clone(), what, Remedy::RestoreStore);
        let (commit, hash) = Commit::decode_hashed(bytes)
            .map_err(|e| Finding::of(key.clone(), &e, Remedy::RestoreStore))?;
        if commit.volume != self.volume {
            return Err(bad(format!("this is a commit of another volume, {}", commit.volume)));
        }
        if commit.lsn != lsn {
            return Err(bad(format!("this is the commit @{} in another's place", commit.lsn)));
        }
        if commit.page_size != self.page_size {
            let (found, wanted) = (commit.page_size.get(), self.page_size.get());
            return Err(bad(format!("it has pages of {found} bytes, the site has {wanted}")));
        }
        if self.known.is_some_and(|(at, known)| at == lsn && known != hash) {
            let what = "this is not the commit that the replica has seen here: the log was \
                        replaced, or this is another copy of the store";
            self.findings.push(bad(what.to_owned()).at(lsn));
        }
        if self.before.is_some_and(|before| before != commit.parent) {
            let what = "it names another commit before it than the one that is there: one of the \
                        two was replaced";
            self.findings.push(bad(what.to_owned()).at(lsn));
        }
        self.check.commits += 1;
        Ok((commit, hash))
    }

    fn look_behind_the_end(&mut self, head: Lsn) {
        let Some((known, _)) = self.known.filter(|(known, _)| *known > head) else { return };
        let what = format!(
            "the log ends at @{head}, and this replica has seen @{known}: the store has lost \
             commits, or is another copy"
        );
        let key = log_key(self.volume, known);
        self.findings.push(Finding::new(key, what, Remedy::RestoreStore).at(known));
    }
}
