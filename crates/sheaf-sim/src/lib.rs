//! The whole of Sheaf under one seeded scheduler: devices, nodes, buckets, disks and a network,
//! on virtual time, with faults that no test would think of.
//!
//! Invariant: everything a run does follows from its seed. Leaves out what a simulator cannot
//! see: see `docs/testing.md`.

pub mod crash_points;
pub mod disk;
pub mod rng;
