//! The one place where this crate asks for the time.
//!
//! Invariant: monotonic, counted from the first call; only ever used for waiting, never stored.

use std::{sync::OnceLock, time::Instant};

/// Milliseconds since this process first asked.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "roles own the clock; this is its one reader")]
fn elapsed() -> std::time::Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
