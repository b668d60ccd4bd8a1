//! The boundary: the oldest position of a log that is kept, and how everybody learns of it.
//!
//! Invariants. Marks are created once each, with numbers 1, 2, 3 ..., and none names a smaller
//! boundary than the one before, so the boundary only grows. Names below the boundary are free
//! again, names at or above it never become free; so a commit read from the log, or created there,
//! is in the history if the boundary is not above it *after* that. Byte table in
//! `docs/format.md` 6.4.
//!
//! A mark also names *suspects*: segments that were in the store, and that no kept checkpoint
//! refers to, before the head of the log was at `head`. Whoever uploaded one of them meant it for
//! position `head + 1` at most, or for a checkpoint at `head` at most. Once a later boundary is
//! above that, neither can come into the history any more, and the segment is garbage unless
//! something kept names it by then. No clock is asked.

use std::sync::Arc;

use bytes::Bytes;

use super::keys::{damaged, lsn_in, mark_key, mark_prefix, refused};
use super::known::Known;
use super::pull::later_exist;
use super::{BucketRemote, lock};
use crate::limits::{LSN_MAX, MARKS_AT_ONCE, SUSPECTS_MAX};
use crate::teeth::{Tooth, bites};
use crate::wire::{Reader, Writer};
use crate::{Error, ErrorKind, Lsn, ObjectsError, Result, SegmentId, VolumeId};

const MAGIC: &[u8; 4] = b"SHFB";
const VERSION: u8 = 1;
const TRAILER_LEN: usize = 32;

/// A boundary mark.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) volume: VolumeId,
    /// From 1, without gaps.
    pub(super) number: u64,
    /// The oldest position that is kept.
    pub(super) boundary: Lsn,
    /// A position the log had reached after the suspects were seen.
    pub(super) head: Lsn,
    /// When it was made, milliseconds since 1970, for people.
    pub(super) time_ms: u64,
    /// Ascending.
    pub(super) suspects: Vec<SegmentId>,
}

impl Mark {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(96 + self.suspects.len() * 16);
        writer.raw(MAGIC);
        writer.u8(VERSION);
        writer.raw(self.volume.as_bytes());
        writer.varint(self.number);
        writer.varint(self.boundary.0);
        writer.varint(self.head.0);
        writer.varint(self.time_ms);
        writer.varint(self.suspects.len() as u64);
        self.suspects.iter().for_each(|id| writer.raw(id.as_bytes()));
        let hash = blake3::hash(&writer.0);
        writer.raw(hash.as_bytes());
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("boundary mark: {why}"));
        let (body, trailer) =
            bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| bad("too short"))?;
        let version = body.strip_prefix(MAGIC).and_then(|rest| rest.first());
        let version = *version.ok_or_else(|| bad("not a boundary mark"))?;
        if blake3::hash(body) != *trailer {
            return Err(bad("hash does not match its bytes"));
        }
        if version != VERSION {
            let text = "boundary mark made by a newer version of Sheaf; upgrade";
            let text = format!("{text}: version=`{version}`");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let mut reader = Reader::new(body, "boundary mark");
        reader.raw(MAGIC.len() + 1)?;
        let volume = VolumeId::from_bytes(reader.array()?);
        let (number, boundary, head) =
            (reader.varint()?, Lsn(reader.varint()?), Lsn(reader.varint()?));
        let time_ms = reader.varint()?;
        let count = reader.count(16)?;
        let mut suspects = Vec::with_capacity(count);
        for _ in 0..count {
            suspects.push(SegmentId::from_bytes(reader.array()?));
        }
        reader.end()?;
        let mark = Self { volume, number, boundary, head, time_ms, suspects };
        let right = (1..=head.0).contains(&boundary.0)
            && (1..=LSN_MAX).contains(&head.0)
            && mark.suspects.len() <= SUSPECTS_MAX
            && mark.suspects.is_sorted_by(|a, b| a < b);
        if !right || mark.encode() != bytes {
            return Err(bad("fields contradict each other"));
        }
        Ok(mark)
    }
}

impl BucketRemote {
    /// The oldest position that is kept, as the store says now; zero if everything is.
    ///
    /// # Errors
    /// As [`crate::Remote::head`].
    pub fn boundary(&self) -> Result<Lsn> {
        Ok(self.newest_mark()?.1)
    }

    /// Number and boundary of the newest mark. After the first call, which lists the marks, this
    /// is one request that mostly finds nothing.
    pub(super) fn newest_mark(&self) -> Result<(u64, Lsn)> {
        let mut known = *lock(&self.mark);
        let mut tries = 0;
        let newest = loop {
            let (number, boundary) = match known {
                Some(known) if tries < MARKS_AT_ONCE => known,
                // Far behind, or new here.
                _ => break self.list_newest_mark()?,
            };
            tries += 1;
            match self.read_mark(number + 1)? {
                None => break (number, boundary),
                Some(mark) => known = Some((mark.number, mark.boundary)),
            }
        };
        let mut known = lock(&self.mark);
        let grew = known.is_none_or(|before| before.1 < newest.1);
        *known = (*known).max(Some(newest));
        drop(known);
        if grew && newest.1 > Lsn::ZERO {
            // What was read below the new boundary may have taken a name that had become free.
            self.commits.clear();
            lock(&self.walks).clear();
            self.checkpoints.forget();
        }
        Ok(newest)
    }

