//! Reading the log forward.
//!
//! Invariant: what a pull returns follows its starting point without a gap, and each commit names
//! the one before it. A missing commit with later ones behind it is damage, never the end.

use super::BucketRemote;
use super::keys::{damaged, log_key, log_lsn, log_prefix, refused};
use crate::{Commit, CommitHash, Error, Lsn, ObjectsError, Result, limits};

pub(super) fn pull(remote: &BucketRemote, after: Lsn) -> Result<Vec<Commit>> {
    if after.0 >= limits::LSN_MAX {
        return Err(Error::invalid(format!("pull: position out of range lsn=`{after}`")));
    }
    let mut tail = Tail::new(remote, after);
    let known = remote.newest().map_or(0, |newest| newest.lsn.0.saturating_sub(after.0));
    let known = usize::try_from(known).unwrap_or(limits::LOG_BATCH_MAX);
    let mut size = known.clamp(limits::PULL_BATCH_MIN, limits::LOG_BATCH_MAX);
    while tail.commits.len() < limits::PULL_COMMITS_MAX && tail.bytes < limits::PULL_BYTES_MAX {
        if tail.read(size.min(limits::PULL_COMMITS_MAX - tail.commits.len()))? {
            size = (size * 4).min(limits::LOG_BATCH_MAX);
            continue;
        }
        // What came before a hole is good; the next pull begins at it and looks behind it.
        if !tail.commits.is_empty() || !later_exist(remote, tail.last)? {
            break;
        }
        // Each round either finds the missing commit or fails, so this ends.
        require_present(remote, tail.last.next())?;
    }
    Ok(tail.commits)
}

struct Tail<'a> {
    remote: &'a BucketRemote,
    commits: Vec<Commit>,
    bytes: usize,
    last: Lsn,
    /// Hash of the commit at `last`, when it is known.
    hash: Option<CommitHash>,
}

impl<'a> Tail<'a> {
    fn new(remote: &'a BucketRemote, after: Lsn) -> Self {
        let hash = match after {
            Lsn::ZERO => Some(CommitHash::default()),
            _ => remote.commits.get(&after).map(|known| known.hash),
        };
        Self { remote, commits: Vec::new(), bytes: 0, last: after, hash }
    }

    /// Reads the next commits; true if all of them are there.
    fn read(&mut self, count: usize) -> Result<bool> {
        let lsns: Vec<Lsn> = (1..=count as u64).map(|n| Lsn(self.last.0 + n)).collect();
        let keys: Vec<String> = lsns.iter().map(|&lsn| self.remote.commit_key(lsn)).collect();
        for ((lsn, key), bytes) in
            lsns.into_iter().zip(&keys).zip(self.remote.objects.get_many(&keys))
        {
            match bytes {
                Ok(bytes) => {
                    let known = self.remote.admit(lsn, &bytes)?;
                    if self.hash.is_some_and(|hash| hash != known.commit.parent) {
                        let text = "commit does not follow the one before it";
                        return Err(damaged(key, Error::corrupt(text)));
                    }
                    self.remote.see(&known);
                    self.bytes += bytes.len();
                    self.last = lsn;
                    self.hash = Some(known.hash);
                    self.commits.push(known.commit.clone());
                }
                Err(ObjectsError::NotFound(_)) => return Ok(false),
                Err(e) => return Err(refused("read commit", e)),
            }
        }
        Ok(true)
    }
}

fn later_exist(remote: &BucketRemote, after: Lsn) -> Result<bool> {
    if remote.newest().is_some_and(|newest| newest.lsn > after) {
        return Ok(true);
    }
    if after < remote.lineage.fork() {
        // The branch begins above it.
        return Ok(true);
    }
    let prefix = log_prefix(remote.volume());
    let keys = remote.objects.list(&prefix, Some(&log_key(remote.volume(), after)));
    let keys = keys.map_err(|e| refused("list log", e))?;
    Ok(keys.iter().any(|key| log_lsn(&prefix, key).is_some()))
}

/// Somebody may have appended this commit and a later one between our reads; look once more.
fn require_present(remote: &BucketRemote, lsn: Lsn) -> Result<()> {
    if remote.read_back(lsn)?.is_some() {
        return Ok(());
    }
    let text = "the log has a hole: this commit is missing, a later one is there";
    Err(damaged(&remote.commit_key(lsn), Error::corrupt(text)))
}
