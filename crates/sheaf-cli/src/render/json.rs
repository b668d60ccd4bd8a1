//! The mode `json`: an array with one object per row.
//!
//! Invariant: the output is valid JSON for every value. A blob becomes a string with one character
//! per byte (U+0000 to U+00FF); infinite reals are written as numbers too large for a double, as
//! sqlite3 does.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use rusqlite::types::ValueRef;
use serde_json::Value;

use super::Renderer;

/// `[{"a":1},` newline `{"a":2}]`
pub(super) struct Json {
    /// The names, quoted already.
    columns: Vec<String>,
    has_rows: bool,
}

impl Json {
    pub(super) fn new(columns: Vec<String>) -> Self {
        let columns = columns.into_iter().map(|name| Value::String(name).to_string()).collect();
        Self { columns, has_rows: false }
    }
}

impl Renderer for Json {
    fn row(&mut self, out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        out.write_all(if self.has_rows { b",\n{" } else { b"[{" })?;
        self.has_rows = true;
        for (index, (name, value)) in self.columns.iter().zip(values).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{name}:{}", text(*value))?;
        }
        out.write_all(b"}")
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.has_rows { b"]\n" } else { b"[]\n" })
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) if number.is_infinite() => {
            if number > 0.0 { "1e999" } else { "-1e999" }.to_owned()
        }
        // Debug prints the shortest digits that read back the same, and keeps a real a real.
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) => Value::String(String::from_utf8_lossy(bytes).into()).to_string(),
        ValueRef::Blob(bytes) => quoted_bytes(bytes),
    }
}

fn quoted_bytes(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            _ => write!(quoted, "\\u{byte:04x}").expect("BUG: a String takes all that is written"),
        }
    }
    quoted.push('"');
    quoted
}
