//! The local store: base file, log, index and page map of one volume on this device.
//!
//! Invariants: a [`Step`] becomes visible entirely or not at all, in memory and on disk; versions
//! are never overwritten in place while a snapshot can see them; the state after reopening is the
//! state before some crash point that lies behind the last flush. Optimistic pages never reach the
//! base file, so a hydrated, idle replica's base file is a plain SQLite database.
//!
//! Leaves out: whether a step is allowed (the volume decides) and where missing pages come from.

mod check;
mod fold;
#[cfg(test)]
mod foreign;
#[doc(hidden)]
pub(crate) mod fuzz;
mod held;
mod local;
mod map;
mod meta;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub use check::{ReplicaCheck, ReplicaInfo, ReplicaMended, mend_replica, verify_replica};
pub(crate) use held::{Content, StagedPage, bytes_here};
pub use held::{HeldMutation, PendingMutation};
pub(crate) use local::{Locate, Store, StoreOptions};
pub(crate) use map::FixedState;
pub(crate) use state::{BaseState, Incoming, Intent, State, Step, StepBody};
