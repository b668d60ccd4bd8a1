//! integrity_check clean after everything: SQLite's own checks find nothing.

use rusqlite::Connection;
use sheaf_site::{ErrorKind, Site, View};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "integrity_check clean after everything", what }
}

/// Runs SQLite's checks on a view of a replica.
pub(crate) fn of(who: &str, site: &Site, view: View) -> Checked {
    let read = |conn: &Connection| {
        let one = |sql: &str| -> rusqlite::Result<Vec<String>> {
            let mut statement = conn.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect()
        };
        let read = || Ok((one("PRAGMA integrity_check")?, one("PRAGMA foreign_key_check")?));
        read().map_err(|error| sheaf_site::explain(conn, error))
    };
    match site.read(view, read) {
        Ok((check, keys)) if check == ["ok"] && keys.is_empty() => Ok(()),
        Ok((check, keys)) => Err(violated(format!("{who} {view:?}: {check:?} {keys:?}"))),
        // A page that cannot be fetched now is no finding; the caller asks when it can.
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
        Err(error) => Err(violated(format!("{who} {view:?} cannot be checked: {error}"))),
    }
}
