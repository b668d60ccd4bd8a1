//! Many callers that create one key at the same moment, round after round.
//!
//! Invariant: all creators of a round are let go together, and the round is judged before the next
//! one begins. A create whose outcome is unknown is looked up by what the key holds, never guessed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};

use bytes::Bytes;

use super::StoreTrial;
use crate::objects::probe::failed;
use crate::{Objects, ObjectsError, Result};

/// How the races for one key ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Races {
    /// Callers in each.
    pub creators: usize,
    /// Keys raced for.
    pub rounds: u64,
    /// Rounds that several callers won.
    pub several: u64,
    /// Rounds that nobody won.
    pub none: u64,
    /// Rounds whose key holds what a loser wrote.
    pub changed: u64,
    /// Creates whose outcome had to be looked up.
    pub looked_up: u64,
    /// The first wrong round, in words.
    first: Option<String>,
}

impl Races {
    /// What was wrong, if anything.
    pub(super) fn broken(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        let wrong = self.several + self.none + self.changed;
        Some(format!("{wrong} of {} races did not have exactly one winner: {first}", self.rounds))
    }

    fn judge(&mut self, round: u64, outcomes: &[Outcome], kept: Option<&[u8]>) {
        self.rounds += 1;
        let told: Vec<usize> = winners(outcomes, |outcome| matches!(outcome, Outcome::Won));
        let unknown = winners(outcomes, |outcome| matches!(outcome, Outcome::Unknown));
        self.looked_up += unknown.len() as u64;
        let keeper = kept.and_then(|kept| std::str::from_utf8(kept).ok()?.parse::<usize>().ok());
        let wrong = match (told.as_slice(), keeper) {
            ([one], Some(keeper)) if *one == keeper => return,
            // Nobody was told, but one of those who could not be told has it.
            ([], Some(keeper)) if unknown.contains(&keeper) => return,
            ([_], _) => {
                self.changed += 1;
                "one creator won, and the key holds something else".to_owned()
            }
            ([], _) => {
                self.none += 1;
                format!("nobody won in round {round}")
            }
            (several, _) => {
                self.several += 1;
                format!("{} creators won in round {round}", several.len())
            }
        };
        self.first.get_or_insert(wrong);
    }
}

fn winners(outcomes: &[Outcome], is: impl Fn(&Outcome) -> bool) -> Vec<usize> {
    outcomes.iter().enumerate().filter(|(_, outcome)| is(outcome)).map(|(at, _)| at).collect()
}

#[derive(Clone, Debug)]
enum Outcome {
    Won,
    Lost,
    Unknown,
    Failed(ObjectsError),
}

/// What the creators and the judge share.
struct Field<'a> {
    objects: &'a dyn Objects,
    prefix: &'a str,
    /// Passed twice per round by everybody: when it begins, and when all have their outcome.
    gate: Barrier,
    over: AtomicBool,
    outcomes: Mutex<Vec<Outcome>>,
}

impl Field<'_> {
    fn key(&self, round: u64) -> String {
        format!("{}race/{round:020}", self.prefix)
    }

    fn create(&self, creator: usize) {
        for round in 0.. {
            self.gate.wait();
            if self.over.load(Ordering::Acquire) {
                return;
            }
            let outcome = match self.objects.create(&self.key(round), body(creator)) {
                Ok(()) => Outcome::Won,
                Err(ObjectsError::AlreadyExists(_)) => Outcome::Lost,
                Err(ObjectsError::Ambiguous { .. }) => Outcome::Unknown,
                Err(error) => Outcome::Failed(error),
            };
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mine) = outcomes.get_mut(creator) {
                *mine = outcome;
            }
            drop(outcomes);
            self.gate.wait();
        }
    }

    fn judge(
        &self,
        trial: StoreTrial,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Races, ObjectsError> {
        let mut races = Races { creators: trial.creators, ..Races::default() };
        for round in 0..trial.rounds {
            self.gate.wait();
            self.gate.wait();
            let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(Outcome::Failed(error)) =
                outcomes.iter().find(|outcome| matches!(outcome, Outcome::Failed(_)))
            {
                return Err(error.clone());
            }
            let kept = match self.objects.get(&self.key(round)) {
                Ok(kept) => Some(kept),
                Err(ObjectsError::NotFound(_)) => None,
                Err(error) => return Err(error),
            };
            races.judge(round, &outcomes, kept.as_deref());
            progress(round + 1, trial.rounds);
        }
        Ok(races)
    }
}

fn body(creator: usize) -> Bytes {
    Bytes::from(creator.to_string())
}

/// Runs the races.
pub(super) fn run(
    objects: &dyn Objects,
    prefix: &str,
    trial: StoreTrial,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Races> {
    let field = Field {
        objects,
        prefix,
        gate: Barrier::new(trial.creators + 1),
        over: AtomicBool::new(false),
        outcomes: Mutex::new(vec![Outcome::Lost; trial.creators]),
    };
    let judged = std::thread::scope(|scope| {
        for creator in 0..trial.creators {
            let field = &field;
            scope.spawn(move || field.create(creator));
        }
        let judged = field.judge(trial, progress);
        // The creators wait for the next round, which does not come.
        field.over.store(true, Ordering::Release);
        field.gate.wait();
        judged
    });
    judged.map_err(|error| failed("create by many at once", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_judged_by_what_was_told_and_what_is_kept() {
        let judge = |outcomes: &[Outcome], kept: Option<&[u8]>| {
            let mut races = Races::default();
            races.judge(0, outcomes, kept);
            (races.several, races.none, races.changed, races.broken().is_some())
        };
        use Outcome::{Lost, Unknown, Won};
        assert_eq!(judge(&[Lost, Won], Some(b"1")), (0, 0, 0, false));
        assert_eq!(judge(&[Lost, Unknown], Some(b"1")), (0, 0, 0, false));
        assert_eq!(judge(&[Won, Won], Some(b"1")), (1, 0, 0, true));
        assert_eq!(judge(&[Lost, Lost], Some(b"1")), (0, 1, 0, true));
        assert_eq!(judge(&[Unknown, Lost], None), (0, 1, 0, true));
        // Two believe that they have it: one was told, the other would find itself there.
        assert_eq!(judge(&[Won, Unknown], Some(b"1")), (0, 0, 1, true));
        assert_eq!(judge(&[Won, Lost], None), (0, 0, 1, true));
    }
}
