//! Commits that have been read and checked, in a cache of bounded size.
//!
//! Invariant: a [`Known`] commit has the volume, position and page size of the log it was read
//! from, which is a parent's for what lies before a fork. The chain between commits is checked by
//! those who read neighbours. One that is *confirmed* is in the history; of others it is only known
//! that they stood there when they were read, which is not the same below the boundary (see
//! [`super::boundary`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::BucketRemote;
use super::boundary::expired;
use super::keys::{damaged, refused};
use crate::commit::FrameIndex;
use crate::sync::AtomicBool;
use crate::{Commit, CommitHash, Error, ErrorKind, Lsn, ObjectsError, RemoteHead, Result, limits};

/// A commit with what would be costly to compute again.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) commit: Commit,
    pub(super) hash: CommitHash,
    pub(super) frames: FrameIndex,
    pub(super) encoded_len: usize,
    confirmed: AtomicBool,
}

impl Known {
    fn new(commit: Commit, hash: CommitHash, encoded_len: usize) -> Self {
        let frames = FrameIndex::new(&commit);
        Self { commit, hash, frames, encoded_len, confirmed: AtomicBool::new(false) }
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::SeqCst)
    }

    pub(super) fn set_confirmed(&self) {
        self.confirmed.store(true, Ordering::SeqCst);
    }

    pub(super) fn head(&self) -> RemoteHead {
        RemoteHead {
            lsn: self.commit.lsn,
            hash: self.hash,
            page_count: self.commit.page_count,
            page_size: self.commit.page_size,
            time_ms: self.commit.time_ms,
        }
    }
}

/// Weighs a commit so that one bound limits both the number and the bytes of what is kept.
#[derive(Clone, Debug)]
pub(super) struct Weight;

impl Weighter<Lsn, Arc<Known>> for Weight {
    fn weight(&self, _: &Lsn, known: &Arc<Known>) -> u64 {
        let least = limits::COMMIT_CACHE_BYTES_MAX / limits::COMMIT_CACHE_MAX as u64;
        least.max(known.encoded_len as u64)
    }
}

pub(super) fn new_cache() -> Cache<Lsn, Arc<Known>, Weight> {
    Cache::with_weighter(limits::COMMIT_CACHE_MAX, limits::COMMIT_CACHE_BYTES_MAX, Weight)
}

impl BucketRemote {
    /// Checks what was found at a position, and keeps it.
    pub(super) fn admit(&self, lsn: Lsn, bytes: &Bytes) -> Result<Arc<Known>> {
        let bad = |cause| damaged(&self.commit_key(lsn), cause);
        let (commit, hash) = Commit::decode_hashed(bytes).map_err(bad)?;
        if commit.volume != self.lineage.owner(lsn) || commit.lsn != lsn {
            let (volume, lsn) = (commit.volume, commit.lsn);
            let text = format!("commit of another place volume=`{volume}` lsn=`{lsn}`");
            return Err(bad(Error::corrupt(text)));
        }
        if commit.page_size != self.page_size {
            let size = commit.page_size.get();
            return Err(bad(Error::corrupt(format!("commit with another page size=`{size}`"))));
        }
        self.fit_neighbours(&commit, hash).map_err(|e| match e.kind() {
            ErrorKind::Corrupt => bad(e),
            _ => e,
        })?;
        Ok(self.remember(commit, hash, bytes.len()))
    }

    /// Makes sure that the chain holds as far as its neighbours happen to be known. One of two
    /// that do not fit may have taken a name that had become free, if it is below the boundary.
    fn fit_neighbours(&self, commit: &Commit, hash: CommitHash) -> Result<()> {
        let lsn = commit.lsn;
        let before = self.commits.peek(&Lsn(lsn.0 - 1));
        let after = self.commits.peek(&lsn.next());
        let fits_before = before.is_none_or(|before| before.hash == commit.parent);
        let fits_after = after.is_none_or(|after| after.commit.parent == hash);
        if fits_before && fits_after {
            return Ok(());
        }
        let boundary = self.boundary()?;
        if boundary > lsn {
            return Err(expired(lsn, boundary));
        }
        if !fits_after || boundary < lsn {
            return Err(Error::corrupt("commit does not fit the ones before and after it"));
        }
        self.commits.remove(&Lsn(lsn.0 - 1));
        Ok(())
    }

    /// Keeps a commit that is in the log.
    pub(super) fn remember(&self, commit: Commit, hash: CommitHash, len: usize) -> Arc<Known> {
        let known = Arc::new(Known::new(commit, hash, len));
        self.commits.insert(known.commit.lsn, Arc::clone(&known));
        known
    }

    /// The commit at a position, which must be there and in the history.
    pub(super) fn commit(&self, lsn: Lsn) -> Result<Arc<Known>> {
        let found = self.commits(&BTreeSet::from([lsn]))?.remove(&lsn);
        let found = found.ok_or_else(|| Error::corrupt(format!("commit not read lsn=`{lsn}`")))?;
        self.confirm(&found)?;
        Ok(found)
    }

    /// The commits at these positions, which must be there; the unknown ones read at once. Whether
    /// they are in the history is for the caller to confirm, or to know by the chain.
    pub(super) fn commits(&self, lsns: &BTreeSet<Lsn>) -> Result<BTreeMap<Lsn, Arc<Known>>> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for &lsn in lsns {
            match self.commits.get(&lsn) {
                Some(known) => drop(found.insert(lsn, known)),
                None => missing.push(lsn),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let keys: Vec<String> = missing.iter().map(|&lsn| self.commit_key(lsn)).collect();
        for (lsn, bytes) in missing.into_iter().zip(self.objects.get_many(&keys)) {
            let known = match bytes {
                Ok(bytes) => self.admit(lsn, &bytes)?,
                // Looked at twice before anybody hears of damage.
                Err(ObjectsError::NotFound(key)) => match self.read_back(lsn)? {
                    Some(known) => known,
                    None => return Err(self.gone(lsn, &key)),
                },
                Err(e) => return Err(refused("read commit", e)),
            };
            found.insert(lsn, known);
        }
        Ok(found)
    }
}
