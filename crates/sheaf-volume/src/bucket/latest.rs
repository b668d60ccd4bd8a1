//! The hint: where a reader that knows nothing of a volume finds its newest checkpoint, in one
//! request in place of two listings. Byte table in `docs/format.md` 6.5.
//!
//! Invariant: nobody believes it. What it names is read and checked as if it had been listed, and
//! a hint that is missing, damaged, of another version or out of date costs the listings and
//! nothing else. It is the only object of a volume that is ever overwritten: of two reclaimers the
//! later one wins, whatever it knew. Leaves out the commits after the checkpoint: the log is listed
//! from there on.

use bytes::Bytes;

use super::boundary::Mark;
use super::checkpoint::Opened;
use super::keys::{checkpoint_key, latest_key, log_key, log_prefix, mark_key};
use super::{BucketRemote, lock};
use crate::limits::{CHECKPOINT_FIRST_BYTES, HINT_BYTES_MAX, LSN_MAX};
use crate::wire::{Reader, Writer};
use crate::{Error, ErrorKind, Lsn, ObjectsError, RemoteHead, Result, VolumeId};

const MAGIC: &[u8; 4] = b"SHFL";
const VERSION: u8 = 1;
const TRAILER_LEN: usize = 32;

/// What a hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latest {
    pub(super) volume: VolumeId,
    /// The newest checkpoint.
    pub(super) checkpoint: Lsn,
    /// Bytes at its front that a reader wants first.
    pub(super) first: u32,
    /// The newest boundary mark, zero for none.
    pub(super) mark: u64,
    /// Its length, zero without one.
    pub(super) mark_len: u32,
}

impl Latest {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(96);
        writer.raw(MAGIC);
        writer.u8(VERSION);
        writer.raw(self.volume.as_bytes());
        writer.varint(self.checkpoint.0);
        writer.varint(u64::from(self.first));
        writer.varint(self.mark);
        writer.varint(u64::from(self.mark_len));
        let hash = blake3::hash(&writer.0);
        writer.raw(hash.as_bytes());
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("hint: {why}"));
        let (body, trailer) =
            bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| bad("too short"))?;
        let version = body.strip_prefix(MAGIC).and_then(|rest| rest.first());
        let version = *version.ok_or_else(|| bad("not a hint"))?;
        if blake3::hash(body) != *trailer {
            return Err(bad("hash does not match its bytes"));
        }
        if version != VERSION {
            let text = "hint made by a newer version of Sheaf; upgrade";
            let text = format!("{text}: version=`{version}`");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let mut reader = Reader::new(body, "hint");
        reader.raw(MAGIC.len() + 1)?;
        let hint = Self {
            volume: VolumeId::from_bytes(reader.array()?),
            checkpoint: Lsn(reader.varint()?),
            first: reader.varint_u32()?,
            mark: reader.varint()?,
            mark_len: reader.varint_u32()?,
        };
        reader.end()?;
        let right = (1..=LSN_MAX).contains(&hint.checkpoint.0)
            && (CHECKPOINT_FIRST_BYTES..=HINT_BYTES_MAX).contains(&(hint.first as usize))
            && hint.mark < LSN_MAX
            && (hint.mark == 0) == (hint.mark_len == 0)
            && hint.mark_len as usize <= HINT_BYTES_MAX;
        if !right || hint.encode() != bytes {
            return Err(bad("fields contradict each other"));
        }
        Ok(hint)
    }
}

/// What a hint led to.
pub(super) struct Hinted {
    /// The state of the checkpoint.
    pub(super) head: RemoteHead,
    /// What the log holds behind it, as listed.
    pub(super) later: Vec<String>,
}

impl BucketRemote {
    /// Follows the hint: the newest checkpoint and the list of the log behind it, in two rounds.
    /// `None` when there is no hint that holds, whatever the reason: then the listings tell, errors
    /// included.
    pub(super) fn follow_hint(&self) -> Option<Hinted> {
        // Who knows a boundary has been here for longer than the hint may be good for.
        if lock(&self.mark).is_some() {
            return None;
        }
        let volume = self.volume();
        let hint = Latest::decode(&self.objects.get(&latest_key(volume)).ok()?).ok()?;
        if hint.volume != volume || hint.checkpoint <= self.lineage.fork() {
            return None;
        }
        let wants = [
            (checkpoint_key(volume, hint.checkpoint), 0..u64::from(hint.first)),
            // Only whether it is there.
            (mark_key(volume, hint.mark + 1), 0..1),
            (mark_key(volume, hint.mark), 0..u64::from(hint.mark_len)),
        ];
        let asked = if hint.mark == 0 { 2 } else { 3 };
        // The list is right by itself, whenever it is made: the newest commit of a log is never
        // reclaimed. That the next commit is not there would say nothing; it may have been.
        let (prefix, after) = (log_prefix(volume), log_key(volume, hint.checkpoint));
        let wants = wants.get(..asked)?;
        let both = self.objects.get_ranges_and_list(wants, &prefix, Some(&after));
        let (answers, later) = both.ok()?;
        let mut answers = answers.into_iter();
        let (first, later_mark) = (answers.next()?, answers.next()?);
        if !matches!(later_mark, Err(ObjectsError::NotFound(_))) {
            return None;
        }
        let mark = match answers.next() {
            Some(bytes) => self.mark_of_hint(&hint, &bytes.ok()?)?,
            None => (0, Lsn::ZERO),
        };
        let opened = self.admit_checkpoint(hint.checkpoint, first.ok()?).ok()?;
        self.checkpoints.know_newest(hint.checkpoint);
        let mut known = lock(&self.mark);
        *known = (*known).max(Some(mark));
        Some(Hinted { head: opened.head.state(), later })
    }

    /// Number and boundary of the mark that a hint names, if it is that and fits the checkpoint.
    fn mark_of_hint(&self, hint: &Latest, bytes: &[u8]) -> Option<(u64, Lsn)> {
        let mark = Mark::decode(bytes).ok()?;
        let fits = (mark.volume, mark.number) == (hint.volume, hint.mark)
            && mark.boundary <= hint.checkpoint;
        fits.then_some((mark.number, mark.boundary))
    }

    /// Writes the hint to a checkpoint, unless it is there already. A failure is nobody's concern:
    /// readers list.
    pub(super) fn write_hint(&self, opened: &Opened) -> Result<()> {
        let (number, _) = self.newest_mark()?;
        let mark = match number {
            0 => None,
            number => self.read_mark(number)?,
        };
        let len = mark.map_or(0, |mark| mark.encode().len());
        let (Ok(first), Ok(mark_len)) = (u32::try_from(opened.first_len()), u32::try_from(len))
        else {
            return Ok(());
        };
        let checkpoint = opened.head.lsn;
        let hint = Latest { volume: self.volume(), checkpoint, first, mark: number, mark_len };
        if first as usize > HINT_BYTES_MAX || len > HINT_BYTES_MAX {
            // Of a site this large the listings are the least.
            return Ok(());
        }
        let (key, bytes) = (latest_key(self.volume()), hint.encode());
        if self.objects.get(&key).ok().as_ref() != Some(&bytes) {
            self.objects.put(&key, bytes).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
