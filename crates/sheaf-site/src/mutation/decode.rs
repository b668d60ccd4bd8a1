//! The fold that turns op stream records into a mutation.
//!
//! Invariant: every record is checked against the registers before it has an effect; an edit
//! with an incomplete address, a dangling base, an unknown op or trailing bytes make the whole
//! mutation malformed.

use std::collections::BTreeSet;

use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use super::{Body, Change, INDEXED_NAME_BYTES_MIN, Mutation, Op};
use crate::{
    RowIds, limits,
    locks::{Lock, OnFailure},
    opstream::{
        Reader, VERSION_IDS, VERSION_LOCKS, VERSION_PLACES, decimal, decode_key, decode_value,
        limit, malformed, op, text,
    },
    places::{Place, Places},
};

/// The edits of the row whose key was read last.
enum Edits {
    /// No edit yet: it may become any of the others.
    Open,
    Insert(Vec<(String, Value)>),
    Update(Vec<Change>),
    Delete(Vec<(String, Value)>),
}

struct Row {
    key: Vec<Value>,
    edits: Edits,
}

struct Call {
    name: String,
    args: Vec<(String, Value)>,
    seed: Option<[u8; 32]>,
    time_ms: Option<u64>,
    arg: Option<String>,
}

#[derive(Default)]
struct Fold {
    version: u8,
    foreign_keys: Option<bool>,
    ids: RowIds,
    locks: BTreeSet<Lock>,
    /// The table and number listed last, and how many are.
    listed: Option<(String, i64)>,
    listed_count: usize,
    ops: Vec<Op>,
    call: Option<Call>,
    tables: Vec<String>,
    cols: Vec<String>,
    name_bytes: usize,
    table: Option<String>,
    row: Option<Row>,
    col: Option<String>,
    base: Option<Value>,
    places: Places,
    /// Those of the row that is being read.
    row_places: Vec<(String, Place)>,
    /// The column that the record before gave a new value.
    written: Option<String>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Mutation> {
    let mut reader = Reader::new(bytes)?;
    let mut fold = Fold { version: reader.version(), ..Fold::default() };
    while let Some((op, value)) = reader.next()? {
        if op != op::END {
            fold.record(op, value)?;
            continue;
        }
        if !value.is_empty() {
            return Err(malformed("an end with a name"));
        }
        if reader.next()?.is_some() {
            return Err(malformed("bytes after the end"));
        }
        return fold.finish();
    }
    Err(malformed("no end"))
}

impl Fold {
    fn record(&mut self, op: u8, value: &[u8]) -> Result<()> {
        let written = self.written.take();
        match op {
            op::FLAGS => self.flags(value),
            op::LOCK => self.lock(value),
            op::ROW_ID => self.row_id(value),
            op::DDL => self.ddl(value),
            op::TABLE => self.set_table(value),
            op::KEY => self.set_key(value),
            op::COL => self.set_col(value),
            op::BASE => self.set_base(value),
            op::INSERT => self.open_row(value, Edits::Insert(Vec::new())),
            op::DELETE => self.open_row(value, Edits::Delete(Vec::new())),
            op::REPLACE if self.call.is_some() => self.arg_value(value),
            op::REPLACE => self.replace(value),
            op::BEHIND => self.place(written, value),
            op::CALL => self.open_call(value),
            op::SEED | op::TIME | op::ARG => self.call_part(op, value),
            _ if op::RESERVED.contains(&op) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("this version of sheaf does not know op `{}`", char::from(op)),
            )),
            _ => Err(malformed(format_args!("unknown op {op:#04x}"))),
        }
    }

    fn is_fresh(&self) -> bool {
        self.ops.is_empty() && self.table.is_none() && self.call.is_none()
    }

    /// Whether a lock or a row id was read.
    fn is_listing(&self) -> bool {
        self.listed.is_some() || !self.locks.is_empty()
    }

    fn flags(&mut self, value: &[u8]) -> Result<()> {
        if !self.is_fresh() || self.foreign_keys.is_some() || self.is_listing() {
            return Err(malformed("flags out of place"));
        }
        match decimal::<u64>(value)? {
            1 => self.foreign_keys = Some(true),
            _ => return Err(Error::new(ErrorKind::Unsupported, "unknown mutation flags")),
        }
        Ok(())
    }

    /// Before everything but the flags, ascending, so that there is one spelling.
    fn lock(&mut self, value: &[u8]) -> Result<()> {
        if !self.is_fresh() || self.listed.is_some() || self.version < VERSION_LOCKS {
            return Err(malformed("a lock out of place"));
        }
        let entry = decode_key(value)?;
        let [Value::Text(name), Value::Int(seen), Value::Int(own), slack, Value::Int(mode)] =
            entry.as_slice()
        else {
            return Err(malformed("a lock"));
        };
        let count = |n: i64| u64::try_from(n).map_err(|_| malformed("a count below zero"));
        let slack = match slack {
            Value::Null => None,
            Value::Int(slack) => Some(count(*slack)?),
            _ => return Err(malformed("a lock that bears what is no number")),
        };
        let on_failure = OnFailure::from_code(*mode).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("unknown mode of a lock: {mode}"))
        })?;
        let (seen, own) = (count(*seen)?, count(*own)?);
        let lock = Lock { name: name.clone(), seen, own, slack, on_failure };
        lock.check().map_err(malformed)?;
        if self.locks.len() == limits::LOCKS_MAX {
            return Err(limit("locks", limits::LOCKS_MAX));
        }
        if self.locks.last().is_some_and(|last| *last >= lock) {
            return Err(malformed("locks out of order"));
        }
        self.locks.insert(lock);
        Ok(())
    }

    /// Before everything but the flags and locks, ascending, so that there is one spelling.
    fn row_id(&mut self, value: &[u8]) -> Result<()> {
        if !self.is_fresh() || self.version < VERSION_IDS {
            return Err(malformed("a row id out of place"));
        }
        let entry = decode_key(value)?;
        let [Value::Text(table), Value::Int(shown), origin] = entry.as_slice() else {
            return Err(malformed("a row id"));
        };
        let origin = match origin {
            Value::Null => None,
            Value::Int(origin) => Some(*origin),
            _ => return Err(malformed("a row id of unknown origin")),
        };
        if table.len() > limits::NAME_BYTES_MAX || *table != table.to_ascii_lowercase() {
            return Err(malformed("a row id of a table that is not named in lower case"));
        }
        if self.listed_count == limits::MUTATION_OPS_MAX {
            return Err(limit("row ids", limits::MUTATION_OPS_MAX));
        }
        let place = (table.clone(), *shown);
        if self.listed.as_ref().is_some_and(|listed| *listed >= place) {
            return Err(malformed("row ids out of order"));
        }
        self.ids.set(table, *shown, origin);
        self.listed = Some(place);
        self.listed_count += 1;
        Ok(())
    }

    fn ddl(&mut self, value: &[u8]) -> Result<()> {
        if self.table.is_some() || self.call.is_some() {
            return Err(malformed("a schema change out of place"));
        }
        if value.len() > limits::SQL_BYTES_MAX {
            return Err(limit("bytes in one schema change", limits::SQL_BYTES_MAX));
        }
        self.push(Op::Ddl { sql: text(value)?.to_owned() })
    }

    fn set_table(&mut self, value: &[u8]) -> Result<()> {
        if self.call.is_some() {
            return Err(malformed("a table in a call"));
        }
        self.close_row()?;
        self.table = Some(name(value, &mut self.tables, &mut self.name_bytes)?);
        Ok(())
    }

    fn set_key(&mut self, value: &[u8]) -> Result<()> {
        self.close_row()?;
        if self.table.is_none() {
            return Err(malformed("a key without a table"));
        }
        self.row = Some(Row { key: decode_key(value)?, edits: Edits::Open });
        Ok(())
    }

    fn set_col(&mut self, value: &[u8]) -> Result<()> {
        if self.row.is_none() || self.col.is_some() {
            return Err(malformed("a column out of place"));
        }
        self.col = Some(name(value, &mut self.cols, &mut self.name_bytes)?);
        Ok(())
    }

    fn set_base(&mut self, value: &[u8]) -> Result<()> {
        let value = decode_value(value)?;
        let (Some(row), None) = (&mut self.row, &self.base) else {
            return Err(malformed("a base out of place"));
        };
        match &mut row.edits {
            Edits::Insert(_) => Err(malformed("a base in an insert")),
            Edits::Delete(old) => {
                let col = self.col.take().ok_or_else(|| malformed("a base without a column"))?;
                bounded(old.len())?;
                old.push((col, value));
                Ok(())
            }
            Edits::Open | Edits::Update(_) if self.col.is_some() => {
                self.base = Some(value);
                Ok(())
            }
            Edits::Open | Edits::Update(_) => Err(malformed("a base without a column")),
        }
    }

    fn open_row(&mut self, value: &[u8], edits: Edits) -> Result<()> {
        match &mut self.row {
            Some(row)
                if matches!(row.edits, Edits::Open) && self.col.is_none() && value.is_empty() =>
            {
                row.edits = edits;
                Ok(())
            }
            _ => Err(malformed("an insert or delete that is not of a row")),
        }
    }

    fn replace(&mut self, value: &[u8]) -> Result<()> {
        let value = decode_value(value)?;
        let (Some(row), Some(col)) = (&mut self.row, self.col.take()) else {
            return Err(malformed("a value without a column"));
        };
        if matches!(row.edits, Edits::Open) {
            row.edits = Edits::Update(Vec::new());
        }
        if self.version >= VERSION_PLACES {
            self.written = Some(col.clone());
        }
        match (&mut row.edits, self.base.take()) {
            (Edits::Insert(cols), None) => {
                bounded(cols.len())?;
                cols.push((col, value));
            }
            (Edits::Update(changes), Some(base)) => {
                bounded(changes.len())?;
                changes.push(Change { col, base, left: value });
            }
            (Edits::Update(_), None) => return Err(malformed("a change without a base")),
            _ => return Err(malformed("a value out of place")),
        }
        Ok(())
    }

    /// What the value that was just read puts the row behind.
    fn place(&mut self, written: Option<String>, value: &[u8]) -> Result<()> {
        let (Some(table), Some(row), Some(col)) = (&self.table, &self.row, written) else {
            return Err(malformed("a place out of place"));
        };
        spend(&mut self.name_bytes, table.len() + col.len())?;
        let place = Place::decode(value, row.key.len())?;
        self.row_places.push((col, place));
        Ok(())
    }

    fn close_row(&mut self) -> Result<()> {
        if self.col.is_some() || self.base.is_some() {
            return Err(malformed("a column without a value"));
        }
        let Some(Row { key, edits }) = self.row.take() else {
            return Ok(());
        };
        let table = self.table.clone().ok_or_else(|| malformed("a key without a table"))?;
        spend(&mut self.name_bytes, table.len())?;
        // All at once: a key may be long, and a row have many places.
        if !self.places.note(&table, &key, self.row_places.drain(..)) {
            return Err(malformed("two places of one row"));
        }
        self.push(match edits {
            Edits::Open => return Err(malformed("a key without an edit")),
            Edits::Insert(cols) => Op::Insert { table, key, cols },
            Edits::Update(changes) => Op::Update { table, key, changes },
            Edits::Delete(old) => Op::Delete { table, key, old },
        })
    }

    fn push(&mut self, op: Op) -> Result<()> {
        if self.ops.len() == limits::MUTATION_OPS_MAX {
            return Err(limit("changes", limits::MUTATION_OPS_MAX));
        }
        self.ops.push(op);
        Ok(())
    }

    fn open_call(&mut self, value: &[u8]) -> Result<()> {
        if !self.is_fresh() {
            return Err(malformed("a call out of place"));
        }
        let name = plain_name(value)?.to_owned();
        self.call = Some(Call { name, args: Vec::new(), seed: None, time_ms: None, arg: None });
        Ok(())
    }

    fn call_part(&mut self, op: u8, value: &[u8]) -> Result<()> {
        let call = self.call.as_mut().ok_or_else(|| malformed("a call's part without a call"))?;
        match op {
            op::SEED if call.seed.is_none() => {
                let seed = value.try_into().map_err(|_| malformed("a seed has 32 bytes"))?;
                call.seed = Some(seed);
            }
            op::TIME if call.time_ms.is_none() => call.time_ms = Some(decimal(value)?),
            op::ARG if call.arg.is_none() => {
                let name = plain_name(value)?;
                if call.args.len() == limits::CALL_ARGS_MAX {
                    return Err(limit("arguments", limits::CALL_ARGS_MAX));
                }
                if call.args.iter().any(|(known, _)| known == name) {
                    return Err(malformed("an argument is given twice"));
                }
                call.arg = Some(name.to_owned());
            }
            _ => return Err(malformed("a call's part is given twice")),
        }
        Ok(())
    }

    fn arg_value(&mut self, value: &[u8]) -> Result<()> {
        let call = self.call.as_mut().ok_or_else(|| malformed("a call's part without a call"))?;
        let name = call.arg.take().ok_or_else(|| malformed("an argument without a name"))?;
        call.args.push((name, decode_value(value)?));
        Ok(())
    }

    fn finish(mut self) -> Result<Mutation> {
        self.close_row()?;
        let (foreign_keys, version) = (self.foreign_keys.unwrap_or(false), self.version);
        let body = match self.call {
            None => Body::Rows(self.ops),
            Some(Call { name, args, seed: Some(seed), time_ms: Some(time_ms), arg: None }) => {
                Body::Call { name, args, seed, time_ms }
            }
            Some(_) => return Err(malformed("an incomplete call")),
        };
        if matches!(body, Body::Call { .. }) && !self.ids.is_empty() {
            return Err(malformed("row ids in a call"));
        }
        let Self { ids, locks, places, .. } = self;
        let mutation = Mutation { body, foreign_keys, ids, locks, places };
        if version != mutation.version() {
            return Err(malformed("a version that does not fit what the stream holds"));
        }
        Ok(mutation)
    }
}

