//! The convergence machine: what an editor of one value shows while its edits are under way.
//!
//! Invariants: what is shown changes only by an edit, by a notification and by
//! [`Convergence::pull`]; nothing is notified while an edit is outstanding; a notification carries
//! one value, the newest; every edit ends in `confirm` or `reject`. Pure: values and events in,
//! notifications out. Leaves out where values and verdicts come from, and how values are merged.

use std::collections::VecDeque;

use sheaf_volume::teeth::{Tooth, bites};

use crate::limits;

/// One outstanding edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<V> {
    /// What was shown when it was made.
    pub base: V,
    /// What was shown afterwards.
    pub left: V,
}

/// What an editor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<V> {
    /// Show this value: it is agreed on.
    Value(V),
    /// What is shown is agreed on now.
    Converged,
}

/// What one editor shows, and what it has outstanding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convergence<V> {
    shown: V,
    agreed: V,
    queue: VecDeque<Edit<V>>,
    proposed: Option<V>,
}

impl<V: Clone + PartialEq> Convergence<V> {
    /// An editor that shows what is agreed on.
    #[must_use]
    pub fn new(value: V) -> Self {
        Self { shown: value.clone(), agreed: value, queue: VecDeque::new(), proposed: None }
    }

    /// What is shown.
    #[must_use]
    pub fn shown(&self) -> &V {
        &self.shown
    }

    /// What is agreed on.
    #[must_use]
    pub fn agreed(&self) -> &V {
        &self.agreed
    }

    /// How many edits are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// The editor changed the value. Beyond [`limits::EDITS_MAX`] outstanding edits the newest
    /// takes in the next.
    pub fn edit(&mut self, value: V) {
        let base = std::mem::replace(&mut self.shown, value.clone());
        let is_full = self.queue.len() >= limits::EDITS_MAX;
        match self.queue.back_mut() {
            Some(last) if is_full => last.left = value,
            _ => self.queue.push_back(Edit { base, left: value }),
        }
    }

    /// Others agreed on a value.
    pub fn remote(&mut self, value: V) -> Option<Notice<V>> {
        self.agreed = value;
        let waits = !self.queue.is_empty() && !bites(Tooth::TellEarly);
        if waits || self.shown == self.agreed {
            return None;
        }
        self.shown = self.agreed.clone();
        Some(Notice::Value(self.agreed.clone()))
    }

    /// What the oldest edit comes to on the agreed value; what is shown stays.
    pub fn propose(&mut self, merge: impl FnOnce(&Edit<V>, &V) -> V) -> Option<&V> {
        self.proposed = self.queue.front().map(|edit| merge(edit, &self.agreed));
        self.proposed.as_ref()
    }

    /// What was proposed is agreed on.
    pub fn accept(&mut self) -> Option<Notice<V>> {
        let result = self.proposed.take()?;
        self.confirm(result)
    }

    /// The oldest edit was decided, and came to this.
    pub fn confirm(&mut self, result: V) -> Option<Notice<V>> {
        self.queue.pop_front()?;
        self.agreed = result;
        self.settle()
    }

    /// All edits were decided, and came to this.
    pub fn confirm_all(&mut self, result: V) -> Option<Notice<V>> {
        self.queue.truncate(1);
        self.confirm(result)
    }

    /// The oldest edit was refused: gives it back, and what the editor is told besides.
    pub fn reject(&mut self) -> Option<(Edit<V>, Option<Notice<V>>)> {
        let edit = self.queue.pop_front()?;
        Some((edit, self.settle()))
    }

    /// On the editor's wish: shows what the outstanding edits come to on the agreed value, and goes
    /// on from there. Does nothing where none is outstanding or one is proposed.
    pub fn pull(&mut self, merge: impl FnOnce(&Edit<V>, &V) -> V) -> bool {
        let (Some(oldest), None) = (self.queue.front(), &self.proposed) else { return false };
        let whole = Edit { base: oldest.base.clone(), left: self.shown.clone() };
        self.shown = merge(&whole, &self.agreed);
        let edit = Edit { base: self.agreed.clone(), left: self.shown.clone() };
        self.queue = VecDeque::from([edit]);
        true
    }

