//! Printing rows as the sqlite3 shell prints them.
//!
//! Invariant: in every mode but JSON, the bytes are those of sqlite3 3.40 for the same rows: text
//! and blobs end at their first zero byte, reals have 15 digits. JSON differs on purpose where
//! sqlite3's output is lossy or not JSON: reals are the shortest that read back the same, text is
//! whole, each byte of a blob is one character, and no rows are `[]`.

mod column;
mod delimited;
mod json;
mod line;
mod tree;
mod value;

use std::io::{self, Write};

use clap::ValueEnum;
use rusqlite::types::ValueRef;

use crate::args::FormatArgs;

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Values with a separator between them
    #[default]
    List,
    /// Comma-separated values
    Csv,
    /// Columns of equal width
    Column,
    /// An array of objects
    Json,
    /// One value per line
    Line,
    /// A table drawn with ASCII lines
    Table,
}

impl Mode {
    /// The name as it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Csv => "csv",
            Self::Column => "column",
            Self::Json => "json",
            Self::Line => "line",
            Self::Table => "table",
        }
    }
}

/// Everything that decides how rows are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) mode: Mode,
    /// `None`: as the mode does by itself.
    pub(crate) header: Option<bool>,
    /// `None`: as the mode does by itself.
    pub(crate) separator: Option<String>,
}

impl Format {
    /// The format that flags ask for, or `default` where they are silent.
    pub(crate) fn from_args(args: &FormatArgs, json: bool, default: Mode) -> Self {
        let default = if json { Mode::Json } else { default };
        Self {
            mode: args.mode.unwrap_or(default),
            header: args.header.then_some(true),
            separator: args.separator.clone(),
        }
    }

    /// Starts printing a result with these columns.
    pub(crate) fn begin(&self, columns: Vec<String>) -> Box<dyn Renderer> {
        let separator = |default: &str| self.separator.clone().unwrap_or_else(|| default.into());
        let header = |default| self.header.unwrap_or(default);
        match self.mode {
            Mode::List => Box::new(delimited::List::new(columns, separator("|"), header(false))),
            Mode::Csv => Box::new(delimited::Csv::new(columns, separator(","), header(false))),
            Mode::Column => Box::new(column::Columns::plain(columns, header(true))),
            Mode::Table => Box::new(column::Columns::table(columns)),
            Mode::Json => Box::new(json::Json::new(columns)),
            Mode::Line => Box::new(line::Line::new(columns)),
        }
    }

    /// Starts printing the answer of `EXPLAIN QUERY PLAN`, a tree in every mode but JSON.
    pub(crate) fn begin_plan(&self, columns: Vec<String>) -> Box<dyn Renderer> {
        if self.mode == Mode::Json { self.begin(columns) } else { Box::new(tree::Tree::default()) }
    }
}

/// Prints the rows of one result.
pub(crate) trait Renderer {
    /// Takes the next row; there are as many values as columns.
    fn row(&mut self, out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()>;

    /// Prints what is still to be printed after the last row.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
