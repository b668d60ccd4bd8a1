//! Mutations: one intent of one device, and its encoding as an op stream.
//!
//! Invariant: `decode(encode(m)) == m` for every mutation that passes `check` and holds no NaN;
//! any bytes decode to a mutation within the limits or to an error, never to a panic.
//!
//! Decoding is a fold over records with registers (table, key, column, base): see
//! `mutation/decode.rs` and the byte table in docs/format.md. Leaves out what a mutation does:
//! see `replay.rs`.

use std::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;
use sheaf_merge::Value;
use sheaf_volume::{Error, Result};

use crate::{
    RowIds, limits,
    locks::Lock,
    opstream::{VERSION_IDS, VERSION_LOCKS, VERSION_PLACES, VERSION_PLAIN, Writer, encode_key, op},
    places::{Places, RowPlaces},
    siblings,
    value::quote_key,
};

mod decode;
#[cfg(test)]
mod tests;

/// One changed column of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The column.
    pub col: String,
    /// What its author saw.
    pub base: Value,
    /// What its author wrote.
    pub left: Value,
}

/// One step of a captured transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A schema change. All of these come before the rows.
    Ddl {
        /// The statement.
        sql: String,
    },
    /// A new row.
    Insert {
        /// The table.
        table: String,
        /// The primary key, or the rowid where there is none.
        key: Vec<Value>,
        /// All stored columns, key columns too, generated ones not.
        cols: Vec<(String, Value)>,
    },
    /// Changed columns of a row.
    Update {
        /// The table.
        table: String,
        /// The primary key, or the rowid where there is none.
        key: Vec<Value>,
        /// The columns that changed, at least one.
        changes: Vec<Change>,
    },
    /// A deleted row.
    Delete {
        /// The table.
        table: String,
        /// The primary key, or the rowid where there is none.
        key: Vec<Value>,
        /// What the row held.
        old: Vec<(String, Value)>,
    },
}

/// What a mutation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Row changes captured from ordinary SQL.
    Rows(Vec<Op>),
    /// A named mutator with its arguments.
    Call {
        /// The mutator.
        name: String,
        /// Its arguments.
        args: Vec<(String, Value)>,
        /// What `random()` draws from while it runs, everywhere.
        seed: [u8; 32],
        /// What `now` means while it runs, everywhere: milliseconds since 1970.
        time_ms: u64,
    },
}

/// One intent of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What it does.
    pub body: Body,
    /// Whether `PRAGMA foreign_keys` was on when it was made.
    pub foreign_keys: bool,
    /// Which rows its integers mean, where that is not what they say. Empty for a call.
    pub ids: RowIds,
    /// The locks it takes.
    pub locks: BTreeSet<Lock>,
    /// What rows of lists were put behind. Empty for a call.
    pub places: Places,
}

impl Mutation {
    /// A mutation whose integers mean what they say, and that takes no locks.
    #[must_use]
    pub fn new(body: Body, foreign_keys: bool) -> Self {
        let (ids, locks, places) = (RowIds::default(), BTreeSet::new(), Places::default());
        Self { body, foreign_keys, ids, locks, places }
    }

