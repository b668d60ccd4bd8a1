//! What a device says of its own state: what waits, and what gave way.
//!
//! Invariant: marks are compared at one moment with both views and with what the model knows.
//! Leaves out tables whose rows SQLite numbers, because a prediction numbers them anew, and a table
//! whose columns are not the same in both views.

use std::sync::Arc;

use rusqlite::Connection;
use sheaf_site::{Error, Value, View, Waiting};

use super::replica::Replica;
use crate::{check::marks as check, workload::together, world::Host};

/// Tables whose rows have names.
const TABLES: &[&str] = &["acc", "ctr", "list", "uniq", "note", "ref", "mark", "doc", "turn"];

impl Replica {
    /// Somebody looks at all marks.
    pub(super) fn look_at_marks(&self, host: &Arc<Host>) {
        let who = format!("{} s{}", host.name, self.number);
        let looked = self.compare_marks(host, &who).and_then(|()| self.compare_lists(host, &who));
        match looked {
            Ok(()) if !host.is_dead() => host.count("looked at marks"),
            Ok(()) => {}
            Err(error) => host.trace(format_args!("{who} has no marks: {error}")),
        }
    }

    fn compare_marks(&self, host: &Host, who: &str) -> Result<(), Error> {
        let conn = self.site.connection(View::Local)?;
        let explain = |error| sheaf_site::explain(&conn, error);
        conn.execute_batch("ATTACH sheaf_view('global') AS global").map_err(explain)?;
        let waits = !self.pending().is_empty();
        for table in TABLES {
            if columns(&conn, "main", table).map_err(explain)?
                != columns(&conn, "global", table).map_err(explain)?
            {
                continue;
            }
            let differing = differing(&conn, table).map_err(explain)?;
            let marked = marked(&conn, table).map_err(explain)?;
            if host.is_dead() {
                return Ok(());
            }
            if !waits {
                host.expect(check::nothing_waits(who, table, marked, &differing));
            }
            for id in differing {
                let mark = self.site.waiting(table, &[Value::Text(id.clone())])?;
                if mark == Waiting::Yes {
                    host.count("saw a mark");
                }
                host.expect(check::differs(who, table, &id, mark.known()));
            }
        }
        Ok(())
    }

    fn compare_lists(&self, host: &Host, who: &str) -> Result<(), Error> {
        let (pending, conflicts) = (self.site.pending()?, self.site.conflicts()?);
        let keeps = self.site.read(View::Local, |conn| {
            together::all_siblings(conn).map_err(|error| sheaf_site::explain(conn, error))
        })?;
        if host.is_dead() {
            return Ok(());
        }
        if conflicts.iter().any(|conflict| conflict.id.is_some()) {
            host.count("saw what gave way");
        }
        let (timeline, base, waiting) =
            (self.site.timeline(), self.site.base().0.0, self.pending());
        host.oracle(self.number, |oracle| {
            host.expect(check::pending(who, &oracle.ledger, timeline, &waiting, &pending));
            let waits = (&*pending, base > self.opened_at);
            host.expect(check::conflicts(who, oracle, (timeline, base), waits, &conflicts));
        });
        for (doc, keeps) in keeps {
            host.expect(check::siblings(who, &doc, &keeps, &conflicts));
        }
        Ok(())
    }
}

fn columns(conn: &Connection, view: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_info(?1, ?2) ORDER BY cid";
    conn.prepare(sql)?.query_map([table, view], |row| row.get(0))?.collect()
}

/// The rows that are not the same in both views.
fn differing(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    if columns(conn, "main", table)?.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT id FROM (SELECT * FROM main.{table} EXCEPT SELECT * FROM global.{table})
         UNION SELECT id FROM (SELECT * FROM global.{table} EXCEPT SELECT * FROM main.{table})"
    );
    conn.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}

/// How many rows are marked, or may be.
fn marked(conn: &Connection, table: &str) -> rusqlite::Result<i64> {
    if columns(conn, "main", table)?.is_empty() {
        return Ok(0);
    }
    let sql =
        format!("SELECT count(*) FROM main.{table} WHERE sheaf_pending('{table}', id) IS NOT 0");
    conn.query_row(&sql, [], |row| row.get(0))
}
