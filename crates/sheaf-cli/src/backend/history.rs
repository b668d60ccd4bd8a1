//! Branches, and states that are compared or gone back to.
//!
//! Invariant: values leave as SQL writes them and as JSON, never as types of the library.

use std::{path::Path, time::Duration};

use serde_json::{Map, Value, json};
use sheaf::diff::{Change, Diff, Row as StoredRow, TableShape};

use super::{
    Device, Site,
    failure::{self, refusal},
    look_at, view_of,
};
use crate::{
    exit::Failure,
    view::{SiteAt, ViewArg},
};

/// Characters of a value that people are shown.
const SHOWN_CHARS: usize = 60;

/// One of two states. Keeps its site open: the other state may be one of the same site.
pub(crate) struct Side {
    side: sheaf::diff::Side,
    site: Option<Site>,
}

/// Two states.
pub(crate) struct Comparison {
    diff: Diff,
    _sites: [Option<Site>; 2],
}

/// A value of a row with the name of its column.
pub(crate) struct Cell {
    pub(crate) name: String,
    /// As SQL writes it, cut to what a line holds.
    pub(crate) text: String,
    pub(crate) json: Value,
}

/// One row that differs.
pub(crate) struct Row {
    /// `-`, `+` or `~`.
    pub(crate) mark: char,
    pub(crate) key: Vec<Cell>,
    /// The other columns; of a row that both have, those that differ, as they were.
    pub(crate) old: Vec<Cell>,
    /// The same as they are.
    pub(crate) new: Vec<Cell>,
}

/// What was moved to a branch.
pub(crate) struct Forked {
    pub(crate) moved: usize,
    /// Where the branch begins.
    pub(crate) lsn: u64,
    /// What the branch refused, and why.
    pub(crate) rejected: Vec<(u64, String)>,
}

/// How many rows were changed in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) inserted: u64,
    pub(crate) deleted: u64,
    pub(crate) updated: u64,
    /// Objects of the schema.
    pub(crate) schema: u64,
}

impl Counts {
    pub(crate) fn rows(self) -> u64 {
        self.inserted + self.deleted + self.updated
    }
}

impl Device {
    /// Makes a branch at the server and a replica of it here.
    pub(crate) fn branch(&self, at: &SiteAt, new: &str, wait: Duration) -> Result<Site, Failure> {
        let point = match at.view() {
            ViewArg::Local | ViewArg::Global => sheaf::At::Head,
            ViewArg::At(lsn) => sheaf::At::Lsn(sheaf::Lsn(lsn)),
            ViewArg::AtTime(ms) => sheaf::At::Time(ms),
        };
        let made = self.client.branch(&at.name, point, new, wait);
        made.map(Site::new).map_err(|error| refusal(&error).into_failure())
    }

    /// Moves what is pending to a new branch and takes what others did; `None` if nothing was.
    pub(crate) fn fork(
        &self,
        name: &str,
        new: &str,
        wait: Duration,
    ) -> Result<Option<Forked>, Failure> {
        self.known(name)?;
        let done = self.client.fork(name, new, wait).map_err(|error| match error.kind() {
            // What is pending is made on a state that the log has no more; a pull moves it on.
            sheaf::ErrorKind::Expired => Failure::new(
                "expired",
                format!("{error}: `sheaf pull {name}`, then `sheaf reset {name} --fork {new}`"),
            ),
            _ => refusal(&error).into_failure(),
        })?;
        let sheaf::Forked { branch, moved, at, rejected } = done;
        Ok(branch.map(|branch| {
            Site::new(branch).fetch_if_small();
            Forked { moved, lsn: at.0, rejected }
        }))
    }
}

impl Site {
    /// One of the site's states, to be compared.
    pub(crate) fn side(&self, view: ViewArg) -> Result<Side, Failure> {
        let side = sheaf::diff::Side::of_site(self.site.engine(), view_of(view));
        let side = side.map_err(|error| self.unknown_state(&error))?;
        Ok(Side { side, site: Some(self.clone()) })
    }

    /// Goes back to an earlier state; what that changed, and what was left alone.
    pub(crate) fn restore(
        &self,
        view: ViewArg,
        dry_run: bool,
    ) -> Result<(Counts, Vec<String>), Failure> {
        let done = self.site.restore(view_of(view), dry_run);
        let done = done.map_err(|error| self.unknown_state(&error))?;
        let sheaf::Restored { inserted, deleted, updated, schema, left_alone, .. } = done;
        Ok((Counts { inserted, deleted, updated, schema }, left_alone))
    }

    fn unknown_state(&self, error: &sheaf::Error) -> Failure {
        look_at(error, &format!("`sheaf log {}` lists the states there are", self.name))
    }
}

impl Side {
    /// A plain database file.
    pub(crate) fn of_file(file: &Path) -> Result<Self, Failure> {
        let side = sheaf::diff::Side::of_file(file).map_err(|error| failure::of(&error))?;
        Ok(Self { side, site: None })
    }
}

