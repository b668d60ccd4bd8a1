//! What the rows that a mutation names are called in the log.
//!
//! Invariant: a number means the author's own row of that origin while that is undecided, and else
//! the row that has it in the log (`rowids.rs`); a key that refers to a row follows it. Leaves out
//! giving rows new numbers: see `rows.rs`.

use sheaf_merge::Value;
use sheaf_volume::teeth::{Tooth, bites};

use super::{
    failure::Failure,
    remap::Place,
    rows::Rows,
    table::{Identity, Table},
};
use crate::value::quote_key;

impl Rows<'_> {
    /// The value as the log has it, where the column refers to a renumbered row.
    pub(super) fn mapped(&self, table: &Table, col: &str, value: &Value) -> Result<Value, Failure> {
        let Some(parent) = table.column(col)?.refers_to.as_deref() else {
            return Ok(value.clone());
        };
        match self.in_log(parent, value) {
            None => Ok(value.clone()),
            Some(Place::At(id)) => Ok(Value::Int(id)),
            Some(Place::Refused) => {
                let number = quote_key(std::slice::from_ref(value));
                Err(Failure::reject(format!(
                    "foreign key ({col}) refers to {parent} {number}, which was refused"
                )))
            }
        }
    }

    /// As [`Self::mapped`], for a value that is only compared.
    pub(super) fn mapped_base(
        &self,
        table: &Table,
        col: &str,
        value: &Value,
    ) -> Result<Value, Failure> {
        match table.column(col)?.refers_to.as_deref().map(|parent| self.in_log(parent, value)) {
            Some(Some(Place::At(id))) => Ok(Value::Int(id)),
            _ => Ok(value.clone()),
        }
    }

    /// Where the log has a row, if it is one of the author's own and not under this id.
    pub(super) fn in_log(&self, table: &str, id: &Value) -> Option<Place> {
        let Value::Int(id) = id else { return None };
        let origin = match self.meant.get(table, *id) {
            Some(origin) if !bites(Tooth::TrustShownIds) => origin?,
            _ => *id,
        };
        let moved = self.ids.map(self.ctx.timeline, table, origin, self.ctx.base);
        // Not decided elsewhere, it is where it was first put, whatever its author has guessed.
        moved.or_else(|| (origin != *id).then_some(Place::At(origin)))
    }

    /// The number that an inserted row was given by whoever wrote it, before any guess.
    pub(super) fn origin(&self, table: &Table, id: i64) -> i64 {
        self.meant.get(&table.name, id).flatten().unwrap_or(id)
    }

    /// The key as the log has it; `None` for a row of the author's own that was refused. A row id
    /// maps by its own table first, then by what it refers to.
    pub(super) fn mapped_key(
        &mut self,
        table: &Table,
        key: &[Value],
    ) -> Result<Option<Vec<Value>>, Failure> {
        if let (true, [Value::Int(id)]) = (table.identity.is_rowid(), key) {
            match self.in_log(&table.name, &Value::Int(*id)) {
                None => {}
                Some(Place::At(new)) => {
                    self.is_renumbered |= new != *id;
                    return Ok(Some(vec![Value::Int(new)]));
                }
                Some(Place::Refused) => {
                    self.refused.push((table.name.clone(), *id, self.origin(table, *id)));
                    self.is_merged = true;
                    return Ok(None);
                }
            }
        }
        let mapped = self.referring_key(table, key)?;
        self.is_renumbered |= mapped != key;
        Ok(Some(mapped))
    }

    pub(super) fn referring_key(
        &self,
        table: &Table,
        key: &[Value],
    ) -> Result<Vec<Value>, Failure> {
        match &table.identity {
            Identity::Rowid(_) => Ok(key.to_vec()),
            identity => identity
                .columns()
                .into_iter()
                .zip(key)
                .map(|(col, value)| self.mapped(table, col, value))
                .collect(),
        }
    }
}
