//! One record of the log file. Byte table in `docs/format.md`.
//!
//! Invariant: a record is whole or absent. Its header and metadata carry one checksum, each page
//! its own, so that a page can be checked when it is read back alone. `flushed` says how much of
//! the log was known to be durable when the record was written: a bad record below a later
//! record's `flushed` is damage, anything else is a torn tail.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::held::{Body, Content, HeldMutation, Place, StagedPage};
use super::map::Loc;
use super::state::{Incoming, Intent, Step, StepBody};
use crate::limits::LSN_MAX;
use crate::wire::{Reader, Writer};
use crate::{CommitHash, LocalLsn, Lsn, PageCount, PageIdx, PageSet, PageSize, Result};

const MAGIC: &[u8; 4] = b"SHFR";
/// Bytes of magic, metadata length, page count, generation, flushed offset and checksum.
pub(super) const HEADER_LEN: usize = 4 + 4 + 4 + 8 + 8 + 8;
/// Metadata of one record: what a very long timeline carried over needs.
const META_BYTES_MAX: u32 = 1 << 30;

/// First byte of the metadata of a record that stages bytes.
const STAGE: u8 = 7;
/// First byte where pages or mutations of the step are in earlier records; where, comes first.
const REFERS: u8 = 8;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) meta_len: u32,
    pub(super) page_count: u32,
    pub(super) generation: u64,
    pub(super) flushed: u64,
    sum: u64,
}

impl Header {
    /// The header at the front of `bytes`, or `None` if these are not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes, "log record");
        let magic: [u8; 4] = reader.array().ok()?;
        let header = Self {
            meta_len: reader.u32().ok()?,
            page_count: reader.u32().ok()?,
            generation: reader.u64().ok()?,
            flushed: reader.u64().ok()?,
            sum: reader.u64().ok()?,
        };
        (&magic == MAGIC && header.meta_len <= META_BYTES_MAX).then_some(header)
    }

    pub(super) fn record_len(&self, size: PageSize) -> u64 {
        let pages = u64::from(self.page_count) * size.bytes() as u64;
        HEADER_LEN as u64 + u64::from(self.meta_len) + pages
    }

    pub(super) fn matches(&self, head: &[u8], meta: &[u8]) -> bool {
        let Some(fixed) = head.get(..HEADER_LEN - 8) else { return false };
        self.sum == checksum(fixed, meta)
    }
}

fn checksum(fixed: &[u8], meta: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    hash.update(fixed);
    hash.update(meta);
    hash.digest()
}

/// Checksum of one page, kept in the index.
pub(super) fn page_sum(page: &[u8]) -> u32 {
    (xxh3_64(page) & 0xffff_ffff) as u32
}

/// Puts the record to be written at `offset` of log `file` into `out`; where its pages will be.
pub(super) fn encode(
    out: &mut Vec<u8>,
    step: &Step,
    contents: &[Content],
    (generation, flushed): (u64, u64),
    (file, offset): (u8, u64),
) -> Vec<Loc> {
    out.clear();
    let pages = || contents.iter().filter_map(Content::here);
    let sums: Vec<u32> = pages().map(|page| page_sum(page)).collect();
    let staged: Vec<(u32, StagedPage)> = (0..)
        .zip(contents)
        .filter_map(|(index, content)| Some((index, content.staged()?)))
        .collect();
    let meta = encode_metadata(step, &sums, &staged);
    drop(staged);
    let bytes_of_pages: usize = pages().map(|page| page.len()).sum();
    out.reserve(HEADER_LEN + meta.len() + bytes_of_pages);
    out.extend_from_slice(MAGIC);
    let meta_len = u32::try_from(meta.len()).expect("BUG: metadata beyond its bound");
    let page_count = u32::try_from(sums.len()).expect("BUG: more pages than page numbers");
    out.extend_from_slice(&meta_len.to_le_bytes());
    out.extend_from_slice(&page_count.to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&flushed.to_le_bytes());
    let sum = checksum(out, &meta);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&meta);
    drop(meta);
    let mut at = offset + out.len() as u64;
    let mut locs = Vec::with_capacity(contents.len());
    let mut sums = sums.into_iter();
    for content in contents {
        match content {
            Content::Here(page) => {
                let sum = sums.next().unwrap_or_default();
                locs.push(Loc::Log { file, offset: at, sum });
                out.extend_from_slice(page);
                at += page.len() as u64;
            }
            Content::Staged(StagedPage { offset, sum }) => {
                locs.push(Loc::Log { file, offset: *offset, sum: *sum });
            }
        }
    }
    locs
}

