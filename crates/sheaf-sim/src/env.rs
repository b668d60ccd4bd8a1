//! What a host's clock shows, what its randomness gives, and what happens at its fault points.
//!
//! Invariant: a process that restarts never sees randomness that an earlier one has used.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use sheaf_volume::Env;

use crate::{rng::Rng, world::Host};

/// What hosts take for the year 2023 when virtual time is zero.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A host's clock: off, and going at its own speed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far it is off.
    pub(crate) offset_ms: i64,
    /// How much too fast it goes, per million.
    pub(crate) drift: i64,
}

impl Clock {
    /// What it shows at a virtual time.
    pub(crate) fn shows(self, now_ms: u64) -> u64 {
        let real = i64::try_from(EPOCH_MS + now_ms).unwrap_or(i64::MAX);
        let drift = i64::try_from(now_ms).unwrap_or(0).saturating_mul(self.drift) / 1_000_000;
        u64::try_from(real.saturating_add(drift).saturating_add(self.offset_ms)).unwrap_or(0)
    }
}

/// The environment of one process of one host.
#[derive(Debug)]
pub(crate) struct HostEnv {
    host: Arc<Host>,
    rng: Mutex<Rng>,
}

impl HostEnv {
    pub(crate) fn new(host: Arc<Host>, rng: Rng) -> Self {
        Self { host, rng: Mutex::new(rng) }
    }
}

impl Env for HostEnv {
    fn now_ms(&self) -> u64 {
        self.host.clock()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }

    fn fault(&self, point: &'static str) -> io::Result<()> {
        self.host.at_point(point)
    }
}

/// A clock that nobody can set, for what only waits; as the operating system's monotonic clock.
#[derive(Debug)]
pub(crate) struct SteadyEnv {
    host: Arc<Host>,
    rng: Mutex<Rng>,
}

impl SteadyEnv {
    pub(crate) fn new(host: Arc<Host>, rng: Rng) -> Self {
        Self { host, rng: Mutex::new(rng) }
    }

    /// The virtual time at which this clock shows `ms`.
    pub(crate) fn virtual_ms(ms: u64) -> u64 {
        ms.saturating_sub(EPOCH_MS)
    }
}

impl Env for SteadyEnv {
    fn now_ms(&self) -> u64 {
        EPOCH_MS + self.host.now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}
