//! Reading the log forward.
//!
//! Invariant: what a pull returns follows its starting point without a gap, and each commit names
//! the one before it. A missing commit with later ones behind it has been reclaimed or is damage,
//! never the end; what is returned is known to be the history. Who is far behind reads packs; who
//! looks again where there was nothing makes one request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::BucketRemote;
use super::boundary::expired;
use super::keys::{damaged, log_key, log_prefix, lsn_in, refused};
use super::known::Known;
use super::pack::end_of_run;
use crate::{Commit, CommitHash, Error, Lsn, ObjectsError, Result, limits};

pub(super) fn pull(remote: &BucketRemote, after: Lsn) -> Result<Vec<Commit>> {
    if after.0 >= limits::LSN_MAX {
        return Err(Error::invalid(format!("pull: position out of range lsn=`{after}`")));
    }
    let mut tail = Tail::new(remote, after);
    let was_idle = remote.idle_at.load(Ordering::Relaxed) == after.0 + 1;
    let mut plan = match known(remote, after) {
        Some(count) => Plan::up_to(after, count, false),
        // Where the last look found the end, the next will mostly find it too.
        None if was_idle => Plan::up_to(after, newer(remote, after)?, true),
        None => Plan { size: limits::PULL_BATCH_MIN, end: None, exact: false },
    };
    if plan.size == 0 {
        return Ok(Vec::new());
    }
    while !tail.is_full() {
        if plan.size >= limits::PACKS_FROM && !tail.looked {
            plan = tail.look_far(plan)?;
        }
        if plan.size == 0 || tail.is_full() {
            break;
        }
        if tail.read(plan.size.min(limits::LOG_BATCH_MAX).min(tail.room()))? {
            plan = plan.next(tail.last);
            continue;
        }
        // What came before a hole is good; the next pull begins at it and looks behind it.
        if !tail.commits.is_empty() || !later_exist(remote, tail.last)? {
            plan.size = 0;
            break;
        }
        // Each round either finds the missing commit or fails, so this ends.
        require_present(remote, tail.last.next())?;
    }
    tail.confirm()?;
    let ended = if plan.size == 0 { tail.last.0 + 1 } else { 0 };
    remote.idle_at.store(ended, Ordering::Relaxed);
    tail.pack_up();
    Ok(tail.commits)
}

/// What to ask for next.
#[derive(Clone, Copy)]
struct Plan {
    /// How many commits; none when the log ends here.
    size: usize,
    /// Up to where there are commits for sure.
    end: Option<Lsn>,
    /// Whether the log was counted up to there, so that going on would be a guess.
    exact: bool,
}

impl Plan {
    fn up_to(after: Lsn, count: usize, exact: bool) -> Self {
        Self { size: count, end: Some(Lsn(after.0.saturating_add(count as u64))), exact }
    }

    /// After everything asked for was there.
    fn next(self, last: Lsn) -> Self {
        match self.end {
            None => Self { size: self.size * 4, ..self },
            Some(end) if last < end => {
                Self { size: usize::try_from(end.0 - last.0).unwrap_or(usize::MAX), ..self }
            }
            // The next pull asks for what has come since.
            Some(_) if self.exact => Self { size: 0, ..self },
            Some(_) => Self { size: limits::PULL_BATCH_MIN, end: None, ..self },
        }
    }
}

