//! The lead of a checkpoint: the pages that nearly every reader needs first, and where the ones
//! lie that they lead to. Byte table in `docs/format.md` 6.3.
//!
//! Invariants. A lead holds copies: what it says, the chunks say too, and a verification compares
//! the two. It is bounded in bytes whatever the site is like, and a checkpoint without one is as
//! good. Which pages come first is told by the layer above; this file knows no file format. Bytes
//! are checked against the directory's hash before they are decompressed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::codec::{encode_chunk, read_frames};
use super::{ChunkRef, Frame, Head, short_hash};
use crate::limits::{
    FIRST_RUN, LEAD_FRAMES_MAX, LEAD_PAGE_BYTES, LEAD_PAGES_MAX, LEAD_PLAIN_BYTES_MAX,
    LEAD_READS_MAX,
};
use crate::wire::{Reader, Writer};
use crate::{Error, ErrorKind, Page, PageCount, PageIdx, PageSet, Result};

/// Tells which pages a page leads to, for what a checkpoint carries in front: groups of pages that
/// are of use together, each with what the layer above will want to know of its pages when it is
/// asked about them. Page 1 comes with a zero. Any bytes may come.
pub type Leads = fn(PageIdx, u8, &[u8]) -> Vec<(Vec<PageIdx>, u8)>;

const ZSTD_LEVEL: i32 = 3;

/// What comes with the directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::bucket) struct Lead {
    /// Pages as they are in the state.
    pub(in crate::bucket) pages: BTreeMap<PageIdx, Page>,
    /// Frames of pages that these lead to, in the order of their first live pages.
    pub(in crate::bucket) frames: Vec<Frame>,
}

impl Lead {
    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.frames.is_empty()
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `Internal` when compression fails.
    pub(super) fn encode(&self) -> Result<Bytes> {
        let mut plain = Writer::with_capacity(self.pages.len() * 4_096 + self.frames.len() * 64);
        plain.varint(self.pages.len() as u64);
        let mut last = 0;
        for idx in self.pages.keys() {
            plain.varint(u64::from(idx.get() - last));
            last = idx.get();
        }
        self.pages.values().for_each(|page| plain.raw(page));
        plain.raw(&encode_chunk(&self.frames));
        let failed = |e| Error::with_source(ErrorKind::Internal, "pack the lead", e);
        let packed = zstd::bulk::compress(&plain.0, ZSTD_LEVEL).map_err(failed)?;
        let too_large = |_| Error::new(ErrorKind::Limit, "lead too large");
        let mut writer = Writer::with_capacity(packed.len() + 4);
        writer.u32(u32::try_from(plain.0.len()).map_err(too_large)?);
        writer.raw(&packed);
        Ok(writer.finish())
    }

    /// Reads the lead that a directory names.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not that.
    pub(super) fn decode(head: &Head, named: &ChunkRef, bytes: &[u8]) -> Result<Self> {
        let mut packed = Reader::new(bytes, "checkpoint lead");
        if named.len as usize != bytes.len() || named.hash != short_hash(bytes) {
            return Err(packed.fail("hash does not match its bytes"));
        }
        let len = packed.u32()? as usize;
        if len > LEAD_PLAIN_BYTES_MAX {
            return Err(packed.fail("too large"));
        }
        let plain = zstd::bulk::decompress(packed.raw(bytes.len() - 4)?, len);
        let plain = plain.ok().filter(|plain| plain.len() == len);
        let plain = plain.ok_or_else(|| packed.fail("does not unpack to its length"))?;
        let mut reader = Reader::new(&plain, "checkpoint lead");
        let count = reader.count(1)?;
        let mut numbers = Vec::with_capacity(count);
        let mut last = 0u32;
        for _ in 0..count {
            let next = last.checked_add(reader.varint_u32()?).filter(|&next| next > last);
            let next = next.and_then(PageIdx::new).filter(|&idx| head.page_count.contains(idx));
            let next = next.ok_or_else(|| reader.fail("pages out of order or range"))?;
            numbers.push(next);
            last = next.get();
        }
        let mut pages = BTreeMap::new();
        for idx in numbers {
            pages.insert(idx, Page::from(reader.raw(head.page_size.bytes())?.to_vec()));
        }
        let frames = read_frames(head, &mut reader, &|_| true)?;
        let lead = Self { pages, frames };
        let is_right = lead.pages.len() <= LEAD_PAGES_MAX
            && lead.frames.len() <= LEAD_FRAMES_MAX
            && !lead.is_empty();
        if !is_right {
            return Err(reader.fail("too many entries, or none"));
        }
        Ok(lead)
    }
}

/// What is to be in a lead, as far as it is chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) pages: BTreeMap<PageIdx, Page>,
    /// Pages whose frames are named.
    pub(super) near: BTreeSet<PageIdx>,
}

/// Chooses what a lead holds: from page 1 on downwards, group by group while they fit; of groups
/// that do not, where their pages lie. A group in part would help few readers and cost all.
///
/// # Errors
/// As `read`, which gives the content of pages.
pub(super) fn choose(
    leads: Leads,
    count: PageCount,
    read: &mut dyn FnMut(PageSet) -> Result<Vec<(PageIdx, Page)>>,
) -> Result<Choice> {
    let mut choice = Choice::default();
    let (mut reads, mut seen) = (0, BTreeSet::new());
    // Whoever reads page 1 asks for those behind it too.
    let first = (1..=FIRST_RUN).filter_map(PageIdx::new).collect();
    let mut groups = VecDeque::from([(first, None), (vec![PageIdx::FIRST], Some(0))]);
    while let Some((group, tag)) = groups.pop_front() {
        let group: Vec<PageIdx> = group.into_iter().filter(|&idx| count.contains(idx)).collect();
        let new = |idx: &PageIdx| !choice.pages.contains_key(idx);
        let missing: PageSet = group.iter().copied().filter(new).collect();
        let len = usize::try_from(missing.len()).unwrap_or(usize::MAX);
        if reads + len > LEAD_READS_MAX || choice.pages.len() + len > LEAD_PAGES_MAX {
            choice.near.extend(missing.iter());
            continue;
        }
        if len > 0 {
            reads += len;
            let mut pages = choice.pages.clone();
            pages.extend(read(missing.clone())?);
            let trial = Lead { pages, frames: Vec::new() };
            if trial.encode()?.len() > LEAD_PAGE_BYTES {
                choice.near.extend(missing.iter());
                continue;
            }
            choice.pages = trial.pages;
        }
        let Some(tag) = tag else { continue };
        for idx in group.into_iter().filter(|idx| seen.insert(*idx)) {
            let Some(page) = choice.pages.get(&idx) else { continue };
            groups.extend(leads(idx, tag, page).into_iter().map(|(ids, tag)| (ids, Some(tag))));
        }
    }
    let Choice { pages, mut near } = choice;
    near.retain(|idx| !pages.contains_key(idx));
    if near.len() > LEAD_FRAMES_MAX {
        // As with a group: a part of them would help few.
        near.clear();
    }
    Ok(Choice { pages, near })
}

#[cfg(test)]
mod tests;
