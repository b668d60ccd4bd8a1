//! Looking back at one row, from state to state, only where it may have changed.
//!
//! Invariant: a commit that touches none of the pages in which the row was found, while the schema
//! is the same, left the row as it is and is passed over without a page being read; of every other
//! commit the state before it is looked at. So no change is missed, and none is made up.
//!
//! Page 1 is touched by every commit that takes or frees a page, and is no reason to look: what
//! matters of it is the schema's number, which is asked for once per run of commits that touch
//! page 1. A number never comes back, so where it differs at the ends of a run, halving finds the
//! commit that changed it.

use sheaf_merge::Value;
use sheaf_volume::{ErrorKind, Lsn, PageIdx, Result};

use super::log::{Backwards, Entry};
use super::state::{Found, Seen, look};
use super::{Authors, Cell, ColumnChange, End, Origin, RowChange, RowEvent, Since};
use crate::site::Site;
use crate::vfs::{Carried, SCHEMA_COOKIE, read_u32};

/// A look back at one row.
pub(super) struct Walk<'a> {
    site: &'a Site,
    table: &'a str,
    key: &'a [Value],
    since: Option<Since>,
    log: Backwards<'a>,
    /// The oldest state that is known to show `now`.
    at: Lsn,
    now: Seen,
    /// Pages that are the same there.
    carried: Carried,
    /// States that were looked at.
    pub(super) looked: u64,
    end: Option<End>,
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
        let (at, _) = site.base();
        let snapshot = site.volume().global();
        let (now, carried) = look(site, snapshot, Carried::new(), (table, key))?;
        let log = Backwards::new(site.volume());
        Ok(Self { site, table, key, since, log, at, now, carried, looked: 1, end: None })
    }

    /// The row where the walk stands.
    pub(super) fn now(&self) -> &Seen {
        &self.now
    }

    /// Goes back to the next change.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be reached, `Corrupt`.
    pub(super) fn step(&mut self) -> Result<Step> {
        loop {
            if let Some(end) = &self.end {
                return Ok(Step::End(end.clone()));
            }
            if self.at == Lsn::ZERO {
                self.end = Some(End::Beginning);
                continue;
            }
            match self.run() {
                Ok(Some(event)) => return Ok(Step::Change(event)),
                Ok(None) => {}
                Err(e) if e.kind() == ErrorKind::Expired => {
                    self.end = Some(End::Expired { lsn: self.at });
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Goes back through a run of commits, to the next that changed the row or to its end.
    fn run(&mut self) -> Result<Option<RowEvent>> {
        let held = self.log.up_to(self.at)?;
        let [floor, commits @ ..] = held else { return Ok(None) };
        if commits.is_empty() {
            self.end = Some(End::Expired { lsn: floor.lsn });
            return Ok(None);
        }
        let at = last_touch(self.site, held, &self.now)?.unwrap_or(0);
        let newer = held.get(at.max(1)..).unwrap_or_default();
        forget(&mut self.carried, newer);
        let (Some(entry), Some(before)) = (held.get(at), held.get(at.saturating_sub(1))) else {
            return Ok(None);
        };
        let is_before = |since: Since| since.is_before(entry.lsn, entry.time_ms);
        if entry.lsn > Lsn::ZERO && self.since.is_some_and(is_before) {
            self.end = Some(End::Since);
            return Ok(None);
        }
        // Everything from this commit on shows the row as it is known.
        self.at = entry.lsn;
        if at == 0 {
            return Ok(None);
        }
        let (entry, before) = (entry.clone(), (before.lsn, before.page_count));
        let snapshot = self.site.volume().at_known(before.0, before.1);
        let carried = std::mem::take(&mut self.carried);
        self.looked += 1;
        let (seen, carried) = look(self.site, snapshot, carried, (self.table, self.key))?;
        self.carried = carried;
        let newer = std::mem::replace(&mut self.now, seen);
        self.at = before.0;
        Ok(self.compare(&newer, &entry))
    }

    /// How the row differs before and after a commit.
    fn compare(&mut self, newer: &Seen, entry: &Entry) -> Option<RowEvent> {
        match (&self.now.table, &newer.table) {
            (None, _) => self.end = Some(End::NoTable { lsn: entry.lsn }),
            (Some(before), Some(after)) if !before.has_key_of(after) => {
                self.end = Some(End::OtherKey { lsn: entry.lsn });
                return None;
            }
            _ => {}
        }
        let change = difference(self.now.row.as_ref(), newer.row.as_ref())?;
        Some(RowEvent { origin: origin(self.site, entry), change, interval: None })
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
