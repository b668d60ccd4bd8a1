//! Checkpoint formats v1, and v2 with a lead, to and from bytes. Byte table in `docs/format.md` 6.3.
//!
//! Invariant: each decoder accepts exactly the bytes that its encoder makes. Every version begins
//! with magic, version and the directory's length and has the directory's hash at its end, so
//! damage is told from novelty.

use bytes::Bytes;

use super::{ChunkRef, Frame, Head, Lead, Opened, SegmentRef, chunk_count, chunk_of, short_hash};
use crate::limits::{
    CHECKPOINT_FIRST_BYTES, CHECKPOINT_HEAD_BYTES_MAX, CHUNK_BYTES_MAX, FRAME_PAGES_MAX,
    LEAD_BYTES_MAX, LSN_MAX,
};
use crate::wire::{Reader, Writer};
use crate::{
    CommitHash, Error, ErrorKind, Lsn, PageCount, PageIdx, PageSize, Result, SegmentId, VolumeId,
};

const MAGIC: &[u8; 4] = b"SHFK";
/// Without a lead, and with one.
const VERSION: u8 = 1;
const VERSION_LEAD: u8 = 2;
/// Magic, version, length of the directory.
pub(super) const PRELUDE_LEN: usize = 9;
const TRAILER_LEN: usize = 32;
/// Owner, id, pages, bytes.
const SEGMENT_LEN_MIN: usize = 19;
const CHUNK_REF_LEN_MIN: usize = 17;
/// Segment, offset, length, hash, one member, mask, position, one distance.
const FRAME_LEN_MIN: usize = 24;

impl Head {
    /// The directory's bytes.
    ///
    /// # Errors
    /// `Limit` when it would be too large for anybody to read.
    pub(super) fn encode(&self) -> Result<Bytes> {
        let mut body = Writer::with_capacity(256 + self.segments.len() * 32);
        body.raw(self.volume.as_bytes());
        body.varint(self.lsn.0);
        body.raw(&self.hash.0);
        body.varint(self.time_ms);
        body.varint(u64::from(self.page_size.get().trailing_zeros()));
        body.varint(u64::from(self.page_count.0));
        body.varint(self.anchor.0);
        body.varint(self.segments.len() as u64);
        for segment in &self.segments {
            if segment.volume == self.volume {
                body.u8(0);
            } else {
                body.u8(1);
                body.raw(segment.volume.as_bytes());
            }
            body.raw(segment.id.as_bytes());
            body.varint(u64::from(segment.pages));
            body.varint(segment.bytes);
        }
        if let Some(lead) = &self.lead {
            body.varint(u64::from(lead.len));
            body.raw(&lead.hash);
        }
        body.varint(self.chunks.len() as u64);
        for chunk in &self.chunks {
            body.varint(u64::from(chunk.len));
            body.raw(&chunk.hash);
        }
        let len = PRELUDE_LEN + body.0.len() + TRAILER_LEN;
        let fits = u32::try_from(len).ok().filter(|_| len <= CHECKPOINT_HEAD_BYTES_MAX);
        let Some(len) = fits else {
            let text = format!("checkpoint: directory too large bytes=`{len}`");
            return Err(Error::new(ErrorKind::Limit, text));
        };
        let mut writer = Writer::with_capacity(len as usize);
        writer.raw(MAGIC);
        writer.u8(if self.lead.is_some() { VERSION_LEAD } else { VERSION });
        writer.u32(len);
        writer.raw(&body.0);
        let hash = blake3::hash(&writer.0);
        writer.raw(hash.as_bytes());
        Ok(writer.finish())
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("checkpoint: {why}"));
        let (body, trailer) =
            bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| bad("too short"))?;
        if blake3::hash(body) != *trailer {
            return Err(bad("hash does not match its bytes"));
        }
        let mut reader = Reader::new(body, "checkpoint");
        reader.raw(MAGIC.len())?;
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_LEAD {
            let text = "checkpoint made by a newer version of Sheaf; upgrade";
            let text = format!("{text}: version=`{version}`");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        reader.u32()?;
        let head = read_head(&mut reader, version == VERSION_LEAD)?;
        reader.end()?;
        check(&head).map_err(bad)?;
        if head.encode()? != bytes {
            return Err(bad("not in canonical form"));
        }
        Ok(head)
    }
}

/// The length of the directory, by the first bytes of the object.
///
/// # Errors
/// `Corrupt` when they are not a checkpoint's.
pub(super) fn head_len(first: &[u8]) -> Result<usize> {
    let mut reader = Reader::new(first, "checkpoint");
    if reader.raw(MAGIC.len())? != MAGIC {
        return Err(reader.fail("not a checkpoint"));
    }
    reader.u8()?;
    let len = reader.u32()? as usize;
    if !(PRELUDE_LEN + TRAILER_LEN..=CHECKPOINT_HEAD_BYTES_MAX).contains(&len) {
        return Err(reader.fail("length of the directory out of range"));
    }
    Ok(len)
}

