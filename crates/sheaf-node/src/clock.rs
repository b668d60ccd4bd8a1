//! Time that only measures: how long ago, how long still.
//!
//! Invariant: what is decided by it (looking at a log, closing an idle site, ending a silent
//! connection) is about effort, never about safety. Leaves out the date, which is
//! [`Env::now_ms`]'s and may be set back; this one may not.

use std::{fmt, time::Duration};

use sheaf_volume::Env;
use tokio::time::Instant;

/// A clock that never goes backwards.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;
}

/// For whoever tells the time of a whole world and never sets it back.
impl<E: Env> Clock for E {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }
}

/// The operating system's, since the node started.
#[derive(Debug)]
pub(crate) struct SteadyClock(Instant);

impl SteadyClock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Whole milliseconds, as sessions count them.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
