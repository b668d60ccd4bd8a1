//! The actors of an engine, on a bench: each works when it is called.
//!
//! Invariant: an actor that works is not on the bench, and the bench is not locked meanwhile: what
//! it does may open and close sites.

use std::{collections::BTreeMap, sync::Mutex};

use sheaf_volume::{Result, VolumeId};

use crate::{actor::Actor, crew::Crew, sites::locked};

/// See the file. By volume, so that their order is the same every time.
#[derive(Debug, Default)]
pub(super) struct Bench(Mutex<BTreeMap<VolumeId, Actor>>);

impl Bench {
    /// Whose actors sit here.
    pub(super) fn volumes(&self) -> Vec<VolumeId> {
        locked(&self.0).keys().copied().collect()
    }

    /// Lets one do what waits for it; false when nothing does.
    pub(super) fn step(&self, volume: VolumeId) -> bool {
        let Some(mut actor) = self.take(volume) else { return false };
        let Some(woken) = actor.poll() else {
            self.seat(actor);
            return false;
        };
        if let Some(working) = actor.step(woken) {
            self.seat(working);
        }
        true
    }

    /// When the first of them has something to do although nobody asks, rounded up.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let first = locked(&self.0).values().map(Actor::wake_at).min()?;
        Some(u64::try_from(first.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    fn take(&self, volume: VolumeId) -> Option<Actor> {
        locked(&self.0).remove(&volume)
    }

    fn seat(&self, actor: Actor) {
        let former = locked(&self.0).insert(actor.volume(), actor);
        debug_assert!(former.is_none(), "one actor per volume");
    }
}

impl Crew for Bench {
    fn start(&self, actor: Actor) -> Result<()> {
        self.seat(actor);
        Ok(())
    }

    fn finish(&self) {
        for volume in self.volumes() {
            // Until it has done what it was asked before, and then ended as it was asked to.
            while self.step(volume) {}
        }
    }
}
