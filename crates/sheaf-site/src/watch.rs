//! Two values: what of a site is only this device's own so far, and what became of it.
//!
//! Invariant: everything here comes from the timeline, from what replays and the log tell, and
//! from comparing two snapshots. No table of the user's is written, nothing that rests on this
//! decides anything, and losing all of it loses no change.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, functions::FunctionFlags};
use sheaf_merge::Value;
use sheaf_volume::TimelineId;

mod changes;
mod code;
mod conflicts;
mod editor;
mod handles;
mod machine;
mod noted;
mod pending;
mod taking;
mod told;
mod vtab;

pub(crate) use changes::Tables;
pub use changes::{Changed, Listening};
pub use conflicts::{Conflict, ConflictKind};
pub use handles::{CellWatch, RowWatch};
pub use machine::{Convergence, Edit, Notice};
pub(crate) use noted::{Noted, Notes, Touch};
pub use pending::{PendingChange, PendingRow, Waiting};
pub use taking::{EditState, WatchEvent};
pub(crate) use told::{Tale, Told};

use crate::mutator;
use crate::site::{Inner, Site, lock};
use crate::value::from_ref;

/// What a site knows of its own timeline beyond the bytes of its mutations. In memory only.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Moves on with every step that changes the timeline otherwise than by adding to its end.
    redone: AtomicU64,
    /// What the last redo told, by the identity of the mutation.
    notes: Mutex<Notes>,
    index: Mutex<pending::Index>,
    /// The newest mutation that was handed out, and of which timeline.
    sent: Mutex<Option<(TimelineId, u64)>>,
    listeners: Mutex<changes::Listeners>,
    /// Connections of the handles, opened for the first one.
    readers: Mutex<Option<editor::Readers>>,
}

impl Hub {
    /// A call was predicted and is about to be committed.
    pub(crate) fn note(&self, uid: [u8; 8], noted: Noted) {
        lock(&self.notes).add(uid, noted);
    }

    /// The row operations of a call, as its last run here found them, as an op stream.
    pub(crate) fn effects(&self, uid: &[u8]) -> Option<bytes::Bytes> {
        lock(&self.notes).get(uid).and_then(|noted| noted.effects.clone())
    }

    /// The timeline was redone.
    pub(crate) fn redone(&self, notes: Notes) {
        *lock(&self.notes) = notes;
        self.redone.fetch_add(1, Ordering::AcqRel);
    }

    /// A batch that ends with this number is on its way.
    pub(crate) fn sent(&self, timeline: TimelineId, seq: u64) {
        let mut sent = lock(&self.sent);
        let before = sent.filter(|(of, _)| *of == timeline).map_or(0, |(_, seq)| seq);
        *sent = Some((timeline, before.max(seq)));
    }

    /// The newest mutation of this timeline that was handed out since the site was opened.
    fn sent_of(&self, timeline: TimelineId) -> u64 {
        lock(&self.sent).filter(|(of, _)| *of == timeline).map_or(0, |(_, seq)| seq)
    }
}

/// Adds the SQL functions of this module to a connection.
pub(crate) fn register_functions(site: &Site, conn: &Connection) -> rusqlite::Result<()> {
    let weak = site.downgrade();
    vtab::register(conn, weak.clone())?;
    let asked = weak.clone();
    let flags = FunctionFlags::SQLITE_UTF8;
    // sheaf_pending(table, key...)
    conn.create_scalar_function("sheaf_pending", -1, flags, move |ctx| {
        let (table, key) = named_row(ctx, 1)?;
        answer(&asked, |site| site.waiting(&table, &key))
    })?;
    // sheaf_pending_cell(table, column, key...)
    conn.create_scalar_function("sheaf_pending_cell", -1, flags, move |ctx| {
        let (table, key) = named_row(ctx, 2)?;
        let column: String = ctx.get(1)?;
        answer(&weak, |site| site.waiting_cell(&table, &key, &column))
    })
}

/// The table in the first argument and the key in those from `from` on.
fn named_row(
    ctx: &rusqlite::functions::Context<'_>,
    from: usize,
) -> rusqlite::Result<(String, Vec<Value>)> {
    if mutator::is_running() {
        return Err(refusal("what waits on one device is not for mutators"));
    }
    if ctx.len() <= from {
        return Err(refusal("a table and the key of a row are needed"));
    }
    let key = (from..ctx.len()).map(|at| from_ref(ctx.get_raw(at)));
    let key = key.collect::<Result<_, _>>().map_err(|e| refusal(&e.to_string()))?;
    Ok((ctx.get(0)?, key))
}

fn answer(
    site: &std::sync::Weak<Inner>,
    ask: impl FnOnce(&Site) -> sheaf_volume::Result<Waiting>,
) -> rusqlite::Result<Option<bool>> {
    let site = site.upgrade().map(Site).ok_or_else(|| refusal("the site was closed"))?;
    ask(&site).map(Waiting::known).map_err(|e| refusal(&e.to_string()))
}

fn refusal(reason: &str) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(reason.into())
}

/// Columns and their values, in the table's order.
pub type Row = Vec<(String, Value)>;

/// Notes by the identity of a mutation.
type ByUid<T> = BTreeMap<[u8; 8], T>;
