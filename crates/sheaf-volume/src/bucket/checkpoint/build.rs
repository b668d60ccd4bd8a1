//! Making a checkpoint: rewrite what is scattered, refer to the rest, create one object.
//!
//! Invariants: segments are uploaded before the object that names them; memory holds one segment
//! in the making, one chunk's pages and the directory, whatever the size of the site. Order (each
//! step is a crash point): segments, object, a look at the boundary. A crash in between leaves
//! segments that nobody names; a reclaimer finds them (see [`crate::bucket::boundary`]). Who is
//! second deletes its own segments, whose ids nobody else can know.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::codec::{assemble, encode_chunk, open};
use super::lead::{Choice, choose};
use super::survey::{SegmentKey, Survey, segment_of};
use super::{ChunkRef, Frame, Head, Lead, SegmentRef, chunk_count, short_hash};
use crate::bucket::BucketRemote;
use crate::bucket::boundary::expired;
use crate::bucket::fetch::{frames_of, gather};
use crate::bucket::keys::{checkpoint_key, refused, segment_key};
use crate::frame::build_frames;
use crate::limits::{COMPACT_BYTES, LEAD_BYTES_MAX};
use crate::{
    Env, Error, ErrorKind, Lsn, ObjectsError, Page, PageIdx, PageSet, Result, SegmentId, Want,
};

/// A checkpoint in the making.
struct Build<'a> {
    remote: &'a BucketRemote,
    env: &'a dyn Env,
    survey: Survey,
    /// The table, and each segment's place in it.
    segments: Vec<SegmentRef>,
    places: BTreeMap<SegmentKey, u32>,
    /// The segment that is being filled, by its place, and its bytes so far.
    filling: Option<(u32, BytesMut)>,
    /// Segments that were uploaded.
    uploaded: Vec<SegmentId>,
    /// Their bytes.
    written: u64,
}

impl BucketRemote {
    /// Makes sure that there is a checkpoint at `at`, which is in the log. Returns the bytes that
    /// were written; zero if there was one.
    ///
    /// # Errors
    /// `Expired` when the position was reclaimed meanwhile, or as the store fails.
    pub fn checkpoint(&self, env: &dyn Env, at: Lsn) -> Result<u64> {
        match self.open_checkpoint(at) {
            Ok(_) => return Ok(0),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let survey = self.survey(at)?;
        let mut build = Build {
            remote: self,
            env,
            segments: survey.kept.values().copied().collect(),
            places: (0..).zip(survey.kept.keys()).map(|(n, key)| (*key, n)).collect(),
            survey,
            filling: None,
            uploaded: Vec::new(),
            written: 0,
        };
        let bytes = build.run()?;
        let written = build.publish(at, bytes)?;
        self.checkpoints.add(at);
        Ok(written)
    }
}

impl Build<'_> {
    /// Uploads the segments, and returns the object's bytes.
    fn run(&mut self) -> Result<Bytes> {
        let commit = &self.survey.commit;
        let (state, volume) = (commit.head(), commit.commit.volume);
        let count = u32::try_from(chunk_count(state.page_count)).unwrap_or(u32::MAX);
        let Choice { pages, near } = match self.remote.leads {
            Some(leads) => choose(leads, state.page_count, &mut |pages| self.contents(pages))?,
            None => Choice::default(),
        };
        let mut lead = Lead { pages, frames: Vec::new() };
        let mut chunks = Vec::with_capacity(count as usize);
        for number in 0..count {
            let frames = self.chunk(number)?;
            chunks.push(encode_chunk(&frames));
            let is_near = |frame: &Frame| frame.live.iter().any(|(idx, _)| near.contains(idx));
            lead.frames.extend(frames.into_iter().filter(is_near));
        }
        self.upload()?;
        let lead = if lead.is_empty() { Bytes::new() } else { lead.encode()? };
        let reference = |chunk: &Bytes| ChunkRef {
            len: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            hash: short_hash(chunk),
        };
        let head = Head {
            volume,
            lsn: state.lsn,
            hash: state.hash,
            time_ms: state.time_ms,
            page_size: state.page_size,
            page_count: state.page_count,
            anchor: self.survey.anchor(),
            segments: std::mem::take(&mut self.segments),
            lead: Some(&lead)
                .filter(|lead| (1..=LEAD_BYTES_MAX).contains(&lead.len()))
                .map(reference),
            chunks: chunks.iter().map(reference).collect(),
        };
        let lead = if head.lead.is_some() { lead } else { Bytes::new() };
        assemble(&head, &lead, &chunks)
    }

