//! Sequence locks: a mutation says how a named counter stood when its author looked, and how many
//! moves of others it can bear.
//!
//! Invariant: a mutation moves each lock that it names by one, if and only if it is applied; so a
//! lock's counter is the number of mutations in the log that took it. Every replica judges alike:
//! a judgement needs the lock, the counter and the author's own share of it, and nothing else.
//!
//! What the author saw counts its own waiting mutations, which the log may still refuse. That is
//! why the log keeps each timeline's share: what somebody else moved is the difference, whatever
//! became of the author's own (docs/adr/0022-locks.md). Leaves out waiting: nobody ever holds a
//! lock, so there is no deadlock.

use sheaf_volume::{Error, Result};

use crate::limits;

mod asking;
mod function;
mod notes;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

pub use asking::Asking;
pub(crate) use asking::Resolution;
pub(crate) use function::{NoneWaiting, Waiting, is_own_query, register};
pub(crate) use notes::Notes;
pub(crate) use table::{Admitted, CREATE, admit, advance, prepare};
pub(crate) use waiting::OwnWaiting;

/// What becomes of a mutation that finds its lock moved further than it can bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnFailure {
    /// It is applied all the same, merged with what is there, and counts as merged.
    #[default]
    Merge,
    /// It is recorded and skipped.
    Reject,
    /// It waits, and its author's later ones with it, until its author has looked again.
    Ask,
}

impl OnFailure {
    /// By its name in SQL.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "merge" => Some(Self::Merge),
            "reject" => Some(Self::Reject),
            "ask" => Some(Self::Ask),
            _ => None,
        }
    }

    /// By its number in the op stream.
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Merge),
            1 => Some(Self::Reject),
            2 => Some(Self::Ask),
            _ => None,
        }
    }

    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Merge => 0,
            Self::Reject => 1,
            Self::Ask => 2,
        }
    }
}

/// One lock of a mutation. Counts are at most `i64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lock {
    /// Its name, 1 to 1,024 bytes.
    pub name: String,
    /// How the counter stood when its author looked, with what its author's own waiting mutations
    /// had moved it.
    pub seen: u64,
    /// How many of these moves were its author's own.
    pub own: u64,
    /// How many moves of others it bears; `None` for any number.
    pub slack: Option<u64>,
    /// What becomes of the mutation otherwise.
    pub on_failure: OnFailure,
}

impl Lock {
    /// Whether it can be written down.
    pub(crate) fn check(&self) -> Result<()> {
        if self.name.is_empty() || self.name.len() > limits::NAME_BYTES_MAX {
            let max = limits::NAME_BYTES_MAX;
            return Err(Error::invalid(format!("the name of a lock has 1 to {max} bytes")));
        }
        let counts = [Some(self.seen), Some(self.own), self.slack];
        if self.own > self.seen || counts.into_iter().flatten().any(|n| i64::try_from(n).is_err()) {
            return Err(Error::invalid(format!("the counts of lock {} cannot be", self.name)));
        }
        Ok(())
    }

    /// What the counter says to it.
    pub(crate) fn judge(&self, counter: Counter) -> Judgement {
        let others = counter.moves.saturating_sub(counter.own);
        let seen = self.seen.saturating_sub(self.own);
        if seen > others {
            return Judgement::Future;
        }
        let Some(slack) = self.slack else { return Judgement::Held };
        if self.own > counter.own {
            return Judgement::Orphaned;
        }
        if self.seen.saturating_add(slack) < counter.moves {
            return Judgement::Moved;
        }
        Judgement::Held
    }

    /// Why it fails, for its author.
    pub(crate) fn reason(&self, counter: Counter, judgement: Judgement) -> String {
        let Self { name, seen, slack, .. } = self;
        match judgement {
            Judgement::Orphaned => format!(
                "lock `{name}` failed: an earlier transaction of this device that took it was \
                 refused, and this one was made on top of that"
            ),
            Judgement::Future => format!(
                "the mutation is malformed: lock `{name}` was seen at {seen}, and the log has it \
                 at {}",
                counter.moves
            ),
            Judgement::Moved | Judgement::Held => format!(
                "lock `{name}` failed: it was seen at {seen} and stands at {}; {} would do",
                counter.moves,
                slack.map_or_else(
                    || "any number".to_owned(),
                    |slack| format!("at most {}", seen.saturating_add(slack)),
                ),
            ),
        }
    }
}

/// How a lock stands in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    /// How many mutations have taken it.
    pub(crate) moves: u64,
    /// How many of them were the timeline's that asks.
    pub(crate) own: u64,
}

/// What a counter says to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It holds.
    Held,
    /// Others have moved it too far.
    Moved,
    /// Its author counted a mutation of its own that the log has refused.
    Orphaned,
    /// Its author says that others moved it further than they did: no device of ours does.
    Future,
}
