//! One run of one seed.
//!
//! Invariant: nothing of one run reaches another. Leaves out campaigns and shrinking.

use crate::{
    options::Options,
    trace::Trace,
    world::{Outcome, World},
};

/// Lines of the trace that a report shows.
const LINES_KEPT: usize = 60;

/// Runs a seed's options to the end; prints every event if asked to.
#[must_use]
pub fn run(options: Options, verbose: bool) -> Outcome {
    World::new(options, Trace::new(LINES_KEPT, verbose)).run()
}
