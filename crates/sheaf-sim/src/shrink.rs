//! Makes a failing run smaller: fewer hosts, shorter, fewer faults, less work.
//!
//! Invariant: a step is kept only if the smaller run breaks the same claim. Leaves out events: a
//! smaller run is another schedule, and need not fail at the same place.

use crate::{Outcome, options::Options, run};

/// Runs that shrinking may cost.
const TRIES_MAX: usize = 120;

/// A smaller run with the same finding, and how it ended.
#[must_use]
pub fn shrink(
    options: &Options,
    outcome: Outcome,
    told: &mut dyn FnMut(&Options),
) -> (Options, Outcome) {
    let mut state = Shrink { best: options.clone(), outcome, tries: 0 };
    state.fewer("nodes", 0, told);
    state.fewer("sites", 1, told);
    state.fewer("devices", 1, told);
    state.shorter(told);
    let names: Vec<&str> = options.clone().fields().iter().map(|(name, _)| *name).collect();
    for name in names {
        let group = name.split_once('.').map(|(group, _)| group);
        let part =
            matches!(group, Some("network" | "bucket" | "disk" | "process" | "clock" | "do"));
        if part
            && !matches!(
                name,
                "do.append" | "network.partition-ms" | "bucket.outage-ms" | "process.pause-ms"
            )
        {
            state.try_value(name, 0, told);
        }
    }
    state.shorter(told);
    (state.best, state.outcome)
}

struct Shrink {
    best: Options,
    outcome: Outcome,
    tries: usize,
}

impl Shrink {
    fn value(&self, name: &str) -> u64 {
        let mut options = self.best.clone();
        options
            .fields()
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, field)| field.get())
    }

    /// Tries one other value; whether the run still breaks the claim.
    fn try_value(&mut self, name: &str, value: u64, told: &mut dyn FnMut(&Options)) -> bool {
        if self.value(name) == value || self.tries >= TRIES_MAX {
            return false;
        }
        let mut options = self.best.clone();
        if options.set(name, value).is_err() {
            return false;
        }
        self.tries += 1;
        let outcome = run(options.clone(), false);
        let claim = |outcome: &Outcome| outcome.violation.as_ref().map(|found| found.claim);
        if claim(&outcome) != claim(&self.outcome) {
            return false;
        }
        (self.best, self.outcome) = (options, outcome);
        told(&self.best);
        true
    }

    fn fewer(&mut self, name: &str, least: u64, told: &mut dyn FnMut(&Options)) {
        for value in least..self.value(name) {
            if self.try_value(name, value, told) {
                return;
            }
        }
    }

    fn shorter(&mut self, told: &mut dyn FnMut(&Options)) {
        while self.value("safety-ms") > 500
            && self.try_value("safety-ms", self.value("safety-ms") / 2, told)
        {}
    }
}
