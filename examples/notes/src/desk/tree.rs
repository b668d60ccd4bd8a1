//! Making, moving and deleting notes.
//!
//! Invariant: a note is moved by one row, its own. Among notes of one position, which were put at
//! one place by people apart, there is no room: what is put behind one of them goes behind all.

use sheaf::{
    Error, ErrorKind, Result, from_sqlite,
    rusqlite::{OptionalExtension as _, Transaction, params},
};

use super::{Desk, fresh_id, gone};
use crate::limits;

/// A position behind `?2` among the children of `?1`, NULL for the first of them.
const BEHIND: &str = "SELECT sheaf_between(?2, (SELECT min(pos) FROM note
    WHERE parent IS ?1 AND (?2 IS NULL OR pos > ?2)))";
/// A position before `?2` likewise.
const BEFORE: &str = "SELECT sheaf_between((SELECT max(pos) FROM note
    WHERE parent IS ?1 AND pos < ?2), ?2)";

/// The text of a note to begin with.
const TRIP: &str = "<p id=\"when\">We leave on <b>Friday</b> at noon.</p>\
    <p id=\"who\">Ann brings the map, Bob the stove.</p>";

/// Where a note stands.
struct Place {
    parent: Option<String>,
    pos: String,
}

impl Desk {
    /// Makes a note behind another one, or as its last child; as the last of all without one.
    ///
    /// # Errors
    /// As [`sheaf::Site::write`], `Limit` where there is no room.
    pub(crate) fn add(&self, near: Option<&str>, below: bool) -> Result<String> {
        self.write(|tx| {
            let id = fresh_id(tx)?;
            let place = match near {
                Some(near) if below => last_below(tx, Some(near))?,
                Some(near) => behind(tx, near)?,
                None => last_below(tx, None)?,
            };
            let sql = "INSERT INTO note(id, parent, pos) VALUES(?1, ?2, ?3)";
            tx.execute(sql, params![id, place.parent, place.pos]).map_err(from_sqlite)?;
            Ok(id)
        })
    }

    /// Makes a few notes to begin with, and shares them.
    ///
    /// # Errors
    /// As [`Desk::add`] and [`sheaf::Site::exchange`].
    pub(crate) fn begin_with_notes(&self) -> Result<()> {
        let trip = self.add(None, false)?;
        self.set(&trip, "title", &"plan the trip".into())?;
        self.set(&trip, "body", &TRIP.into())?;
        for title in ["book the train", "pack the tent"] {
            let id = self.add(Some(&trip), true)?;
            self.set(&id, "title", &title.into())?;
        }
        let shopping = self.add(None, false)?;
        self.set(&shopping, "title", &"buy milk and bread".into())?;
        self.site.exchange(limits::EXCHANGE_TIMEOUT).map(drop)
    }

    /// Moves a note by one among its siblings; whether it had where to go.
    ///
    /// # Errors
    /// As [`Desk::add`].
    pub(crate) fn shift(&self, id: &str, by: isize) -> Result<bool> {
        self.write(|tx| {
            let Place { parent, pos } = place_of(tx, id)?;
            let sql = if by < 0 {
                "SELECT pos FROM note WHERE parent IS ?1 AND (pos, id) < (?2, ?3)
                 ORDER BY pos DESC, id DESC LIMIT 1"
            } else {
                "SELECT pos FROM note WHERE parent IS ?1 AND (pos, id) > (?2, ?3)
                 ORDER BY pos, id LIMIT 1"
            };
            let found = tx.query_row(sql, params![parent, pos, id], |row| row.get(0)).optional();
            let beyond: Option<String> = found.map_err(from_sqlite)?;
            let Some(beyond) = beyond else { return Ok(false) };
            let sql = if by < 0 { BEFORE } else { BEHIND };
            let pos = position(tx, sql, parent.as_deref(), Some(&beyond))?;
            put(tx, id, &Place { parent, pos })?;
            Ok(true)
        })
    }

