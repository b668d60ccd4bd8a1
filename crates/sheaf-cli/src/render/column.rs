//! The modes `column` and `table`: columns as wide as their widest value.
//!
//! Invariant: nothing is printed for a result without rows. Widths count characters, as sqlite3
//! does, so wide scripts do not line up on a terminal. All rows are kept until the last one is
//! known: for large results use another mode.

use std::io::{self, Write};

use rusqlite::types::ValueRef;

use super::{Renderer, value};

/// A tab moves on to the next multiple of this many characters.
const TAB_WIDTH: usize = 8;

/// Columns, with or without lines around them.
pub(super) struct Columns {
    names: Vec<Line>,
    header: bool,
    boxed: bool,
    rows: Vec<Vec<Cell>>,
}

/// The lines of one value; at least one.
type Cell = Vec<Line>;

/// Bytes and not text, because values need not be UTF-8.
type Line = Vec<u8>;

impl Columns {
    /// The mode `column`.
    pub(super) fn plain(names: Vec<String>, header: bool) -> Self {
        // Of a name that has several lines, the first is shown. A name counts for the width even
        // where it is not shown.
        let first = |name: String| lines(name.as_bytes()).into_iter().next().unwrap_or_default();
        let names = names.into_iter().map(first).collect();
        Self { names, header, boxed: false, rows: Vec::new() }
    }

    /// The mode `table`.
    pub(super) fn table(names: Vec<String>) -> Self {
        Self { boxed: true, ..Self::plain(names, true) }
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| count(name)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.iter().map(|line| count(line)).fold(*width, usize::max);
            }
        }
        widths
    }

    fn print_header(&self, out: &mut dyn Write, widths: &[usize]) -> io::Result<()> {
        if self.boxed {
            self.print_rule(out, widths)?;
        }
        let padded = |(name, width): (&Line, &usize)| {
            let before = if self.boxed { width.saturating_sub(count(name)) / 2 } else { 0 };
            pad(name, before, *width)
        };
        let fields: Vec<Line> = self.names.iter().zip(widths).map(padded).collect();
        self.print_line(out, &fields)?;
        self.print_rule(out, widths)
    }

    fn print_row(&self, out: &mut dyn Write, row: &[Cell], widths: &[usize]) -> io::Result<()> {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let padded = |(cell, width): (&Cell, &usize)| {
                pad(cell.get(index).map_or(&[][..], Vec::as_slice), 0, *width)
            };
            let fields: Vec<Line> = row.iter().zip(widths).map(padded).collect();
            self.print_line(out, &fields)?;
        }
        Ok(())
    }

    fn print_line(&self, out: &mut dyn Write, fields: &[Line]) -> io::Result<()> {
        if self.boxed {
            out.write_all(b"| ")?;
            out.write_all(&fields.join(&b" | "[..]))?;
            out.write_all(b" |\n")
        } else {
            out.write_all(&fields.join(&b"  "[..]))?;
            out.write_all(b"\n")
        }
    }

    fn print_rule(&self, out: &mut dyn Write, widths: &[usize]) -> io::Result<()> {
        let dashes = |extra: usize| widths.iter().map(move |width| "-".repeat(width + extra));
        if self.boxed {
            writeln!(out, "+{}+", dashes(2).collect::<Vec<_>>().join("+"))
        } else {
            writeln!(out, "{}", dashes(0).collect::<Vec<_>>().join("  "))
        }
    }
}

impl Renderer for Columns {
    fn row(&mut self, _out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        let cell = |value: &ValueRef<'_>| lines(&value::bytes(*value).unwrap_or_default());
        self.rows.push(values.iter().map(cell).collect());
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths = self.widths();
        if self.header {
            self.print_header(out, &widths)?;
        }
        let has_tall_rows = self.rows.iter().flatten().any(|cell| cell.len() > 1);
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 && has_tall_rows {
                // Where a row may take several lines, something must show where it ends.
                if self.boxed { self.print_rule(out, &widths)? } else { writeln!(out)? }
            }
            self.print_row(out, row, &widths)?;
        }
        if self.boxed { self.print_rule(out, &widths) } else { Ok(()) }
    }
}

/// Splits a text into the lines that the shell shows: at every control character but the tab.
fn lines(text: &[u8]) -> Cell {
    let mut cell = Vec::new();
    let mut line = Line::new();
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte == b'\t' {
            let spaces = TAB_WIDTH - count(&line) % TAB_WIDTH;
            line.resize(line.len() + spaces, b' ');
        } else if byte >= b' ' {
            line.push(byte);
        } else {
            if byte == b'\r' {
                rest.next_if_eq(&b'\n');
            }
            // A last control character begins no new line.
            if rest.peek().is_some() {
                cell.push(std::mem::take(&mut line));
            }
        }
    }
    cell.push(line);
    cell
}

/// Characters, as far as there are any: every byte that does not continue one.
fn count(line: &[u8]) -> usize {
    line.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn pad(text: &[u8], before: usize, width: usize) -> Line {
    let mut padded = vec![b' '; before];
    padded.extend_from_slice(text);
    let missing = width.saturating_sub(count(&padded));
    padded.resize(padded.len() + missing, b' ');
    padded
}
