//! The `sheaf` binary as scripts see it: output, the one line on stderr, exit status.
//!
//! Invariant: these tests start the real program, a node included, and speak to it only as a
//! script could. What a merge or a rebase does is tested below, in the crates that do it.

#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bed;
mod contract;
mod history;
#[cfg(unix)]
mod kill;
#[cfg(all(unix, debug_assertions))]
mod points;
mod rows;
mod sharing;
mod verify;
mod wrong;
mod wrong_input;
