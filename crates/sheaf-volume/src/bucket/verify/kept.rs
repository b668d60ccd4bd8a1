//! Whether boundary marks, checkpoints and the hint to the newest one are whole.
//!
//! Invariant: the boundary that is believed is the one of the newest whole mark. Leaves out what
//! lies below it: it may be reclaimed at any time, but for what pins keep.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Checker, Inventory};
use crate::bucket::boundary::Mark;
use crate::bucket::branch::{Pin, pins};
use crate::bucket::checkpoint::{Frame, Lead, Opened};
use crate::bucket::keys::{checkpoint_key, latest_key, mark_key, refused, segment_key};
use crate::bucket::latest::Latest;
use crate::finding::{Finding, Remedy};
use crate::frame::decode_frame;
use crate::{FrameRef, Lsn, ObjectsError, Page, PageIdx, PageSet, Result, limits};

impl Checker<'_> {
    /// Checks the boundary marks; gives the boundary.
    pub(super) fn marks(&mut self, inventory: &Inventory) -> Result<Lsn> {
        let mut boundary = Lsn::ZERO;
        let numbers: Vec<u64> = inventory.marks.iter().copied().collect();
        for numbers in numbers.chunks(limits::LOG_BATCH_MAX) {
            let keys: Vec<String> = numbers.iter().map(|n| mark_key(self.volume, *n)).collect();
            for ((&number, key), bytes) in
                numbers.iter().zip(&keys).zip(self.objects.get_many(&keys))
            {
                let bytes = bytes.map_err(|e| refused("read boundary mark", e))?;
                match Mark::decode(&bytes) {
                    Ok(mark) if (mark.volume, mark.number) != (self.volume, number) => {
                        let what = "this is a boundary mark of another place";
                        self.findings.push(Finding::new(key, what, Remedy::RestoreStore));
                    }
                    Ok(mark) if mark.boundary < boundary => {
                        let what = "the boundary goes back in it";
                        self.findings.push(Finding::new(key, what, Remedy::RestoreStore));
                    }
                    Ok(mark) => boundary = mark.boundary,
                    Err(e) => self.findings.push(Finding::of(key, &e, Remedy::RestoreStore)),
                }
            }
        }
        Ok(boundary)
    }

    /// Checks the hint. One that is out of date is no damage, nor is one that went meanwhile.
    pub(super) fn hint(&mut self, inventory: &Inventory) -> Result<()> {
        if !inventory.has_hint {
            return Ok(());
        }
        let key = latest_key(self.volume);
        match self.objects.get(&key) {
            Ok(bytes) => match Latest::decode(&bytes) {
                Ok(hint) if hint.volume == self.volume => {}
                Ok(_) => {
                    let what = "this is a hint of another place";
                    self.findings.push(Finding::new(key, what, Remedy::Reclaim));
                }
                Err(e) => self.findings.push(Finding::of(key, &e, Remedy::Reclaim)),
            },
            Err(ObjectsError::NotFound(_)) => {}
            Err(e) => return Err(refused("read hint", e)),
        }
        Ok(())
    }

    /// Checks every checkpoint that is kept, and the frames it refers to. Of the others a reclaimer
    /// that was stopped may have left any part.
    pub(super) fn checkpoints(&mut self, inventory: &Inventory, boundary: Lsn) -> Result<()> {
        let pins = pins(self.objects, self.volume)?;
        let nearest = |pin: &Pin| inventory.checkpoints.range(..=pin.lsn).next_back().copied();
        let pinned: BTreeSet<Lsn> = pins.iter().filter_map(nearest).collect();
        let is_kept = |lsn: &&Lsn| **lsn >= boundary || pinned.contains(*lsn);
        for &lsn in inventory.checkpoints.iter().filter(is_kept) {
            let key = checkpoint_key(self.volume, lsn);
            let bytes = match self.objects.get(&key) {
                Ok(bytes) => bytes,
                // It gave way to a newer one since it was listed.
                Err(ObjectsError::NotFound(_)) => continue,
                Err(e) => return Err(refused("read checkpoint", e)),
            };
            let (opened, frames) = match Opened::decode_all(&bytes) {
                Ok(whole) => whole,
                Err(e) => {
                    self.findings.push(Finding::of(&key, &e, Remedy::RestoreStore).at(lsn));
                    continue;
                }
            };
            let head = &opened.head;
            if (head.volume, head.lsn, head.page_size) != (self.volume, lsn, self.page_size) {
                let what = "this is a checkpoint of another place";
                self.findings.push(Finding::new(&key, what, Remedy::RestoreStore).at(lsn));
                continue;
            }
            self.kept_frames(lsn, &opened, &frames)?;
        }
        Ok(())
    }

    /// Checks what a lead says of frames and of pages that nobody wrote; its other pages are
    /// compared where their frames are read.
    fn lead(&mut self, lsn: Lsn, lead: &Lead, frames: &[Frame]) {
        let live: PageSet =
            frames.iter().flat_map(|f| f.live.iter().map(|(idx, _)| *idx)).collect();
        let unwritten = lead.pages.iter().filter(|(idx, _)| !live.contains(**idx));
        let is_zeros = unwritten.into_iter().all(|(_, page)| page.iter().all(|byte| *byte == 0));
        if !is_zeros || !lead.frames.iter().all(|frame| frames.contains(frame)) {
            self.bad_lead(lsn);
        }
    }

    fn bad_lead(&mut self, lsn: Lsn) {
        let what = "the lead of this checkpoint says something else than the rest of it";
        let key = checkpoint_key(self.volume, lsn);
        self.findings.push(Finding::new(key, what, Remedy::RestoreStore).at(lsn));
    }

    fn kept_frames(&mut self, lsn: Lsn, opened: &Opened, frames: &[Frame]) -> Result<()> {
        if let Some(lead) = opened.lead() {
            self.lead(lsn, lead, frames);
        }
        let pages = opened.lead().map(|lead| &lead.pages);
        let place = |frame: &Frame| {
            let segment = opened.head.segments.get(frame.segment as usize)?;
            let range: Range<u64> = frame.offset..frame.offset + u64::from(frame.len);
            Some((segment.volume, segment_key(segment.volume, segment.id), range))
        };
        for frames in frames.chunks(limits::LOG_BATCH_MAX) {
            let placed: Vec<_> =
                frames.iter().filter_map(|frame| Some((frame, place(frame)?))).collect();
            let wants: Vec<_> =
                placed.iter().map(|(_, (_, key, range))| (key.clone(), range.clone())).collect();
            for ((frame, (owner, key, range)), bytes) in
                placed.into_iter().zip(self.objects.get_ranges(&wants))
            {
                self.named.insert(key.clone());
                let found = match bytes {
                    Ok(bytes) => {
                        let pages = u32::try_from(frame.members.len()).unwrap_or(u32::MAX);
                        let frame_ref = FrameRef { pages, len: frame.len, hash: frame.hash };
                        let size = self.page_size;
                        decode_frame(owner, size, &frame_ref, &frame.members, &bytes)
                    }
                    Err(e @ (ObjectsError::Unavailable(_) | ObjectsError::Denied(_))) => {
                        return Err(refused("read segment", e));
                    }
                    Err(e) => Err(refused("read segment", e)),
                };
                match found {
                    Ok(content) => {
                        let held = frame.members.iter().zip(&content);
                        let differs = |(idx, page): (&PageIdx, &Page)| {
                            let is_live = frame.live.iter().any(|(live, _)| live == idx);
                            let led = pages.and_then(|pages| pages.get(idx));
                            is_live && led.is_some_and(|led| led != page)
                        };
                        if held.into_iter().any(differs) {
                            self.bad_lead(lsn);
                        }
                    }
                    Err(e) => {
                        let what = format!("bytes {}..{}: {e}", range.start, range.end);
                        self.findings.push(Finding::new(key, what, Remedy::RestoreStore).at(lsn));
                    }
                }
            }
        }
        Ok(())
    }
}
