//! Commit format v1 to and from bytes. Byte table in `docs/format.md`.
//!
//! Invariant: `decode` accepts exactly the bytes that `encode` makes of a valid commit, so the
//! hash in the trailer names one value and one byte string. Every version of the format begins
//! with magic and version and ends with the BLAKE3 trailer, so damage is told from novelty.

use bytes::Bytes;

use super::{Applied, Commit, CommitHash, FrameRef, Reject, Verdict, VerdictRun};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_PAGES_LISTED_MAX};
use crate::wire::{Reader, Writer};
use crate::{
    Error, ErrorKind, Lsn, PageCount, PageIdx, PageSet, PageSize, Result, SegmentId, TimelineId,
    VolumeId,
};

const MAGIC: &[u8; 4] = b"SHFC";
const VERSION: u8 = 1;
const TRAILER_LEN: usize = 32;
/// The frames are in a segment; without this flag they are inline.
const FLAG_SEGMENT: u64 = 1;
const FLAGS_KNOWN: u64 = FLAG_SEGMENT;
const FRAME_REF_LEN_MIN: usize = 18;
/// Timeline, first sequence number, running hash, one run of verdicts.
pub(super) const APPLIED_LEN_MIN: usize = 35;

impl Commit {
    /// The byte form. Of a commit that [`Commit::check`] refuses, nobody can read it back.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_hashed().0
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not one whole commit with a matching trailer, `Unsupported`
    /// when they come from a newer version.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        Self::decode_hashed(&bytes).map(|(commit, _)| commit)
    }

    /// The hash by which the next commit names this one: the trailer of its byte form.
    #[must_use]
    pub fn hash(&self) -> CommitHash {
        CommitHash(*blake3::hash(&self.encode_body().0).as_bytes())
    }

    /// [`Commit::encode`] together with [`Commit::hash`].
    pub(crate) fn encode_hashed(&self) -> (Bytes, CommitHash) {
        let mut writer = self.encode_body();
        let hash = CommitHash(*blake3::hash(&writer.0).as_bytes());
        writer.raw(&hash.0);
        (writer.finish(), hash)
    }

    /// [`Commit::decode`] together with [`Commit::hash`], which the bytes already hold.
    pub(crate) fn decode_hashed(bytes: &Bytes) -> Result<(Self, CommitHash)> {
        let (body, hash) = checked_body(bytes)?;
        let mut reader = Reader::new(body, "commit");
        reader.raw(MAGIC.len() + 1)?;
        let commit = read_fields(&mut reader, bytes)?;
        reader.end()?;
        commit.check()?;
        // Overlong numbers and unusual page sets would give one commit two hashes.
        if commit.encode_body().0 != body {
            return Err(reader.fail("not in canonical form"));
        }
        Ok((commit, hash))
    }

    fn encode_body(&self) -> Writer {
        let fixed = 256 + self.frames.len() * (FRAME_REF_LEN_MIN + 4) + self.inline.len();
        let mut writer = Writer::with_capacity(fixed);
        writer.raw(MAGIC);
        writer.u8(VERSION);
        writer.varint(if self.segment.is_some() { FLAG_SEGMENT } else { 0 });
        writer.raw(self.volume.as_bytes());
        writer.varint(self.lsn.0);
        writer.raw(&self.parent.0);
        writer.varint(self.epoch);
        writer.raw(&self.writer);
        writer.raw(&self.nonce);
        writer.varint(self.time_ms);
        writer.varint(u64::from(self.page_size.get().trailing_zeros()));
        writer.varint(u64::from(self.page_count.0));
        writer.varint(self.bulk_seen.0);
        write_pages(&mut writer, &self.pages);
        writer.varint(self.frames.len() as u64);
        for frame in &self.frames {
            writer.varint(u64::from(frame.pages));
            writer.varint(u64::from(frame.len));
            writer.raw(&frame.hash);
        }
        writer.varint(self.tables.len() as u64);
        for table in &self.tables {
            writer.bytes(table.as_bytes());
        }
        writer.varint(self.applied.len() as u64);
        for applied in &self.applied {
            write_applied(&mut writer, applied);
        }
        match self.segment {
            Some(segment) => writer.raw(segment.as_bytes()),
            // Their length follows from the frame table.
            None => writer.raw(&self.inline),
        }
        writer
    }
}

/// The bytes before the trailer, once magic, trailer and version are in order.
fn checked_body(bytes: &[u8]) -> Result<(&[u8], CommitHash)> {
    if bytes.len() > COMMIT_BYTES_MAX {
        return Err(Error::corrupt(format!("commit: too large bytes=`{}`", bytes.len())));
    }
    let (body, trailer) = bytes
        .split_last_chunk::<TRAILER_LEN>()
        .ok_or_else(|| Error::corrupt("commit: too short"))?;
    let version = body.strip_prefix(MAGIC).and_then(|rest| rest.first());
    let version = *version.ok_or_else(|| Error::corrupt("commit: not a commit"))?;
    if blake3::hash(body) != *trailer {
        return Err(Error::corrupt("commit: hash does not match its bytes"));
    }
    if version != VERSION {
        return Err(newer("version", u64::from(version)));
    }
    Ok((body, CommitHash(*trailer)))
}

pub(super) fn newer(what: &str, value: u64) -> Error {
    let text = format!("commit made by a newer version of Sheaf; upgrade: {what}=`{value}`");
    Error::new(ErrorKind::Unsupported, text)
}

