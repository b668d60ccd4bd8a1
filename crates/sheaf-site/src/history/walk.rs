//! Looking back at one row or several, from state to state, only where they may have changed.
//!
//! Invariant: a commit that touches none of the pages in which the row was found, while the schema
//! is the same, left the row as it is and is passed over without a page being read; of every other
//! commit the state before it is looked at. So no change is missed, and none is made up.
//!
//! Page 1 is touched by every commit that takes or frees a page, and is no reason to look: what
//! matters of it is the schema's number, which is asked for once per run of commits that touch
//! page 1. A number never comes back, so where it differs at the ends of a run, halving finds the
//! commit that changed it.

use std::cell::OnceCell;

use sheaf_merge::Value;
use sheaf_volume::{
    ErrorKind, Lsn, PageIdx, Result,
    teeth::{Tooth, bites},
};

use super::chain::Own;
use super::deeds::Deed;
use super::log::{Backwards, Entry};
use super::state::{Found, Seen, look_rows};
use super::{Authors, Cell, ColumnChange, End, Origin, RowChange, RowEvent, Run, Since};
use crate::schema::TableInfo;
use crate::site::Site;
use crate::vfs::{Carried, SCHEMA_COOKIE, read_u32};

/// A look back at one row.
pub(super) struct Walk<'a> {
    rows: Rows<'a>,
    /// Changes that were found and not told yet, oldest first.
    ready: Vec<RowEvent>,
}

/// One step back.
pub(super) enum Step {
    Change(RowEvent),
    End(End),
}

impl<'a> Walk<'a> {
    /// Begins at the newest agreed state that is here.
    pub(super) fn new(
        site: &'a Site,
        table: &'a str,
        key: &'a [Value],
        since: Option<Since>,
    ) -> Result<Self> {
        let rows = Rows::new(site, table, vec![key.to_vec()], since)?;
        Ok(Self { rows, ready: Vec::new() })
    }

    /// The row where the walk stands.
    pub(super) fn row(&self) -> Option<&Found> {
        self.rows.rows.first()?.row.as_ref()
    }

    /// The table there, if it is there.
    pub(super) fn table(&self) -> Option<&TableInfo> {
        self.rows.now.table.as_ref()
    }

    /// States that were looked at.
    pub(super) fn looked(&self) -> u64 {
        self.rows.looked
    }

    /// Goes back to the next change.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be reached, `Corrupt`.
    pub(super) fn step(&mut self) -> Result<Step> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Ok(Step::Change(event));
            }
            if let Some(end) = self.rows.end() {
                return Ok(Step::End(end));
            }
            self.ready = self.rows.step()?.into_iter().map(|(_, event)| event).collect();
        }
    }
}

/// A look back at several rows of a table at once: a commit is looked at if it touches the way to
/// any of them.
pub(super) struct Rows<'a> {
    site: &'a Site,
    table: &'a str,
    since: Option<Since>,
    log: Backwards<'a>,
    /// The oldest state that is known to show `now` and the rows.
    at: Lsn,
    now: Seen,
    rows: Vec<Tracked>,
    /// Pages that are the same there.
    carried: Carried,
    /// States that were looked at.
    pub(super) looked: u64,
    /// What this device remembers of its own mutations, once it was asked for.
    deeds: OnceCell<Vec<Deed>>,
    end: Option<End>,
}

/// A row that is looked for.
pub(super) struct Tracked {
    /// Its place among those that were asked for.
    pub(super) place: usize,
    key: Vec<Value>,
    pub(super) row: Option<Found>,
}

impl<'a> Rows<'a> {
    /// Begins at the newest agreed state that is here.
    pub(super) fn new(
        site: &'a Site,
        table: &'a str,
        keys: Vec<Vec<Value>>,
        since: Option<Since>,
    ) -> Result<Self> {
        let (at, _) = site.base();
        let snapshot = site.volume().global();
        let named: Vec<&[Value]> = keys.iter().map(Vec::as_slice).collect();
        let (now, found, carried) = look_rows(site, snapshot, Carried::new(), (table, &named))?;
        let rows = keys.into_iter().zip(found).enumerate();
        let rows = rows.map(|(place, (key, row))| Tracked { place, key, row }).collect();
        let log = Backwards::new(site.volume());
        let (deeds, looked, end) = (OnceCell::new(), 1, None);
        Ok(Self { site, table, since, log, at, now, rows, carried, looked, deeds, end })
    }

