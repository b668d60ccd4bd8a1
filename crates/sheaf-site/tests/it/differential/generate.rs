//! Statements, one at a time, about what the database holds at that moment.
//!
//! Invariant: a statement's answer follows from the rows alone, so two databases with the same
//! rows must answer alike: nothing random, no clock, and an order wherever order matters.

use super::catalog::Catalog;
use crate::support::Rng;

mod rows;
mod schema;

/// Full-text tables, their source, and a target of triggers: always there, named `fix...`.
pub(super) const FIXTURES: &[&str] = &[
    "CREATE TABLE fix_log(id INTEGER PRIMARY KEY, what TEXT, n INT)",
    "CREATE TABLE fix_note(id INTEGER PRIMARY KEY, title TEXT, body TEXT, stars INT DEFAULT 0)",
    "CREATE VIRTUAL TABLE fix_doc USING fts5(title, body)",
    "CREATE VIRTUAL TABLE fix_find USING fts5(title, body, content='fix_note', content_rowid='id')",
    "CREATE TRIGGER fix_ai AFTER INSERT ON fix_note BEGIN
       INSERT INTO fix_find(rowid, title, body) VALUES (new.id, new.title, new.body); END",
    "CREATE TRIGGER fix_ad AFTER DELETE ON fix_note BEGIN
       INSERT INTO fix_find(fix_find, rowid, title, body)
       VALUES ('delete', old.id, old.title, old.body); END",
    "CREATE TRIGGER fix_au AFTER UPDATE ON fix_note BEGIN
       INSERT INTO fix_find(fix_find, rowid, title, body)
       VALUES ('delete', old.id, old.title, old.body);
       INSERT INTO fix_find(rowid, title, body) VALUES (new.id, new.title, new.body); END",
];

const WORDS: &[&str] = &["red", "green", "blue", "pear", "plum", "fig", "oak", "elm", "ash"];

pub(super) fn may_change_schema(sql: &str) -> bool {
    let data = ["INSERT", "UPDATE", "DELETE", "SELECT", "WITH", "PRAGMA", "SAVEPOINT", "REPLACE"];
    let undoes = ["OR ROLLBACK", "OR FAIL"];
    undoes.iter().any(|words| sql.contains(words)) || !data.iter().any(|word| sql.starts_with(word))
}

pub(super) struct Generator {
    rng: Rng,
    /// Without what does not travel: planner statistics, AUTOINCREMENT's memory, and row ids
    /// that VACUUM may renumber.
    travels: bool,
    /// Whether a transaction is open.
    open: bool,
    serial: u64,
}

impl Generator {
    pub(super) fn new(rng: Rng, travels: bool) -> Self {
        Self { rng, travels, open: false, serial: 0 }
    }

    pub(super) fn statement(&mut self, catalog: &Catalog, open: bool) -> String {
        self.open = open;
        if catalog.tables.len() < 2 {
            return self.create_table(catalog);
        }
        let roll = self.rng.below(1_000);
        match roll {
            0..140 => self.transaction(open),
            140..200 => self.ddl(catalog),
            200..460 => self.insert(catalog),
            460..620 => self.update(catalog),
            620..700 => self.delete(catalog),
            700..780 => self.full_text(),
            780..800 => self.upkeep(catalog, open),
            _ => self.select(catalog),
        }
    }

