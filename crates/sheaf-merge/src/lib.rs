//! Three-way merge of cells and rows: pure, total, deterministic.
//!
//! `base` is what the author saw, `left` is what the author wrote, `right` is what was ordered
//! in between. Left is ordered later, so left wins where a rule has to choose.
//!
//! Invariant: equal inputs give equal bytes on every target; no input makes a merge fail. A rule
//! that cannot handle its input falls back to `lww` and says so in the note.

#![forbid(unsafe_code)]

pub mod align;
mod cell;
pub mod html;
mod row;
mod rule;
pub mod text;
mod value;

pub use cell::{Merged, Note, merge_cell};
pub use row::{Presence, RowOutcome, RowPolicy, merge_row};
pub use rule::Rule;
pub use value::Value;
