//! What of a draft, and of the timeline, waits in the log instead of in memory.
//!
//! Invariant: a draft keeps about [`VolumeOptions::memory_bytes`] of pages, and a timeline about as
//! much of bodies, in memory; more is staged in the log, where only the step that ends the draft
//! refers to it. The draft holds the volume's writer, so no fold moves what it has staged.
//!
//! [`VolumeOptions::memory_bytes`]: super::VolumeOptions::memory_bytes

use bytes::Bytes;

use super::draft::Over;
use super::{Draft, Volume};
use crate::store::{Content, HeldMutation, PendingMutation, bytes_here};
use crate::{Page, PageIdx, Result, limits};

impl Draft {
    /// Adds the next mutation to the timeline that is published with this draft.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn keep(&mut self, held: HeldMutation) -> Result<()> {
        let volume = self.volume().clone();
        self.kept_here += if held.is_here() { held.len() } else { 0 };
        self.kept.push(held);
        if self.kept_here > volume.0.memory_bytes {
            for held in &mut self.kept {
                volume.0.store.stage_mutation(held)?;
            }
            self.kept_here = 0;
        }
        Ok(())
    }

    /// The mutation of the timeline before this draft, with its bytes.
    ///
    /// # Errors
    /// `Io` or `Corrupt` when they cannot be read.
    pub fn mutation(&self, held: &HeldMutation) -> Result<PendingMutation> {
        Ok(held.with(self.volume().0.store.body(&held.body)?))
    }

    /// Stages the pages in memory when they have become too many. A disk that is full is reported
    /// by the step that ends the draft: until then what could not be staged stays in memory.
    pub(super) fn spill_if_large(&mut self) {
        let size = self.volume().page_size().bytes();
        if self.unspilled.saturating_mul(size) >= self.volume().0.memory_bytes {
            self.spill().ok();
            self.unspilled = 0;
        }
    }

    fn spill(&mut self) -> Result<()> {
        let volume = self.volume().clone();
        let at_once = (limits::STAGE_BYTES / volume.page_size().bytes()).max(1);
        let pages: Vec<(PageIdx, Page)> = self
            .dirty
            .iter()
            .filter_map(|(idx, content)| Some((*idx, content.here()?.clone())))
            .collect();
        for chunk in pages.chunks(at_once) {
            let staged = volume.stage(chunk)?;
            self.dirty.extend(staged.map(|(idx, staged)| (idx, Content::Staged(staged))));
        }
        let Some(rebase) = &mut self.rebase else { return Ok(()) };
        let pages: Vec<(PageIdx, Page)> = rebase
            .over
            .iter()
            .filter_map(|(idx, over)| match over {
                Over::Here(page) => Some((*idx, page.clone())),
                Over::Pending(_) | Over::Staged(_) => None,
            })
            .collect();
        for chunk in pages.chunks(at_once) {
            let staged = volume.stage(chunk)?;
            rebase.over.extend(staged.map(|(idx, staged)| (idx, Over::Staged(staged))));
        }
        Ok(())
    }
}

impl Volume {
    fn stage(
        &self,
        pages: &[(PageIdx, Page)],
    ) -> Result<impl Iterator<Item = (PageIdx, crate::store::StagedPage)>> {
        let (numbers, contents): (Vec<PageIdx>, Vec<Page>) = pages.iter().cloned().unzip();
        Ok(numbers.into_iter().zip(self.0.store.stage_pages(&contents)?))
    }

    /// Stages the body of a new mutation when the timeline has enough of them in memory.
    pub(super) fn place(&self, mut held: HeldMutation) -> Result<HeldMutation> {
        let here = bytes_here(&self.0.store.read().timeline);
        if here + held.len() > self.0.memory_bytes {
            self.0.store.stage_mutation(&mut held)?;
        }
        Ok(held)
    }

    /// Mutations that the log has not decided, oldest first, without those of their bytes that are
    /// on disk.
    #[must_use]
    pub fn held(&self) -> Vec<HeldMutation> {
        self.0.store.read().timeline.clone()
    }

    /// The mutation with this number, if the log has not decided it.
    ///
    /// # Errors
    /// `Io` or `Corrupt` when its bytes cannot be read.
    pub fn mutation(&self, seq: u64) -> Result<Option<PendingMutation>> {
        // Held across the read, as for a page: a fold reuses the file only after all readers left.
        let state = self.0.store.read();
        let timeline = &state.timeline;
        let at = timeline.binary_search_by_key(&seq, |held| held.seq).ok();
        let Some(held) = at.and_then(|at| timeline.get(at)) else { return Ok(None) };
        let bytes: Bytes = self.0.store.body(&held.body)?;
        Ok(Some(held.with(bytes)))
    }
}
