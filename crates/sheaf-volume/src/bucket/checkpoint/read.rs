//! Reading checkpoints: which there are, their directories, their chunks.
//!
//! Invariant: what is kept in memory has been checked against its hash, and is bounded in bytes.
//! A checkpoint never changes, so nothing kept is ever wrong; one that was reclaimed is found out
//! when the next of its bytes is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::codec::{assemble, decode_chunk, encode_chunk, head_len, open};
use super::{Frame, Lead, Opened, chunk_of, short_hash};
use crate::bucket::keys::{checkpoint_key, checkpoint_prefix, damaged, lsn_in, refused};
use crate::bucket::{BucketRemote, lock};
use crate::limits::{self, CHECKPOINT_FIRST_BYTES};
use crate::sync::Mutex;
use crate::{Error, ErrorKind, Lsn, ObjectsError, PageIdx, PageSet, RemoteHead, Result};

/// What a reader remembers of a volume's checkpoints.
pub(in crate::bucket) struct Checkpoints {
    known: Mutex<Known>,
    chunks: Cache<(Lsn, u32), Arc<Vec<Frame>>, ChunkWeight>,
}

#[derive(Default)]
struct Known {
    /// Ascending.
    lsns: Vec<Lsn>,
    /// Below this one they were not listed.
    since: Lsn,
    /// The newest position there was when they were listed; `None` before the first listing.
    to: Option<Lsn>,
    /// Directories, least recently opened first.
    open: Vec<Arc<Opened>>,
}

#[derive(Clone)]
struct ChunkWeight;

impl Weighter<(Lsn, u32), Arc<Vec<Frame>>> for ChunkWeight {
    fn weight(&self, _: &(Lsn, u32), frames: &Arc<Vec<Frame>>) -> u64 {
        // A frame of eight pages with its two lists.
        64 + frames.len() as u64 * 256
    }
}

impl Checkpoints {
    pub(in crate::bucket) fn new() -> Self {
        let items = usize::try_from(limits::CHUNK_CACHE_BYTES_MAX / 32_768).unwrap_or(1);
        let chunks = Cache::with_weighter(items, limits::CHUNK_CACHE_BYTES_MAX, ChunkWeight);
        Self { known: Mutex::default(), chunks }
    }

    /// Forgets which there are, so that the next reader lists them.
    pub(in crate::bucket) fn forget(&self) {
        *lock(&self.known) = Known::default();
    }

    /// Knows the newest one, and nothing of those before it.
    pub(in crate::bucket) fn know_newest(&self, lsn: Lsn) {
        let mut known = lock(&self.known);
        known.lsns = vec![lsn];
        (known.since, known.to) = (lsn, Some(lsn));
    }

    /// Knows that there is one more, which has just been created.
    pub(super) fn add(&self, lsn: Lsn) {
        let mut known = lock(&self.known);
        if let Err(at) = known.lsns.binary_search(&lsn) {
            known.lsns.insert(at, lsn);
        }
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").finish_non_exhaustive()
    }
}

impl Opened {
    /// Reads a whole checkpoint: its directory and all of its frames.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported` when it is none.
    pub(in crate::bucket) fn decode_all(bytes: &Bytes) -> Result<(Self, Vec<Frame>)> {
        let opened = open(bytes.clone())?;
        let end = opened.ends.last().copied().unwrap_or_else(|| opened.lead_end());
        // Shorter ones are found below; a reader by ranges never sees what is behind the end.
        if bytes.len() as u64 > end.max(CHECKPOINT_FIRST_BYTES as u64) {
            return Err(Error::corrupt("checkpoint: bytes behind its end"));
        }
        let mut frames = Vec::new();
        for number in (0..).take(opened.ends.len()) {
            let chunk = opened.range(number).and_then(|range| opened.at_hand(&range));
            let chunk = chunk.ok_or_else(|| Error::corrupt("checkpoint: too short"))?;
            frames.extend(decode_chunk(&opened.head, number, &chunk)?);
        }
        Ok((opened, frames))
    }

