//! Schema changes.

use super::Generator;
use crate::differential::catalog::Catalog;

const TABLES_MAX: usize = 9;

impl Generator {
    pub(super) fn ddl(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn drop_one(&mut self, kind: &str, names: &[String]) -> String {
        if names.is_empty() {
            return format!("DROP {kind} IF EXISTS nothing");
        }
        let at = self.rng.below(names.len());
        format!("DROP {kind} {}", names[at])
    }

    pub(super) fn fresh(&mut self, prefix: &str) -> String {
        self.serial += 1;
        // A small range, so that some names are taken and some come back.
        format!("{prefix}{}", self.serial % 40)
    }

    pub(super) fn create_table(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn column(&mut self, catalog: &Catalog, name: &str, strict: bool) -> String {
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

    pub(super) fn reference(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn alter(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn create_index(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn create_view(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn create_trigger(&mut self, catalog: &Catalog) -> String {
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
}