fn bounded(count: usize) -> Result<()> {
    if count == limits::COLUMNS_MAX {
        return Err(limit("columns of one row", limits::COLUMNS_MAX));
    }
    Ok(())
}

fn spend(spent: &mut usize, bytes: usize) -> Result<()> {
    *spent += bytes;
    if *spent > limits::NAMES_BYTES_MAX {
        return Err(limit("bytes of names", limits::NAMES_BYTES_MAX));
    }
    Ok(())
}

fn plain_name(value: &[u8]) -> Result<&str> {
    if value.len() > limits::NAME_BYTES_MAX {
        return Err(limit("bytes in one name", limits::NAME_BYTES_MAX));
    }
    text(value)
}

/// A name spelled out (and remembered under the next index), or `#n` for one that was.
fn name(value: &[u8], known: &mut Vec<String>, spent: &mut usize) -> Result<String> {
    // One byte more than a name: the escape.
    let value = match value.split_first() {
        Some((b'#', rest)) if rest.first() == Some(&b'#') => plain_name(rest)?,
        Some((b'#', rest)) => {
            let index: usize = decimal(rest)?;
            let name = known.get(index).ok_or_else(|| malformed("an unknown name index"))?.clone();
            spend(spent, name.len())?;
            return Ok(name);
        }
        _ => plain_name(value)?,
    };
    spend(spent, value.len() * 2)?;
    if value.len() >= INDEXED_NAME_BYTES_MIN {
        known.push(value.to_owned());
    }
    Ok(value.to_owned())
}
