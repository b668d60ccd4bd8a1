//! The whole of Sheaf under one seeded scheduler: devices, nodes, buckets, disks and a network,
//! on virtual time, with faults that no test would think of.
//!
//! Invariant: everything a run does follows from its seed. Leaves out what a simulator cannot
//! see: see `docs/testing.md`.

mod bucket;
mod campaign;
mod check;
pub mod crash_points;
mod device;
pub mod disk;
mod env;
mod fiber;
mod keeper;
mod link;
mod net;
mod node;
pub mod options;
mod oracle;
pub mod regression;
pub mod rng;
mod run;
mod shrink;
mod stranger;
mod trace;
mod workload;
mod world;

pub use campaign::{Campaign, FAULT_POINTS, SOMETIMES};
pub use check::Violation;
pub use run::run;
pub use shrink::shrink;
pub use world::Outcome;
