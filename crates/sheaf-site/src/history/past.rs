//! One row's past: by the page log as far as it goes, then by the record of changes.
//!
//! Invariant: the record is opened only where the page log has ended because it was reclaimed;
//! without one, the answer is what the page log gives.

use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Lsn, Result};

use super::older::{Older, OpenRecord, known, lost};
use super::types::{RowAt, RowEvent};
use super::walk::{Step, Walk};
use super::{Cell, End, Since};
use crate::schema::{Affinity, TableInfo};
use crate::site::Site;

/// A look back at one row.
pub(super) struct Past<'a> {
    site: &'a Site,
    walk: Walk<'a>,
    key: &'a [Value],
    since: Option<Since>,
    open: Option<&'a OpenRecord<'a>>,
    older: Option<Older<'a>>,
}

impl<'a> Past<'a> {
    /// Begins at the newest agreed state that is here.
    pub(super) fn new(
        site: &'a Site,
        table: &'a str,
        key: &'a [Value],
        since: Option<Since>,
        open: Option<&'a OpenRecord<'a>>,
    ) -> Result<Self> {
        let walk = Walk::new(site, table, key, since)?;
        Ok(Self { site, walk, key, since, open, older: None })
    }

    /// The key as it is stored there, if there is such a row.
    pub(super) fn stored_key(&self, info: &TableInfo) -> Option<Vec<Cell>> {
        self.walk.row().map(|found| found.key(info))
    }

    /// States that were looked at.
    pub(super) fn looked(&self) -> u64 {
        self.walk.looked()
    }

    /// Goes back to the next change.
    ///
    /// # Errors
    /// `Unavailable` when the log or the record cannot be reached, `Corrupt`.
    pub(super) fn step(&mut self) -> Result<Step> {
        if let Some(older) = &mut self.older {
            return older.step(self.since);
        }
        let step = self.walk.step()?;
        let Step::End(End::Expired { lsn }) = step else { return Ok(step) };
        match self.begin_older(lsn)? {
            Some(older) => self.older.insert(older).step(self.since),
            None => Ok(step),
        }
    }

    fn begin_older(&mut self, lsn: Lsn) -> Result<Option<Older<'a>>> {
        let (Some(open), Some(info)) = (self.open.take(), self.walk.table()) else {
            return Ok(None);
        };
        let Some(record) = open(self.site.volume().lineage().owner(lsn))? else { return Ok(None) };
        let row = self.walk.row();
        let spelled = row.map(|row| row.key(info).into_iter().map(|cell| cell.value).collect());
        let key: Vec<Value> = spelled.unwrap_or_else(|| stored(self.key, info));
        Older::new(self.site, &record, (info, &key), (lsn, row))
    }

    fn ended(&self, told: RowAt, end: &End, time_ms: u64) -> Result<RowAt> {
        let refuse = |kind, text: String| Err(Error::new(kind, text));
        match end {
            End::Expired { lsn } if self.begins(*lsn)? > time_ms => self.refuse_expired(*lsn),
            End::OtherKey { lsn } => {
                refuse(ErrorKind::Unsupported, format!("the table had another key before @{lsn}"))
            }
            _ => Ok(told),
        }
    }

    fn refuse_expired(&self, lsn: Lsn) -> Result<RowAt> {
        let text = format!("nothing of that time is kept: what is, begins at @{lsn}");
        Err(Error::new(ErrorKind::Expired, text))
    }

    /// When the state was made at which the log, or the record, ends.
    fn begins(&self, lsn: Lsn) -> Result<u64> {
        // Where it ended in the middle of a stretch, what is known begins there.
        if let Some(older) = self.older.as_ref().filter(|older| older.floor() == lsn) {
            return Ok(older.floor_ms());
        }
        let here = self.site.volume().status();
        if lsn == here.base_lsn {
            return Ok(here.base_time_ms);
        }
        let commits = self.site.volume().remote()?.pull(Lsn(lsn.0.saturating_sub(1)))?;
        Ok(commits.first().map_or(u64::MAX, |commit| commit.time_ms))
    }

    /// Whether a time lies before the oldest state that the log gave, in a stretch of the record
    /// that ends behind it: what the log shows there may have come since.
    fn is_before_log(&self, time_ms: u64) -> Result<bool> {
        match self.older.as_ref().filter(|older| older.is_later()) {
            Some(older) => Ok(time_ms < self.begins(older.told())?),
            None => Ok(false),
        }
    }

    /// The row as it was from the change that the record told last on.
    fn row_after(&self) -> (Option<Vec<Cell>>, Vec<(String, u64)>) {
        let row = self.older.as_ref().and_then(Older::after);
        (row.map(known), lost(row))
    }

    /// The row where the look back stands, and what of it was not kept.
    fn row(&self) -> (Option<Vec<Cell>>, Vec<(String, u64)>) {
        match &self.older {
            Some(older) => (older.now().map(known), lost(older.now())),
            None => {
                let row = self.walk.row();
                (row.map(|found| found.cells.clone()), Vec::new())
            }
        }
    }
}

