//! The past of one note: the commits of the log that changed it, and what it was after each.
//!
//! Invariant: newest first; commits that left the note as it was are not listed. It ends where the
//! log is no longer kept.

use sheaf::{
    ErrorKind, LogEntry, Result, Site, View, from_sqlite, rusqlite::OptionalExtension as _,
};

use super::{has_table, note};
use crate::{
    limits,
    outline::{Entry, Note},
    screen::Version,
};

const ONE: &str =
    "SELECT id, parent, pos, title, body, tags, done, priority FROM note WHERE id = ?1";

/// Reads the past of a note.
///
/// # Errors
/// As [`Site::log`] and [`Site::read`].
pub(super) fn read(site: &Site, id: &str) -> Result<Vec<Version>> {
    let base = site.status().base;
    let log = site.log(limits::HISTORY_COMMITS, None)?;
    let touched = |entry: &&LogEntry| {
        entry.lsn <= base && entry.tables.iter().any(|table| table.eq_ignore_ascii_case("note"))
    };
    let mut versions: Vec<Version> = Vec::new();
    // Whether there is more in the log than was looked at.
    let mut is_cut = log.last().is_some_and(|oldest| oldest.lsn.0 > 1);
    // The newer of two neighbours knows what it changed once the older one was read.
    let mut newer: Option<(&LogEntry, Option<Note>)> = None;
    for entry in log.iter().filter(touched) {
        let was = match at(site, entry, id) {
            Err(error) if error.kind() == ErrorKind::Expired => {
                is_cut = true;
                break;
            }
            was => was?,
        };
        if let Some((of, then)) = newer.take() {
            versions.extend(version(site, of, then, was.as_ref())?);
        }
        newer = Some((entry, was));
    }
    let oldest = match newer {
        Some((of, then)) => version(site, of, then, None)?,
        None => None,
    };
    versions.extend(oldest.map(|oldest| match is_cut {
        true => Version { changed: vec!["as far back as is known"], ..oldest },
        false => oldest,
    }));
    Ok(versions)
}

fn at(site: &Site, entry: &LogEntry, id: &str) -> Result<Option<Note>> {
    site.read(View::At(entry.lsn), |conn| {
        if !has_table(conn)? {
            return Ok(None);
        }
        conn.query_row(ONE, [id], note).optional().map_err(from_sqlite)
    })
}

/// What a commit made of a note; `None` if it left it as it was.
fn version(
    site: &Site,
    entry: &LogEntry,
    now: Option<Note>,
    before: Option<&Note>,
) -> Result<Option<Version>> {
    let changed = match (&now, before) {
        (Some(now), Some(before)) => differences(now, before),
        (Some(_), None) => vec!["made"],
        (None, Some(_)) => vec!["deleted"],
        (None, None) => Vec::new(),
    };
    if changed.is_empty() {
        return Ok(None);
    }
    let when = site.read(View::Local, |conn| {
        let seconds = i64::try_from(entry.time_ms / 1_000).unwrap_or(i64::MAX);
        let sql = "SELECT coalesce(datetime(?1, 'unixepoch'), '')";
        conn.query_row(sql, [seconds], |row| row.get(0)).map_err(from_sqlite)
    })?;
    Ok(Some(Version {
        lsn: entry.lsn.0,
        when,
        who: entry.writer.clone(),
        // Its tables are all the same here.
        summary: entry.summary.split(':').next().unwrap_or_default().to_owned(),
        entry: now.map(|note| Entry { note, depth: 0, is_stray: false }),
        changed,
    }))
}

fn differences(now: &Note, before: &Note) -> Vec<&'static str> {
    let parts = [
        (now.title != before.title, "title"),
        (now.body != before.body, "text"),
        (now.tags != before.tags, "tags"),
        (now.is_done != before.is_done, "done"),
        (now.priority != before.priority, "priority"),
        ((&now.parent, &now.pos) != (&before.parent, &before.pos), "place"),
    ];
    parts.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}
