//! A node that is stepped by hand: one thread, no runtime, everything in memory.
//!
//! Leaves out what the transport does, which the other files here have.

mod cold;
mod cost;
mod deltas;
mod far;
mod faults;
mod flow;
mod world;
