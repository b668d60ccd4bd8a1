//! The node from outside: real sockets on loopback, one process.
//!
//! Leaves out the client library; devices here are replicas driven by hand.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails where it stands"
)]

mod branch;
mod devices;
mod door;
mod engine;
mod harness;
mod log;
mod start;
mod talk;