/// What [`decode`] reads.
pub(super) fn encode_metadata(step: &Step, sums: &[u32], staged: &[(u32, StagedPage)]) -> Bytes {
    let mut meta = Writer::with_capacity(64 + sums.len() * 8);
    let bodies: Vec<(u32, Place)> = (0..)
        .zip(mutations(step))
        .filter_map(|(index, held)| match held.body {
            Body::Log(place) => Some((index, place)),
            Body::Here(_) => None,
        })
        .collect();
    if !staged.is_empty() || !bodies.is_empty() {
        meta.u8(REFERS);
        meta.varint(staged.len() as u64);
        for (index, page) in staged {
            meta.varint(u64::from(*index));
            meta.varint(page.offset);
            meta.u32(page.sum);
        }
        put_places(&mut meta, &bodies);
    }
    put_step(&mut meta, step);
    sums.iter().for_each(|sum| meta.u32(*sum));
    meta.finish()
}

/// A record's metadata, read.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) step: Step,
    /// Checksums of the pages in the record.
    pub(super) sums: Vec<u32>,
    /// Pages that earlier records hold, by their place among all pages of the step.
    pub(super) staged: Vec<(u32, StagedPage)>,
}

/// The step in the metadata of a record of log `file`.
pub(super) fn decode(meta: &[u8], page_count: u32, file: u8) -> Result<Decoded> {
    let mut reader = Reader::new(meta, "log record");
    let (mut staged, mut bodies) = (Vec::new(), Vec::new());
    if meta.first() == Some(&REFERS) {
        reader.u8()?;
        for _ in 0..reader.count(6)? {
            let (index, offset) = (reader.varint_u32()?, take_number(&mut reader)?);
            staged.push((index, StagedPage { offset, sum: reader.u32()? }));
        }
        bodies = take_places(&mut reader, file)?;
    }
    if !staged.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(reader.fail("staged pages out of order"));
    }
    let mut step = take_step(&mut reader)?;
    let timeline: &mut [HeldMutation] = match &mut step.body {
        StepBody::Commit { mutation, .. } => mutation.as_mut_slice(),
        StepBody::Advance { timeline, .. } => timeline,
        _ => &mut [],
    };
    refer(timeline, &bodies).map_err(|()| reader.fail("no such mutation"))?;
    let sums = (0..page_count).map(|_| reader.u32()).collect::<Result<_>>()?;
    reader.end()?;
    Ok(Decoded { step, sums, staged })
}

fn mutations(step: &Step) -> &[HeldMutation] {
    match &step.body {
        StepBody::Commit { mutation, .. } => mutation.as_slice(),
        StepBody::Advance { timeline, .. } => timeline,
        _ => &[],
    }
}

/// Gives mutations, which were read without bytes, the places of their bytes.
pub(super) fn refer(
    timeline: &mut [HeldMutation],
    bodies: &[(u32, Place)],
) -> std::result::Result<(), ()> {
    for (index, place) in bodies {
        timeline.get_mut(*index as usize).ok_or(())?.body = Body::Log(*place);
    }
    Ok(())
}

/// Where, after the beginning of a record that stages one body of this length, that body begins.
pub(super) fn staged_body_offset(len: usize) -> u64 {
    let mut before = Writer::with_capacity(16);
    before.u8(STAGE);
    before.varint(1);
    before.varint(len as u64);
    (HEADER_LEN + before.0.len()) as u64
}

/// A number that others are counted on from: far from every overflow.
fn take_number(reader: &mut Reader<'_>) -> Result<u64> {
    let number = reader.varint()?;
    if number > LSN_MAX { Err(reader.fail("position out of range")) } else { Ok(number) }
}

