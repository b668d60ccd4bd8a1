//! The rule `mvr`: a cell that keeps all concurrent values until somebody resolves them.
//!
//! Invariant: siblings are ordered by the log; none has read another, except an author its own;
//! who has read all of them leaves one. What the cell shows is one fold over them from one stored
//! common base, the later always as left, so that nothing is merged twice. There are at most 8:
//! one more merges the two oldest, which changes nothing that is shown. Leaves out where siblings
//! are stored.

mod code;

use std::fmt;

use crate::{Rule, Value, cell::merge_cell, limits::SIBLINGS_MAX};

/// One of the concurrent values of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The position of the log up to which its author had read.
    pub read: u64,
    /// The position of the log at which it was ordered; above `read`.
    pub write: u64,
    /// Whose it is: the id of a timeline, as one number.
    pub author: u128,
    /// The value itself.
    pub value: Value,
}

/// The concurrent values of one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    rule: Rule,
    /// By `write`, and those of one commit in their order there.
    siblings: Vec<Sibling>,
    base: Option<Base>,
}

/// The value from which all siblings come, and the position at which it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Base {
    lsn: u64,
    value: Value,
}

/// Siblings that cannot be, or bytes that hold none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSiblings(&'static str);

impl Siblings {
    /// No values yet, of a cell under this rule, by which they are folded.
    ///
    /// The engine keeps siblings under `mvr` only; a custom rule merges at once and counts as it.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        let rule = if matches!(rule, Rule::Custom(_)) { Rule::Mvr } else { rule };
        Self { rule, siblings: Vec::new(), base: None }
    }

    /// The values, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter()
    }

    /// Whether there is nothing to resolve, so that the shown value is all there is to store.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.siblings.len() < 2
    }

    /// Drops the values of which this is true: of some the host knows more than their positions
    /// tell. To be called before [`Self::propose`].
    pub fn forget(&mut self, is_superseded: impl Fn(&Sibling) -> bool) {
        self.siblings.retain(|sibling| !is_superseded(sibling));
    }

    /// Takes note that the oldest value was written by this position at the latest, and drops it
    /// if another one has read it then. To be called before [`Self::propose`].
    pub fn oldest_was_there_at(&mut self, lsn: u64) {
        let Some((oldest, others)) = self.siblings.split_first_mut() else { return };
        oldest.write = oldest.write.min(lsn.max(oldest.read + 1));
        if others.iter().any(|other| other.read >= oldest.write) {
            self.siblings.remove(0);
        }
    }

    /// Adds a value and drops those that its author had read, or written.
    ///
    /// `shown_at` gives what the cell showed at a position of the log; it is asked at most once,
    /// and `None` means that nobody knows any more: the older base then stays. At the proposal's
    /// own `read` that is the value its author replaced.
    ///
    /// Returns the oldest value if there was one too many and it was merged into the next.
    ///
    /// # Errors
    /// [`BadSiblings`] if the value was ordered before it was read, or before another one here,
    /// or its author has another one at that position.
    pub fn propose(
        &mut self,
        proposal: Sibling,
        shown_at: impl FnOnce(u64) -> Option<Value>,
    ) -> Result<Option<Sibling>, BadSiblings> {
        check(self.siblings.last(), &proposal)?;
        self.siblings.retain(|q| q.write > proposal.read && q.author != proposal.author);
        self.siblings.push(proposal);
        self.rebase(shown_at);
        Ok((self.siblings.len() > SIBLINGS_MAX).then(|| self.merge_oldest()).flatten())
    }

    /// What the cell shows: the siblings one after another, and a value that is not ordered yet
    /// after all of them. `None` without any.
    #[must_use]
    pub fn shown(&self, local: Option<&Value>) -> Option<Value> {
        let mut values = self.siblings.iter().map(|sibling| &sibling.value).chain(local);
        let first = values.next()?.clone();
        Some(values.fold(first, |right, left| self.fold(left, &right)))
    }

    fn fold(&self, left: &Value, right: &Value) -> Value {
        // Under `mvr` the latest is shown, even where it goes back to the common base.
        if self.rule == Rule::Mvr {
            return left.clone();
        }
        let base = self.base.as_ref().map(|base| &base.value);
        merge_cell(self.rule, base, left, right).value
    }

    fn rebase(&mut self, shown_at: impl FnOnce(u64) -> Option<Value>) {
        let read = self.siblings.iter().map(|sibling| sibling.read).min();
        let Some(lsn) = read.filter(|_| !self.is_settled()) else {
            self.base = None;
            return;
        };
        if self.base.as_ref().is_some_and(|base| base.lsn == lsn) {
            return;
        }
        match shown_at(lsn) {
            Some(value) => self.base = Some(Base { lsn, value }),
            // An older base is an ancestor of all; a newer one is not.
            None => self.base = self.base.take().filter(|base| base.lsn < lsn),
        }
    }

    /// The fold begins with these two, so that with their result in their place it stays equal.
    fn merge_oldest(&mut self) -> Option<Sibling> {
        let (oldest, next) = (self.siblings.first()?, self.siblings.get(1)?);
        let value = self.fold(&next.value, &oldest.value);
        let oldest = self.siblings.remove(0);
        let next = self.siblings.first_mut()?;
        next.value = value;
        next.read = next.read.min(oldest.read);
        Some(oldest)
    }
}

fn check(last: Option<&Sibling>, next: &Sibling) -> Result<(), BadSiblings> {
    if next.write <= next.read {
        return Err(BadSiblings("a value was ordered before its author read"));
    }
    match last {
        Some(last) if last.write > next.write => Err(BadSiblings("values are out of order")),
        _ => Ok(()),
    }
}

impl fmt::Display for BadSiblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadSiblings {}