    fn settle(&mut self) -> Option<Notice<V>> {
        self.proposed = None;
        if !self.queue.is_empty() {
            return None;
        }
        if self.shown == self.agreed {
            return Some(Notice::Converged);
        }
        self.shown = self.agreed.clone();
        Some(Notice::Value(self.agreed.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sheaf_merge::text;

    use super::*;

    #[expect(clippy::ptr_arg, reason = "the machine hands out what it holds")]
    fn merge(edit: &Edit<String>, agreed: &String) -> String {
        text::merge(&edit.base, &edit.left, agreed)
    }

    /// The vectors of the specification.
    #[test]
    fn given_vectors() {
        let vectors = include_str!("../../tests/vectors/convergence.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let mut cell = Convergence::new(vector["start"].as_str().unwrap().to_owned());
            let events = vector["events"].as_array().unwrap();
            let trace = vector["trace"].as_array().unwrap();
            assert_eq!(events.len(), trace.len(), "{}", vector["id"]);
            for (event, expected) in events.iter().zip(trace) {
                let value = || event[1].as_str().unwrap().to_owned();
                let notice = match event[0].as_str().unwrap() {
                    "edit" => {
                        cell.edit(value());
                        None
                    }
                    "remote" => cell.remote(value()),
                    "propose" => {
                        cell.propose(merge).unwrap();
                        None
                    }
                    "accept" => cell.accept(),
                    other => panic!("unknown event {other}"),
                };
                let notice = notice.map(|notice| match notice {
                    Notice::Value(value) => value,
                    Notice::Converged => "converged".to_owned(),
                });
                let id = format!("{} {event}", vector["id"]);
                assert_eq!(cell.shown(), expected["shown"].as_str().unwrap(), "{id}");
                assert_eq!(cell.agreed(), expected["consensus"].as_str().unwrap(), "{id}");
                assert_eq!(cell.outstanding() as u64, expected["outstanding"], "{id}");
                assert_eq!(notice.as_deref(), expected["notify"].as_str(), "{id}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Edit(String),
        Remote(String),
        Propose,
        Accept,
        Confirm(String),
        ConfirmAll(String),
        Reject,
        Pull,
    }

    fn event() -> impl Strategy<Value = Event> {
        let value = "[a-c]( [a-c]){0,2}";
        prop_oneof![
            3 => value.prop_map(Event::Edit),
            3 => value.prop_map(Event::Remote),
            2 => Just(Event::Propose),
            2 => Just(Event::Accept),
            1 => value.prop_map(Event::Confirm),
            1 => value.prop_map(Event::ConfirmAll),
            1 => Just(Event::Reject),
            1 => Just(Event::Pull),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// P21: notifications only with an empty queue; what is shown never changes otherwise.
        #[test]
        fn an_editor_never_sees_its_text_jump(events in proptest::collection::vec(event(), 0..60)) {
            let mut cell = Convergence::new("a".to_owned());
            let mut edits = 0usize;
            for event in events {
                let before = cell.clone();
                let (mut is_own, mut ends) = (false, 0);
                let notice = match event.clone() {
                    Event::Edit(value) => {
                        cell.edit(value.clone());
                        prop_assert_eq!(cell.shown(), &value);
                        is_own = true;
                        edits += usize::from(cell.outstanding() > before.outstanding());
                        None
                    }
                    Event::Remote(value) => cell.remote(value),
                    Event::Propose => {
                        prop_assert_eq!(cell.propose(merge).is_some(), before.outstanding() > 0);
                        None
                    }
                    Event::Accept => {
                        ends = usize::from(before.proposed.is_some());
                        cell.accept()
                    }
                    Event::Confirm(value) => {
                        ends = before.outstanding().min(1);
                        cell.confirm(value)
                    }
                    Event::ConfirmAll(value) => {
                        ends = before.outstanding();
                        cell.confirm_all(value)
                    }
                    Event::Reject => {
                        ends = before.outstanding().min(1);
                        cell.reject().and_then(|(edit, notice)| {
                            assert_eq!(Some(&edit), before.queue.front());
                            notice
                        })
                    }
                    Event::Pull => {
                        is_own = cell.pull(merge);
                        if is_own {
                            edits = 1;
                        }
                        None
                    }
                };
                edits -= ends;
                prop_assert_eq!(cell.outstanding(), edits, "every edit ends once: {:?}", event);
                prop_assert!(cell.outstanding() <= limits::EDITS_MAX);
                if let Some(notice) = &notice {
                    prop_assert_eq!(cell.outstanding(), 0);
                    prop_assert_eq!(cell.shown(), cell.agreed());
                    let expected = match notice {
                        Notice::Value(value) => value,
                        Notice::Converged => before.shown(),
                    };
                    prop_assert_eq!(cell.shown(), expected);
                } else if !is_own {
                    prop_assert_eq!(cell.shown(), before.shown());
                }
                // Told exactly once that all is well.
                if before.outstanding() > 0 && cell.outstanding() == 0 {
                    prop_assert!(notice.is_some());
                }
                if cell.outstanding() == 0 {
                    prop_assert_eq!(cell.shown(), cell.agreed());
                }
            }
        }
    }

    #[test]
    fn a_long_queue_coalesces() {
        let mut cell = Convergence::new(0);
        for value in 1..=limits::EDITS_MAX + 10 {
            cell.edit(value);
        }
        assert_eq!(cell.outstanding(), limits::EDITS_MAX);
        let last = Edit { base: limits::EDITS_MAX - 1, left: limits::EDITS_MAX + 10 };
        assert_eq!(cell.queue.back(), Some(&last));
    }
}
