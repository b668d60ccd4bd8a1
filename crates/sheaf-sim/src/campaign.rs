//! Many seeds: what was covered, and what was found.
//!
//! Invariant: a campaign that never reached something that it should have reached is a failure,
//! also when nothing else was found. Leaves out choosing seeds: a campaign runs those it is given.

use std::collections::BTreeMap;

use crate::{Outcome, Violation, options::Options};

/// Named places of the engine where a process may die.
pub const FAULT_POINTS: &[&str] = &[
    "gc: after mark",
    "gc: before delete",
    "gc: before mark",
    "push: after append",
    "push: before append",
    "store: before log flush",
    "store: before log write",
    "store: fold before base flush",
    "store: fold before meta",
    "store: fold before meta flush",
];

/// What must happen at least once in a campaign.
pub const SOMETIMES: &[&str] = &[
    "a commit that was cut short is there",
    "a lock was lost",
    "a power cut took unflushed commits",
    "asked",
    "bucket: away",
    "bucket: condition ignored",
    "bucket: create lost",
    "bucket: deletion done late",
    "bucket: deletion failed after",
    "bucket: deletion failed before",
    "bucket: flipped bit",
    "bucket: missing object",
    "bucket: outage",
    "bucket: short read",
    "bucket: stale list",
    "bucket: unavailable",
    "bucket: write done late",
    "bucket: write failed after",
    "bucket: write failed before",
    "clock: jump",
    "committed",
    "disk: I/O error",
    "disk: failed flush",
    "disk: full",
    "disk: rot",
    "disk: short write",
    "editor: asked",
    "editor: told a value",
    "editor: told of a rejection",
    "editor: told that all agree",
    "editor: typed",
    "exchange: ambiguous",
    "exchange: damage found",
    "evicted",
    "exchanged",
    "exchanged over a reclaimed part of the log",
    "folded",
    "keeper: branches",
    "keeper: others were faster",
    "keeper: passes",
    "keeper: reclaimed",
    "keeper: store did not answer",
    "keeper: too late",
    "keeper: visits",
    "keeper: wrote to a branch",
    "link: offline",
    "link: online",
    "link: told of a rejection",
    "looked",
    "looked at marks",
    "looked back over changes",
    "network: answer broke off",
    "network: connection broken",
    "network: doubled",
    "network: half-open connection",
    "network: lost",
    "network: one-way cut",
    "network: partition",
    "network: reordered",
    "node: answered a question",
    "people: a stranger at the door",
    "people: changed a document",
    "people: chose a value",
    "people: forged",
    "people: put a row in its place",
    "people: took a lock",
    "people: took back what waits",
    "people: took back what was decided",
    "people: wrote a page",
    "process: crash at a disk operation",
    "process: crash at a point",
    "process: killed",
    "process: pause",
    "process: power cut",
    "refused at home",
    "repaired",
    "saw a mark",
    "saw several values",
    "saw what gave way",
    "went on",
    "withdrew",
];

/// What many runs were.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Runs.
    pub seeds: u64,
    /// Virtual milliseconds of all of them.
    pub simulated_ms: u64,
    /// How often each thing happened in all of them.
    pub counts: BTreeMap<&'static str, u64>,
    /// Options and findings of runs that broke a claim.
    pub found: Vec<(Options, Violation)>,
}

impl Campaign {
    /// Adds a run.
    pub fn add(&mut self, options: &Options, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated_ms += outcome.simulated_ms;
        for (name, count) in &outcome.counts {
            *self.counts.entry(name).or_default() += count;
        }
        if let Some(violation) = &outcome.violation {
            self.found.push((options.clone(), violation.clone()));
        }
    }

    /// What should have happened and never did.
    #[must_use]
    pub fn never(&self) -> Vec<&'static str> {
        let all = FAULT_POINTS.iter().chain(SOMETIMES).copied();
        all.filter(|name| !self.counts.contains_key(name)).collect()
    }
}