    /// The object with this directory and these frames, all of them.
    pub(in crate::bucket) fn encode_again(&self, frames: &[Frame]) -> Result<Bytes> {
        let number = |frame: &Frame| frame.live.first().map(|(idx, _)| chunk_of(*idx));
        let mut parts: Vec<Bytes> = Vec::with_capacity(self.ends.len());
        for n in 0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX) {
            let from = frames.partition_point(|frame| number(frame) < Some(n));
            let to = frames.partition_point(|frame| number(frame) <= Some(n));
            parts.push(encode_chunk(frames.get(from..to).unwrap_or_default()));
        }
        let lead = self.at_hand(&(self.head_len..self.lead_end()));
        let lead = lead.ok_or_else(|| Error::corrupt("checkpoint: too short"))?;
        assemble(&self.head, &lead, &parts)
    }

    /// Bytes at the front of the object that a reader wants first.
    pub(in crate::bucket) fn first_len(&self) -> usize {
        // INVARIANT: directory and lead have bounds that any size can hold.
        usize::try_from(self.lead_end()).unwrap_or(usize::MAX).max(CHECKPOINT_FIRST_BYTES)
    }

    /// What came along in front; who was not led here by a hint mostly goes without.
    pub(in crate::bucket) fn lead(&self) -> Option<&Lead> {
        self.lead.as_ref()
    }

    fn lead_end(&self) -> u64 {
        self.head_len + self.head.lead.map_or(0, |lead| u64::from(lead.len))
    }

    /// Where a chunk is in the object.
    fn range(&self, number: u32) -> Option<Range<u64>> {
        let before = (number as usize).checked_sub(1);
        let start = match before {
            Some(before) => *self.ends.get(before)?,
            None => self.lead_end(),
        };
        Some(start..*self.ends.get(number as usize)?)
    }

    /// A chunk that came along with the directory, and came whole: it was not looked at then, and
    /// stays in memory.
    fn chunk_at_hand(&self, number: u32, range: &Range<u64>) -> Option<Bytes> {
        let hash = self.head.chunks.get(number as usize)?.hash;
        self.at_hand(range).filter(|bytes| short_hash(bytes) == hash)
    }

    /// What came along with the directory.
    fn at_hand(&self, range: &Range<u64>) -> Option<Bytes> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        (end <= self.first.len()).then(|| self.first.slice(start..end))
    }
}

impl BucketRemote {
    /// The positions that have a checkpoint, as the store says now; of a branch also those that its
    /// parents have of what belongs to it.
    pub(in crate::bucket) fn list_checkpoints(&self) -> Result<Vec<Lsn>> {
        let parents = self.lineage.parents().iter().map(|parent| parent.volume);
        let mut lsns: Vec<Lsn> = Vec::new();
        for volume in parents.chain([self.volume()]) {
            let prefix = checkpoint_prefix(volume);
            let keys = self.objects.list(&prefix, None);
            let keys = keys.map_err(|e| refused("list checkpoints", e))?;
            let found = keys.iter().filter_map(|key| lsn_in(&prefix, key));
            lsns.extend(found.filter(|lsn| self.lineage.owner(*lsn) == volume));
        }
        lsns.sort_unstable();
        let newest = self.newest().map(|head| head.lsn).max(lsns.last().copied());
        let mut known = lock(&self.checkpoints.known);
        known.lsns.clone_from(&lsns);
        known.since = Lsn::ZERO;
        known.to = newest.or(Some(Lsn::ZERO));
        Ok(lsns)
    }

