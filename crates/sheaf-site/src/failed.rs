//! Which row a rejection is about, read back from its reason.
//!
//! Invariant: the log keeps one text per rejection, which is for people and the same for all; what
//! is read here is in that text, checked against the mutation where it can be. A reason of another
//! form names no row. Leaves out the values: the mutation has them.

use crate::mutation::{Mutation, Op};
use crate::value::quote_key;

/// The row that a rejected mutation failed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// Its table.
    pub table: String,
    /// Its key as people write it, values separated by commas, long ones cut. `None` where a
    /// statement of a named mutator failed: SQLite says which columns, and not of which row.
    pub key: Option<String>,
    /// The columns of the constraint. SQLite does not say those of a `CHECK`: then they are what
    /// the mutation changed in the row.
    pub columns: Vec<String>,
}

/// What follows the row in a reason that names one.
const CAUSES: [&str; 7] = [
    "UNIQUE constraint failed",
    "NOT NULL constraint failed",
    "CHECK constraint failed",
    "FOREIGN KEY constraint failed",
    "foreign key (",
    "column ",
    "the key has ",
];

impl FailedRow {
    /// Reads `table key: cause`.
    pub(crate) fn read(reason: &str, mutation: Option<&Mutation>) -> Option<Self> {
        if let Some(row) = Self::of_statement(reason) {
            return Some(row);
        }
        let starts = CAUSES.iter().filter_map(|cause| reason.find(&format!(": {cause}")));
        let (row, cause) = reason.split_at_checked(starts.min()?)?;
        let cause = cause.strip_prefix(": ")?;
        let ops = mutation.map_or(&[][..], Mutation::ops);
        let own = ops.iter().find_map(|op| match op {
            Op::Insert { table, key, .. }
            | Op::Update { table, key, .. }
            | Op::Delete { table, key, .. } => {
                let key = quote_key(key);
                let is_it = row.len() == table.len() + 1 + key.len()
                    && row.get(..table.len())?.eq_ignore_ascii_case(table)
                    && row.ends_with(&key);
                is_it.then(|| (op, table.clone(), key))
            }
            Op::Ddl { .. } => None,
        });
        let (op, table, key) = match own {
            Some((op, table, key)) => (Some(op), table, key),
            // Somebody else's row, which refers to one of the author's.
            None => {
                let (table, key) = row.split_once(' ')?;
                (None, table.to_owned(), key.to_owned())
            }
        };
        Some(Self { table, key: Some(key), columns: columns(cause, op) })
    }

    /// Reads SQLite's own words, with no row before them.
    fn of_statement(reason: &str) -> Option<Self> {
        let (what, names) = reason.split_once(" constraint failed: ")?;
        let (table, _) = names.split(", ").next()?.split_once('.')?;
        matches!(what, "UNIQUE" | "NOT NULL").then(|| Self {
            table: table.to_owned(),
            key: None,
            columns: columns(reason, None),
        })
    }
}

fn columns(cause: &str, op: Option<&Op>) -> Vec<String> {
    let list = |names: &str| names.split(", ").map(str::to_owned).collect();
    if let Some((_, rest)) = cause.split_once("foreign key (") {
        return rest.split_once(')').map_or_else(Vec::new, |(names, _)| list(names));
    }
    if let Some(rest) = cause.strip_prefix("column ") {
        return rest.split_once(' ').map_or_else(Vec::new, |(name, _)| list(name));
    }
    match (cause.split_once(" constraint failed: "), op) {
        (Some(("UNIQUE" | "NOT NULL", names)), _) => {
            let of_table = names.split(", ").filter_map(|name| name.split_once('.'));
            of_table.map(|(_, column)| column.to_owned()).collect()
        }
        (Some(("CHECK", _)), Some(Op::Update { changes, .. })) => {
            changes.iter().map(|change| change.col.clone()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use sheaf_merge::Value;

    use super::*;
    use crate::mutation::{Body, Change};

    fn read(reason: &str, op: Op) -> Option<(String, String, String)> {
        let mutation = Mutation::new(Body::Rows(vec![op]), true);
        let row = FailedRow::read(reason, Some(&mutation))?;
        Some((row.table, row.key?, row.columns.join(" ")))
    }

    fn update(table: &str, key: Value, col: &str) -> Op {
        let change = Change { col: col.to_owned(), base: Value::Null, left: Value::Int(1) };
        Op::Update { table: table.to_owned(), key: vec![key], changes: vec![change] }
    }

    #[test]
    fn the_row_and_the_columns_are_in_the_reason() {
        let check = |reason: &str, op: Op, row: (&str, &str, &str)| {
            let (table, key, columns) = row;
            let expected = Some((table.to_owned(), key.to_owned(), columns.to_owned()));
            assert_eq!(read(reason, op), expected, "{reason}");
        };
        let op = || update("a b", Value::from("x: y"), "v");
        check("a b 'x: y': UNIQUE constraint failed: a b.v, a b.w", op(), ("a b", "'x: y'", "v w"));
        check("A B 'x: y': NOT NULL constraint failed: a b.v", op(), ("a b", "'x: y'", "v"));
        check("a b 'x: y': CHECK constraint failed: v > 0", op(), ("a b", "'x: y'", "v"));
        check("a b 'x: y': UNIQUE constraint failed: index 'i'", op(), ("a b", "'x: y'", ""));
        check("a b 'x: y': column v was changed by", op(), ("a b", "'x: y'", "v"));
        let other = "kid 1,2: FOREIGN KEY constraint failed: foreign key (p, q) refers to a b 7";
        check(other, op(), ("kid", "1,2", "p q"));
    }

    #[test]
    fn a_statement_that_failed_tells_its_table_and_columns() {
        let row = |reason: &str| FailedRow::read(reason, None);
        let told = |table: &str, columns: &[&str]| {
            let columns = columns.iter().map(|name| (*name).to_owned()).collect();
            Some(FailedRow { table: table.to_owned(), key: None, columns })
        };
        assert_eq!(row("UNIQUE constraint failed: t.v, t.w"), told("t", &["v", "w"]));
        assert_eq!(row("NOT NULL constraint failed: a b.v"), told("a b", &["v"]));
        for reason in ["UNIQUE constraint failed: index 'i'", "CHECK constraint failed: v > 0"] {
            assert_eq!(row(reason), None, "{reason}");
        }
    }

    #[test]
    fn other_reasons_name_no_row() {
        let op = || update("t", Value::Int(1), "v");
        for reason in ["", "not enough", "lock `q` failed: it was seen at 0", "no such table: t"] {
            assert_eq!(read(reason, op()), None, "{reason}");
        }
        assert_eq!(FailedRow::read(": CHECK constraint failed", None), None);
    }
}