impl Comparison {
    pub(crate) fn new(a: Side, b: Side) -> Result<Self, Failure> {
        let diff = Diff::new(a.side, b.side).map_err(|error| failure::of(&error))?;
        Ok(Self { diff, _sites: [a.site, b.site] })
    }

    pub(crate) fn tables(&self) -> Vec<String> {
        self.diff.tables()
    }

    pub(crate) fn not_compared(&self) -> Vec<String> {
        self.diff.not_compared()
    }

    /// Kind and name of each object of the schema that differs, and what made it before and after.
    pub(crate) fn schema(&self) -> Vec<(String, String, Option<String>, Option<String>)> {
        let changes = self.diff.schema_changes().into_iter();
        changes.map(|change| (change.kind, change.name, change.old, change.new)).collect()
    }

    /// Calls `f` with every row of a table that differs.
    pub(crate) fn rows(&self, table: &str, f: &mut dyn FnMut(&Row)) -> Result<(), Failure> {
        let told = self.diff.rows(table, &mut |shape, change| {
            f(&row(shape, &change));
            Ok(())
        });
        told.map_err(|error| failure::of(&error))
    }

    /// Calls `f` with the statements that turn the first state into the second.
    pub(crate) fn sql(&self, only: Option<&str>, f: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let told = self.diff.statements(only, true, &mut |statement| {
            f(&statement.text());
            Ok(())
        });
        told.map_err(|error| failure::of(&error))
    }
}

pub(super) fn row(shape: &TableShape, change: &Change) -> Row {
    let (mark, old, new) = match change {
        Change::Deleted(row) => ('-', Some(row), None),
        Change::Inserted(row) => ('+', None, Some(row)),
        Change::Updated { old, new } => ('~', Some(old), Some(new)),
    };
    let differs = |at: usize| match (old, new) {
        (Some(old), Some(new)) => old.values.get(at) != new.values.get(at),
        _ => !shape.key.contains(&at),
    };
    let cells = |row: Option<&StoredRow>| -> Vec<Cell> {
        let values = row.map(|row| shape.columns.iter().zip(&row.values));
        let values = values.into_iter().flatten().enumerate();
        values.filter(|(at, _)| differs(*at)).map(|(_, (name, value))| cell(name, value)).collect()
    };
    let key = old.or(new).map(|row| key_of(shape, row)).unwrap_or_default();
    Row { mark, key, old: cells(old), new: cells(new) }
}

fn key_of(shape: &TableShape, row: &StoredRow) -> Vec<Cell> {
    let names: Vec<&str> = match row.rowid {
        Some(_) => vec!["rowid"],
        None => {
            shape.key.iter().filter_map(|at| shape.columns.get(*at)).map(String::as_str).collect()
        }
    };
    names.iter().zip(shape.key_of(row)).map(|(name, value)| cell(name, &value)).collect()
}

pub(super) fn cell(name: &str, value: &sheaf::Value) -> Cell {
    let text = sheaf::diff::literal(value).replace(['\n', '\r'], " ");
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    let text = if cut.len() < text.len() { format!("{cut}...") } else { text };
    Cell { name: name.to_owned(), text, json: json_of(value) }
}

fn json_of(value: &sheaf::Value) -> Value {
    match value {
        sheaf::Value::Null => Value::Null,
        sheaf::Value::Int(int) => json!(int),
        // JSON has no infinity.
        sheaf::Value::Real(real) if !real.is_finite() => json!(real.to_string()),
        sheaf::Value::Real(real) => json!(real),
        sheaf::Value::Text(text) => json!(text),
        sheaf::Value::Blob(blob) => {
            json!({ "$hex": blob.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

impl Row {
    /// As one JSON object.
    pub(crate) fn json(&self, table: &str) -> Value {
        let object = |cells: &[Cell]| {
            let members = cells.iter().map(|cell| (cell.name.clone(), cell.json.clone()));
            Value::Object(members.collect::<Map<_, _>>())
        };
        let mut line = json!({ "table": table, "op": self.mark, "key": object(&self.key) });
        if let Some(members) = line.as_object_mut() {
            if self.mark != '+' {
                members.insert("old".to_owned(), object(&self.old));
            }
            if self.mark != '-' {
                members.insert("new".to_owned(), object(&self.new));
            }
        }
        line
    }

    /// As one line for people.
    pub(crate) fn line(&self) -> String {
        let pairs = |cells: &[Cell]| {
            cells.iter().map(|c| format!("{}={}", c.name, c.text)).collect::<Vec<_>>().join(", ")
        };
        let rest = match self.mark {
            '-' => pairs(&self.old),
            '+' => pairs(&self.new),
            _ => {
                let both = self.old.iter().zip(&self.new);
                let each =
                    both.map(|(old, new)| format!("{} {} -> {}", old.name, old.text, new.text));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        format!("{} {}: {rest}", self.mark, pairs(&self.key))
    }
}