    fn list_newest_mark(&self) -> Result<(u64, Lsn)> {
        let prefix = mark_prefix(self.volume());
        let keys = self.objects.list(&prefix, None).map_err(|e| refused("list boundary", e))?;
        let Some(number) = keys.iter().rev().find_map(|key| lsn_in(&prefix, key)) else {
            return Ok((0, Lsn::ZERO));
        };
        match self.read_mark(number.0)? {
            Some(mark) => Ok((mark.number, mark.boundary)),
            None => {
                let text = "boundary mark: it was listed and is not there";
                Err(damaged(&mark_key(self.volume(), number.0), Error::corrupt(text)))
            }
        }
    }

    /// The mark with this number; `None` if it was not made yet.
    pub(super) fn read_mark(&self, number: u64) -> Result<Option<Mark>> {
        let key = mark_key(self.volume(), number);
        let bytes = match self.objects.get(&key) {
            Ok(bytes) => bytes,
            Err(ObjectsError::NotFound(_)) => return Ok(None),
            Err(e) => return Err(refused("read boundary mark", e)),
        };
        let mark = Mark::decode(&bytes).map_err(|e| damaged(&key, e))?;
        if (mark.volume, mark.number) != (self.volume(), number) {
            return Err(damaged(&key, Error::corrupt("boundary mark of another place")));
        }
        Ok(Some(mark))
    }

    /// Moves the boundary to `mark.boundary`, whatever number the mark gets. False if somebody
    /// else moved it as far or further.
    pub(super) fn raise_boundary(&self, mark: &Mark) -> Result<bool> {
        for _ in 0..MARKS_AT_ONCE {
            let (number, boundary) = self.newest_mark()?;
            if boundary >= mark.boundary {
                return Ok(false);
            }
            let mark = Mark { number: number + 1, ..mark.clone() };
            let key = mark_key(self.volume(), mark.number);
            match self.objects.create(&key, mark.encode()) {
                Ok(()) | Err(ObjectsError::AlreadyExists(_)) => {}
                // ORDER: whether it is there is found out before anything is deleted.
                Err(e @ ObjectsError::Ambiguous { .. })
                    if self.read_mark(mark.number)?.is_none() =>
                {
                    return Err(refused("create boundary mark", e));
                }
                Err(ObjectsError::Ambiguous { .. }) => {}
                Err(e) => return Err(refused("create boundary mark", e)),
            }
            if self.newest_mark()?.1 == mark.boundary {
                return Ok(true);
            }
        }
        let text = "other reclaimers were faster every time; try again";
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// The newest mark whose suspects cannot come into the history any more, because `boundary` is
    /// above everything they can have been meant for.
    pub(super) fn ripe_mark(&self, boundary: Lsn) -> Result<Option<Mark>> {
        let (mut below, mut above) = (0, self.newest_mark()?.0 + 1);
        let mut ripe = None;
        // Heads grow with the numbers but for races between reclaimers; each mark is judged by
        // itself, so a race only makes this find an older one.
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            match self.read_mark(middle)? {
                Some(mark) if mark.head.next() < boundary => {
                    below = middle;
                    ripe = Some(mark);
                }
                _ => above = middle,
            }
        }
        Ok(ripe)
    }

    /// Makes sure, after it was read from the log, that a commit is the one in the history.
    ///
    /// # Errors
    /// `Expired` when its position is not kept any more.
    pub(super) fn confirm(&self, known: &Known) -> Result<()> {
        self.confirm_all(&[known])
    }

    /// [`Self::confirm`] for several, with one look.
    pub(super) fn confirm_all(&self, all: &[&Known]) -> Result<()> {
        if all.iter().all(|known| known.is_confirmed()) || bites(Tooth::SkipBoundaryCheck) {
            return Ok(());
        }
        for known in all.iter().filter(|known| !known.is_confirmed()) {
            let boundary = self.boundary_over(known.commit.lsn)?;
            if boundary > known.commit.lsn {
                return Err(expired(known.commit.lsn, boundary));
            }
            known.set_confirmed();
        }
        Ok(())
    }

    /// The boundary that says whether a position is kept: of what a branch has from a parent, the
    /// parent's, but for the position where it left it, which a pin keeps.
    pub(super) fn boundary_over(&self, lsn: Lsn) -> Result<Lsn> {
        let own = self.boundary()?;
        let is_fork = self.lineage.parents().iter().any(|parent| parent.lsn == lsn);
        if lsn > self.lineage.fork() || own > lsn || is_fork {
            return Ok(own);
        }
        let owner = self.lineage.owner(lsn);
        Self::new(Arc::clone(&self.objects), owner, self.page_size).boundary()
    }

    /// Why there is no commit at a position.
    pub(super) fn gone(&self, lsn: Lsn, key: &str) -> Error {
        match self.boundary_over(lsn) {
            Ok(boundary) if boundary >= lsn => expired(lsn, boundary),
            Ok(_) => match later_exist(self, Lsn(lsn.0.saturating_sub(1))) {
                Ok(true) => {
                    let text = "the log has a hole: this commit is missing, a later one is there";
                    damaged(key, Error::corrupt(text))
                }
                // The log has not come there yet, or has lost its end.
                Ok(false) => refused("read commit", ObjectsError::NotFound(key.to_owned())),
                Err(e) => e,
            },
            Err(e) => e,
        }
    }
}

pub(super) fn expired(lsn: Lsn, boundary: Lsn) -> Error {
    let text = format!(
        "the state at lsn=`{lsn}` is no longer kept, the oldest is lsn=`{boundary}`; \
         take a newer one"
    );
    Error::new(ErrorKind::Expired, text)
}