    /// Makes a note the last child of the sibling above it; whether there is one.
    ///
    /// # Errors
    /// As [`Desk::add`].
    pub(crate) fn indent(&self, id: &str) -> Result<bool> {
        self.write(|tx| {
            let Place { parent, pos } = place_of(tx, id)?;
            let sql = "SELECT id FROM note WHERE parent IS ?1 AND (pos, id) < (?2, ?3)
                 ORDER BY pos DESC, id DESC LIMIT 1";
            let found = tx.query_row(sql, params![parent, pos, id], |row| row.get(0)).optional();
            let above: Option<String> = found.map_err(from_sqlite)?;
            let Some(above) = above else { return Ok(false) };
            let place = last_below(tx, Some(&above))?;
            put(tx, id, &place)?;
            Ok(true)
        })
    }

    /// Puts a note behind its parent; whether it has one.
    ///
    /// # Errors
    /// As [`Desk::add`].
    pub(crate) fn outdent(&self, id: &str) -> Result<bool> {
        self.write(|tx| {
            let Some(parent) = place_of(tx, id)?.parent else { return Ok(false) };
            let place = match behind(tx, &parent) {
                // Its parent is gone: it stands at the top already, and now says so.
                Err(error) if error.kind() == ErrorKind::NotFound => last_below(tx, None)?,
                place => place?,
            };
            put(tx, id, &place)?;
            Ok(true)
        })
    }

    /// Deletes a note and what stands below it; how many.
    ///
    /// # Errors
    /// As [`sheaf::Site::write`].
    pub(crate) fn delete(&self, id: &str) -> Result<usize> {
        self.write(|tx| {
            let sql = "WITH RECURSIVE gone(id) AS (SELECT ?1 UNION
                 SELECT note.id FROM note JOIN gone ON note.parent = gone.id)
                 DELETE FROM note WHERE id IN (SELECT id FROM gone)";
            tx.execute(sql, [id]).map_err(from_sqlite)
        })
    }
}

fn place_of(tx: &Transaction<'_>, id: &str) -> Result<Place> {
    let sql = "SELECT parent, pos FROM note WHERE id = ?1";
    let place =
        |row: &sheaf::rusqlite::Row<'_>| Ok(Place { parent: row.get(0)?, pos: row.get(1)? });
    tx.query_row(sql, [id], place).optional().map_err(from_sqlite)?.ok_or_else(gone)
}

fn put(tx: &Transaction<'_>, id: &str, place: &Place) -> Result<()> {
    let sql = "UPDATE note SET parent = ?2, pos = ?3 WHERE id = ?1";
    tx.execute(sql, params![id, place.parent, place.pos]).map_err(from_sqlite)?;
    Ok(())
}

fn behind(tx: &Transaction<'_>, id: &str) -> Result<Place> {
    let Place { parent, pos } = place_of(tx, id)?;
    let pos = position(tx, BEHIND, parent.as_deref(), Some(&pos))?;
    Ok(Place { parent, pos })
}

fn last_below(tx: &Transaction<'_>, parent: Option<&str>) -> Result<Place> {
    let sql = "SELECT max(pos) FROM note WHERE parent IS ?1";
    let last: Option<String> =
        tx.query_row(sql, [parent], |row| row.get(0)).map_err(from_sqlite)?;
    let pos = position(tx, BEHIND, parent, last.as_deref())?;
    Ok(Place { parent: parent.map(str::to_owned), pos })
}

fn position(
    tx: &Transaction<'_>,
    sql: &str,
    parent: Option<&str>,
    at: Option<&str>,
) -> Result<String> {
    let found: Option<String> =
        tx.query_row(sql, params![parent, at], |row| row.get(0)).map_err(from_sqlite)?;
    found.ok_or_else(|| {
        let text = "too many notes were put between these two; move one of them away first";
        Error::new(ErrorKind::Limit, text)
    })
}
