//! The one place where this crate asks for the time.
//!
//! Invariant: monotonic, counted from the first call; only ever used for waiting, never stored.

use std::{sync::OnceLock, time::Instant};

use sheaf_volume::{Env, SystemEnv};

/// Milliseconds since this process first asked.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "roles own the clock; this is its one reader")]
fn elapsed() -> std::time::Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The environment of a link: the clock above, which no setting of the wall clock moves, and the
/// system's randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic;

impl Env for Monotonic {
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        SystemEnv.fill_random(bytes);
    }
}