impl Site {
    /// A row as it was at a time, milliseconds since 1970, by the log as far as this device knows
    /// it, and where that ends by the record that `open` gives.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, `Invalid` for a key of another shape,
    /// `Expired` when that time is before everything that is kept, `Unsupported` when the table
    /// had another key then, `Unavailable` when the log or the record cannot be reached.
    pub fn row_at(
        &self,
        table: &str,
        key: &[Value],
        time_ms: u64,
        open: Option<&OpenRecord<'_>>,
    ) -> Result<RowAt> {
        let here = self.row_here(table, key)?;
        let mut past = Past::new(self, table, key, None, open)?;
        let mut told = RowAt {
            table: here.info.name,
            row: None,
            not_kept: Vec::new(),
            as_of: self.base().0,
            within: None,
        };
        loop {
            (told.row, told.not_kept) = past.row();
            let is_log = past.older.is_none();
            let step = past.step()?;
            if is_log && past.is_before_log(time_ms)? {
                if let Step::End(End::Expired { lsn }) = step
                    && past.older.as_ref().is_some_and(|older| lsn >= older.told())
                {
                    return past.refuse_expired(lsn);
                }
                (told.row, told.not_kept) = past.row_after();
            }
            let event = match step {
                Step::Change(event) => event,
                Step::End(end) => return past.ended(told, &end, time_ms),
            };
            if event.origin.time_ms <= time_ms {
                return Ok(told);
            }
            let (first, first_time_ms) = begun(&event);
            told.as_of = Lsn(first.0.saturating_sub(1));
            if first_time_ms <= time_ms {
                // Recorded as one change: what was in its middle is not known.
                (told.row, told.not_kept) = past.row();
                told.within = Some(event);
                return Ok(told);
            }
        }
    }
}

/// A key as the columns would store it: numbers compare across types, bytes do not.
fn stored(key: &[Value], info: &TableInfo) -> Vec<Value> {
    let columns = info.key_columns();
    let affinity = |at: usize| columns.get(at).map(|(_, column)| column.affinity);
    let stored = |(at, value): (usize, &Value)| match (value, affinity(at)) {
        #[expect(clippy::cast_precision_loss, reason = "SQLite's own conversion")]
        (Value::Int(int), Some(Affinity::Real)) => Value::Real(*int as f64),
        (value, _) => value.clone(),
    };
    key.iter().enumerate().map(stored).collect()
}

/// The oldest commit that may have begun a change, and its time.
fn begun(event: &RowEvent) -> (Lsn, u64) {
    match &event.interval {
        Some(interval) => (interval.first, interval.first_time_ms),
        None => (event.origin.at.unwrap_or_default(), event.origin.time_ms),
    }
}
