//! Handles for editors: one cell or one row, with what to show and what is agreed on.
//!
//! Invariant: what a handle shows changes only by its own edits, by `pull`, by a value that `poll`
//! returns. While an edit made through it is outstanding nothing else changes it, whatever others
//! or this device's other connections write; when none is outstanding it is told once. Queue and
//! values are those of the timeline and of two snapshots: a handle stores nothing.
//!
//! Leaves out the handles' own interface: see `handles.rs`.
//!
//! An edit is the difference between what was shown and what is shown now. It meets the local
//! state, which may be ahead of the editor, by the column's rule, in an ordinary transaction.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, LocalLsn, Result, TimelineId};

use super::taking::{EditState, Seen, Shown, State, WatchEvent};
use super::{Convergence, Listening};
use crate::error::from_sqlite;
use crate::limits;
use crate::replay::cell;
use crate::schema::fold;
use crate::site::{Site, View, lock};

/// What both kinds of handles are.
#[derive(Debug)]
pub(super) struct Editor {
    site: Site,
    table: String,
    column: Option<String>,
    state: Mutex<State>,
    has_news: Arc<AtomicBool>,
    _listening: Listening,
}

/// Connections of a site's handles.
#[derive(Debug)]
pub(super) struct Readers {
    local: Connection,
    agreed: Connection,
}

impl Editor {
    pub(super) fn new(
        site: &Site,
        table: &str,
        key: Vec<Value>,
        column: Option<&str>,
    ) -> Result<Self> {
        let has_news = Arc::new(AtomicBool::new(true));
        let (news, of) = (Arc::clone(&has_news), table.to_owned());
        let listening = site.on_change(move |change| {
            // A row that is renumbered says so in a table of ours.
            if change.touches(&of) || change.touches("__sheaf_remap") {
                news.store(true, Ordering::Release);
            }
        })?;
        let state = State {
            key,
            origin: None,
            machine: Convergence::new(None),
            timeline: site.timeline(),
            outstanding: BTreeSet::new(),
            own: BTreeSet::new(),
            rejected: VecDeque::new(),
        };
        let editor = Self {
            site: site.clone(),
            table: table.to_owned(),
            column: column.map(str::to_owned),
            state: Mutex::new(state),
            has_news,
            _listening: listening,
        };
        editor.begin()?;
        Ok(editor)
    }

    /// Shows the local value, whatever of it waits.
    fn begin(&self) -> Result<()> {
        let mut state = lock(&self.state);
        let Some(seen) = self.look(&state)? else { return Err(busy()) };
        let named = match &self.column {
            Some(column) => format!("{} has no column {column}, or not this row", self.table),
            None => format!("{} has not this row", self.table),
        };
        if seen.local.is_none() && seen.agreed.is_none() {
            return Err(Error::new(ErrorKind::NotFound, named));
        }
        state.machine = Convergence::new(seen.agreed);
        if !seen.outstanding.is_empty() {
            state.machine.edit(seen.local);
        }
        (state.key, state.origin, state.outstanding) = (seen.key, seen.origin, seen.outstanding);
        Ok(())
    }

    /// Reads both values at one moment; `None` if the site changes all the time. News that come
    /// while it looks are looked at the next time.
    fn look(&self, state: &State) -> Result<Option<Seen>> {
        let mut readers = lock(&self.site.0.watch.readers);
        let readers = match &mut *readers {
            Some(readers) => readers,
            none => none.insert(Readers::open(&self.site)?),
        };
        for _ in 0..limits::WATCH_READS_MAX {
            self.has_news.store(false, Ordering::Release);
            let before = self.moment();
            let seen = self.read(state, readers);
            if self.moment() == before {
                if seen.is_err() {
                    self.has_news.store(true, Ordering::Release);
                }
                return seen.map(Some);
            }
        }
        self.has_news.store(true, Ordering::Release);
        Ok(None)
    }

    fn moment(&self) -> (Option<LocalLsn>, u64) {
        let redone = self.site.0.watch.redone.load(Ordering::Acquire);
        (self.site.volume().head().local(), redone)
    }

    fn read(&self, state: &State, readers: &Readers) -> Result<Seen> {
        let (key, origin) = self.place(state, readers)?;
        let column = self.column.as_deref();
        let local = cell::read(&readers.local, &self.table, &key, column)?;
        let agreed = cell::read(&readers.agreed, &self.table, &key, column)?;
        let mut outstanding = self.site.with_index(|index| {
            let mut of = index.outstanding(&self.table, &key, column);
            // A call whose rows nobody knows may be what makes the difference.
            if local != agreed {
                of.extend(index.unknown(&self.table));
            }
            of
        })?;
        // Others may have done the same meanwhile: an edit that has nothing left to do here still
        // waits for the log.
        outstanding.extend(self.undecided(state));
        Ok(Seen { key, origin, local, agreed, outstanding })
    }

