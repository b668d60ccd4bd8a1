//! Packs: 256 consecutive commits in one object, so that a late reader makes few requests.
//!
//! Invariant: a pack is a copy and decides nothing. Its commits are taken only when they chain
//! to each other and its last one is, byte for byte, what the log holds at that position; a pack
//! that is missing, damaged or of another place is passed over, and the log is read instead.
//! Writing one is an attempt, never part of an append. Byte table in `docs/format.md` 6.2.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::keys::{log_key, lsn_in, pack_key, pack_prefix};
use super::{BucketRemote, lock};
use crate::limits::{PACK_BYTES_MAX, PACK_COMMITS, PACKS_AT_ONCE};
use crate::wire::{Reader, Writer};
use crate::{Commit, CommitHash, Error, ErrorKind, Lsn, ObjectsError, Result, VolumeId};

const MAGIC: &[u8; 4] = b"SHFP";
const VERSION: u8 = 1;
const TRAILER_LEN: usize = 32;

/// A run of encoded commits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pack {
    pub(super) volume: VolumeId,
    /// Position of the first commit; the others follow without gaps.
    pub(super) first: Lsn,
    /// The commits as they are in the log.
    pub(super) commits: Vec<Bytes>,
}

impl Pack {
    pub(super) fn encode(&self) -> Bytes {
        let bytes: usize = self.commits.iter().map(|commit| commit.len() + 5).sum();
        let mut writer = Writer::with_capacity(bytes + 80);
        writer.raw(MAGIC);
        writer.u8(VERSION);
        writer.raw(self.volume.as_bytes());
        writer.varint(self.first.0);
        writer.varint(self.commits.len() as u64);
        self.commits.iter().for_each(|commit| writer.bytes(commit));
        let hash = blake3::hash(&writer.0);
        writer.raw(hash.as_bytes());
        writer.finish()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("pack: {why}"));
        let (body, trailer) =
            bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| bad("too short"))?;
        let version = body.strip_prefix(MAGIC).and_then(|rest| rest.first());
        let version = *version.ok_or_else(|| bad("not a pack"))?;
        if blake3::hash(body) != *trailer {
            return Err(bad("hash does not match its bytes"));
        }
        if version != VERSION {
            let text = format!("pack made by a newer version of Sheaf; upgrade: `{version}`");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let mut reader = Reader::new(body, "pack");
        reader.raw(MAGIC.len() + 1)?;
        let volume = VolumeId::from_bytes(reader.array()?);
        let first = Lsn(reader.varint()?);
        let count = reader.count(1)?;
        if !(1..=PACK_COMMITS).contains(&(count as u64)) {
            return Err(reader.fail("too many commits, or none"));
        }
        let mut commits = Vec::with_capacity(count);
        for _ in 0..count {
            commits.push(bytes.slice_ref(reader.bytes()?));
        }
        reader.end()?;
        Ok(Self { volume, first, commits })
    }
}

/// The end of the run that a position belongs to.
pub(super) fn end_of_run(lsn: Lsn) -> Lsn {
    Lsn(lsn.0.div_ceil(PACK_COMMITS) * PACK_COMMITS)
}

/// A commit out of a pack, with what was computed to check it.
pub(super) struct Unpacked {
    pub(super) commit: Commit,
    pub(super) hash: CommitHash,
    pub(super) len: usize,
}

impl BucketRemote {
    /// Learns which packs there are after a position: one request. A store that cannot list them
    /// now has none.
    pub(super) fn list_packs(&self, after: Lsn) {
        let prefix = pack_prefix(self.volume());
        // The pack of a run that was begun counts too: its last commit is after the position.
        let keys = self.objects.list(&prefix, Some(&pack_key(self.volume(), after)));
        let found = keys.unwrap_or_default();
        let found = found.iter().filter_map(|key| lsn_in(&prefix, key));
        let whole = found.filter(|last| last.0.is_multiple_of(PACK_COMMITS));
        lock(&self.packs).extend(whole);
    }

    /// Whether a pack is known that has the commit after this position.
    pub(super) fn has_pack(&self, after: Lsn) -> bool {
        lock(&self.packs).contains(&end_of_run(after.next()))
    }

