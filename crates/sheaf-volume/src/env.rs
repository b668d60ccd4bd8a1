//! The clock, randomness and fault points: everything nondeterministic an engine may ask for.
//!
//! Invariant: no safety decision rests on [`Env::now_ms`]. Leaves out spawning: the engine is
//! synchronous, threads belong to the roles above it.

use std::sync::PoisonError;
use std::{fmt, io};

use crate::sync::Mutex;

/// Source of time, randomness and injected faults.
pub trait Env: fmt::Debug + Send + Sync {
    /// Wall clock, milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Fills the buffer with unpredictable bytes (predictable in a simulator).
    fn fill_random(&self, bytes: &mut [u8]);

    /// A named place where a simulator may crash or fail; does nothing in production.
    ///
    /// # Errors
    /// Whatever a simulator injects.
    fn fault(&self, point: &'static str) -> io::Result<()> {
        let _ = point;
        Ok(())
    }
}

/// The operating system's clock and randomness.
#[cfg(feature = "native")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

#[cfg(feature = "native")]
impl Env for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn fill_random(&self, bytes: &mut [u8]) {
        // Without randomness ids could repeat, and a repeated id could overwrite data.
        getrandom::fill(bytes).expect("BUG: the operating system has no randomness");
    }

    /// In builds with assertions, a process can be told to end here: see `SHEAF_KILL_AT` in docs/testing.md.
    #[cfg(all(debug_assertions, unix))]
    fn fault(&self, point: &'static str) -> io::Result<()> {
        kill::at(point);
        Ok(())
    }
}

/// Ends a process with `kill -9` where `SHEAF_KILL_AT` says: `NAME@N` is the Nth time that it
/// comes to the fault point of that name. For tests of the real program; other builds have no code
/// for it.
#[cfg(all(feature = "native", debug_assertions, unix))]
mod kill {
    use std::process::{Command, abort};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The point, and how often it is passed by before.
    fn wish() -> Option<&'static (String, AtomicU64)> {
        static WISH: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
        let read = || {
            let text = std::env::var("SHEAF_KILL_AT").ok()?;
            let (point, times) = text.rsplit_once('@')?;
            Some((point.to_owned(), AtomicU64::new(times.parse::<u64>().ok()?)))
        };
        WISH.get_or_init(read).as_ref()
    }

    pub(super) fn at(point: &str) {
        let Some((_, left)) = wish().filter(|(wanted, _)| wanted == point) else { return };
        if left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        let own = std::process::id().to_string();
        // It does not come back from this; if there is no such program, aborting is as sudden.
        drop(Command::new("kill").args(["-9", &own]).status());
        abort();
    }
}

/// A clock that stands still until told, and a seeded generator. For tests and simulators.
#[derive(Debug)]
pub struct ManualEnv {
    state: Mutex<(u64, u64)>,
}

impl ManualEnv {
    /// An environment whose every answer follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new((1_700_000_000_000, seed)) }
    }

    /// Moves the clock forward.
    pub fn advance_ms(&self, ms: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += ms;
    }
}

impl Env for ManualEnv {
    fn now_ms(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            // SplitMix64 (Steele, Lea, Flood 2014): enough for ids that must differ.
            state.1 = state.1.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state.1;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
    }
}
