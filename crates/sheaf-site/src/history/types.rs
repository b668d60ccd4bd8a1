//! What is told of a row's past.
//!
//! Invariant: what is not known is said to be unknown: several authors are candidates, a column
//! without an origin is older than what could be seen. Leaves out how it was found.

use sheaf_merge::Value;
use sheaf_volume::{Applied, DeviceId, Lsn, TimelineId, Verdict};

/// A value with the name of its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The column.
    pub name: String,
    /// What it holds.
    pub value: Value,
}

/// How one column of a row differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnChange {
    /// The column.
    pub name: String,
    /// What it was; `None` where the table did not have it.
    pub old: Option<Value>,
    /// What it became; `None` where the table does not have it any more.
    pub new: Option<Value>,
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// It came, with these columns.
    Inserted(Vec<Cell>),
    /// It went, and held this.
    Deleted(Vec<Cell>),
    /// These columns differ: in what they hold, or in being there.
    Updated(Vec<ColumnChange>),
}

/// Consecutive mutations of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The device's timeline.
    pub timeline: TimelineId,
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last.
    pub last_seq: u64,
    /// Whether it is this device's.
    pub own: bool,
}

/// Whose mutations made a commit, without those that were rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors(pub Vec<Run>);

/// Where a change comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The position of its commit; `None` for what this device did and the log has not decided.
    pub at: Option<Lsn>,
    /// When, milliseconds since 1970: by the clock of the commit's writer, or of this device.
    pub time_ms: u64,
    /// The device or node that made the commit.
    pub writer: DeviceId,
    /// Whose mutations it may be.
    pub authors: Authors,
}

/// One change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEvent {
    /// Where it comes from.
    pub origin: Origin,
    /// What it was.
    pub change: RowChange,
    /// Of a change that was recorded before its commits were reclaimed: what is known of it.
    /// `origin` is then that of the newest commit that it can have been made by.
    pub interval: Option<Interval>,
}

/// What is known of a change from the record of changes alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The oldest commit that it can have been made by, or begun by: several changes of a row
    /// within ten minutes are recorded as one.
    pub first: Lsn,
    /// When that was, milliseconds since 1970.
    pub first_time_ms: u64,
    /// Columns whose older value was too large to be kept, and how many bytes it had.
    pub not_kept: Vec<(String, u64)>,
    /// Whether there were more authors than are named.
    pub more_authors: bool,
}

/// A row at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowAt {
    /// The table, as the schema spells it.
    pub table: String,
    /// What it held; `None` where there was no such row.
    pub row: Option<Vec<Cell>>,
    /// Columns whose value was too large to be kept, and how many bytes it had.
    pub not_kept: Vec<(String, u64)>,
    /// The newest position up to which it is known to have been so. Changes within ten minutes that
    /// cancelled out are not known of.
    pub as_of: Lsn,
    /// Of a time within an interval that is recorded as one change, that change: what is told is
    /// the row before it.
    pub within: Option<RowEvent>,
}

/// Why there is nothing before the oldest change that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing before it: the log begins.
    Beginning,
    /// As many changes as were asked for; there may be more.
    Limit,
    /// What is older was not asked for.
    Since,
    /// Every column is explained.
    Explained,
    /// The state before this position is no longer kept.
    Expired {
        /// The oldest position that was looked at.
        lsn: Lsn,
    },
    /// Before this commit there was no table of that name.
    NoTable {
        /// Its position.
        lsn: Lsn,
    },
    /// Before this commit the rows of the table were told apart by other columns.
    OtherKey {
        /// Its position.
        lsn: Lsn,
    },
}

/// How far back to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Changes after this position.
    Lsn(Lsn),
    /// Changes at or after this time, milliseconds since 1970.
    Time(u64),
}

impl Since {
    pub(super) fn is_before(self, lsn: Lsn, time_ms: u64) -> bool {
        match self {
            Self::Lsn(since) => lsn <= since,
            Self::Time(since) => time_ms < since,
        }
    }
}

/// The changes of one row, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The table, as the schema spells it.
    pub table: String,
    /// The key.
    pub key: Vec<Cell>,
    /// The changes.
    pub events: Vec<RowEvent>,
    /// Why there are no more.
    pub end: End,
    /// States that were looked at.
    pub looked: u64,
}

/// A column of a row, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blamed {
    /// The column and what it holds.
    pub cell: Cell,
    /// The change that gave it that value; `None` where it is older than what could be seen.
    pub origin: Option<Origin>,
}

/// Where each column of a row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The table, as the schema spells it.
    pub table: String,
    /// The key.
    pub key: Vec<Cell>,
    /// The columns, in the table's order.
    pub columns: Vec<Blamed>,
    /// How far the look back went.
    pub end: End,
}

impl Authors {
    pub(super) fn of(applied: &[Applied], own: TimelineId) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for applied in applied {
            let timeline = applied.timeline;
            for (seq, _) in applied.verdicts().filter(|(_, v)| *v != Verdict::Rejected) {
                match runs.last_mut() {
                    Some(run) if run.timeline == timeline && run.last_seq + 1 == seq => {
                        run.last_seq = seq;
                    }
                    _ => {
                        let (first_seq, last_seq) = (seq, seq);
                        runs.push(Run { timeline, first_seq, last_seq, own: timeline == own });
                    }
                }
            }
        }
        Self(runs)
    }

    /// How many mutations it may have been.
    #[must_use]
    pub fn count(&self) -> u64 {
        let len = |run: &Run| run.last_seq.saturating_sub(run.first_seq).saturating_add(1);
        self.0.iter().map(len).fold(0, u64::saturating_add)
    }

    /// Whether it is known which mutation it was.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.count() == 1
    }
}