    /// Reads an op stream.
    ///
    /// # Errors
    /// `Invalid` for a malformed stream, `Limit` beyond a bound, `Unsupported` for a stream of a
    /// newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode::decode(bytes)
    }

    /// Writes the op stream. A register is written only when it changes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut encoder = Encoder::new(self.version(), &self.places);
        if self.foreign_keys {
            encoder.out.record(op::FLAGS, b"1");
        }
        for lock in &self.locks {
            encoder.out.record(op::LOCK, &encode_key(&lock_entry(lock)));
        }
        for (table, shown, origin) in self.ids.iter() {
            let origin = origin.map_or(Value::Null, Value::Int);
            let entry = [Value::Text(table.to_owned()), Value::Int(shown), origin];
            encoder.out.record(op::ROW_ID, &encode_key(&entry));
        }
        match &self.body {
            Body::Rows(ops) => ops.iter().for_each(|op| encoder.op(op)),
            Body::Call { name, args, seed, time_ms } => {
                encoder.out.record(op::CALL, name.as_bytes());
                encoder.out.record(op::SEED, seed);
                encoder.out.record(op::TIME, time_ms.to_string().as_bytes());
                for (name, value) in args {
                    encoder.out.record(op::ARG, name.as_bytes());
                    encoder.out.typed(op::REPLACE, value);
                }
            }
        }
        encoder.out.record(op::END, b"");
        encoder.out.finish().into()
    }

    /// The oldest version that can say all of it.
    fn version(&self) -> u8 {
        if !self.places.is_empty() {
            VERSION_PLACES
        } else if !self.locks.is_empty() {
            VERSION_LOCKS
        } else if !self.ids.is_empty() {
            VERSION_IDS
        } else {
            VERSION_PLAIN
        }
    }

    /// Whether every replica would accept this mutation's size and shape. To be asked before a
    /// local commit: a mutation that fails here would be refused by the node for ever.
    ///
    /// # Errors
    /// As [`Mutation::decode`].
    pub fn check(&self) -> Result<()> {
        let back = Self::decode(&self.encode())?;
        if back == *self || self.holds_nan() {
            return Ok(());
        }
        Err(Error::invalid("a mutation does not survive its encoding: DDL goes before rows"))
    }

    /// Its steps; none for a call.
    pub(crate) fn ops(&self) -> &[Op] {
        match &self.body {
            Body::Rows(ops) => ops,
            Body::Call { .. } => &[],
        }
    }

    /// Those of its steps that do something, and do not only say what its author saw.
    pub(crate) fn deeds(&self) -> impl Iterator<Item = &Op> {
        self.ops().iter().filter(|op| !siblings::only_says(op))
    }

    /// `rows`, `call` or `ddl`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.body {
            Body::Call { .. } => "call",
            Body::Rows(ops) if ops.iter().any(|op| matches!(op, Op::Ddl { .. })) => "ddl",
            Body::Rows(_) => "rows",
        }
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.body {
            Body::Call { name, .. } => format!("call {name}"),
            Body::Rows(_) => {
                let mut ops = self.deeds();
                match (ops.next(), ops.count()) {
                    (None, _) => "nothing".to_owned(),
                    (Some(first), 0) => first.summary(),
                    (Some(first), more) => format!("{} and {more} more", first.summary()),
                }
            }
        }
    }

    fn holds_nan(&self) -> bool {
        let nan = |value: &Value| matches!(value, Value::Real(real) if real.is_nan());
        let any = |cols: &[(String, Value)]| cols.iter().any(|(_, value)| nan(value));
        match &self.body {
            Body::Call { args, .. } => any(args),
            Body::Rows(ops) => ops.iter().any(|op| match op {
                Op::Ddl { .. } => false,
                Op::Insert { key, cols, .. } => key.iter().any(nan) || any(cols),
                Op::Delete { key, old, .. } => key.iter().any(nan) || any(old),
                Op::Update { key, changes, .. } => {
                    key.iter().any(nan) || changes.iter().any(|c| nan(&c.base) || nan(&c.left))
                }
            }),
        }
    }
}

