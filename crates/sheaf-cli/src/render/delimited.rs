//! The modes `list` and `csv`: a row is a line, values have a separator between them.
//!
//! Invariant: rows are printed as they come; nothing is kept.

use std::io::{self, Write};

use rusqlite::types::ValueRef;

use super::{Renderer, value};

/// `a|b`
pub(super) struct List {
    columns: Vec<String>,
    separator: String,
    header: bool,
}

impl List {
    pub(super) fn new(columns: Vec<String>, separator: String, header: bool) -> Self {
        Self { columns, separator, header }
    }
}

impl Renderer for List {
    fn row(&mut self, out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        if std::mem::take(&mut self.header) {
            writeln!(out, "{}", self.columns.join(&self.separator))?;
        }
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                out.write_all(self.separator.as_bytes())?;
            }
            if let Some(bytes) = value::bytes(*value) {
                out.write_all(&bytes)?;
            }
        }
        out.write_all(b"\n")
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// `a,"b c"`
pub(super) struct Csv {
    columns: Vec<String>,
    separator: String,
    header: bool,
}

impl Csv {
    pub(super) fn new(columns: Vec<String>, separator: String, header: bool) -> Self {
        Self { columns, separator, header }
    }

    fn field(&self, out: &mut dyn Write, index: usize, field: Option<&[u8]>) -> io::Result<()> {
        if index > 0 {
            out.write_all(self.separator.as_bytes())?;
        }
        match field {
            None => Ok(()),
            Some(bytes) if self.is_plain(bytes) => out.write_all(bytes),
            Some(bytes) => {
                out.write_all(b"\"")?;
                for (part, piece) in bytes.split(|byte| *byte == b'"').enumerate() {
                    if part > 0 {
                        out.write_all(b"\"\"")?;
                    }
                    out.write_all(piece)?;
                }
                out.write_all(b"\"")
            }
        }
    }

    /// Whether a field needs no quotes. An empty text has them, so that it is not taken for NULL.
    fn is_plain(&self, bytes: &[u8]) -> bool {
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
        let separator = self.separator.as_bytes();
        let holds_separator = !separator.is_empty()
            && bytes.windows(separator.len()).any(|window| window == separator);
        !bytes.is_empty() && bytes.iter().all(plain) && !holds_separator
    }
}

impl Renderer for Csv {
    fn row(&mut self, out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        if std::mem::take(&mut self.header) {
            for (index, column) in self.columns.iter().enumerate() {
                self.field(out, index, Some(column.as_bytes()))?;
            }
            out.write_all(b"\n")?;
        }
        for (index, value) in values.iter().enumerate() {
            self.field(out, index, value::bytes(*value).as_deref())?;
        }
        out.write_all(b"\n")
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
