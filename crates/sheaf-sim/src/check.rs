//! The checkers: one module per claim of the design, by its name.
//!
//! Invariant: a checker compares what a replica or a bucket shows with the oracle, and says which
//! claim is broken and by what. Leaves out when they are asked.

use std::fmt;

pub(crate) mod ambiguity;
pub(crate) mod auth;
pub(crate) mod bounds;
pub(crate) mod clocks;
pub(crate) mod convergence;
pub(crate) mod durability;
pub(crate) mod editor;
pub(crate) mod exactly_once;
pub(crate) mod gc;
pub(crate) mod integrity;
pub(crate) mod isolation;
pub(crate) mod lazy;
pub(crate) mod log;
pub(crate) mod marks;
pub(crate) mod merge;
pub(crate) mod past;
pub(crate) mod recovery;
pub(crate) mod snapshots;
pub(crate) mod told;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The claim.
    pub claim: &'static str,
    /// What shows it.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.claim, self.what)
    }
}

/// Nothing, or the claim that does not hold.
pub(crate) type Checked = Result<(), Violation>;