impl Op {
    /// The table it touches; `None` for a schema change.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Ddl { .. } => None,
            Self::Insert { table, .. }
            | Self::Update { table, .. }
            | Self::Delete { table, .. } => Some(table),
        }
    }

    /// What names its row: nothing for a schema change.
    pub(crate) fn key(&self) -> &[Value] {
        match self {
            Self::Ddl { .. } => &[],
            Self::Insert { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What names its row, for looking it up; `None` for a schema change.
    pub(crate) fn row(&self) -> Option<(&str, Vec<u8>)> {
        let (Self::Insert { table, key, .. }
        | Self::Update { table, key, .. }
        | Self::Delete { table, key, .. }) = self
        else {
            return None;
        };
        Some((table, encode_key(key)))
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Ddl { sql } => {
                let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
                match line.char_indices().nth(limits::QUOTED_CHARS_MAX * 2) {
                    Some((at, _)) => format!("{}...", line.get(..at).unwrap_or(&line)),
                    None => line,
                }
            }
            Self::Insert { table, key, .. } => format!("insert {table} {}", quote_key(key)),
            Self::Delete { table, key, .. } => format!("delete {table} {}", quote_key(key)),
            Self::Update { table, key, changes } => {
                let cols: Vec<&str> = changes.iter().map(|change| change.col.as_str()).collect();
                format!("update {table} {} ({})", quote_key(key), cols.join(", "))
            }
        }
    }
}

fn lock_entry(lock: &Lock) -> [Value; 5] {
    let count = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    [
        Value::Text(lock.name.clone()),
        count(lock.seen),
        count(lock.own),
        lock.slack.map_or(Value::Null, count),
        Value::Int(lock.on_failure.code()),
    ]
}

/// Holds the registers as the reader will see them.
struct Encoder<'a> {
    out: Writer,
    table: Option<&'a str>,
    tables: Names<'a>,
    cols: Names<'a>,
    places: &'a Places,
    /// Those of the row that is being written.
    row: Option<&'a RowPlaces>,
}

/// Bytes from which a name takes an index when it is spelled out: `#0` is no shorter than `x`.
const INDEXED_NAME_BYTES_MIN: usize = 2;

/// Names already written, by the index that may stand for them.
#[derive(Default)]
struct Names<'a> {
    indexes: std::collections::BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// The name as it goes on the wire: spelled out the first time, `#n` afterwards.
    fn write(&mut self, name: &'a str) -> Cow<'a, str> {
        if let Some(index) = self.indexes.get(name) {
            return format!("#{index}").into();
        }
        if name.len() >= INDEXED_NAME_BYTES_MIN {
            self.indexes.insert(name, self.indexes.len());
        }
        if name.starts_with('#') { format!("#{name}").into() } else { name.into() }
    }
}

impl<'a> Encoder<'a> {
    fn new(version: u8, places: &'a Places) -> Self {
        Self {
            out: Writer::new(version),
            table: None,
            tables: Names::default(),
            cols: Names::default(),
            places,
            row: None,
        }
    }

    fn op(&mut self, op: &'a Op) {
        match op {
            Op::Ddl { sql } => self.out.record(op::DDL, sql.as_bytes()),
            Op::Insert { table, key, cols } => {
                self.address(table, key);
                self.out.record(op::INSERT, b"");
                for (col, value) in cols {
                    self.col(col);
                    self.written(col, value);
                }
            }
            Op::Update { table, key, changes } => {
                self.address(table, key);
                for Change { col, base, left } in changes {
                    self.col(col);
                    self.out.typed(op::BASE, base);
                    self.written(col, left);
                }
            }
            Op::Delete { table, key, old } => {
                self.address(table, key);
                self.out.record(op::DELETE, b"");
                for (col, value) in old {
                    self.col(col);
                    self.out.typed(op::BASE, value);
                }
            }
        }
    }

    /// The key record opens a row's edits, so it is written even if two ops share their key.
    fn address(&mut self, table: &'a str, key: &[Value]) {
        if self.table != Some(table) {
            let name = self.tables.write(table);
            self.out.record(op::TABLE, name.as_bytes());
            self.table = Some(table);
        }
        let key = encode_key(key);
        self.out.record(op::KEY, &key);
        self.row = self.places.of_row(table, key);
    }

    /// A new value, and what it puts the row behind.
    fn written(&mut self, col: &str, value: &Value) {
        self.out.typed(op::REPLACE, value);
        if let Some(place) = self.row.and_then(|places| places.get(col)) {
            self.out.record(op::BEHIND, &place.encode());
        }
    }

    fn col(&mut self, col: &'a str) {
        let name = self.cols.write(col);
        self.out.record(op::COL, name.as_bytes());
    }
}
