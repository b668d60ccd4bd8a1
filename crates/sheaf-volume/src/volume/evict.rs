//! Giving back disk space: pages that can be fetched again leave this device.
//!
//! Invariant: only pages of the base file that the volume's log has are dropped, so never an
//! optimistic one; a reader that needs one afterwards fetches it, whatever snapshot it holds. Which
//! ones: those that nobody has read lately go first, as far as the page cache remembers, and of
//! these the highest numbers, for roots and schema are low. Leaves out when: the caller decides.

use super::{Volume, WriterGuard, lock};
use crate::store::State;
use crate::{LocalLsn, PageIdx, PageSet, Result};

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Pages dropped.
    pub pages: u64,
    /// Bytes of pages in the base file after it.
    pub bytes_left: u64,
}

impl Volume {
    /// Drops pages that can be fetched again until those in the base file take at most
    /// `bytes_max`, or nothing more can be dropped. Needs no network, but whoever reads a dropped
    /// page does.
    ///
    /// # Errors
    /// `Io`; the replica stays as it was.
    pub fn evict(&self, writer: &WriterGuard, bytes_max: u64) -> Result<Evicted> {
        let size = self.page_size().bytes() as u64;
        let resident = candidates(&self.0.store.read(), |_, _| false).0;
        if resident * size + self.0.store.log_len() <= bytes_max {
            return Ok(Evicted { pages: 0, bytes_left: resident * size });
        }
        self.checkpoint(writer)?;
        let (resident, gone) = {
            let state = self.0.store.read();
            let (resident, mut candidates) =
                candidates(&state, |idx, mark| self.0.store.is_cached(idx, mark));
            let excess = resident.saturating_sub(bytes_max / size);
            candidates.truncate(usize::try_from(excess).unwrap_or(usize::MAX));
            (resident, candidates.into_iter().collect::<PageSet>())
        };
        if !gone.is_empty() {
            let pins: Vec<LocalLsn> = lock(&self.0.pins).keys().copied().collect();
            self.0.store.evict(&pins, &gone)?;
        }
        let bytes_left = (resident - gone.len()) * size;
        Ok(Evicted { pages: gone.len(), bytes_left })
    }
}

/// How many pages are in the base file, and those that can go, best first.
fn candidates(state: &State, is_hot: impl Fn(PageIdx, LocalLsn) -> bool) -> (u64, Vec<PageIdx>) {
    let (mut resident, mut cold, mut hot) = (0, Vec::new(), Vec::new());
    for (number, slot) in (1..).zip(state.map.slots()) {
        let (Some(idx), Some(slot)) = (PageIdx::new(number), slot) else { continue };
        resident += u64::from(slot.loc.is_base());
        // Page 1 is read by every connection.
        if idx == PageIdx::FIRST || state.evictable(slot).is_none() {
            continue;
        }
        if is_hot(idx, slot.mark) { hot.push(idx) } else { cold.push(idx) }
    }
    let pages = cold.into_iter().rev().chain(hot.into_iter().rev());
    (resident, pages.collect())
}
