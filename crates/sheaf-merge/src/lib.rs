//! Three-way merge of cells and rows: pure, total, deterministic.
//!
//! `base` is what the author saw, `left` is what the author wrote, `right` is what was ordered
//! in between. Left is ordered later, so left wins where a rule has to choose.
//!
//! A cell is merged by [`merge_cell`], a row's existence by [`merge_row`], the order of rows by
//! [`list`]; [`mvr`] keeps concurrent values. Which rule a column has is read by [`Declaration`].
//!
//! Invariant: equal inputs give equal bytes on every target; no input makes a merge fail. A rule
//! that cannot handle its input falls back to `lww` and says so in the note.

#![forbid(unsafe_code)]

pub mod align;
mod cell;
mod custom;
mod declare;
pub mod html;
mod json;
pub mod limits;
pub mod list;
pub mod mvr;
mod row;
mod rule;
mod set;
pub mod text;
mod value;

pub use cell::{Merged, Note, merge_cell, merge_cell_with};
pub use custom::{Closures, Custom, CustomName, CustomRules, NoCustomRules, Sides};
pub use declare::{Affinity, Declaration, DeclareError};
pub use row::{Presence, RowOutcome, RowPolicy, merge_row};
pub use rule::Rule;
pub use value::Value;
