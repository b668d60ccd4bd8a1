//! Merging the existence of one row.
//!
//! Invariant: under delete-wins the row exists afterwards exactly as the three-way inclusion
//! rule says (deleted by one side means gone, inserted by one side means present). What is
//! dropped is always reported by its own outcome. Leaves out the cells: see `merge_cell`.

use std::fmt;

/// What wins when one side deletes a row and the other changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RowPolicy {
    /// The row goes.
    #[default]
    DeleteWins,
    /// The row stays.
    UpdateWins,
}

impl RowPolicy {
    /// The policy's name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeleteWins => "delete-wins",
            Self::UpdateWins => "update-wins",
        }
    }

    /// The policy with this name in any case, if there is one; a space or `_` may stand for `-`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().replace([' ', '_'], "-");
        [Self::DeleteWins, Self::UpdateWins]
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(&name))
    }
}

impl fmt::Display for RowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a version has the row, and whether it differs from base there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// The version does not have the row.
    Absent,
    /// The version has the row as it is in base (base itself says this when it has the row).
    Unchanged,
    /// The version has the row with other content, or base does not have it.
    Changed,
}

impl Presence {
    const fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOutcome {
    /// Both sides have it: merge each changed cell.
    MergeCells,
    /// Both sides inserted one key: see the key's kind for what to do.
    Collide,
    /// Left's insert stands.
    InsertLeft,
    /// Nothing to do: right's row, or its absence, stands.
    KeepRight,
    /// Left's delete stands.
    DeleteRight,
    /// The row is gone; left's change is dropped and reported.
    DropLeftUpdate,
    /// The row stays; left's delete is dropped and reported.
    DropLeftDelete,
    /// The row comes back from left's full image.
    RestoreLeft,
}

/// Decides what becomes of a row.
#[must_use]
pub fn merge_row(policy: RowPolicy, base: Presence, left: Presence, right: Presence) -> RowOutcome {
    let update_wins = policy == RowPolicy::UpdateWins;
    match (base.is_present(), left, right) {
        (true, Presence::Changed, Presence::Absent) if update_wins => RowOutcome::RestoreLeft,
        (true, Presence::Changed, Presence::Absent) => RowOutcome::DropLeftUpdate,
        (true, Presence::Absent, Presence::Changed) if update_wins => RowOutcome::DropLeftDelete,
        (true, Presence::Absent, Presence::Unchanged | Presence::Changed) => {
            RowOutcome::DeleteRight
        }
        (true, Presence::Changed, Presence::Unchanged | Presence::Changed) => {
            RowOutcome::MergeCells
        }
        (true, Presence::Unchanged, _) | (_, Presence::Absent, _) => RowOutcome::KeepRight,
        (false, _, Presence::Absent) => RowOutcome::InsertLeft,
        (false, _, _) => RowOutcome::Collide,
    }
}

impl RowOutcome {
    /// Whether the row exists afterwards, given whether right has it.
    #[must_use]
    pub const fn row_exists(self, right: Presence) -> bool {
        match self {
            Self::MergeCells
            | Self::Collide
            | Self::InsertLeft
            | Self::DropLeftDelete
            | Self::RestoreLeft => true,
            Self::DeleteRight | Self::DropLeftUpdate => false,
            Self::KeepRight => right.is_present(),
        }
    }
}