/// Reads a directory out of `first`, the object's first bytes, which hold at least all of it.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub(super) fn open(first: Bytes) -> Result<Opened> {
    let bad = |why: &str| Error::corrupt(format!("checkpoint: {why}"));
    let len = head_len(&first)?;
    if first.len() < CHECKPOINT_FIRST_BYTES {
        return Err(bad("too short"));
    }
    let head = Head::decode(first.get(..len).ok_or_else(|| bad("too short"))?)?;
    let head_len = len as u64;
    let sum = |end: &mut u64, chunk: &ChunkRef| {
        *end += u64::from(chunk.len);
        Some(*end)
    };
    let start = head_len + head.lead.map_or(0, |lead| u64::from(lead.len));
    let ends: Vec<u64> = head.chunks.iter().scan(start, sum).collect();
    let end = ends.last().copied().unwrap_or(start);
    let padding = usize::try_from(end).ok().and_then(|end| first.get(end..));
    // Only a small checkpoint is filled up, and then all of it is here.
    if padding.is_some_and(|padding| padding.iter().any(|&byte| byte != 0)) {
        return Err(bad("bytes behind its end"));
    }
    let there = usize::try_from(start).ok().and_then(|start| first.get(len..start));
    let lead = match (&head.lead, there) {
        (Some(named), Some(bytes)) => Some(Lead::decode(&head, named, bytes)?),
        _ => None,
    };
    Ok(Opened { head, ends, head_len, lead, first })
}

/// A whole checkpoint: directory, lead, chunks, and zeros up to what readers ask for at first.
///
/// # Errors
/// As [`Head::encode`].
pub(super) fn assemble(head: &Head, lead: &[u8], chunks: &[Bytes]) -> Result<Bytes> {
    let mut writer = Writer(head.encode()?.into());
    writer.raw(lead);
    chunks.iter().for_each(|chunk| writer.raw(chunk));
    let least = CHECKPOINT_FIRST_BYTES.max(writer.0.len());
    writer.0.resize(least, 0);
    Ok(writer.finish())
}

fn read_head(reader: &mut Reader<'_>, has_lead: bool) -> Result<Head> {
    let volume = VolumeId::from_bytes(reader.array()?);
    let lsn = Lsn(reader.varint()?);
    let hash = CommitHash(reader.array()?);
    let time_ms = reader.varint()?;
    let size = u32::try_from(reader.varint()?).ok().and_then(|exponent| 1u32.checked_shl(exponent));
    let page_size =
        size.and_then(PageSize::new).ok_or_else(|| reader.fail("page size out of range"))?;
    let page_count = PageCount(reader.varint_u32()?);
    let anchor = Lsn(reader.varint()?);
    let count = reader.count(SEGMENT_LEN_MIN)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let volume = match reader.u8()? {
            0 => volume,
            1 => VolumeId::from_bytes(reader.array()?),
            _ => return Err(reader.fail("unknown owner of a segment")),
        };
        let id = SegmentId::from_bytes(reader.array()?);
        segments.push(SegmentRef {
            volume,
            id,
            pages: reader.varint_u32()?,
            bytes: reader.varint()?,
        });
    }
    let lead = match has_lead {
        true => Some(ChunkRef { len: reader.varint_u32()?, hash: reader.array()? }),
        false => None,
    };
    let count = reader.count(CHUNK_REF_LEN_MIN)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(ChunkRef { len: reader.varint_u32()?, hash: reader.array()? });
    }
    Ok(Head { volume, lsn, hash, time_ms, page_size, page_count, anchor, segments, lead, chunks })
}

/// What contradicts itself in a directory.
fn check(head: &Head) -> Result<(), &'static str> {
    let require = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
    require((1..=LSN_MAX).contains(&head.lsn.0), "position out of range")?;
    require(head.anchor < head.lsn, "built upon a later one")?;
    require(head.chunks.len() == chunk_count(head.page_count), "wrong number of chunks")?;
    let small = |chunk: &ChunkRef| (1..=CHUNK_BYTES_MAX).contains(&(chunk.len as usize));
    require(head.chunks.iter().all(small), "chunk out of bounds")?;
    let fits = |lead: ChunkRef| (1..=LEAD_BYTES_MAX).contains(&(lead.len as usize));
    require(head.lead.is_none_or(fits), "lead out of bounds")?;
    let mut ids: Vec<_> = head.segments.iter().map(|one| (one.volume, one.id)).collect();
    ids.sort_unstable();
    require(ids.is_sorted_by(|a, b| a < b), "a segment is named twice")?;
    require(head.segments.iter().all(|one| one.pages > 0 && one.bytes > 0), "an empty segment")
}

