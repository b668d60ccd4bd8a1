//! Writing rows whose position in a list has to be unique and is taken.
//!
//! Invariant: such a row is at the end of its list only until it is placed; nothing else of it is
//! changed. Leaves out where it comes to stand: see `lists.rs`.

use sheaf_merge::{Value, list::Position};

use super::{
    failure::Failure,
    lists::position,
    rows::{Rows, insert_row, read_row},
    table::Table,
};
use crate::mutation::Change;

impl Rows<'_> {
    /// Inserts a row, at the end of its lists if its place there must be unique and is taken.
    pub(super) fn insert_anywhere(
        &self,
        table: &Table,
        cols: &[(String, Value)],
    ) -> Result<(), Failure> {
        let failure = match insert_row(self.conn, table, cols) {
            Err(failure @ Failure::Reject { is_unique: true, .. }) => failure,
            done => return done,
        };
        let find = |name: &str| cols.iter().find(|(col, _)| col == name);
        let Some(spare) = self.spare(table, &|name| Some(find(name)?.1.clone()))? else {
            return Err(failure);
        };
        let mut elsewhere = cols.to_vec();
        for (name, value) in spare {
            elsewhere
                .iter_mut()
                .filter(|(col, _)| *col == name)
                .for_each(|col| col.1 = value.clone());
        }
        insert_row(self.conn, table, &elsewhere)
    }

    /// Writes a row likewise.
    pub(super) fn write_anywhere(
        &mut self,
        table: &Table,
        key: &[Value],
        writes: &[(&str, Value)],
        changes: &[Change],
    ) -> Result<(), Failure> {
        let failure = match self.write(table, key.to_vec(), writes) {
            Err(failure @ Failure::Reject { is_unique: true, .. }) => failure,
            done => return done,
        };
        let is_list = |name: &str| table.lists.iter().any(|column| column.name == name);
        let is_changed = |name: &str| changes.iter().any(|c| c.col.eq_ignore_ascii_case(name));
        let cell = |name: &str| {
            if is_list(name) && !is_changed(name) {
                return None;
            }
            let written = writes.iter().find(|(col, _)| *col == name);
            written.map(|(_, value)| value.clone()).or_else(|| {
                let row = read_row(self.conn, table, key, &[name]).ok().flatten();
                row.and_then(|mut row| row.pop())
            })
        };
        let Some(spare) = self.spare(table, &cell)? else { return Err(failure) };
        let is_spare = |name: &str| spare.iter().any(|(col, _)| col == name);
        let rest = writes.iter().filter(|(col, _)| !is_spare(col)).cloned();
        let spare = spare.iter().map(|(col, value)| (col.as_str(), value.clone()));
        let writes: Vec<(&str, Value)> = rest.chain(spare).collect();
        self.write(table, key.to_vec(), &writes)
    }

    /// The positions at which a row can be written although what it asks for is taken: behind all
    /// others, until it is placed. `None` where there is no such thing.
    fn spare(
        &self,
        table: &Table,
        cell: &dyn Fn(&str) -> Option<Value>,
    ) -> Result<Option<Vec<(String, Value)>>, Failure> {
        let mut spare = Vec::new();
        for column in &table.lists {
            let Some(_) = cell(&column.name).as_ref().and_then(position) else { continue };
            let parents: Option<Vec<Value>> =
                column.parents.iter().map(|name| cell(name)).collect();
            let Some(parents) = parents else { return Ok(None) };
            let end = column.end(self.conn, &parents)?.map(|end| Position::parse(&end));
            let Ok(end) = end.transpose() else { return Ok(None) };
            let Some(free) = Position::between(end.as_ref(), None) else { return Ok(None) };
            spare.push((column.name.clone(), Value::Text(free.to_string())));
        }
        Ok((!spare.is_empty()).then_some(spare))
    }
}
