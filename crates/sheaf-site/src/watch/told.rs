//! What a merge decided by order: whose value stands where only one could.
//!
//! Invariant: only what a rule itself reports is told ([`Note`]); a merge that keeps what both
//! sides did is no conflict. Only predictions tell, because only the author's device asks.

use sheaf_merge::{Merged, Note, Value};

use crate::limits;
use crate::mutation::Change;

/// How a cell or row came out of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// This device's value stands, another one is gone.
    Overridden,
    /// This device's value is gone.
    Lost,
    /// Both are in the result, but not all of them.
    Partly,
}

/// A value that gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) came: Came,
    pub(crate) table: String,
    /// The key of the row, as the local view shows it.
    pub(crate) key: Vec<Value>,
    /// `None` for the row itself.
    pub(crate) column: Option<String>,
    pub(crate) base: Option<Value>,
    pub(crate) ours: Option<Value>,
    pub(crate) theirs: Option<Value>,
    pub(crate) stands: Option<Value>,
}

/// What the merges of one mutation told.
#[derive(Clone, Debug)]
pub(crate) struct Tale {
    is_asked: bool,
    pub(crate) told: Vec<Told>,
}

impl Tale {
    /// Collects nothing unless `is_asked`.
    pub(crate) fn new(is_asked: bool) -> Self {
        Self { is_asked, told: Vec::new() }
    }

    /// A cell was merged.
    pub(crate) fn cell(
        &mut self,
        row: (&str, &[Value]),
        column: &str,
        [base, left, right]: [Option<&Value>; 3],
        merged: &Merged,
    ) {
        let came = match merged.note {
            Some(Note::LeftStands | Note::Fallback)
                if left.is_some_and(|left| merged.value.same(left)) =>
            {
                Came::Overridden
            }
            Some(Note::RightStands) => Came::Lost,
            Some(
                Note::LeftStands | Note::Fallback | Note::Coarse | Note::Dropped | Note::Clamped,
            ) => Came::Partly,
            _ => return,
        };
        self.add(|| Told {
            came,
            table: row.0.to_owned(),
            key: row.1.to_vec(),
            column: Some(column.to_owned()),
            base: base.cloned(),
            ours: left.cloned(),
            theirs: right.cloned(),
            stands: Some(merged.value.clone()),
        });
    }

    /// The row that was to be changed is gone.
    pub(crate) fn row_gone(&mut self, row: (&str, &[Value]), changes: &[Change]) {
        for Change { col, base, left } in changes {
            self.add(|| Told {
                came: Came::Lost,
                table: row.0.to_owned(),
                key: row.1.to_vec(),
                column: Some(col.clone()),
                base: Some(base.clone()),
                ours: Some(left.clone()),
                theirs: None,
                stands: None,
            });
        }
    }

    /// The row that was to be deleted stays, because somebody changed it.
    pub(crate) fn row_stays(&mut self, row: (&str, &[Value])) {
        self.add(|| Told {
            came: Came::Lost,
            table: row.0.to_owned(),
            key: row.1.to_vec(),
            column: None,
            base: None,
            ours: None,
            theirs: None,
            stands: None,
        });
    }

    fn add(&mut self, told: impl FnOnce() -> Told) {
        if self.is_asked && self.told.len() < limits::CONFLICTS_MAX {
            self.told.push(told());
        }
    }
}
