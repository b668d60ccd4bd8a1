//! The local checkpoint: global pages go from the log to the base file, and the log starts anew.
//!
//! Invariant: the base file holds only pages of one global state `F`, at or below every snapshot
//! that is held, so no reader needs a byte that is overwritten; the old log stays whole until the
//! new meta file is durable, so a crash at any point finds one complete pair.
//!
//! Order: copy pages to the base file, flush it; write what is still needed to the other log,
//! flush it; write the other meta file, flush it; only then switch.

use std::collections::BTreeMap;

use super::held::{Body, HeldMutation};
use super::local::{LOG_HEADER_LEN, Store, meta_file, write_log_header};
use super::map::{Loc, Version};
use super::meta;
use super::state::State;
use crate::teeth::{Tooth, bites};
use crate::{Error, File, LocalLsn, Lsn, Page, PageIdx, PageSet, Result, limits};

/// Versions in page order, those of one page ascending.
type Kept = Vec<(PageIdx, Version)>;

/// What a fold will do: computed under a read lock, carried out without one.
#[derive(Debug, Default)]
struct FoldPlan {
    /// The new state of the base file.
    through: LocalLsn,
    /// Versions that become slots. One that is in the log, or zeros, is copied to the base file.
    slots: Vec<(PageIdx, Version)>,
    /// Versions above `through` that some snapshot can still see.
    kept: Kept,
    /// Slots whose pages leave the base file for the new log: none, except while it is emptied.
    moved: Kept,
}

impl Store {
    /// Folds what the log holds of the newest global state that no snapshot in `pins` (ascending)
    /// precedes. The caller holds the volume's writer, so only fills can happen meanwhile, and
    /// they wait for the tail lock.
    pub(crate) fn fold(&self, pins: &[LocalLsn]) -> Result<()> {
        self.fold_without(pins, None)
    }

    /// Folds, empties the base file and fills it again without the pages of `gone`, which become
    /// pending. Writes each page that stays twice. No page is ever overwritten in place: what stays
    /// is durable in the log before the base file is cut, and in the base file before the log is.
    pub(crate) fn evict(&self, pins: &[LocalLsn], gone: &PageSet) -> Result<()> {
        self.fold_without(pins, Some(gone))?;
        // Nothing names a place in the base file now.
        self.base.truncate(0).map_err(|e| Error::io("empty base file", e))?;
        self.fold(pins)
    }

    fn fold_without(&self, pins: &[LocalLsn], gone: Option<&PageSet>) -> Result<()> {
        let _turn = self.flushing();
        let mut tail = self.tail();
        self.check_poison()?;
        let pins = if bites(Tooth::ForgetPinned) { &[] } else { pins };
        let mut plan = self.read().plan_fold(pins);
        if let Some(gone) = gone {
            self.read().plan_without(&mut plan, gone);
        }
        self.copy_to_base(&plan)?;
        let generation = tail.generation + 1;
        let log = self.log_of(generation);
        log.truncate(0).map_err(|e| Error::io("write log", e))?;
        let end = self.carry(&mut plan.moved, log, generation, LOG_HEADER_LEN as u64, true)?;
        let end = self.carry(&mut plan.kept, log, generation, end, gone.is_some())?;
        let mut next = self.folded_state(plan);
        let end = self.carry_timeline(&mut next.timeline, log, generation, end)?;
        // Last, over the hole left for it.
        write_log_header(log, generation, end)?;
        let flush = || if bites(Tooth::SkipFoldFlush) { Ok(()) } else { log.flush() };
        if let Err(e) = self.env.fault("store: fold before meta").and_then(|()| flush()) {
            self.poison();
            return Err(Error::io("flush log", e));
        }
        self.write_meta(generation, &next)?;
        {
            let mut state = self.write();
            std::mem::swap(&mut *state, &mut next);
        }
        tail.generation = generation;
        tail.end = end;
        tail.flushed = end;
        self.log_bytes.store(end - LOG_HEADER_LEN as u64, std::sync::atomic::Ordering::Relaxed);
        // The old log is not needed any more; a failure only costs disk space until the next fold.
        let _ignored = self.log_of(generation + 1).truncate(0).is_ok();
        Ok(())
    }

    pub(super) fn log_of(&self, generation: u64) -> &dyn File {
        let [even, odd] = &self.logs;
        if generation.is_multiple_of(2) { &**even } else { &**odd }
    }