    /// The rows where the walk stands.
    pub(super) fn rows(&self) -> &[Tracked] {
        &self.rows
    }

    /// Goes on only with some of them.
    pub(super) fn retain(&mut self, f: impl Fn(&Tracked) -> bool) {
        self.rows.retain(f);
    }

    /// Why nothing is older than what was told, if so.
    pub(super) fn end(&self) -> Option<End> {
        let is_begun = self.at == Lsn::ZERO;
        self.end.clone().or_else(|| is_begun.then_some(End::Beginning))
    }

    /// Goes back a little, past a commit that changed rows or without a change: of each, oldest
    /// first, by its place.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be reached, `Corrupt`.
    pub(super) fn step(&mut self) -> Result<Vec<(usize, RowEvent)>> {
        match self.run() {
            Err(e) if e.kind() == ErrorKind::Expired => {
                self.end = Some(End::Expired { lsn: self.at });
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Goes back through a run of commits, to the next that changed a row or to its end.
    fn run(&mut self) -> Result<Vec<(usize, RowEvent)>> {
        let held = self.log.up_to(self.at)?;
        let [floor, commits @ ..] = held else { return Ok(Vec::new()) };
        if commits.is_empty() {
            self.end = Some(End::Expired { lsn: floor.lsn });
            return Ok(Vec::new());
        }
        let at = last_touch(self.site, held, &self.now)?.unwrap_or(0);
        let newer = held.get(at.max(1)..).unwrap_or_default();
        forget(&mut self.carried, newer);
        let (Some(entry), Some(before)) = (held.get(at), held.get(at.saturating_sub(1))) else {
            return Ok(Vec::new());
        };
        let is_before = |since: Since| since.is_before(entry.lsn, entry.time_ms);
        if entry.lsn > Lsn::ZERO && self.since.is_some_and(is_before) {
            self.end = Some(End::Since);
            return Ok(Vec::new());
        }
        // Everything from this commit on shows the rows as they are known.
        self.at = entry.lsn;
        if at == 0 {
            return Ok(Vec::new());
        }
        let (entry, before) = (entry.clone(), (before.lsn, before.page_count));
        let snapshot = self.site.volume().at_known(before.0, before.1);
        let carried = std::mem::take(&mut self.carried);
        self.looked += 1;
        let keys: Vec<&[Value]> = self.rows.iter().map(|row| row.key.as_slice()).collect();
        let (seen, found, carried) = look_rows(self.site, snapshot, carried, (self.table, &keys))?;
        self.carried = carried;
        let newer = std::mem::replace(&mut self.now, seen).table;
        self.at = before.0;
        Ok(self.compare(found, newer.as_ref(), &entry))
    }

    /// How the rows differ before and after a commit; they are as before it from here on.
    fn compare(
        &mut self,
        found: Vec<Option<Found>>,
        newer: Option<&TableInfo>,
        entry: &Entry,
    ) -> Vec<(usize, RowEvent)> {
        let mut rows = std::mem::take(&mut self.rows);
        let newest = rows.iter_mut().zip(found);
        let newest: Vec<Option<Found>> =
            newest.map(|(row, found)| std::mem::replace(&mut row.row, found)).collect();
        let mut events = Vec::new();
        match (&self.now.table, newer) {
            (Some(before), Some(after)) if !before.has_key_of(after) => {
                self.end = Some(End::OtherKey { lsn: entry.lsn });
            }
            (before, _) => {
                if before.is_none() {
                    self.end = Some(End::NoTable { lsn: entry.lsn });
                }
                let info = newer.or(before.as_ref());
                for (row, after) in rows.iter().zip(&newest) {
                    let told = self.events(info, (row.row.as_ref(), after.as_ref()), entry);
                    events.extend(told.into_iter().map(|event| (row.place, event)));
                }
            }
        }
        self.rows = rows;
        events
    }

    /// The changes of a row in a commit, oldest first: one, or those of own mutations one by one.
    fn events(
        &self,
        info: Option<&TableInfo>,
        (before, after): (Option<&Found>, Option<&Found>),
        entry: &Entry,
    ) -> Vec<RowEvent> {
        let Some(change) = difference(before, after) else { return Vec::new() };
        if bites(Tooth::SkipChange) && entry.lsn.0.is_multiple_of(3) {
            return Vec::new();
        }
        let origin = origin(self.site, entry);
        let own = info.and_then(|info| self.own_events(info, (before, after), &origin));
        own.unwrap_or_else(|| vec![RowEvent { origin, change, interval: None }])
    }

    /// The changes of a commit of several mutations one by one, where this device remembers that
    /// they are all its own.
    fn own_events(
        &self,
        info: &TableInfo,
        (before, after): (Option<&Found>, Option<&Found>),
        origin: &Origin,
    ) -> Option<Vec<RowEvent>> {
        let (timeline, at) = (self.site.timeline(), origin.at?);
        if origin.authors.is_exact() || !origin.authors.0.iter().any(|run| run.own) {
            return None;
        }
        let key = before.or(after)?.key(info);
        let key: Vec<Value> = key.into_iter().map(|cell| cell.value).collect();
        let own = Own::of(self.deeds.get_or_init(|| self.site.all_deeds()), timeline, at);
        let states = own.explain((&info.name, &key), before, after)?;
        let (mut events, mut before) = (Vec::new(), before.cloned());
        for (seq, state) in states {
            if let Some(change) = difference(before.as_ref(), state.as_ref()) {
                let run = Run { timeline, first_seq: seq, last_seq: seq, own: true };
                let origin = Origin { authors: Authors(vec![run]), ..origin.clone() };
                events.push(RowEvent { origin, change, interval: None });
            }
            before = state;
        }
        Some(events)
    }
}

/// The place in a run of the newest commit that may have changed the row.
fn last_touch(site: &Site, held: &[Entry], now: &Seen) -> Result<Option<usize>> {
    let touched = held.iter().skip(1).rposition(|entry| entry.touches(&now.pages));
    let touched = touched.map(|at| at + 1);
    // The oldest state in which the pages are those that were read.
    let oldest = touched.unwrap_or(0);
    let newer = held.get(oldest + 1..).unwrap_or_default();
    if newer.iter().any(Entry::touches_header) && cookie(site, held.get(oldest))? != now.cookie {
        let (mut other, mut same) = (oldest, held.len() - 1);
        while other + 1 < same {
            let middle = other.midpoint(same);
            match cookie(site, held.get(middle))? == now.cookie {
                true => same = middle,
                false => other = middle,
            }
        }
        return Ok(Some(same));
    }
    Ok(touched)
}

/// The schema's number in the state that a commit made.
fn cookie(site: &Site, entry: Option<&Entry>) -> Result<u32> {
    let Some(entry) = entry.filter(|entry| entry.page_count.0 > 0) else { return Ok(0) };
    let snapshot = site.volume().at_known(entry.lsn, entry.page_count);
    Ok(read_u32(&snapshot.page(PageIdx::FIRST)?, SCHEMA_COOKIE))
}

/// Drops what commits changed: before them it was something else.
fn forget(carried: &mut Carried, commits: &[Entry]) {
    for entry in commits {
        carried.retain(|idx, _| !entry.pages.contains(*idx) && entry.page_count.contains(*idx));
    }
}

/// What happened to a row, by the names of its columns.
pub(super) fn difference(before: Option<&Found>, after: Option<&Found>) -> Option<RowChange> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => return Some(RowChange::Inserted(after.cells.clone())),
        (Some(before), None) => return Some(RowChange::Deleted(before.cells.clone())),
        (Some(before), Some(after)) => (before, after),
    };
    let of = |cell: &Cell, old: Option<&Value>, new: Option<&Value>| ColumnChange {
        name: cell.name.clone(),
        old: old.cloned(),
        new: new.cloned(),
    };
    let now = after.cells.iter().map(|cell| of(cell, before.value(&cell.name), Some(&cell.value)));
    let gone = before.cells.iter().filter(|cell| after.value(&cell.name).is_none());
    let gone = gone.map(|cell| of(cell, Some(&cell.value), None));
    let differs = |change: &ColumnChange| match (&change.old, &change.new) {
        (Some(old), Some(new)) => !old.same(new),
        _ => true,
    };
    let changes: Vec<ColumnChange> = now.chain(gone).filter(differs).collect();
    (!changes.is_empty()).then_some(RowChange::Updated(changes))
}

/// Where and when a commit was made, and by whom as far as it says.
pub(super) fn origin(site: &Site, entry: &Entry) -> Origin {
    Origin {
        at: Some(entry.lsn),
        time_ms: entry.time_ms,
        writer: entry.writer,
        authors: Authors::of(&entry.applied, site.timeline()),
    }
}