    fn transaction(&mut self, open: bool) -> String {
        let name = self.rng.pick(&["s1", "s2", "s3"]).to_owned();
        if !open {
            return match self.rng.below(10) {
                0..6 => self.rng.pick(&["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]).to_owned(),
                6..9 => format!("SAVEPOINT {name}"),
                _ => self.rng.pick(&["COMMIT", "ROLLBACK", "RELEASE s1"]).to_owned(),
            };
        }
        match self.rng.below(20) {
            0..6 => format!("SAVEPOINT {name}"),
            6..9 => format!("RELEASE {name}"),
            9..12 => format!("ROLLBACK TO {name}"),
            12..18 => "COMMIT".into(),
            18 => "ROLLBACK".into(),
            _ => self.rng.pick(&["BEGIN", "PRAGMA defer_foreign_keys = ON"]).to_owned(),
        }
    }

    fn upkeep(&mut self, catalog: &Catalog, open: bool) -> String {
        let table = self.table(catalog).name.clone();
        match self.rng.below(8) {
            0 | 1 => "REINDEX".into(),
            2 => format!("REINDEX {table}"),
            3 if !self.travels => "ANALYZE".into(),
            4 => format!("PRAGMA cache_size = {}", 5 + self.rng.below(40)),
            5 | 6 if !open && !self.travels => "VACUUM".into(),
            _ => "PRAGMA foreign_key_check".into(),
        }
    }

    fn text(&mut self) -> String {
        let words: Vec<_> = (0..1 + self.rng.below(5)).map(|_| self.rng.pick(WORDS)).collect();
        format!("'{}'", words.join(" "))
    }

    fn full_text(&mut self) -> String {
        let id = 1 + self.rng.below(30);
        let (title, body) = (self.text(), self.text());
        match self.rng.below(16) {
            0..2 => format!("INSERT INTO fix_doc(title, body) VALUES ({title}, {body})"),
            2 => format!(
                "INSERT OR REPLACE INTO fix_doc(rowid, title, body) VALUES ({id}, {title}, {body})"
            ),
            3 => format!("UPDATE fix_doc SET body = {body} WHERE rowid = {id}"),
            4 => format!("DELETE FROM fix_doc WHERE rowid = {id}"),
            5 => format!(
                "UPDATE fix_doc SET title = {title} WHERE fix_doc MATCH '{}'",
                self.rng.pick(WORDS)
            ),
            6 => format!(
                "INSERT INTO fix_doc(fix_doc) VALUES ('{}')",
                self.rng.pick(&["optimize", "rebuild", "integrity-check"])
            ),
            7..9 => format!(
                "INSERT OR REPLACE INTO fix_note(id, title, body) VALUES ({id}, {title}, {body})"
            ),
            9 => format!("INSERT INTO fix_note(title, body) VALUES ({title}, {body}) RETURNING id"),
            10 => format!("UPDATE fix_note SET body = {body}, stars = stars + 1 WHERE id <= {id}"),
            11 => format!("DELETE FROM fix_note WHERE id = {id}"),
            12 => "INSERT INTO fix_find(fix_find) VALUES ('integrity-check')".into(),
            13 => "SELECT id, stars, title FROM fix_note ORDER BY id".into(),
            14 => format!(
                "SELECT rowid, * FROM fix_find WHERE fix_find MATCH '{}' ORDER BY rowid",
                self.rng.pick(WORDS)
            ),
            _ => format!(
                "SELECT rowid, * FROM fix_doc WHERE fix_doc MATCH '{}' ORDER BY rowid",
                self.rng.pick(WORDS)
            ),
        }
    }

    fn select(&mut self, catalog: &Catalog) -> String {
        let table = self.any(catalog);
        let columns = table.names();
        let (a, b) = (self.rng.pick(&columns).to_owned(), self.rng.pick(&columns).to_owned());
        let (name, order) = (&table.name, columns.join(", "));
        let predicate = self.predicate(&columns);
        match self.rng.below(12) {
            0..4 => format!("SELECT * FROM {name} WHERE {predicate} ORDER BY {order}"),
            4 => format!(
                "SELECT count(*), min({a}), max({b}), count({a}) FROM {name} WHERE {predicate}"
            ),
            5 => format!(
                "SELECT {a}, count(*) FROM {name} GROUP BY {a} HAVING count(*) > 1 ORDER BY {a}"
            ),
            6 => {
                let other = self.table(catalog);
                let c = self.rng.pick(&other.names()).to_owned();
                format!(
                    "SELECT count(*), max(x.{a}), min(y.{c}) FROM {name} AS x LEFT JOIN {} AS y ON x.{a} = y.{c}",
                    other.name
                )
            }
            7 => format!(
                "SELECT {a}, row_number() OVER (ORDER BY {order}) FROM {name} ORDER BY 2 LIMIT 5"
            ),
            8 => format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5)
                 SELECT i, (SELECT count(*) FROM {name} WHERE length({a}) = i) FROM n ORDER BY i"
            ),
            9 => format!(
                "SELECT json_group_array(x) FROM (SELECT typeof({a}) AS x FROM {name} ORDER BY {order})"
            ),
            10 => format!(
                "SELECT DISTINCT {a} FROM {name} EXCEPT SELECT {b} FROM {name} WHERE {predicate} ORDER BY 1"
            ),
            _ if self.travels => "SELECT count(*) FROM fix_log".into(),
            _ => "SELECT last_insert_rowid()".into(),
        }
    }
}
