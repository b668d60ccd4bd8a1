//! Rows in an order that several people make at once.
//!
//! Invariant: each row is put, or moved, directly behind one that is agreed and that nobody takes
//! away, so in log order every state of a list is one sequence, which the model keeps. Rows that
//! may be taken away are never what another one is put behind. Leaves out rows that follow others
//! of their transaction, and rows whose neighbours are gone: `sheaf-site/tests/it/lists` has them.

use std::fmt::Write as _;

use rusqlite::{Connection, ToSql, params};

use super::{Author, Step, refused};

/// Lists.
const LISTS: u64 = 2;
/// What the name of a row begins with that may be taken away.
const LOOSE: &str = "loose";

const LISTS_OF_PEOPLE: &str = "
CREATE TABLE item(id TEXT PRIMARY KEY NOT NULL, list TEXT NOT NULL, pos TEXT NOT NULL);
CREATE INDEX item_order ON item(list, pos);
SELECT sheaf_merge_rule('item', 'pos', 'list(list)');
";
const LISTS_OF_MODEL: &str =
    "CREATE TABLE item(id TEXT PRIMARY KEY NOT NULL, list TEXT NOT NULL, ord INTEGER NOT NULL)";

/// What somebody means to do with a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Placed {
    /// A new row, behind another one or in front.
    Put { id: String, after: Option<String> },
    /// A row is moved there.
    Move { id: String, after: Option<String> },
    /// A row goes.
    Drop { id: String },
}

/// The tables, as people or as the model have them.
pub(super) fn found(conn: &Connection, model: bool) -> rusqlite::Result<()> {
    conn.execute_batch(if model { LISTS_OF_MODEL } else { LISTS_OF_PEOPLE })
}

fn name(list: u64) -> String {
    format!("l{list}")
}

impl Placed {
    /// What the model keeps of it.
    pub(super) fn mean(&self, conn: &Connection, list: &str) -> rusqlite::Result<()> {
        self.run(conn, (list, "ord"), |after| {
            let ord = "SELECT coalesce(max(ord), 0) FROM item WHERE id = ?1 AND list = ?2";
            let ord: i64 = conn.query_row(ord, params![after, list], |row| row.get(0))?;
            let room = "UPDATE item SET ord = ord + 1 WHERE list = ?1 AND ord > ?2";
            conn.execute(room, params![list, ord])?;
            Ok(ord + 1)
        })
    }

    /// Does it, as an application does that keeps positions.
    pub(super) fn write(&self, conn: &Connection, list: &str) -> rusqlite::Result<()> {
        self.run(conn, (list, "pos"), |after| {
            let next = "SELECT min(pos) FROM item WHERE list = ?2
                AND pos > coalesce((SELECT pos FROM item WHERE id = ?1), '')";
            let next: Option<String> =
                conn.query_row(next, params![after, list], |row| row.get(0))?;
            let at = "SELECT sheaf_between((SELECT pos FROM item WHERE id = ?1), ?2)";
            let at: Option<String> = conn.query_row(at, params![after, next], |row| row.get(0))?;
            at.ok_or_else(|| refused("no room"))
        })
    }

    /// Writes what `at` gives for behind a row into the column of the order.
    fn run<T: ToSql>(
        &self,
        conn: &Connection,
        (list, column): (&str, &str),
        at: impl FnOnce(&Option<String>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<()> {
        let (sql, id, after) = match self {
            Self::Drop { id } => {
                return conn.execute("DELETE FROM item WHERE id = ?1", [id]).map(drop);
            }
            Self::Put { id, after } => {
                (format!("INSERT INTO item(id, list, {column}) VALUES (?1, ?2, ?3)"), id, after)
            }
            Self::Move { id, after } => {
                (format!("UPDATE item SET {column} = ?3 WHERE id = ?1 AND list = ?2"), id, after)
            }
        };
        conn.execute(&sql, params![id, list, at(after)?]).map(drop)
    }
}

/// What the lists say, to the model or to people.
pub(crate) fn dump(conn: &Connection, out: &mut String) -> rusqlite::Result<()> {
    let order = "SELECT name FROM pragma_table_info('item') WHERE name IN ('ord', 'pos')";
    let mut order = conn.prepare_cached(order)?;
    let order: Vec<String> =
        order.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let Some(order) = order.first() else { return Ok(()) };
    for list in (0..LISTS).map(name) {
        let sql = format!("SELECT id, {order} FROM item WHERE list = ?1 ORDER BY {order}");
        let mut rows = conn.prepare_cached(&sql)?;
        let mut rows = rows.query([&list])?;
        let (mut ids, mut last) = (Vec::<String>::new(), None);
        while let Some(row) = rows.next()? {
            let at = row.get::<_, rusqlite::types::Value>(1)?;
            if last.as_ref() == Some(&at) {
                ids.push("(where the one before is)".to_owned());
            }
            ids.push(row.get(0)?);
            last = Some(at);
        }
        let _ = writeln!(out, "outline {list} {}", ids.join(" ")).is_ok();
    }
    Ok(())
}

impl Author {
    /// A change of a list, by what this device sees and knows to be agreed.
    pub(super) fn places(&mut self, conn: &Connection) -> rusqlite::Result<Step> {
        let list = name(self.rng.below(LISTS));
        let rows = |sql: &str| {
            let mut rows = conn.prepare_cached(sql)?;
            let rows = rows.query_map(params![list, format!("{LOOSE}*")], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        let firm = rows("SELECT id FROM global.item WHERE list = ?1 AND id NOT GLOB ?2")?;
        let loose = rows("SELECT id FROM main.item WHERE list = ?1 AND id GLOB ?2")?;
        let drawn = self.rng.below(10);
        let placed = match (drawn, self.rng.pick(&loose), self.rng.pick(&firm)) {
            (0 | 1, Some(id), _) => Placed::Drop { id: id.clone() },
            (2..=4, _, Some(id)) => {
                let others: Vec<&String> = firm.iter().filter(|other| *other != id).collect();
                Placed::Move { id: id.clone(), after: self.behind(&others) }
            }
            (drawn, ..) => {
                let (loose, id) = (drawn > 7, self.fresh());
                let id = if loose { format!("{LOOSE}{id}") } else { id };
                Placed::Put { id, after: self.behind(&firm.iter().collect::<Vec<_>>()) }
            }
        };
        Ok(Step::Place { list, placed })
    }

    /// One of these rows, or none: in front of all.
    fn behind(&mut self, rows: &[&String]) -> Option<String> {
        if self.rng.chance(100_000) { None } else { self.rng.pick(rows).map(|row| (*row).clone()) }
    }
}