    /// The bytes of a version in a file: what it holds, whether or not they match their checksum,
    /// which travels with them.
    fn log_page(&self, idx: PageIdx, mark: LocalLsn, loc: Loc) -> Result<Page> {
        if let Some(page) = self.cache.peek(&(idx.get(), mark.0)) {
            return Ok(page);
        }
        let (file, offset) = match loc {
            Loc::Log { file, offset, .. } => (self.log_of(u64::from(file)), offset),
            Loc::Base { .. } => (&*self.base, idx.offset(self.page_size())),
            Loc::Zero | Loc::Pending(_) => return Ok(Page::zeros(self.page_size())),
        };
        Page::filled(self.page_size(), |bytes| {
            let read = file.read_at(bytes, offset);
            read.map(|_| ()).map_err(|e| Error::io("read page", e))
        })
    }

    fn copy_to_base(&self, plan: &FoldPlan) -> Result<()> {
        let size = self.page_size();
        let mut out = Run::new(&*self.base, "write base file");
        for (idx, version) in &plan.slots {
            // Zeros are written too, so that the base file stays a plain SQLite file.
            if matches!(version.loc, Loc::Log { .. } | Loc::Zero) {
                out.write(&self.log_page(*idx, version.mark, version.loc)?, idx.offset(size))?;
            }
        }
        out.end()?;
        let base = self.read().base;
        // An older state that a snapshot holds may be longer than the newest one.
        if base.local == plan.through {
            let len = u64::from(base.page_count.0) * size.bytes() as u64;
            self.base.truncate(len).map_err(|e| Error::io("write base file", e))?;
        }
        let flushed =
            self.env.fault("store: fold before base flush").and_then(|()| self.base.flush());
        if let Err(e) = flushed {
            self.poison();
            return Err(Error::io("flush base file", e));
        }
        Ok(())
    }

    /// Copies kept versions that live in the old log (or in the base file, if that is emptied) to
    /// the new one; the end of what was copied.
    fn carry(
        &self,
        kept: &mut Kept,
        log: &dyn File,
        generation: u64,
        mut end: u64,
        empties_base: bool,
    ) -> Result<u64> {
        let mut out = Run::new(log, "carry log");
        for (idx, version) in kept {
            let sum = match version.loc {
                Loc::Log { sum, .. } => Some(sum),
                Loc::Base { sum } => empties_base.then_some(sum),
                Loc::Zero | Loc::Pending(_) => None,
            };
            if let Some(sum) = sum {
                let page = self.log_page(*idx, version.mark, version.loc)?;
                out.write(&page, end)?;
                version.loc = Loc::Log { file: (generation % 2) as u8, offset: end, sum };
                end += page.len() as u64;
            }
        }
        out.end()?;
        Ok(end)
    }

    /// The same for the bodies of mutations.
    fn carry_timeline(
        &self,
        timeline: &mut [HeldMutation],
        log: &dyn File,
        generation: u64,
        mut end: u64,
    ) -> Result<u64> {
        let mut out = Run::new(log, "carry timeline");
        for held in timeline {
            let bytes = if held.is_here() { continue } else { self.body(&held.body)? };
            if let Body::Log(place) = &mut held.body {
                out.write(&bytes, end)?;
                (place.file, place.offset) = ((generation % 2) as u8, end);
                end += bytes.len() as u64;
            }
        }
        out.end()?;
        Ok(end)
    }

    fn folded_state(&self, plan: FoldPlan) -> State {
        let old = self.read();
        let mut next = State {
            head: old.head,
            head_pages: old.head_pages,
            base: old.base,
            bases: old.bases.range(plan.through..).map(|(local, lsn)| (*local, *lsn)).collect(),
            timeline: old.timeline.clone(),
            attrs: old.attrs.clone(),
            intent: old.intent,
            map: old.map.slots_only(),
        };
        for (idx, mut version) in plan.slots {
            if let Loc::Log { sum, .. } = version.loc {
                version.loc = Loc::Base { sum };
            }
            next.map.set_slot(idx, Some(version));
        }
        for (idx, version) in plan.moved {
            next.map.set_slot(idx, Some(version));
        }
        next.map.replace_versions(&plan.kept);
        next
    }