    /// Known packs that follow each other from `after` on, as many as are read at once and have
    /// no more than `room` new commits. What lies before `after` is forgotten.
    pub(super) fn next_packs(&self, after: Lsn, room: usize) -> Vec<Lsn> {
        let mut packs = lock(&self.packs);
        *packs = packs.split_off(&after.next());
        let mut wanted = end_of_run(after.next());
        let mut next = Vec::new();
        while next.len() < PACKS_AT_ONCE
            && wanted.0 - after.0 <= room as u64
            && packs.contains(&wanted)
        {
            next.push(wanted);
            wanted = Lsn(wanted.0 + PACK_COMMITS);
        }
        next
    }

    /// The commits of these packs that come after `after`, read at once, up to the first pack
    /// that is not good; that one is forgotten. `hash` is the one of the commit at `after`.
    pub(super) fn read_packs(
        &self,
        lasts: &[Lsn],
        after: Lsn,
        mut hash: Option<CommitHash>,
    ) -> Vec<Unpacked> {
        let keys = lasts
            .iter()
            .flat_map(|&last| [pack_key(self.volume(), last), log_key(self.volume(), last)]);
        let answers = self.objects.get_many(&keys.collect::<Vec<_>>());
        let mut all = Vec::new();
        for (&last, pair) in lasts.iter().zip(answers.chunks(2)) {
            let good = match pair {
                [Ok(pack), Ok(end)] => self.unpack(pack, last, end, after, hash).ok(),
                _ => None,
            };
            let Some(good) = good else {
                lock(&self.packs).remove(&last);
                break;
            };
            hash = good.last().map(|unpacked| unpacked.hash).or(hash);
            all.extend(good);
        }
        all
    }

    /// Checks a pack against itself, against the commit at `after`, and against the log at its end.
    fn unpack(
        &self,
        bytes: &Bytes,
        last: Lsn,
        end: &Bytes,
        after: Lsn,
        hash: Option<CommitHash>,
    ) -> Result<Vec<Unpacked>> {
        let bad = |why: &str| Error::corrupt(format!("pack: {why}"));
        let pack = Pack::decode(bytes)?;
        let first = Lsn(last.0.saturating_sub(PACK_COMMITS) + 1);
        let whole = pack.first == first && pack.commits.len() as u64 == PACK_COMMITS;
        if pack.volume != self.volume() || !whole {
            return Err(bad("of another place"));
        }
        if pack.commits.last() != Some(end) {
            return Err(bad("does not end as the log does"));
        }
        let mut good: Vec<Unpacked> = Vec::new();
        let mut before: Option<CommitHash> = None;
        for (lsn, bytes) in (pack.first.0..).map(Lsn).zip(&pack.commits) {
            let (commit, own) = Commit::decode_hashed(bytes)?;
            let placed = commit.volume == self.volume()
                && commit.lsn == lsn
                && commit.page_size == self.page_size;
            let chained = before.is_none_or(|before| before == commit.parent);
            let follows = lsn != after.next() || hash.is_none_or(|hash| hash == commit.parent);
            if !placed || !chained || !follows {
                return Err(bad("commit does not fit"));
            }
            before = Some(own);
            if lsn > after {
                good.push(Unpacked { commit, hash: own, len: bytes.len() });
            }
        }
        Ok(good)
    }

    /// Writes the pack of the run that ends at `last`, from what is known and what is read for
    /// it. Whether that succeeds is nobody's business but the next late reader's.
    pub(super) fn write_pack(&self, last: Lsn) {
        let is_end = last.0.is_multiple_of(PACK_COMMITS) && last > Lsn::ZERO;
        if !is_end || self.packs_refused.load(Ordering::Relaxed) {
            return;
        }
        let first = Lsn(last.0 - PACK_COMMITS + 1);
        if first <= self.lineage.fork() {
            // Part of the run is another volume's.
            return;
        }
        let lsns: BTreeSet<Lsn> = (first.0..=last.0).map(Lsn).collect();
        let Ok(run) = self.commits(&lsns) else { return };
        let sum: usize = run.values().map(|known| known.encoded_len).sum();
        let chained =
            run.values().zip(run.values().skip(1)).all(|(a, b)| a.hash == b.commit.parent);
        if sum > PACK_BYTES_MAX || !chained || run.len() as u64 != PACK_COMMITS {
            return;
        }
        let commits = run.values().map(|known| known.commit.encode()).collect();
        let pack = Pack { volume: self.volume(), first, commits };
        match self.objects.create(&pack_key(self.volume(), last), pack.encode()) {
            Ok(()) | Err(ObjectsError::AlreadyExists(_)) => {}
            // Who may only read must not ask again for every run.
            Err(ObjectsError::Denied(_) | ObjectsError::Failed(_)) => {
                self.packs_refused.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
