//! Statements, one at a time, about what the database holds at that moment.
//!
//! Invariant: a statement's answer follows from the rows alone, so two databases with the same
//! rows must answer alike: nothing random, no clock, and an order wherever order matters.

use super::catalog::{Catalog, Table};
use crate::support::Rng;

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

const TABLES_MAX: usize = 9;
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

    // ---- schema ----

    fn ddl(&mut self, catalog: &Catalog) -> String {
        match self.rng.below(20) {
            0..4 if catalog.tables.len() < TABLES_MAX => self.create_table(catalog),
            4 | 5 => format!("DROP TABLE {}", self.table(catalog).name),
            6..10 => self.alter(catalog),
            10..14 => self.create_index(catalog),
            14 => self.drop_one("INDEX", &catalog.indexes),
            15 => self.create_view(catalog),
            16 | 17 => self.create_trigger(catalog),
            18 => self.drop_one("TRIGGER", &catalog.triggers),
            _ => {
                let views: Vec<_> = catalog.views.iter().map(|view| view.name.clone()).collect();
                self.drop_one("VIEW", &views)
            }
        }
    }

    fn drop_one(&mut self, kind: &str, names: &[String]) -> String {
        if names.is_empty() {
            return format!("DROP {kind} IF EXISTS nothing");
        }
        let at = self.rng.below(names.len());
        format!("DROP {kind} {}", names[at])
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.serial += 1;
        // A small range, so that some names are taken and some come back.
        format!("{prefix}{}", self.serial % 40)
    }

    fn create_table(&mut self, catalog: &Catalog) -> String {
        let name = self.fresh("t");
        let strict = self.rng.chance(15);
        let mut columns = Vec::new();
        let (mut tail, mut without) = (String::new(), false);
        match self.rng.below(10) {
            0..4 => columns.push("id INTEGER PRIMARY KEY".to_owned()),
            4 => columns.push("id INTEGER PRIMARY KEY AUTOINCREMENT".to_owned()),
            5 => columns.push("id TEXT PRIMARY KEY NOT NULL".to_owned()),
            6 => {
                columns.push("k TEXT NOT NULL".into());
                columns.push("id INT NOT NULL".into());
                tail = ", PRIMARY KEY(id, k)".into();
                without = self.rng.chance(50);
            }
            7 | 8 => {
                columns.push("id INT PRIMARY KEY NOT NULL".into());
                without = true;
            }
            _ => {}
        }
        if self.travels && columns.first().is_some_and(|column| column.ends_with("INCREMENT")) {
            columns[0] = "id INTEGER PRIMARY KEY".into();
        }
        for letter in ["a", "b", "c", "d", "e"].iter().take(2 + self.rng.below(4)) {
            columns.push(self.column(catalog, &format!("{letter}{name}"), strict));
        }
        let mut options = Vec::new();
        options.extend(strict.then_some("STRICT"));
        options.extend(without.then_some("WITHOUT ROWID"));
        let exists = if self.rng.chance(10) { "IF NOT EXISTS " } else { "" };
        if self.rng.chance(6) && !catalog.tables.is_empty() {
            let from = &self.any(catalog).name.clone();
            // Not a name that an older foreign key may refer to: rows reach the other device by
            // INSERT, which then looks at the key where CREATE TABLE AS does not.
            let name = if self.travels { self.fresh("c") } else { name };
            return format!("CREATE TABLE {exists}{name} AS SELECT * FROM {from}");
        }
        format!("CREATE TABLE {exists}{name}({}{tail}) {}", columns.join(", "), options.join(", "))
    }

    fn column(&mut self, catalog: &Catalog, name: &str, strict: bool) -> String {
        let types: &[&str] = if strict {
            &["INT", "TEXT", "REAL", "BLOB", "ANY", "INTEGER"]
        } else {
            &["INT", "TEXT", "REAL", "BLOB", "NUMERIC", "VARCHAR(20)", ""]
        };
        let ty = self.rng.pick(types);
        let extra = match self.rng.below(24) {
            0 => " UNIQUE".to_owned(),
            1 => format!(" NOT NULL DEFAULT {}", if ty == "BLOB" { "x'00'" } else { "7" }),
            2 => format!(" CHECK ({name} IS NULL OR {name} <> 13)"),
            3 => " COLLATE NOCASE".into(),
            4 => " DEFAULT NULL".into(),
            5 if !self.travels => " UNIQUE ON CONFLICT REPLACE".into(),
            6 => " NOT NULL ON CONFLICT REPLACE DEFAULT 3".into(),
            7 | 8 => {
                let stored = self.rng.pick(&["STORED", "VIRTUAL"]);
                return format!("{name} AS (typeof(id) || 'x') {stored}");
            }
            9..13 => self.reference(catalog),
            _ => String::new(),
        };
        format!("{name} {ty}{extra}")
    }

    fn reference(&mut self, catalog: &Catalog) -> String {
        let Some(table) = catalog.tables.iter().find(|table| table.id.is_some()) else {
            return String::new();
        };
        let actions = ["CASCADE", "SET NULL", "RESTRICT", "NO ACTION", "SET DEFAULT"];
        let (delete, update) = (self.rng.pick(&actions), self.rng.pick(&actions));
        let deferred = self.rng.pick(&["", " DEFERRABLE INITIALLY DEFERRED"]);
        format!(
            " REFERENCES {}({}) ON DELETE {delete} ON UPDATE {update}{deferred}",
            table.name,
            table.id.as_deref().unwrap_or("id")
        )
    }

    fn alter(&mut self, catalog: &Catalog) -> String {
        let table = self.table(catalog);
        let (name, columns) = (table.name.clone(), table.names());
        let column = self.rng.pick(&columns).to_owned();
        match self.rng.below(6) {
            0 | 1 => {
                let column = self.fresh("n");
                let form = self.rng.pick(&[
                    "INT",
                    "TEXT DEFAULT 'dflt'",
                    "INT NOT NULL DEFAULT 5",
                    "REAL DEFAULT 2.5",
                    "TEXT COLLATE NOCASE",
                ]);
                format!("ALTER TABLE {name} ADD COLUMN {column} {form}")
            }
            2 | 3 => format!("ALTER TABLE {name} RENAME COLUMN {column} TO {}", self.fresh("r")),
            4 => format!("ALTER TABLE {name} DROP COLUMN {column}"),
            _ => format!("ALTER TABLE {name} RENAME TO {}", self.fresh("t")),
        }
    }

    fn create_index(&mut self, catalog: &Catalog) -> String {
        let table = self.table(catalog);
        let (owner, columns) = (table.name.clone(), table.names());
        let (a, b) = (self.rng.pick(&columns).to_owned(), self.rng.pick(&columns).to_owned());
        let name = self.fresh("i");
        // One that fails over duplicates, with its table dropped in the same transaction, is not
        // told from one that did not fail.
        let may_fail = !(self.travels && self.open);
        let unique = if may_fail && self.rng.chance(20) { "UNIQUE " } else { "" };
        let what = match self.rng.below(5) {
            0 | 1 => a.clone(),
            2 => format!("{a}, {b} DESC"),
            3 => format!("{a} || 'z'"),
            _ => format!("length({a})"),
        };
        let part =
            if self.rng.chance(25) { format!(" WHERE {b} IS NOT NULL") } else { String::new() };
        format!("CREATE {unique}INDEX {name} ON {owner}({what}){part}")
    }

    fn create_view(&mut self, catalog: &Catalog) -> String {
        let table = self.table(catalog);
        let column = self.rng.pick(&table.names()).to_owned();
        let name = self.fresh("v");
        let table = table.name.clone();
        match self.rng.below(3) {
            0 => format!("CREATE VIEW {name} AS SELECT * FROM {table}"),
            1 => format!(
                "CREATE VIEW {name}(x, y) AS SELECT {column}, count(*) FROM {table} GROUP BY 1"
            ),
            _ => format!(
                "CREATE VIEW {name} AS SELECT {column} AS x FROM {table} WHERE {column} IS NOT NULL"
            ),
        }
    }

    fn create_trigger(&mut self, catalog: &Catalog) -> String {
        let name = self.fresh("g");
        if self.rng.chance(20) && !catalog.views.is_empty() {
            let view = &catalog.views[self.rng.below(catalog.views.len())].name;
            return format!(
                "CREATE TRIGGER {name} INSTEAD OF DELETE ON {view} BEGIN
                   INSERT INTO fix_log(what) VALUES ('instead'); END"
            );
        }
        let table = self.table(catalog);
        let column = self.rng.pick(&table.names()).to_owned();
        let (table, has_rowid) = (table.name.clone(), table.has_rowid);
        let travels = self.travels;
        let note = |row: &str| {
            if travels {
                // The same whatever order the rows are met in.
                return format!(
                    "INSERT INTO fix_log(id, n) VALUES (coalesce(length({row}.{column}), 50) % 50, 1)
                     ON CONFLICT(id) DO UPDATE SET n = n + 1;"
                );
            }
            format!("INSERT INTO fix_log(what, n) VALUES ('{name}', length({row}.{column}));")
        };
        match self.rng.below(6) {
            0 => format!("CREATE TRIGGER {name} AFTER INSERT ON {table} BEGIN {} END", note("new")),
            1 => format!(
                "CREATE TRIGGER {name} AFTER UPDATE OF {column} ON {table}
                 WHEN old.{column} IS NOT new.{column} BEGIN {} {} END",
                note("old"),
                note("new")
            ),
            2 => {
                format!("CREATE TRIGGER {name} BEFORE DELETE ON {table} BEGIN {} END", note("old"))
            }
            3 => format!(
                "CREATE TRIGGER {name} BEFORE INSERT ON {table} WHEN new.{column} = 5 BEGIN
                 SELECT RAISE({}); END",
                self.rng.pick(&["IGNORE", "ABORT, 'five'", "FAIL, 'five'", "ROLLBACK, 'five'"])
            ),
            4 if has_rowid => format!(
                "CREATE TRIGGER {name} AFTER INSERT ON {table} WHEN new.{column} = 6 BEGIN
                 UPDATE {table} SET {column} = 60 WHERE {column} = 6; END"
            ),
            _ => format!(
                "CREATE TRIGGER {name} AFTER DELETE ON {table} BEGIN
                 UPDATE fix_note SET stars = stars + 1 WHERE id % 5 = 1; END"
            ),
        }
    }

    // ---- rows ----

    fn table<'a>(&mut self, catalog: &'a Catalog) -> &'a Table {
        &catalog.tables[self.rng.below(catalog.tables.len())]
    }

    fn any<'a>(&mut self, catalog: &'a Catalog) -> &'a Table {
        if !catalog.views.is_empty() && self.rng.chance(15) {
            return &catalog.views[self.rng.below(catalog.views.len())];
        }
        self.table(catalog)
    }

    fn value(&mut self) -> String {
        match self.rng.below(24) {
            0..8 => (self.rng.below(40) as i64 - 5).to_string(),
            8 | 9 => {
                self.rng.pick(&["1234567890123456789", "-9223372036854775808", "4294967296"]).into()
            }
            10 | 11 => self.rng.pick(&["1.5", "-0.25", "1e300", "2.0", "1e-7"]).into(),
            12..17 => format!("'{}'", self.rng.pick(WORDS)),
            17 => self.rng.pick(&["''", "'it''s'", "'\u{e9}\u{4e2d}'", "'7'", "' 8'"]).into(),
            18 => self.rng.pick(&["x''", "x'0061'", "zeroblob(70)"]).into(),
            19 => format!("printf('%.*c', {}, 'x')", self.rng.pick(&["30", "900", "5000"])),
            20 => format!("zeroblob({})", self.rng.pick(&["10", "4100", "9000"])),
            21 => format!("json_object('k', {}, 'l', json_array(1, 'x'))", self.rng.below(9)),
            _ => "NULL".into(),
        }
    }

    /// A value for a column: keys are small numbers so that they meet again.
    fn value_for(&mut self, table: &Table, column: &str) -> String {
        match column {
            "id" if table.id.is_some() && self.rng.chance(25) => "NULL".into(),
            "id" => (1 + self.rng.below(120)).to_string(),
            "k" => format!("'{}'", self.rng.pick(WORDS)),
            _ => self.value(),
        }
    }

    fn expression(&mut self, columns: &[&str]) -> String {
        let column = self.rng.pick(columns).to_owned();
        match self.rng.below(12) {
            0..4 => self.value(),
            4 => column,
            5 => format!("{column} + 1"),
            6 => format!("coalesce({column}, 0) || 'y'"),
            7 => format!("length({column})"),
            8 => format!("CASE WHEN {column} IS NULL THEN 1 ELSE NULL END"),
            9 => format!("json_array({column} IS NULL, 2)"),
            10 => format!("substr({column}, 1, 3)"),
            _ => format!("abs(length({column}) - 3)"),
        }
    }

    fn predicate(&mut self, columns: &[&str]) -> String {
        let column = self.rng.pick(columns).to_owned();
        match self.rng.below(11) {
            0..3 => format!("{column} = {}", self.value()),
            3 => format!("{column} > {}", self.value()),
            4 => format!("{column} BETWEEN {} AND {}", self.rng.below(9), 10 + self.rng.below(20)),
            5 => format!("{column} IS NULL"),
            6 => format!("{column} IN ({}, {}, {})", self.value(), self.value(), self.value()),
            7 => format!("{column} LIKE '%e%'"),
            8 => format!("length({column}) % 3 = {}", self.rng.below(3)),
            9 => format!("NOT ({})", self.predicate(columns)),
            _ => format!("{} AND {}", self.predicate(columns), self.predicate(columns)),
        }
    }

    fn conflict(&mut self) -> &'static str {
        match self.rng.below(20) {
            0..3 => " OR IGNORE",
            3..7 => " OR REPLACE",
            7 => " OR FAIL",
            8 => " OR ROLLBACK",
            9 => " OR ABORT",
            _ => "",
        }
    }

    fn insert(&mut self, catalog: &Catalog) -> String {
        let table = self.table(catalog);
        let mut columns = table.writable();
        if columns.len() > 2 && self.rng.chance(30) {
            let dropped = columns.len() - 1;
            columns.remove(dropped);
        }
        let list = columns.join(", ");
        let (name, or) = (&table.name, self.conflict());
        if self.rng.chance(4) {
            return format!("INSERT{or} INTO {name} DEFAULT VALUES");
        }
        if self.rng.chance(12) {
            let other = self.any(catalog);
            let names = other.names();
            let picks: Vec<_> = columns
                .iter()
                .map(|column| match *column {
                    "id" => self.value_for(table, "id"),
                    "k" => "'fig'".into(),
                    _ => self.expression(&names),
                })
                .collect();
            let order: Vec<_> = (1..=picks.len()).map(|at| at.to_string()).collect();
            return format!(
                "INSERT{or} INTO {name}({list}) SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 6",
                picks.join(", "),
                other.name,
                self.predicate(&names),
                order.join(", ")
            );
        }
        let count = if self.rng.chance(20) { 1 + self.rng.below(8) } else { 1 };
        let rows: Vec<_> = (0..count)
            .map(|_| {
                let values: Vec<_> =
                    columns.iter().map(|column| self.value_for(table, column)).collect();
                format!("({})", values.join(", "))
            })
            .collect();
        let mut sql = format!("INSERT{or} INTO {name}({list}) VALUES {}", rows.join(", "));
        if or.is_empty() && self.rng.chance(15) {
            let column = columns.last().copied().unwrap_or("id").to_owned();
            sql = match self.rng.below(3) {
                0 => format!("{sql} ON CONFLICT DO NOTHING"),
                1 => format!("{sql} ON CONFLICT DO UPDATE SET {column} = excluded.{column}"),
                _ => format!(
                    "{sql} ON CONFLICT(id) DO UPDATE SET {column} = coalesce({column}, 0) || 'u'"
                ),
            };
        }
        self.returning(sql, table)
    }

    fn returning(&mut self, sql: String, table: &Table) -> String {
        match self.rng.below(8) {
            0 => format!("{sql} RETURNING *"),
            1 => format!("{sql} RETURNING {} IS NULL", self.rng.pick(&table.names())),
            _ => sql,
        }
    }

    fn update(&mut self, catalog: &Catalog) -> String {
        if self.rng.chance(6) {
            return self.update_from(catalog);
        }
        let table = self.table(catalog);
        let columns = table.writable();
        let count = 1 + self.rng.below(2);
        let sets: Vec<_> = (0..count)
            .map(|_| {
                let column = self.rng.pick(&columns).to_owned();
                let value = match column.as_str() {
                    "id" if self.travels => "id + 100000".to_owned(),
                    "id" => {
                        self.rng.pick(&["id + 100", "id - 1", "id + 1", "1000 - id"]).to_owned()
                    }
                    "k" => "k || 'k'".into(),
                    _ if self.rng.chance(10) => {
                        let other = self.any(catalog);
                        let names = other.names();
                        let pick = self.rng.pick(&names).to_owned();
                        format!(
                            "(SELECT max({pick}) FROM {} WHERE {})",
                            other.name,
                            self.predicate(&names)
                        )
                    }
                    _ => self.expression(&columns),
                };
                format!("{column} = {value}")
            })
            .collect();
        let or = self.conflict();
        let sql = format!(
            "UPDATE{or} {} SET {} WHERE {}",
            table.name,
            sets.join(", "),
            self.predicate(&columns)
        );
        // Which of two rows replaces or stays would follow from the order they are met in.
        if or.is_empty() || !self.travels {
            self.returning(sql, table)
        } else {
            sql.replacen(or, "", 1)
        }
    }

    fn update_from(&mut self, catalog: &Catalog) -> String {
        let (table, other) = (self.table(catalog), self.table(catalog));
        let column = self.rng.pick(&table.writable()).to_owned();
        let pick = self.rng.pick(&other.names()).to_owned();
        format!(
            "UPDATE {} SET {column} = x.m FROM (SELECT max({pick}) AS m FROM {}) AS x WHERE x.m IS NOT NULL AND {}",
            table.name,
            other.name,
            self.predicate(&[&column])
        )
    }

    fn delete(&mut self, catalog: &Catalog) -> String {
        if !catalog.views.is_empty() && self.rng.chance(8) {
            let view = &catalog.views[self.rng.below(catalog.views.len())].name;
            return format!("DELETE FROM {view}");
        }
        let table = self.table(catalog);
        let columns = table.names();
        match self.rng.below(20) {
            0 => format!("DELETE FROM {}", table.name),
            1..4 => {
                let other = self.table(catalog);
                let (a, names) = (self.rng.pick(&columns).to_owned(), other.names());
                let b = self.rng.pick(&names).to_owned();
                format!(
                    "DELETE FROM {} WHERE {a} IN (SELECT {b} FROM {} WHERE {})",
                    table.name,
                    other.name,
                    self.predicate(&names)
                )
            }
            4 => format!(
                "WITH gone(x) AS (SELECT {0} FROM {1} WHERE {2}) DELETE FROM {1} WHERE {0} IN gone",
                self.rng.pick(&columns).to_owned(),
                table.name,
                self.predicate(&columns)
            ),
            _ => {
                let sql = format!("DELETE FROM {} WHERE {}", table.name, self.predicate(&columns));
                self.returning(sql, table)
            }
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
