//! The mode `line`: one value per line, names right-aligned, a blank line between rows.

use std::io::{self, Write};

use rusqlite::types::ValueRef;

use super::{Renderer, value};

/// Names take at least this many characters.
const LEAST_WIDTH: usize = 5;

/// `  name = value`
pub(super) struct Line {
    columns: Vec<String>,
    width: usize,
    has_rows: bool,
}

impl Line {
    pub(super) fn new(columns: Vec<String>) -> Self {
        let widest = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Self { columns, width: widest.max(LEAST_WIDTH), has_rows: false }
    }
}

impl Renderer for Line {
    fn row(&mut self, out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        if std::mem::replace(&mut self.has_rows, true) {
            out.write_all(b"\n")?;
        }
        for (name, value) in self.columns.iter().zip(values) {
            write!(out, "{name:>width$} = ", width = self.width)?;
            if let Some(bytes) = value::bytes(*value) {
                out.write_all(&bytes)?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
