//! Rows that exchange values of a unique column: set aside under values that nobody has, and given
//! their own when all others are done.
//!
//! Invariant: nothing of what a row is set aside under is left when the mutation ends: whoever
//! cannot have what the merge gives it makes the mutation fail. Foreign keys are off meanwhile, or
//! children would follow a value that is nobody's; so they are looked at afterwards. Leaves out
//! unique expressions: their rows are not set aside, and the mutation fails as before.

use std::rc::Rc;

use rusqlite::{ffi, params_from_iter};
use sheaf_merge::Value;

use super::{
    Switches,
    failure::Failure,
    rows::{Rows, update_sql},
    table::Table,
};
use crate::{opstream::encode_key, schema::Affinity, value::Bind};

/// A row that waits for its values.
#[derive(Debug)]
pub(super) struct Parked {
    table: Rc<Table>,
    key: Vec<Value>,
    writes: Vec<(String, Value)>,
    /// The number of the operation.
    op: usize,
}

impl Parked {
    /// The table.
    pub(super) fn table(&self) -> &str {
        &self.table.name
    }
}

impl Rows<'_> {
    /// From now on, rows that are to get other values in unique columns are set aside.
    pub(super) fn begin_parking(&mut self) -> Result<(), Failure> {
        self.is_parking = true;
        Ok(Switches { triggers: false, foreign_keys: false }.set(self.conn)?)
    }

    /// Sets a row aside, if the values are of unique columns.
    pub(super) fn park(
        &mut self,
        table: &Rc<Table>,
        key: &[Value],
        writes: &[(&str, Value)],
    ) -> Result<bool, Failure> {
        let mut nobodys = Vec::new();
        for column in self.unique_columns(table)? {
            let is_it = |(name, _): &&(&str, Value)| name.eq_ignore_ascii_case(&column.name);
            let name = writes.iter().find(is_it).map(|(name, _)| *name);
            nobodys.extend(name.map(|name| (name, column.nobodys(&table.name, key))));
        }
        if nobodys.is_empty() {
            return Ok(false);
        }
        self.set_aside(table, key, &nobodys)?;
        let writes = writes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let (table, key, writes) = (Rc::clone(table), key.to_vec(), writes.collect());
        self.parked.push(Parked { table, key, writes, op: self.at });
        Ok(true)
    }

    /// Gives the rows that were set aside what they wait for.
    pub(super) fn unpark(&mut self) -> Result<(), Failure> {
        self.is_parking = false;
        let parked = std::mem::take(&mut self.parked);
        for Parked { table, key, writes, op } in &parked {
            let writes: Vec<(&str, Value)> =
                writes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            self.at = *op;
            self.write(table, key.clone(), &writes).map_err(|e| e.at(&table.name, key))?;
        }
        self.parked = parked;
        Ok(())
    }

    fn set_aside(
        &self,
        table: &Table,
        key: &[Value],
        values: &[(&str, Value)],
    ) -> Result<(), Failure> {
        let sql = update_sql(table, values);
        let bound = || params_from_iter(values.iter().map(|(_, value)| value).chain(key).map(Bind));
        match self.conn.prepare_cached(&sql)?.execute(bound()) {
            Err(e) if is_check(&e) => {}
            done => return Ok(done.map(|_| ())?),
        }
        // The row is checked when it gets its own values. SQLite compiles every statement again
        // when this switch changes, so it is a last resort.
        self.conn.execute_batch("PRAGMA ignore_check_constraints = ON")?;
        let done = self.conn.execute(&sql, bound());
        self.conn.execute_batch("PRAGMA ignore_check_constraints = OFF")?;
        done?;
        Ok(())
    }

    fn unique_columns(&self, table: &Table) -> Result<Vec<Unique>, Failure> {
        let mut statement = self.conn.prepare_cached(
            "SELECT DISTINCT c.name, c.type, c.\"notnull\" OR l.wr AND c.pk > 0
             FROM pragma_table_list(?1) AS l, pragma_index_list(?1, 'main') AS i,
                  pragma_index_info(i.name, 'main') AS k, pragma_table_xinfo(?1, 'main') AS c
             WHERE l.schema = 'main' AND i.\"unique\" AND c.cid = k.cid AND c.hidden = 0",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let affinity = Affinity::of_type(&row.get::<_, String>(1)?);
            Ok(Unique { name: row.get(0)?, affinity, is_not_null: row.get(2)? })
        };
        let unique = statement.query_map([&table.name], read)?.collect::<Result<_, _>>()?;
        Ok(unique)
    }
}

fn is_check(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_CONSTRAINT_CHECK)
}

/// A column of a unique index.
struct Unique {
    name: String,
    affinity: Affinity,
    is_not_null: bool,
}

impl Unique {
    /// A value of its type that no row has: NULL, which is equal to nothing, or 62 to 256 bits of a
    /// hash of the row.
    fn nobodys(&self, table: &str, key: &[Value]) -> Value {
        if !self.is_not_null {
            return Value::Null;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(table.as_bytes()).update(&[0]).update(&encode_key(key));
        let hash = hasher.finalize();
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        let number = i64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 2;
        match self.affinity {
            Affinity::Integer | Affinity::Numeric => Value::Int(number),
            // LIMIT: 53 bits of it survive in a float.
            Affinity::Real => Value::Real(number as f64),
            Affinity::Text => Value::Text(hash.to_hex().to_string()),
            Affinity::Blob => Value::Blob(hash.as_bytes().to_vec()),
        }
    }
}
