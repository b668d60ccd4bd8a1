//! How rows differ, by the names of their columns, also where a table's columns came and went.
//!
//! Invariant: each row that differs is told once, with all of both states; a row that cannot be
//! named, because NULL is part of its key, is left out, and so is a table whose rows cannot.

use sheaf_merge::Value;
use sheaf_volume::Result;

use super::rows::{self, Change, Row, TableShape};
use super::{Diff, Side, are_alike};
use crate::schema::{Identity, TableInfo, TableKind};

/// One row that differs, by the names of its columns.
#[derive(Debug)]
pub(crate) struct NamedChange {
    /// Its key as it was, where it was there.
    pub(crate) old_key: Option<Vec<Value>>,
    /// Its key as it is, where it is there.
    pub(crate) new_key: Option<Vec<Value>>,
    /// What it was.
    pub(crate) old: Option<NamedRow>,
    /// What it is.
    pub(crate) new: Option<NamedRow>,
}

/// The stored columns of a row.
pub(crate) type NamedRow = Vec<(String, Value)>;

/// How a table of one state relates to that of the same name in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Its rows can be compared.
    Same,
    /// Only the second state has it.
    Came,
    /// Only the first state has it.
    Went,
    /// Rows are told apart by other columns.
    OtherKey,
}

impl Diff {
    /// Ordinary tables with rows that can be named, and how they relate.
    pub(crate) fn relations(&self) -> Vec<(String, Relation)> {
        let find = |side: &Side, name: &str| {
            let table = side.table(name).map(|table| table.info.clone());
            table.filter(|info| info.kind == TableKind::Table && has_names(info))
        };
        let relation = |name: String| {
            let relation = match (find(&self.a, &name), find(&self.b, &name)) {
                (Some(a), Some(b)) if a.has_key_of(&b) => Relation::Same,
                (Some(_), Some(_)) => Relation::OtherKey,
                (None, Some(_)) => Relation::Came,
                (Some(_), None) => Relation::Went,
                (None, None) => return None,
            };
            Some((name, relation))
        };
        self.tables().into_iter().filter_map(relation).collect()
    }

    /// Tells how the rows of a table that both states have differ, by name, whatever became of its
    /// columns. Rows without a name, because NULL is part of their key, are left out.
    ///
    /// # Errors
    /// What `f` returns, and as [`Diff::new`].
    pub(crate) fn named_rows(
        &self,
        table: &str,
        f: &mut dyn FnMut(NamedChange) -> Result<()>,
    ) -> Result<()> {
        let (Some(a), Some(b)) = (self.a.table(table), self.b.table(table)) else { return Ok(()) };
        if !are_alike(a.info, b.info) {
            let (before, after) = (TableShape::of(a.info), TableShape::of(b.info));
            return rows::compare_by_name(&a, &b, (&before, &after), &mut |old, new| {
                tell(f, old.map(|row| (&before, row)), new.map(|row| (&after, row)))
            });
        }
        self.rows(table, &mut |shape, change| match change {
            Change::Deleted(row) => tell(f, Some((shape, row)), None),
            Change::Inserted(row) => tell(f, None, Some((shape, row))),
            Change::Updated { old, new } => tell(f, Some((shape, old)), Some((shape, new))),
        })
    }
}

/// Whether the rows of a table can be asked for by their key.
fn has_names(info: &TableInfo) -> bool {
    info.identity != Identity::Rowid || info.sql.by_rowid.is_some()
}

fn tell(
    f: &mut dyn FnMut(NamedChange) -> Result<()>,
    old: Option<(&TableShape, Row)>,
    new: Option<(&TableShape, Row)>,
) -> Result<()> {
    let key = |side: &Option<(&TableShape, Row)>| {
        side.as_ref()
            .map(|(shape, row)| shape.key_of(row))
            .filter(|key| !key.contains(&Value::Null))
    };
    let (old_key, new_key) = (key(&old), key(&new));
    if old_key.is_none() && new_key.is_none() {
        return Ok(());
    }
    let named = |(shape, row): (&TableShape, Row)| {
        shape.columns.iter().cloned().zip(row.values).collect::<NamedRow>()
    };
    f(NamedChange { old_key, new_key, old: old.map(named), new: new.map(named) })
}
