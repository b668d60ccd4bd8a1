//! A site as plain SQLite in memory would hold it.
//!
//! Invariant: nothing of Sheaf runs here; a transaction is a savepoint of ordinary statements, and
//! one that fails leaves nothing behind. Leaves out the numbers that SQLite gives to rows: the
//! engine may renumber, so rows are compared by what they say and what they refer to.

use rusqlite::{Connection, MAIN_DB};
use sheaf_site::{Error, Site, View};

use crate::workload::{Runs, Transaction, has_table, lock, outline, page, together};

/// A state of a site.
#[derive(Debug)]
pub(crate) struct Model {
    conn: Connection,
}

/// A state, to go back to.
pub(crate) type Image = std::sync::Arc<[u8]>;

impl Model {
    /// A site that holds nothing.
    pub(crate) fn new() -> Self {
        let conn = Connection::open_in_memory().expect("BUG: no memory for the model");
        let model = Self { conn };
        model.prepare();
        model
    }

    /// A state as it was.
    pub(crate) fn at(image: &Image) -> Self {
        let mut model = Self::new();
        if !image.is_empty() {
            let restored =
                model.conn.deserialize_read_exact(MAIN_DB, &image[..], image.len(), false);
            restored.expect("BUG: the model's own image");
            model.prepare();
        }
        model
    }

    fn prepare(&self) {
        let on = self.conn.execute_batch("PRAGMA foreign_keys = ON");
        on.expect("BUG: plain SQLite enforces foreign keys");
        self.conn.set_prepared_statement_cache_capacity(64);
    }

    /// This state.
    pub(crate) fn image(&mut self) -> Image {
        self.conn.serialize(MAIN_DB).map_or_else(|_| Image::from([]), |data| Image::from(&*data))
    }

    /// Runs a transaction; why not, if it fails.
    pub(crate) fn apply(&self, transaction: &Transaction, runs: Runs) -> Result<(), String> {
        let begin = self.conn.execute_batch("SAVEPOINT model");
        begin.expect("BUG: the model is never in a transaction");
        let done = transaction.run(&self.conn, runs);
        let end = if done.is_ok() { "RELEASE model" } else { "ROLLBACK TO model; RELEASE model" };
        // Deferred foreign keys would show here; there are none.
        self.conn.execute_batch(end).expect("BUG: the model's savepoint ends");
        done.map_err(|error| error.to_string())
    }

    /// How often a lock was taken here, and how often by this author.
    pub(crate) fn counted(&self, kind: lock::Kind, author: &str) -> (u64, u64) {
        lock::counted(&self.conn, kind, author).unwrap_or_default()
    }

    /// Adds to a transaction what its author sees here.
    pub(crate) fn shows_to(&self, transaction: &mut Transaction) -> Option<()> {
        transaction.has_seen(&self.conn).ok()
    }

    /// What a column of a text holds.
    pub(crate) fn note(&self, note: u64, column: &str) -> Option<String> {
        let sql = format!("SELECT {column} FROM note WHERE id = ?1");
        self.conn.query_row(&sql, [format!("t{note}")], |row| row.get(0)).ok()
    }

    /// What this state says.
    pub(crate) fn dump(&self) -> String {
        dump(&self.conn).expect("BUG: the model can be read")
    }
}

/// What every state says, row by row, however its rows are numbered.
const SAYS: &[&str] = &[
    "SELECT 'acc', id, v FROM acc ORDER BY id",
    "SELECT 'ctr', id, n FROM ctr ORDER BY id",
    "SELECT 'list', id, who, body FROM list ORDER BY id",
    "SELECT 'uniq', id, name FROM uniq ORDER BY id",
    "SELECT 'mark', id FROM mark ORDER BY id",
    "SELECT 'ref', id, list FROM ref ORDER BY id",
    "SELECT 'num', tag FROM num ORDER BY tag",
    "SELECT 'kid', kid.tag, num.tag FROM kid LEFT JOIN num ON num.id = kid.num ORDER BY kid.tag",
    "SELECT * FROM note ORDER BY id",
    "SELECT type, name FROM sqlite_schema WHERE name LIKE 'by%' OR name LIKE 'extra%' ORDER BY name",
];

/// What a view of a replica says.
///
/// # Errors
/// The site's, for a view that cannot be read.
pub(crate) fn says(site: &Site, view: View) -> Result<String, Error> {
    site.read(view, |conn| dump(conn).map_err(|error| sheaf_site::explain(conn, error)))
}

/// What a connection's state says.
///
/// # Errors
/// SQLite's, for a state that cannot be read.
pub(crate) fn dump(conn: &Connection) -> rusqlite::Result<String> {
    let mut out = String::new();
    if !has_table(conn, "acc")? {
        return Ok(out);
    }
    for sql in SAYS {
        rows(conn, sql, &mut out)?;
    }
    together::dump(conn, &mut out)?;
    page::dump(conn, &mut out)?;
    outline::dump(conn, &mut out)?;
    if has_table(conn, "ticket")? {
        rows(conn, "SELECT 'ticket', no, id FROM ticket ORDER BY no, id", &mut out)?;
        rows(conn, "SELECT 'turn', id, lock FROM turn ORDER BY id", &mut out)?;
    }
    let sql =
        "SELECT name FROM sqlite_schema WHERE name LIKE 'extra%' AND type = 'table' ORDER BY 1";
    let tables: Vec<String> =
        conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for table in tables {
        rows(conn, &format!("SELECT '{table}', id FROM {table} ORDER BY id"), &mut out)?;
    }
    Ok(out)
}

fn rows(conn: &Connection, sql: &str, out: &mut String) -> rusqlite::Result<()> {
    use std::fmt::Write as _;
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let names = columns > 0 && sql.contains('*');
    if names {
        // The columns of a table that schema changes extend are part of what it says.
        let columns: Vec<_> = statement.column_names().collect();
        let _ = writeln!(out, "note({})", columns.join(", ")).is_ok();
    }
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let value = match row.get_ref(column)? {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                rusqlite::types::ValueRef::Real(value) => value.to_string(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                rusqlite::types::ValueRef::Blob(blob) => format!(
                    "{}:{}",
                    blob.len(),
                    blake3::hash(blob).to_hex().get(..12).unwrap_or_default()
                ),
            };
            out.push_str(&value);
            out.push(if column + 1 == columns { '\n' } else { ' ' });
        }
    }
    Ok(())
}

/// The first lines in which two states differ.
pub(crate) fn difference(model: &str, seen: &str) -> String {
    let mut out = Vec::new();
    let (want, have): (Vec<&str>, Vec<&str>) = (model.lines().collect(), seen.lines().collect());
    let (wanted, had) = (
        want.iter().collect::<std::collections::BTreeSet<_>>(),
        have.iter().collect::<std::collections::BTreeSet<_>>(),
    );
    let agrees = |a: &&str, b: &&str| together::agrees(a, b);
    let missing = want
        .iter()
        .filter(|line| !had.contains(line) && !have.iter().any(|seen| agrees(line, seen)));
    out.extend(missing.take(6).map(|line| format!("model: {line}")));
    let added = have
        .iter()
        .filter(|line| !wanted.contains(line) && !want.iter().any(|model| agrees(model, line)));
    out.extend(added.take(6).map(|line| format!("seen: {line}")));
    if out.is_empty() {
        out.push(format!("{} lines in the model, {} seen", want.len(), have.len()));
    }
    out.join("; ")
}
