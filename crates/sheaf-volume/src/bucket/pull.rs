//! Reading the log forward.
//!
//! Invariant: what a pull returns follows its starting point without a gap, and each commit names
//! the one before it. A missing commit with later ones behind it has been reclaimed or is damage,
//! never the end; what is returned is known to be the history.

use std::sync::Arc;

use super::BucketRemote;
use super::keys::{damaged, log_key, log_prefix, lsn_in, refused};
use super::known::Known;
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
    tail.confirm()?;
    Ok(tail.commits)
}

struct Tail<'a> {
    remote: &'a BucketRemote,
    commits: Vec<Commit>,
    bytes: usize,
    last: Lsn,
    /// Hash of the commit at `last`, when it is known.
    hash: Option<CommitHash>,
    /// The commits as they are remembered.
    known: Vec<Arc<Known>>,
}

impl<'a> Tail<'a> {
    fn new(remote: &'a BucketRemote, after: Lsn) -> Self {
        let hash = match after {
            Lsn::ZERO => Some(CommitHash::default()),
            _ => {
                let known = remote.commits.get(&after).filter(|known| known.is_confirmed());
                known.map(|known| known.hash)
            }
        };
        Self { remote, commits: Vec::new(), bytes: 0, last: after, hash, known: Vec::new() }
    }

    /// Makes sure that the last commit is in the history, and so all of them: each names the one
    /// before it.
    fn confirm(&self) -> Result<()> {
        let Some(last) = self.known.last() else { return Ok(()) };
        if self.remote.newest().is_none_or(|newest| newest != last.head()) {
            self.remote.confirm(last)?;
            self.remote.see(last.head());
        }
        self.known.iter().for_each(|known| known.set_confirmed());
        Ok(())
    }

    /// Reads the next commits; true if all of them are there.
    fn read(&mut self, count: usize) -> Result<bool> {
        let lsns: Vec<Lsn> = (1..=count as u64).map(|n| Lsn(self.last.0 + n)).collect();
        let keys: Vec<String> = lsns.iter().map(|&lsn| log_key(self.remote.volume, lsn)).collect();
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
                    self.bytes += bytes.len();
                    self.last = lsn;
                    self.hash = Some(known.hash);
                    self.commits.push(known.commit.clone());
                    self.known.push(known);
                }
                Err(ObjectsError::NotFound(_)) => return Ok(false),
                Err(e) => return Err(refused("read commit", e)),
            }
        }
        Ok(true)
    }
}

pub(super) fn later_exist(remote: &BucketRemote, after: Lsn) -> Result<bool> {
    if remote.newest().is_some_and(|newest| newest.lsn > after) {
        return Ok(true);
    }
    let prefix = log_prefix(remote.volume);
    let keys = remote.objects.list(&prefix, Some(&log_key(remote.volume, after)));
    let keys = keys.map_err(|e| refused("list log", e))?;
    Ok(keys.iter().any(|key| lsn_in(&prefix, key).is_some()))
}

/// Somebody may have appended this commit and a later one between our reads; look once more.
fn require_present(remote: &BucketRemote, lsn: Lsn) -> Result<()> {
    if remote.read_back(lsn)?.is_some() {
        return Ok(());
    }
    Err(remote.gone(lsn, &log_key(remote.volume, lsn)))
}