pub(super) fn take_lsn(reader: &mut Reader<'_>) -> Result<Lsn> {
    take_number(reader).map(Lsn)
}

pub(super) fn take_local(reader: &mut Reader<'_>) -> Result<LocalLsn> {
    take_number(reader).map(LocalLsn)
}

/// Bodies that are in the log are left empty; [`put_places`] says where they are.
pub(super) fn put_mutations(out: &mut Writer, list: &[HeldMutation]) {
    out.varint(list.len() as u64);
    for mutation in list {
        out.varint(mutation.seq);
        out.varint(mutation.base.0);
        out.varint(mutation.time_ms);
        match &mutation.body {
            Body::Here(bytes) => out.bytes(bytes),
            Body::Log(_) => out.bytes(&[]),
        }
    }
}

pub(super) fn take_mutations(reader: &mut Reader<'_>) -> Result<Vec<HeldMutation>> {
    let count = reader.count(4)?;
    (0..count)
        .map(|_| {
            Ok(HeldMutation {
                seq: take_number(reader)?,
                base: take_lsn(reader)?,
                time_ms: reader.varint()?,
                body: Body::Here(Bytes::copy_from_slice(reader.bytes()?)),
            })
        })
        .collect()
}

/// Where bodies are, by the mutation's place in its list. The file is said by whoever keeps them.
pub(super) fn put_places(out: &mut Writer, bodies: &[(u32, Place)]) {
    out.varint(bodies.len() as u64);
    for (index, place) in bodies {
        out.varint(u64::from(*index));
        out.varint(place.offset);
        out.varint(u64::from(place.len));
        out.u32(place.sum);
        out.raw(&place.head);
    }
}

pub(super) fn take_places(reader: &mut Reader<'_>, file: u8) -> Result<Vec<(u32, Place)>> {
    (0..reader.count(15)?)
        .map(|_| {
            let index = reader.varint_u32()?;
            let (offset, len) = (take_number(reader)?, reader.varint_u32()?);
            let (sum, head) = (reader.u32()?, reader.array()?);
            Ok((index, Place { file, offset, len, sum, head }))
        })
        .collect()
}

fn put_pages(out: &mut Writer, pages: &[PageIdx]) {
    out.varint(pages.len() as u64);
    let mut before = 0;
    for page in pages {
        // Ascending in every caller, so gaps are small; wrapping keeps any order exact.
        out.varint(u64::from(page.get().wrapping_sub(before)));
        before = page.get();
    }
}

fn take_pages(reader: &mut Reader<'_>) -> Result<Vec<PageIdx>> {
    let count = reader.count(1)?;
    let mut before = 0u32;
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        before = before.wrapping_add(reader.varint_u32()?);
        pages.push(PageIdx::new(before).ok_or_else(|| reader.fail("page zero"))?);
    }
    Ok(pages)
}

pub(super) fn put_intent(out: &mut Writer, intent: &Intent) {
    out.varint(intent.lsn.0);
    out.raw(&intent.nonce);
}

pub(super) fn take_intent(reader: &mut Reader<'_>) -> Result<Intent> {
    Ok(Intent { lsn: take_lsn(reader)?, nonce: reader.array()? })
}

pub(super) fn put_attrs(out: &mut Writer, attrs: &[(String, Option<Bytes>)]) {
    out.varint(attrs.len() as u64);
    for (name, value) in attrs {
        out.bytes(name.as_bytes());
        out.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            out.bytes(value);
        }
    }
}

pub(super) fn take_attrs(reader: &mut Reader<'_>) -> Result<Vec<(String, Option<Bytes>)>> {
    let count = reader.count(2)?;
    (0..count)
        .map(|_| {
            let name = reader.text()?;
            let value = match reader.u8()? {
                0 => None,
                1 => Some(Bytes::copy_from_slice(reader.bytes()?)),
                _ => return Err(reader.fail("unknown attribute form")),
            };
            Ok((name, value))
        })
        .collect()
}