    fn write_meta(&self, generation: u64, state: &State) -> Result<()> {
        let file = meta_file(&self.metas, generation);
        let bytes = meta::encode(generation, self.identity, state);
        let written = file.truncate(0).and_then(|()| file.write_at(&bytes, 0));
        written.map_err(|e| Error::io("write page map", e))?;
        // From here on the new pair may count, whatever is written to the old one.
        let flushed = self.env.fault("store: fold before meta flush").and_then(|()| file.flush());
        if let Err(e) = flushed {
            self.poison();
            return Err(Error::io("flush page map", e));
        }
        Ok(())
    }
}

/// Writes that follow each other, gathered into few calls.
struct Run<'a> {
    file: &'a dyn File,
    doing: &'static str,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(file: &'a dyn File, doing: &'static str) -> Self {
        Self { file, doing, start: 0, bytes: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let follows = offset == self.start + self.bytes.len() as u64;
        if !follows || self.bytes.len() >= limits::RECORD_BUFFER_BYTES {
            self.end()?;
            self.start = offset;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            let written = self.file.write_at(&self.bytes, self.start);
            written.map_err(|e| Error::io(self.doing, e))?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl State {
    fn plan_fold(&self, pins: &[LocalLsn]) -> FoldPlan {
        let oldest = pins.first().copied().unwrap_or(self.base.local).min(self.base.local);
        let through =
            self.bases.range(..=oldest).next_back().map_or(LocalLsn::ZERO, |(local, _)| *local);
        let mut seen: Vec<LocalLsn> =
            pins.iter().copied().chain([self.base.local, self.head]).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut plan = FoldPlan { through, ..FoldPlan::default() };
        // Pages that were pending when they were last folded and have been filled since. A newer
        // folded version of the same page comes later in the list and overwrites this one.
        for (number, slot) in (1..).zip(self.map.slots()) {
            if let (Some(idx), Some(version)) = (PageIdx::new(number), slot)
                && let Loc::Log { .. } = version.loc
            {
                plan.slots.push((idx, version));
            }
        }
        for (idx, list) in self.map.versions() {
            let folded = list.iter().rev().find(|version| version.mark <= through).copied();
            plan.slots.extend(folded.map(|version| (idx, version)));
            let folded = folded.or_else(|| self.map.slot(idx));
            plan.kept.extend(keep(list, through, &seen, folded).map(|version| (idx, version)));
        }
        plan
    }
}

impl State {
    /// Changes a plan so that nothing is in the base file after it: pages of `gone` that the log of
    /// the volume has are pending, all others are in the new log file.
    fn plan_without(&self, plan: &mut FoldPlan, gone: &PageSet) {
        let in_base = (1..).zip(self.map.slots()).filter_map(|(number, slot)| {
            let version = slot.filter(|version| matches!(version.loc, Loc::Base { .. }))?;
            Some((PageIdx::new(number)?, version))
        });
        let mut slots: BTreeMap<PageIdx, Version> = in_base.collect();
        slots.extend(plan.slots.drain(..));
        for (idx, mut version) in slots {
            match self.evictable(version).filter(|_| gone.contains(idx)) {
                Some(lsn) => {
                    version.loc = Loc::Pending(lsn);
                    plan.slots.push((idx, version));
                }
                None if matches!(version.loc, Loc::Base { .. } | Loc::Log { .. }) => {
                    plan.moved.push((idx, version));
                }
                None => plan.slots.push((idx, version)),
            }
        }
    }

    /// At which position of the volume's log the page of a slot can be had again.
    pub(crate) fn evictable(&self, slot: Version) -> Option<Lsn> {
        let is_global = matches!(slot.loc, Loc::Base { .. }) && slot.mark <= self.base.local;
        let (_, lsn) = self.bases.range(slot.mark..).next()?;
        (is_global && *lsn > Lsn::ZERO).then_some(*lsn)
    }
}

/// Versions above `through` that one of the `seen` states resolves to.
fn keep<'a>(
    list: &'a [Version],
    through: LocalLsn,
    seen: &'a [LocalLsn],
    folded: Option<Version>,
) -> impl Iterator<Item = Version> + 'a {
    let mut last = None;
    seen.iter().filter(move |at| **at > through).filter_map(move |at| {
        let mut version = *list.iter().rev().find(|version| version.mark <= *at)?;
        if version.mark <= through || last.replace(version.mark) == Some(version.mark) {
            return None;
        }
        // Dropped drafts point back to the place their page had: it is in the base file now.
        if let (Loc::Log { sum, .. }, Some(folded)) = (version.loc, folded)
            && folded.loc == version.loc
        {
            version.loc = Loc::Base { sum };
        }
        Some(version)
    })
}