    /// The newest checkpoint, as the store says now; `None` if there is none.
    pub(in crate::bucket) fn newest_checkpoint(&self) -> Result<Option<Arc<Opened>>> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(&newest) = self.list_checkpoints()?.last() else { return Ok(None) };
            match self.open_checkpoint(newest) {
                // It gave way to a newer one between the two requests.
                Err(e)
                    if e.kind() == ErrorKind::NotFound && attempt < limits::READ_ATTEMPTS_MAX => {}
                opened => return opened.map(Some),
            }
        }
    }

    /// The newest checkpoint at or below a position; `None` if there is none. Asks the store only
    /// when the log has grown much since it was last asked.
    pub(in crate::bucket) fn anchor(&self, at: Lsn) -> Result<Option<Arc<Opened>>> {
        // A list may be out of date: then the one it names has given way to a newer one.
        for attempt in 0..limits::READ_ATTEMPTS_MAX {
            let fresh = {
                let known = lock(&self.checkpoints.known);
                let near = |to: Lsn| at.0 <= to.0 + limits::LOG_BATCH_MAX as u64;
                (at >= known.since && known.to.is_some_and(near)).then(|| known.lsns.clone())
            };
            let lsns = match fresh {
                Some(lsns) => lsns,
                None => {
                    let lsns = self.list_checkpoints()?;
                    let mut known = lock(&self.checkpoints.known);
                    known.to = known.to.max(Some(at));
                    lsns
                }
            };
            let Some(&lsn) = lsns.iter().rev().find(|&&lsn| lsn <= at) else { return Ok(None) };
            match self.open_checkpoint(lsn) {
                Err(e)
                    if e.kind() == ErrorKind::NotFound
                        && attempt + 1 < limits::READ_ATTEMPTS_MAX =>
                {
                    self.checkpoints.forget();
                }
                opened => return opened.map(Some),
            }
        }
        Ok(None)
    }

    /// The directory of the checkpoint at a position.
    pub(in crate::bucket) fn open_checkpoint(&self, lsn: Lsn) -> Result<Arc<Opened>> {
        {
            let mut known = lock(&self.checkpoints.known);
            if let Some(at) = known.open.iter().position(|one| one.head.lsn == lsn) {
                let opened = known.open.remove(at);
                known.open.push(Arc::clone(&opened));
                return Ok(opened);
            }
        }
        let key = checkpoint_key(self.lineage.owner(lsn), lsn);
        let first = self.part_of_checkpoint(&key, 0..CHECKPOINT_FIRST_BYTES as u64)?;
        self.admit_checkpoint(lsn, first)
    }

    /// Checks the checkpoint that begins with these bytes, and keeps its directory. What of that is
    /// not among them is read.
    pub(in crate::bucket) fn admit_checkpoint(
        &self,
        lsn: Lsn,
        mut first: Bytes,
    ) -> Result<Arc<Opened>> {
        let owner = self.lineage.owner(lsn);
        let key = checkpoint_key(owner, lsn);
        let bad = |cause| damaged(&key, cause);
        let len = head_len(&first).map_err(bad)?;
        if len > first.len() {
            let rest = self.part_of_checkpoint(&key, first.len() as u64..len as u64)?;
            let mut whole = BytesMut::from(&*first);
            whole.extend_from_slice(&rest);
            first = whole.freeze();
        }
        let opened = open(first).map_err(bad)?;
        let head = &opened.head;
        if (head.volume, head.lsn, head.page_size) != (owner, lsn, self.page_size) {
            return Err(bad(Error::corrupt("checkpoint of another place")));
        }
        let opened = Arc::new(opened);
        let mut known = lock(&self.checkpoints.known);
        if known.open.len() >= limits::WALKS_MAX {
            known.open.remove(0);
        }
        known.open.push(Arc::clone(&opened));
        Ok(opened)
    }

    fn part_of_checkpoint(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wants = [(key.to_owned(), range)];
        let answer = self.objects.get_ranges(&wants).pop();
        let [(_, range)] = wants;
        self.whole_part(key, &range, answer)
    }

    /// The bytes of a range, or why they are not there.
    fn whole_part(
        &self,
        key: &str,
        range: &Range<u64>,
        answer: Option<Result<Bytes, ObjectsError>>,
    ) -> Result<Bytes> {
        let short = || damaged(key, Error::corrupt("checkpoint: too short"));
        match answer {
            Some(Ok(bytes)) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Some(Ok(_)) | None => Err(short()),
            // Stores do not say alike that a range is not there; the object itself does.
            Some(Err(e @ ObjectsError::Failed(_))) => match self.objects.get(key) {
                Ok(whole) if (whole.len() as u64) < range.end => Err(short()),
                _ => Err(refused("read checkpoint", e)),
            },
            Some(Err(e)) => Err(refused("read checkpoint", e)),
        }
    }

    /// Chunks of a checkpoint, those that are not known read at once.
    pub(in crate::bucket) fn chunks(
        &self,
        opened: &Opened,
        numbers: &BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, Arc<Vec<Frame>>>> {
        let lsn = opened.head.lsn;
        let key = checkpoint_key(self.lineage.owner(lsn), lsn);
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for &number in numbers {
            if let Some(frames) = self.checkpoints.chunks.get(&(lsn, number)) {
                found.insert(number, frames);
            } else if let Some(range) = opened.range(number) {
                missing.push((number, range));
            }
        }
        let (near, far): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .map(|(number, range)| (number, opened.chunk_at_hand(number, &range), range))
            .partition(|(_, bytes, _)| bytes.is_some());
        let wants: Vec<_> = far.iter().map(|(_, _, range)| (key.clone(), range.clone())).collect();
        let answers = if wants.is_empty() { Vec::new() } else { self.objects.get_ranges(&wants) };
        let mut read: Vec<(u32, Bytes)> =
            near.into_iter().filter_map(|(number, bytes, _)| bytes.map(|b| (number, b))).collect();
        for ((number, _, range), answer) in far.into_iter().zip(answers) {
            read.push((number, self.whole_part(&key, &range, Some(answer))?));
        }
        for (number, bytes) in read {
            let frames =
                decode_chunk(&opened.head, number, &bytes).map_err(|e| damaged(&key, e))?;
            let frames = Arc::new(frames);
            self.checkpoints.chunks.insert((lsn, number), Arc::clone(&frames));
            found.insert(number, frames);
        }
        Ok(found)
    }

    /// The frames of a checkpoint that hold these pages; pages that nobody wrote are in none.
    pub(in crate::bucket) fn frames_at(
        &self,
        opened: &Opened,
        pages: &PageSet,
    ) -> Result<Vec<Frame>> {
        let wanted = |frame: &&Frame| frame.live.iter().any(|(idx, _)| pages.contains(*idx));
        let near = opened.lead().map(|lead| lead.frames.as_slice()).unwrap_or_default();
        let mut found: Vec<Frame> = near.iter().filter(wanted).cloned().collect();
        let placed: PageSet =
            found.iter().flat_map(|f| f.live.iter().map(|(idx, _)| *idx)).collect();
        let open = pages.iter().filter(|idx| !placed.contains(*idx));
        let numbers: BTreeSet<u32> = open.map(chunk_of).collect();
        let chunks = self.chunks(opened, &numbers)?;
        let unplaced = |frame: &&Frame| {
            let open = |(idx, _): &(PageIdx, Lsn)| pages.contains(*idx) && !placed.contains(*idx);
            frame.live.iter().any(open)
        };
        found.extend(chunks.values().flat_map(|frames| frames.iter().filter(unplaced).cloned()));
        Ok(found)
    }

    /// What a replica that stands at `after` must take for changed when it jumps to the newest
    /// checkpoint: that state, and every page in it that changed later or that nobody wrote since
    /// the state was last smaller. `None` if there is no checkpoint above `after`.
    ///
    /// # Errors
    /// As [`crate::Remote::head`].
    pub fn changed_since_checkpoint(&self, after: Lsn) -> Result<Option<(RemoteHead, PageSet)>> {
        let newest = self.newest_checkpoint()?.filter(|opened| opened.head.lsn > after);
        let Some(opened) = newest else { return Ok(None) };
        let count = opened.head.page_count;
        let mut changed = match PageIdx::new(count.0) {
            Some(last) => PageSet::range(PageIdx::FIRST, last),
            None => PageSet::new(),
        };
        let numbers: Vec<u32> = (0..).take(opened.ends.len()).collect();
        for numbers in numbers.chunks(limits::LOG_BATCH_MAX) {
            let chunks = self.chunks(&opened, &numbers.iter().copied().collect())?;
            for (idx, lsn) in chunks.values().flat_map(|c| c.iter()).flat_map(|f| &f.live) {
                if *lsn <= after {
                    changed.remove(*idx);
                }
            }
        }
        Ok(Some((opened.head.state(), changed)))
    }
}