fn put_step(out: &mut Writer, step: &Step) {
    match &step.body {
        StepBody::Commit { page_count, pages, mutation } => {
            out.u8(1);
            out.varint(u64::from(page_count.0));
            put_pages(out, pages);
            put_mutations(out, mutation.as_slice());
        }
        StepBody::Advance {
            adopt,
            lsn,
            hash,
            time_ms,
            page_count,
            incoming,
            filled,
            replayed,
            timeline,
        } => {
            out.u8(2);
            out.u8(u8::from(*adopt));
            out.varint(lsn.0);
            out.raw(&hash.0);
            out.varint(*time_ms);
            out.varint(u64::from(page_count.0));
            out.varint(incoming.len() as u64);
            for commit in incoming {
                out.varint(commit.lsn.0);
                out.varint(u64::from(commit.page_count.0));
                out.bytes(&commit.pages.to_bytes());
            }
            put_pages(out, filled);
            out.u8(u8::from(replayed.is_some()));
            if let Some((count, pages)) = replayed {
                out.varint(u64::from(count.0));
                put_pages(out, pages);
            }
            put_mutations(out, timeline);
        }
        StepBody::Push(intent) => {
            out.u8(3);
            put_intent(out, intent);
        }
        StepBody::Pushed => out.u8(4),
        StepBody::Fill { pages } => {
            out.u8(5);
            let (numbers, marks): (Vec<_>, Vec<_>) = pages.iter().copied().unzip();
            put_pages(out, &numbers);
            marks.iter().for_each(|mark| out.varint(mark.0));
        }
        StepBody::Attrs => out.u8(6),
        StepBody::Stage { bodies } => {
            out.u8(STAGE);
            out.varint(bodies.len() as u64);
            bodies.iter().for_each(|body| out.bytes(body));
        }
    }
    put_attrs(out, &step.attrs);
}

fn take_step(reader: &mut Reader<'_>) -> Result<Step> {
    let body = match reader.u8()? {
        1 => StepBody::Commit {
            page_count: PageCount(reader.varint_u32()?),
            pages: take_pages(reader)?,
            mutation: take_mutations(reader)?.pop(),
        },
        2 => take_advance(reader)?,
        3 => StepBody::Push(take_intent(reader)?),
        4 => StepBody::Pushed,
        5 => {
            let numbers = take_pages(reader)?;
            let pages = numbers
                .into_iter()
                .map(|idx| Ok((idx, take_local(reader)?)))
                .collect::<Result<_>>()?;
            StepBody::Fill { pages }
        }
        6 => StepBody::Attrs,
        STAGE => {
            let body = |reader: &mut Reader<'_>| Ok(Bytes::copy_from_slice(reader.bytes()?));
            let bodies = (0..reader.count(1)?).map(|_| body(reader)).collect::<Result<_>>()?;
            StepBody::Stage { bodies }
        }
        _ => return Err(reader.fail("unknown kind; made by a newer version of Sheaf?")),
    };
    Ok(Step { body, attrs: take_attrs(reader)? })
}

fn take_advance(reader: &mut Reader<'_>) -> Result<StepBody> {
    let adopt = reader.u8()? == 1;
    let lsn = take_lsn(reader)?;
    let hash = CommitHash(reader.array()?);
    let time_ms = reader.varint()?;
    let page_count = PageCount(reader.varint_u32()?);
    let count = reader.count(3)?;
    let incoming = (0..count)
        .map(|_| {
            Ok(Incoming {
                lsn: take_lsn(reader)?,
                page_count: PageCount(reader.varint_u32()?),
                pages: PageSet::from_bytes(reader.bytes()?)?,
            })
        })
        .collect::<Result<_>>()?;
    let filled = take_pages(reader)?;
    let replayed = match reader.u8()? {
        0 => None,
        _ => Some((PageCount(reader.varint_u32()?), take_pages(reader)?)),
    };
    let timeline = take_mutations(reader)?;
    Ok(StepBody::Advance {
        adopt,
        lsn,
        hash,
        time_ms,
        page_count,
        incoming,
        filled,
        replayed,
        timeline,
    })
}
