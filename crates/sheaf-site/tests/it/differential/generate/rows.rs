//! Rows: values, conditions, and the statements that change them.

use super::{Generator, WORDS};
use crate::differential::catalog::{Catalog, Table};

impl Generator {
    pub(super) fn table<'a>(&mut self, catalog: &'a Catalog) -> &'a Table {
        &catalog.tables[self.rng.below(catalog.tables.len())]
    }

    pub(super) fn any<'a>(&mut self, catalog: &'a Catalog) -> &'a Table {
        if !catalog.views.is_empty() && self.rng.chance(15) {
            return &catalog.views[self.rng.below(catalog.views.len())];
        }
        self.table(catalog)
    }

    pub(super) fn value(&mut self) -> String {
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
    pub(super) fn value_for(&mut self, table: &Table, column: &str) -> String {
        match column {
            "id" if table.id.is_some() && self.rng.chance(25) => "NULL".into(),
            "id" => (1 + self.rng.below(120)).to_string(),
            "k" => format!("'{}'", self.rng.pick(WORDS)),
            _ => self.value(),
        }
    }

    pub(super) fn expression(&mut self, columns: &[&str]) -> String {
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

    pub(super) fn predicate(&mut self, columns: &[&str]) -> String {
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

    pub(super) fn conflict(&mut self) -> &'static str {
        match self.rng.below(20) {
            0..3 => " OR IGNORE",
            3..7 => " OR REPLACE",
            7 => " OR FAIL",
            8 => " OR ROLLBACK",
            9 => " OR ABORT",
            _ => "",
        }
    }

    pub(super) fn insert(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn returning(&mut self, sql: String, table: &Table) -> String {
        match self.rng.below(8) {
            0 => format!("{sql} RETURNING *"),
            1 => format!("{sql} RETURNING {} IS NULL", self.rng.pick(&table.names())),
            _ => sql,
        }
    }

    pub(super) fn update(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn update_from(&mut self, catalog: &Catalog) -> String {
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

    pub(super) fn delete(&mut self, catalog: &Catalog) -> String {
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
}