    /// The frames of one chunk; pages that need it are rewritten.
    fn chunk(&mut self, number: u32) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut rewrite: BTreeMap<PageIdx, Lsn> = BTreeMap::new();
        self.add_commits(number, &mut frames, &mut rewrite)?;
        if let Some(opened) = self.survey.walk.anchor.clone() {
            let chunks = self.remote.chunks(&opened, &[number].into())?;
            for frame in chunks.values().flat_map(|frames| frames.iter()) {
                let alive = |(idx, _): &&(PageIdx, Lsn)| self.survey.walk.is_from_anchor(*idx);
                let live: Vec<_> = frame.live.iter().filter(alive).copied().collect();
                let segment = opened.head.segments.get(frame.segment as usize);
                let place = segment.and_then(|one| self.places.get(&(one.volume, one.id)));
                match place {
                    _ if live.is_empty() => {}
                    None => rewrite.extend(live),
                    Some(&segment) => frames.push(Frame { segment, live, ..frame.clone() }),
                }
            }
        }
        frames.extend(self.rewrite(&rewrite)?);
        frames.sort_unstable_by_key(|frame| frame.live.first().copied());
        Ok(frames)
    }

    /// What changed since the checkpoint before, in this chunk.
    fn add_commits(
        &self,
        number: u32,
        frames: &mut Vec<Frame>,
        rewrite: &mut BTreeMap<PageIdx, Lsn>,
    ) -> Result<()> {
        let mut per_commit: BTreeMap<Lsn, PageSet> = BTreeMap::new();
        for (idx, lsn) in self.survey.changed_in(number) {
            per_commit.entry(*lsn).or_default().insert(*idx);
        }
        let commits = self.remote.commits(&per_commit.keys().copied().collect())?;
        for (lsn, pages) in &per_commit {
            let known = commits.get(lsn).ok_or_else(lost_track)?;
            let place = segment_of(known).and_then(|one| self.places.get(&(one.volume, one.id)));
            let Some(&segment) = place else {
                rewrite.extend(pages.iter().map(|idx| (idx, *lsn)));
                continue;
            };
            for at in frames_of(known, pages) {
                let frame = known.commit.frames.get(at.index).ok_or_else(lost_track)?;
                let live = at.members.iter().filter(|idx| pages.contains(**idx));
                frames.push(Frame {
                    segment,
                    offset: at.range.start,
                    len: frame.len,
                    hash: frame.hash,
                    live: live.map(|idx| (*idx, *lsn)).collect(),
                    members: at.members,
                });
            }
        }
        Ok(())
    }

    /// Writes pages into the segment that is being filled.
    fn rewrite(&mut self, pages: &BTreeMap<PageIdx, Lsn>) -> Result<Vec<Frame>> {
        if pages.is_empty() {
            return Ok(Vec::new());
        }
        let (volume, size) = (self.remote.volume(), self.remote.page_size);
        let contents = self.contents(pages.keys().copied().collect())?;
        let (built, bytes) = build_frames(volume, size, contents)?;
        let place = self.place_to_fill();
        let Some((_, buffer)) = &mut self.filling else { return Err(lost_track()) };
        let mut offset = buffer.len() as u64;
        buffer.extend_from_slice(&bytes);
        if let Some(segment) = self.segments.get_mut(place as usize) {
            segment.pages += u32::try_from(pages.len()).unwrap_or(u32::MAX);
            segment.bytes += bytes.len() as u64;
        }
        let mut rest = pages.iter();
        let mut frames = Vec::with_capacity(built.len());
        for frame in built {
            let live: Vec<_> =
                rest.by_ref().take(frame.pages as usize).map(|(idx, lsn)| (*idx, *lsn)).collect();
            let members = live.iter().map(|(idx, _)| *idx).collect();
            let (len, hash) = (frame.len, frame.hash);
            frames.push(Frame { segment: place, offset, len, hash, members, live });
            offset += u64::from(len);
        }
        if self.filling.as_ref().is_some_and(|(_, buffer)| buffer.len() >= COMPACT_BYTES) {
            self.upload()?;
        }
        Ok(frames)
    }

    /// The place of the segment that is being filled; a new one if there is none.
    fn place_to_fill(&mut self) -> u32 {
        if let Some((place, _)) = &self.filling {
            return *place;
        }
        let place = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let (volume, id) = (self.remote.volume(), SegmentId::mint(self.env));
        self.segments.push(SegmentRef { volume, id, pages: 0, bytes: 0 });
        self.filling = Some((place, BytesMut::new()));
        place
    }

    fn upload(&mut self) -> Result<()> {
        let Some((place, bytes)) = self.filling.take() else { return Ok(()) };
        let segment = self.segments.get(place as usize).ok_or_else(lost_track)?;
        fault(self.env, "checkpoint: before segment")?;
        let key = segment_key(segment.volume, segment.id);
        let done = self.remote.objects.put(&key, bytes.freeze());
        done.map_err(|e| refused("write segment", e))?;
        self.uploaded.push(segment.id);
        self.written += segment.bytes;
        Ok(())
    }

    fn contents(&self, pages: PageSet) -> Result<Vec<(PageIdx, Page)>> {
        let want = Want { lsn: self.survey.walk.at, pages };
        let walks = std::slice::from_ref(&self.survey.walk);
        let mut found: BTreeMap<PageIdx, Page> = BTreeMap::new();
        for fetched in gather(self.remote, std::slice::from_ref(&want), walks)? {
            if want.pages.contains(fetched.idx) {
                found.insert(fetched.idx, fetched.page);
            }
        }
        if found.len() as u64 != want.pages.len() {
            return Err(lost_track());
        }
        Ok(found.into_iter().collect())
    }

    /// Creates the object. Returns the bytes that were written for good.
    fn publish(&mut self, at: Lsn, bytes: Bytes) -> Result<u64> {
        let key = checkpoint_key(self.remote.volume(), at);
        fault(self.env, "checkpoint: before object")?;
        let created = match self.remote.objects.create(&key, bytes.clone()) {
            Err(e @ ObjectsError::Ambiguous { .. }) => match self.remote.objects.get(&key) {
                Ok(there) if there == bytes => Ok(()),
                // Only what is whole and another's lets the segments of this one go.
                Ok(there) => match (open(there), open(bytes.clone())?) {
                    (Ok(there), ours) if there.head == ours.head => Ok(()),
                    (Ok(_), _) => Err(ObjectsError::AlreadyExists(key.clone())),
                    (Err(_), _) => Err(e),
                },
                Err(_) => Err(e),
            },
            outcome => outcome,
        };
        fault(self.env, "checkpoint: after object")?;
        match created {
            // Somebody else was first; theirs is as good.
            Err(ObjectsError::AlreadyExists(_)) => self.withdraw(None).map(|()| 0),
            Err(e) => Err(refused("create checkpoint", e)),
            Ok(()) => {
                // Below the boundary what it refers to may be gone: then nobody must find it.
                let boundary = self.remote.boundary()?;
                if boundary > at {
                    self.withdraw(Some(&key))?;
                    return Err(expired(at, boundary));
                }
                Ok(bytes.len() as u64 + self.written)
            }
        }
    }

    /// Deletes what was uploaded here, and the object that names it before that.
    fn withdraw(&self, object: Option<&str>) -> Result<()> {
        let volume = self.remote.volume();
        let segments = self.uploaded.iter().map(|&id| segment_key(volume, id));
        let keys: Vec<String> = object.map(str::to_owned).into_iter().chain(segments).collect();
        let outcomes = self.remote.objects.delete_many(&keys);
        let outcome = outcomes.into_iter().collect::<Result<(), _>>();
        outcome.map_err(|e| refused("delete segment", e))
    }
}

fn fault(env: &dyn Env, point: &'static str) -> Result<()> {
    env.fault(point).map_err(|e| Error::io("write checkpoint", e))
}

fn lost_track() -> Error {
    Error::new(ErrorKind::Internal, "BUG: checkpoint lost track of a page")
}