/// How many commits there are at least after a position, as far as that is known without asking.
fn known(remote: &BucketRemote, after: Lsn) -> Option<usize> {
    if remote.has_pack(after) {
        return Some(limits::PACKS_FROM);
    }
    let known = remote.newest()?.lsn.0.checked_sub(after.0).filter(|known| *known > 0)?;
    Some(usize::try_from(known).unwrap_or(usize::MAX).max(limits::PULL_BATCH_MIN))
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
    /// Whether the store was asked which packs it has.
    listed: bool,
    /// Whether packs were looked for, and what is behind them.
    looked: bool,
    /// Ends of runs that were read commit by commit: they have no pack.
    unpacked: Vec<Lsn>,
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
        let (commits, unpacked) = (Vec::new(), Vec::new());
        let (listed, looked) = (false, false);
        let known = Vec::new();
        Self { remote, commits, bytes: 0, last: after, hash, known, listed, looked, unpacked }
    }

    fn room(&self) -> usize {
        limits::PULL_COMMITS_MAX - self.commits.len()
    }

    fn is_full(&self) -> bool {
        // A pack that does not fit any more is the next pull's, which then takes four.
        let in_run = end_of_run(self.last.next()).0 - self.last.0;
        self.room() == 0
            || self.bytes >= limits::PULL_BYTES_MAX
            || (in_run > self.room() as u64 && self.remote.has_pack(self.last))
    }

    /// Takes what packs have, and plans for what stands behind them, which is counted unless it is
    /// known: one request instead of many for commits that are not there.
    fn look_far(&mut self, plan: Plan) -> Result<Plan> {
        while !self.is_full() && self.read_packs() {}
        if self.is_full() {
            return Ok(plan);
        }
        self.looked = true;
        match known(self.remote, self.last) {
            Some(count) => Ok(Plan::up_to(self.last, count, false)),
            None => Ok(Plan::up_to(self.last, newer(self.remote, self.last)?, true)),
        }
    }

    /// Takes the commits of the next packs; false if there is none that is good.
    fn read_packs(&mut self) -> bool {
        let mut packs = self.remote.next_packs(self.last, self.room());
        if packs.is_empty() && !self.listed {
            self.listed = true;
            self.remote.list_packs(self.last);
            packs = self.remote.next_packs(self.last, self.room());
        }
        let unpacked = match packs.is_empty() {
            true => Vec::new(),
            false => self.remote.read_packs(&packs, self.last, self.hash),
        };
        let found = !unpacked.is_empty();
        for one in unpacked {
            let known = self.remote.remember(one.commit, one.hash, one.len);
            self.take(known, one.len);
        }
        found
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
        let keys: Vec<String> = lsns.iter().map(|&lsn| self.remote.commit_key(lsn)).collect();
        for ((lsn, key), bytes) in
            lsns.into_iter().zip(&keys).zip(self.remote.objects.get_many(&keys))
        {
            match bytes {
                Ok(bytes) => {
                    let known = self.remote.admit(lsn, &bytes)?;
                    if self.hash.is_some_and(|hash| hash != known.commit.parent) {
                        return Err(self.broken_off(lsn, key));
                    }
                    self.take(known, bytes.len());
                    if self.listed && lsn == end_of_run(lsn) {
                        self.unpacked.push(lsn);
                    }
                }
                Err(ObjectsError::NotFound(_)) => return Ok(false),
                Err(e) => return Err(refused("read commit", e)),
            }
        }
        Ok(true)
    }

    /// Why a commit does not name the one before it: damage, or a writer that stalled has put one
    /// of them where a reclaimer had been.
    fn broken_off(&self, lsn: Lsn, key: &str) -> Error {
        match self.remote.boundary_over(lsn) {
            // What was read before it in this pull may be such a one too.
            Ok(boundary) if boundary > lsn || (boundary == lsn && !self.commits.is_empty()) => {
                expired(lsn, boundary)
            }
            Ok(_) => damaged(key, Error::corrupt("commit does not follow the one before it")),
            Err(error) => error,
        }
    }

    fn take(&mut self, known: Arc<Known>, len: usize) {
        self.bytes += len;
        self.last = known.commit.lsn;
        self.hash = Some(known.hash);
        self.commits.push(known.commit.clone());
        self.known.push(known);
    }

    /// Who had to read a whole run commit by commit makes its pack, so that nobody else has to.
    fn pack_up(&self) {
        let first = Lsn(self.last.0 - self.commits.len() as u64);
        let whole = |last: &&Lsn| last.0 >= first.0 + limits::PACK_COMMITS;
        self.unpacked.iter().filter(whole).for_each(|&last| self.remote.write_pack(last));
    }
}

/// How many commits the log has after a position: one request.
fn newer(remote: &BucketRemote, after: Lsn) -> Result<usize> {
    let prefix = log_prefix(remote.volume());
    let keys = remote.objects.list(&prefix, Some(&log_key(remote.volume(), after)));
    let keys = keys.map_err(|e| refused("list log", e))?;
    let own = keys.iter().filter(|key| lsn_in(&prefix, key).is_some()).count();
    // The commits up to where a branch left its parent are there too.
    let inherited = remote.lineage.fork().0.saturating_sub(after.0);
    Ok(own.saturating_add(usize::try_from(inherited).unwrap_or(usize::MAX)))
}

pub(super) fn later_exist(remote: &BucketRemote, after: Lsn) -> Result<bool> {
    if remote.newest().is_some_and(|newest| newest.lsn > after) {
        return Ok(true);
    }
    Ok(newer(remote, after)? > 0)
}

/// Somebody may have appended this commit and a later one between our reads; look once more.
fn require_present(remote: &BucketRemote, lsn: Lsn) -> Result<()> {
    if remote.read_back(lsn)?.is_some() {
        return Ok(());
    }
    Err(remote.gone(lsn, &remote.commit_key(lsn)))
}
