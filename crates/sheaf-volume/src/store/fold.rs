//! The local checkpoint: global pages go from the log to the base file, and the log starts anew.
//!
//! Invariant: the base file holds only pages of one global state `F`, at or below every snapshot
//! that is held, so no reader needs a byte that is overwritten; the old log stays whole until the
//! new meta file is durable, so a crash at any point finds one complete pair.
//!
//! Order: copy pages to the base file, flush it; write what is still needed to the other log,
//! flush it; write the other meta file, flush it; only then switch.

use super::local::{LOG_HEADER_LEN, Store, meta_file, write_log_header};
use super::map::{Loc, Version};
use super::meta;
use super::state::State;
use crate::teeth::{Tooth, bites};
use crate::{Error, File, LocalLsn, Page, PageIdx, Result, limits};

/// Versions by page, in page order.
type Kept = Vec<(PageIdx, Vec<Version>)>;

/// What a fold will do: computed under a read lock, carried out without one.
#[derive(Debug)]
struct FoldPlan {
    /// The new state of the base file.
    through: LocalLsn,
    /// Slots to set, and the log place to copy each from (`None`: nothing to copy).
    slots: Vec<(PageIdx, Version, Option<Loc>)>,
    /// Versions above `through` that some snapshot can still see.
    kept: Kept,
}

impl Store {
    /// Folds what the log holds of the newest global state that no snapshot in `pins` (ascending)
    /// precedes. The caller holds the volume's writer, so only fills can happen meanwhile, and
    /// they wait for the tail lock.
    pub(crate) fn fold(&self, pins: &[LocalLsn]) -> Result<()> {
        let _turn = self.flushing();
        let mut tail = self.tail();
        self.check_poison()?;
        let pins = if bites(Tooth::ForgetPinned) { &[] } else { pins };
        let plan = self.read().plan_fold(pins);
        self.copy_to_base(&plan)?;
        let generation = tail.generation + 1;
        let log = self.log_of(generation);
        let (kept, end) = self.carry(&plan.kept, log, generation)?;
        let mut next = self.folded_state(&plan, kept);
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

    fn log_of(&self, generation: u64) -> &dyn File {
        let [even, odd] = &self.logs;
        if generation.is_multiple_of(2) { &**even } else { &**odd }
    }

    /// The bytes of a version in the log: what it holds, whether or not they match their checksum,
    /// which travels with them.
    fn log_page(&self, idx: PageIdx, mark: LocalLsn, loc: Loc) -> Result<Page> {
        if let Some(page) = self.cache.peek(&(idx.get(), mark.0)) {
            return Ok(page);
        }
        let Loc::Log { file, offset, .. } = loc else { return Ok(Page::zeros(self.page_size())) };
        Page::filled(self.page_size(), |bytes| {
            let read = self.log_of(u64::from(file)).read_at(bytes, offset);
            read.map(|_| ()).map_err(|e| Error::io("read log", e))
        })
    }

    fn copy_to_base(&self, plan: &FoldPlan) -> Result<()> {
        let size = self.page_size();
        let mut out = Run::new(&*self.base, "write base file");
        for (idx, version, from) in &plan.slots {
            if let Some(loc) = from {
                out.write(&self.log_page(*idx, version.mark, *loc)?, idx.offset(size))?;
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

    /// Copies kept versions that live in the old log to the new one.
    fn carry(&self, kept: &Kept, log: &dyn File, generation: u64) -> Result<(Kept, u64)> {
        log.truncate(0).map_err(|e| Error::io("write log", e))?;
        let mut end = LOG_HEADER_LEN as u64;
        let mut out = Run::new(log, "carry log");
        let mut moved = Vec::with_capacity(kept.len());
        for (idx, list) in kept {
            let mut copies = Vec::with_capacity(list.len());
            for version in list {
                let mut version = *version;
                if let Loc::Log { sum, .. } = version.loc {
                    let page = self.log_page(*idx, version.mark, version.loc)?;
                    out.write(&page, end)?;
                    version.loc = Loc::Log { file: (generation % 2) as u8, offset: end, sum };
                    end += page.len() as u64;
                }
                copies.push(version);
            }
            moved.push((*idx, copies));
        }
        out.end()?;
        Ok((moved, end))
    }

    fn folded_state(&self, plan: &FoldPlan, kept: Kept) -> State {
        let old = self.read();
        let mut next = State {
            head: old.head,
            head_pages: old.head_pages,
            base: old.base,
            bases: old.bases.range(plan.through..).map(|(local, lsn)| (*local, *lsn)).collect(),
            timeline: old.timeline.clone(),
            attrs: old.attrs.clone(),
            intent: old.intent,
            ..State::default()
        };
        for (at, slot) in old.map.slots().enumerate() {
            if let Some(idx) = u32::try_from(at + 1).ok().and_then(PageIdx::new) {
                next.map.set_slot(idx, slot);
            }
        }
        for (idx, version, _) in &plan.slots {
            next.map.set_slot(*idx, Some(*version));
        }
        next.map.replace_versions(kept);
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
        let mut plan = FoldPlan { through, slots: Vec::new(), kept: Vec::new() };
        // Pages that were pending when they were last folded and have been filled since. A newer
        // folded version of the same page comes later in the list and overwrites this one.
        for (number, slot) in (1..).zip(self.map.slots()) {
            if let (Some(idx), Some(version)) = (PageIdx::new(number), slot)
                && let Loc::Log { .. } = version.loc
            {
                plan.slots.push(slot_for(idx, version));
            }
        }
        for (idx, list) in self.map.versions() {
            let folded = list.iter().rev().find(|version| version.mark <= through).copied();
            if let Some(version) = folded {
                plan.slots.push(slot_for(idx, version));
            }
            let folded = folded.or_else(|| self.map.slot(idx));
            let kept = keep(list, through, &seen, folded);
            if !kept.is_empty() {
                plan.kept.push((idx, kept));
            }
        }
        plan
    }
}

fn slot_for(idx: PageIdx, version: Version) -> (PageIdx, Version, Option<Loc>) {
    match version.loc {
        Loc::Log { sum, .. } => {
            (idx, Version { mark: version.mark, loc: Loc::Base { sum } }, Some(version.loc))
        }
        // Written as zeros too, so that the base file stays a plain SQLite file.
        Loc::Zero => (idx, version, Some(Loc::Zero)),
        Loc::Pending(_) | Loc::Base { .. } => (idx, version, None),
    }
}

/// Versions above `through` that one of the `seen` states resolves to.
fn keep(
    list: &[Version],
    through: LocalLsn,
    seen: &[LocalLsn],
    folded: Option<Version>,
) -> Vec<Version> {
    let mut kept: Vec<Version> = Vec::new();
    for at in seen.iter().filter(|at| **at > through) {
        let Some(version) = list.iter().rev().find(|version| version.mark <= *at) else { continue };
        if version.mark <= through || kept.last().is_some_and(|last| last.mark == version.mark) {
            continue;
        }
        let mut version = *version;
        // Dropped drafts point back to the place their page had: it is in the base file now.
        if let (Loc::Log { sum, .. }, Some(folded)) = (version.loc, folded)
            && folded.loc == version.loc
        {
            version.loc = Loc::Base { sum };
        }
        kept.push(version);
    }
    kept
}
