//! The logical layer of Sheaf: ordinary SQLite over a volume, with capture, timeline, replay,
//! rebase and merge.
//!
//! A [`Site`] gives ordinary `rusqlite` connections. What they commit becomes a mutation on this
//! device's timeline, in the same atomic record as its pages. [`Site::integrate`] moves the site
//! forward to what others did and redoes the timeline on top; [`Site::lead`] orders mutations and
//! appends the result to the log.
//!
//! Synchronous like the layer below: it opens no socket, spawns no thread, reads no clock.

mod capture;
mod clock;
pub mod diff;
mod error;
mod failed;
mod follow;
mod handover;
pub mod history;
mod lead;
pub mod limits;
mod lists;
mod locks;
mod merges;
mod mutation;
mod mutator;
mod nested;
mod opbits;
mod opstream;
mod places;
mod positions;
mod rebase;
mod replay;
mod rowids;
mod rules;
mod schema;
mod siblings;
mod sink;
mod site;
mod standing;
mod status;
mod timeline;
mod transfer;
mod value;
mod vfs;
mod watch;

pub use diff::Restored;
pub use error::{explain, from_sqlite};
pub use failed::FailedRow;
pub use follow::Followed;
pub use lead::{Exchanged, Led};
pub use locks::{Asking, Lock, OnFailure};
pub use mutation::{Body, Change, Mutation, Op};
pub use opbits::OpBits;
pub use places::{Place, Places};
pub use rebase::Integrated;
pub use rowids::RowIds;
pub use rules::{Declared, RuleInfo};
pub use rusqlite;
pub use sheaf_merge::{Custom, Sides, Value};
pub use sheaf_volume::{Error, ErrorKind, Result};
pub use site::{Site, SiteIds, SiteOptions, View};
pub use standing::Standing;
pub use status::{PendingInfo, RejectedInfo, Status};
pub use timeline::{Answer, Batch, MutationRecord, RunningHash};
pub use transfer::Imported;
pub use vfs::leads;
pub use watch::{
    CellWatch, Changed, Conflict, ConflictKind, Convergence, Edit, EditState, Listening, Notice,
    PendingChange, PendingRow, Row, RowWatch, Waiting, WatchEvent,
};
