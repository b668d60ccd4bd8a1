//! Every bound and pause of this program, with its reason.

use std::time::Duration;

/// How long the screen waits for a key before it looks for news: below what people notice.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// From the last key to writing what was typed, in milliseconds. A word that ends is written at
/// once, so that a change that waits is about a word and not about a letter.
pub(crate) const PAUSE_MS: u64 = 700;
/// How long an exchange with a node may take.
pub(crate) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wishes that wait for the worker; beyond them the user is asked to wait.
pub(crate) const WISHES_MAX: usize = 8;
/// Commits that a history looks at.
pub(crate) const HISTORY_COMMITS: usize = 200;
/// Events that one tick takes, so that keys are never kept waiting.
pub(crate) const EVENTS_PER_TICK: usize = 64;
/// Columns that a side needs to be read; with fewer, one side is shown at a time.
pub(crate) const SIDE_COLUMNS: u16 = 48;