fn read_fields(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Commit> {
    let flags = reader.varint()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(newer("flags", flags));
    }
    let volume = VolumeId::from_bytes(reader.array()?);
    let lsn = Lsn(reader.varint()?);
    let parent = CommitHash(reader.array()?);
    let epoch = reader.varint()?;
    let writer = reader.array()?;
    let nonce = reader.array()?;
    let time_ms = reader.varint()?;
    let page_size = 1u32.checked_shl(reader.varint_u32()?).and_then(PageSize::new);
    let page_size = page_size.ok_or_else(|| reader.fail("bad page size"))?;
    let page_count = PageCount(reader.varint_u32()?);
    let bulk_seen = Lsn(reader.varint()?);
    let pages = read_pages(reader)?;
    let frames = read_list(reader, FRAME_REF_LEN_MIN, read_frame)?;
    let tables = read_list(reader, 1, Reader::text)?;
    let applied = read_list(reader, APPLIED_LEN_MIN, read_applied)?;
    let (segment, inline) = if flags & FLAG_SEGMENT == 0 {
        let inline_len = frames.iter().map(|frame: &FrameRef| u64::from(frame.len)).sum::<u64>();
        let inline_len = usize::try_from(inline_len).map_err(|_| reader.fail("too short"))?;
        (None, whole.slice_ref(reader.raw(inline_len)?))
    } else {
        (Some(SegmentId::from_bytes(reader.array()?)), Bytes::new())
    };
    Ok(Commit {
        volume,
        lsn,
        parent,
        epoch,
        writer,
        nonce,
        time_ms,
        page_size,
        page_count,
        bulk_seen,
        pages,
        frames,
        segment,
        inline,
        tables,
        applied,
    })
}

pub(super) fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    least: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = reader.count(least)?;
    // The vector grows with what is read: a count alone, even a plausible one, allocates nothing.
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(item(reader)?);
    }
    Ok(list)
}

fn read_frame(reader: &mut Reader<'_>) -> Result<FrameRef> {
    Ok(FrameRef { pages: reader.varint_u32()?, len: reader.varint_u32()?, hash: reader.array()? })
}

/// Few pages are listed, each as its distance from the one before; many are a page set's bytes.
pub(super) fn write_pages(writer: &mut Writer, pages: &PageSet) {
    writer.varint(pages.len());
    if pages.len() > COMMIT_PAGES_LISTED_MAX {
        writer.bytes(&pages.to_bytes());
        return;
    }
    let mut before = 0;
    for page in pages.iter() {
        writer.varint(u64::from(page.get() - before));
        before = page.get();
    }
}

pub(super) fn read_pages(reader: &mut Reader<'_>) -> Result<PageSet> {
    let count = reader.varint()?;
    if count > COMMIT_PAGES_LISTED_MAX {
        let pages = PageSet::from_bytes(reader.bytes()?)?;
        // Compared here too, so that nothing below trusts a wrong number.
        return if pages.len() == count { Ok(pages) } else { Err(reader.fail("page count")) };
    }
    let mut pages = PageSet::new();
    let mut before = 0u32;
    for _ in 0..count {
        let page = before.checked_add(reader.varint_u32()?);
        let page = page.filter(|&page| page > before).and_then(PageIdx::new);
        let page = page.ok_or_else(|| reader.fail("page numbers do not ascend"))?;
        pages.insert(page);
        before = page.get();
    }
    Ok(pages)
}

pub(super) fn write_applied(writer: &mut Writer, applied: &Applied) {
    writer.raw(applied.timeline.as_bytes());
    writer.varint(applied.first_seq);
    writer.raw(&applied.running_hash);
    writer.varint(applied.runs.len() as u64);
    for run in &applied.runs {
        writer.varint(u64::from(run.count) << 2 | verdict_code(run.verdict));
    }
    // Their number and sequence numbers follow from the verdicts.
    for reject in &applied.rejects {
        writer.bytes(reject.reason.as_bytes());
    }
}

pub(super) fn read_applied(reader: &mut Reader<'_>) -> Result<Applied> {
    let timeline = TimelineId::from_bytes(reader.array()?);
    let first_seq = reader.varint()?;
    let running_hash = reader.array()?;
    let runs = read_list(reader, 1, read_run)?;
    let mut rejects = Vec::new();
    let mut seq = first_seq;
    for run in &runs {
        let end = seq.checked_add(u64::from(run.count));
        let end = end.ok_or_else(|| reader.fail("sequence numbers overflow"))?;
        if run.verdict == Verdict::Rejected {
            for seq in seq..end {
                rejects.push(Reject { seq, reason: reader.text()? });
            }
        }
        seq = end;
    }
    Ok(Applied { timeline, first_seq, running_hash, runs, rejects })
}

fn read_run(reader: &mut Reader<'_>) -> Result<VerdictRun> {
    let word = reader.varint()?;
    let count = u32::try_from(word >> 2).map_err(|_| reader.fail("count out of range"))?;
    let verdict = match word & 3 {
        0 => Verdict::Ok,
        1 => Verdict::Merged,
        2 => Verdict::Rejected,
        _ => return Err(reader.fail("unknown verdict")),
    };
    Ok(VerdictRun { verdict, count })
}

const fn verdict_code(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Ok => 0,
        Verdict::Merged => 1,
        Verdict::Rejected => 2,
    }
}