    /// The edits made through this handle that the log has not decided.
    fn undecided<'a>(&self, state: &'a State) -> impl Iterator<Item = u64> + use<'a> {
        let decided = self.site.decided().seq;
        let is_same = state.timeline == self.site.timeline();
        state.own.iter().copied().filter(move |seq| is_same && *seq > decided)
    }

    /// Where the row is by now, if it is one that this device inserted under a number.
    fn place(&self, state: &State, readers: &Readers) -> Result<(Vec<Value>, Option<i64>)> {
        let [Value::Int(id)] = state.key.as_slice() else { return Ok((state.key.clone(), None)) };
        let table = fold(&self.table);
        let stays = (state.key.clone(), state.origin);
        let (origin, shown) = self.site.with_index(|index| {
            let origin = state.origin.or_else(|| index.own_origin(&table, *id));
            (origin, origin.map(|origin| index.shown_as(&table, origin)))
        })?;
        Ok(match (origin, shown) {
            (Some(origin), Some(Some(Some(id)))) => (vec![Value::Int(id)], Some(origin)),
            // The row is not shown for now.
            (Some(origin), Some(Some(None))) => (state.key.clone(), Some(origin)),
            // The log has decided.
            (Some(origin), Some(None)) => {
                let id = remapped(&readers.local, self.site.timeline(), &table, origin)?;
                (vec![Value::Int(id.unwrap_or(origin))], None)
            }
            _ => stays,
        })
    }

    pub(super) fn poll(&self) -> Result<Option<WatchEvent<Shown>>> {
        let mut state = lock(&self.state);
        // One that had nothing left to do changes no table when it is decided.
        let has_ended = self.undecided(&state).count() < state.own.len();
        if (has_ended || self.has_news.load(Ordering::Acquire))
            && let Some(seen) = self.look(&state)?
            && let Some(event) = state.take(&self.site, seen)
        {
            return Ok(Some(event));
        }
        let rejected = state.rejected.pop_front();
        Ok(rejected.map(|(seq, reason)| WatchEvent::Rejected { seq, reason }))
    }

    pub(super) fn edit<T>(
        &self,
        cells: &[(&str, Value)],
        also: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Option<u64>)> {
        let mut state = lock(&self.state);
        let gone = || Error::new(ErrorKind::NotFound, format!("{}: the row is gone", self.table));
        let mut shown = state.machine.shown().clone().ok_or_else(gone)?;
        let mut sides = Vec::new();
        for (name, left) in cells {
            let cell = shown.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let Some((_, value)) = cell else {
                return Err(Error::invalid(format!("table {} has no {name}", self.table)));
            };
            sides.push((*name, std::mem::replace(value, left.clone()), left));
        }
        let sides: Vec<_> = sides.iter().map(|(name, base, left)| (*name, base, *left)).collect();
        let merges = self.site.merges();
        let (value, seq) = self.site.write(|tx| {
            cell::edit((tx, &merges), &self.table, &state.key, &sides)?;
            also(tx)
        })?;
        state.machine.edit(Some(shown));
        state.outstanding.extend(seq);
        state.own.extend(seq);
        self.has_news.store(true, Ordering::Release);
        Ok((value, seq))
    }

    pub(super) fn pull(&self) -> Result<Shown> {
        let mut state = lock(&self.state);
        let seen = self.look(&state)?.ok_or_else(busy)?;
        let local = seen.local.clone();
        if state.take(&self.site, seen).is_none() {
            state.machine.pull(|_, _| local);
        }
        Ok(state.machine.shown().clone())
    }

    pub(super) fn state(&self) -> EditState {
        let state = lock(&self.state);
        let sent = self.site.0.watch.sent_of(state.timeline);
        match state.outstanding.last() {
            None => EditState::Clean,
            Some(newest) if *newest <= sent => EditState::Sent,
            Some(_) => EditState::Dirty,
        }
    }

    /// What is shown.
    pub(super) fn shown(&self) -> Shown {
        lock(&self.state).machine.shown().clone()
    }

    /// What was agreed on at the last look.
    pub(super) fn agreed(&self) -> Shown {
        lock(&self.state).machine.agreed().clone()
    }

    /// The column, unless it is the whole row.
    pub(super) fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }
}

impl Readers {
    fn open(site: &Site) -> Result<Self> {
        Ok(Self { local: site.reader(View::Local)?, agreed: site.reader(View::Global)? })
    }
}

/// The number that the log gave a row of this device.
fn remapped(
    conn: &Connection,
    timeline: TimelineId,
    table: &str,
    origin: i64,
) -> Result<Option<i64>> {
    let has = "SELECT 1 FROM main.sqlite_schema WHERE name = '__sheaf_remap'";
    let find = || {
        if !conn.prepare_cached(has)?.exists([])? {
            return Ok(None);
        }
        conn.prepare_cached(
            "SELECT new FROM main.__sheaf_remap
             WHERE timeline = ?1 AND tbl = ?2 COLLATE NOCASE AND old = ?3 ORDER BY lsn DESC LIMIT 1",
        )?
        .query_row(rusqlite::params![timeline.as_bytes(), table, origin], |row| row.get(0))
        .optional()
    };
    find().map_err(from_sqlite)
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "the site changes all the time; try again")
}