/// The bytes of a chunk.
pub(super) fn encode_chunk(frames: &[Frame]) -> Bytes {
    let mut writer = Writer::with_capacity(frames.len() * 64 + 8);
    writer.varint(frames.len() as u64);
    for frame in frames {
        writer.varint(u64::from(frame.segment));
        writer.varint(frame.offset);
        writer.varint(u64::from(frame.len));
        writer.raw(&frame.hash);
        writer.varint(frame.members.len() as u64);
        let mut last = 0;
        for member in &frame.members {
            writer.varint(u64::from(member.get() - last));
            last = member.get();
        }
        let bit = |n: usize, member: &PageIdx| {
            u8::from(frame.live.iter().any(|(idx, _)| idx == member)) << n
        };
        writer.u8(frame.members.iter().enumerate().fold(0, |mask, (n, idx)| mask | bit(n, idx)));
        let newest = frame.live.iter().map(|(_, lsn)| lsn.0).max().unwrap_or(0);
        writer.varint(newest);
        frame.live.iter().for_each(|(_, lsn)| writer.varint(newest - lsn.0));
    }
    writer.finish()
}

/// Reads the chunk with this number.
///
/// # Errors
/// `Corrupt` when the bytes are not this chunk of this checkpoint.
pub(super) fn decode_chunk(head: &Head, number: u32, bytes: &[u8]) -> Result<Vec<Frame>> {
    let mut reader = Reader::new(bytes, "checkpoint chunk");
    let chunk = head.chunks.get(number as usize);
    let chunk = chunk.ok_or_else(|| reader.fail("there is no such chunk"))?;
    if chunk.len as usize != bytes.len() || chunk.hash != short_hash(bytes) {
        return Err(reader.fail("hash does not match its bytes"));
    }
    read_frames(head, &mut reader, &|idx| chunk_of(idx) == number)
}

/// Reads a list of frames up to the end. `belongs` says which pages may be alive in it.
///
/// # Errors
/// `Corrupt` when it is not in canonical form or does not fit the directory.
pub(super) fn read_frames(
    head: &Head,
    reader: &mut Reader<'_>,
    belongs: &dyn Fn(PageIdx) -> bool,
) -> Result<Vec<Frame>> {
    let bytes = reader.rest();
    let count = reader.count(FRAME_LEN_MIN)?;
    let mut frames = Vec::with_capacity(count);
    let mut alive = std::collections::BTreeSet::new();
    for _ in 0..count {
        let frame = read_frame(reader)?;
        let inside = |(idx, lsn): &(PageIdx, Lsn)| {
            belongs(*idx) && head.page_count.contains(*idx) && (1..=head.lsn.0).contains(&lsn.0)
        };
        let held = head.segments.get(frame.segment as usize);
        let end = frame.offset.checked_add(u64::from(frame.len));
        let raw = frame.members.len() as u64 * u64::from(head.page_size.get()) + 1;
        if !frame.live.iter().all(inside)
            || !(2..=raw).contains(&u64::from(frame.len))
            || held.is_none_or(|held| end.is_none_or(|end| end > held.bytes))
        {
            return Err(reader.fail("frame out of bounds"));
        }
        if !frame.live.iter().all(|(idx, _)| alive.insert(*idx)) {
            return Err(reader.fail("a page is alive twice"));
        }
        frames.push(frame);
    }
    reader.end()?;
    let first = |frame: &Frame| frame.live.first().map(|(idx, _)| *idx);
    if !frames.is_sorted_by_key(first) || encode_chunk(&frames) != bytes {
        return Err(reader.fail("not in canonical form"));
    }
    Ok(frames)
}

fn read_frame(reader: &mut Reader<'_>) -> Result<Frame> {
    let (segment, offset, len) = (reader.varint_u32()?, reader.varint()?, reader.varint_u32()?);
    let hash = reader.array()?;
    let count = reader.count(1)?;
    if !(1..=FRAME_PAGES_MAX as usize).contains(&count) {
        return Err(reader.fail("frame of too many pages, or none"));
    }
    let mut members = Vec::with_capacity(count);
    let mut last = 0u32;
    for _ in 0..count {
        let next = last.checked_add(reader.varint_u32()?).filter(|&next| next > last);
        let next = next.ok_or_else(|| reader.fail("pages of a frame do not ascend"))?;
        members.extend(PageIdx::new(next));
        last = next;
    }
    let mask = reader.u8()?;
    let newest = reader.varint()?;
    let mut live = Vec::with_capacity(count);
    for (_, idx) in members.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1) {
        let lsn = newest.checked_sub(reader.varint()?);
        live.push((*idx, Lsn(lsn.ok_or_else(|| reader.fail("position out of range"))?)));
    }
    if live.is_empty() {
        return Err(reader.fail("frame without a live page"));
    }
    Ok(Frame { segment, offset, len, hash, members, live })
}
