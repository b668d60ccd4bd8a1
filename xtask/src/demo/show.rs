//! What the demo prints: headings, tables, remarks.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use sheaf::rusqlite::{Connection, types::ValueRef};

/// Rows of one table that are shown.
const ROWS_SHOWN_MAX: usize = 12;
/// Characters of one cell that are shown.
const CELL_SHOWN_MAX: usize = 32;

fn line(style: &str, text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe ends the output, not the program.
    let _closed = if out.is_terminal() && !style.is_empty() {
        writeln!(out, "\x1b[{style}m{text}\x1b[0m").is_err()
    } else {
        writeln!(out, "{text}").is_err()
    };
}

pub(super) fn heading(text: &str) {
    line("", "");
    line("1", &format!("== {text}"));
}

pub(super) fn say(text: &str) {
    line("", &format!("   {text}"));
}

pub(super) fn note(text: &str) {
    line("2", &format!("   {text}"));
}

pub(super) fn command(who: &str, text: &str) {
    line("36", &format!("   {who}> {text}"));
}

/// Runs a query and prints its rows in columns.
pub(super) fn table(who: &str, connection: &Connection, sql: &str) -> Result<()> {
    let mut statement = connection.prepare(sql)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([])?;
    let mut lines = vec![names.clone()];
    let mut left_out = 0;
    while let Some(row) = rows.next()? {
        if lines.len() > ROWS_SHOWN_MAX {
            left_out += 1;
            continue;
        }
        let cells = (0..names.len()).map(|at| row.get_ref(at).map(cell));
        lines.push(cells.collect::<Result<_, _>>()?);
    }
    let width = |at: usize| {
        lines.iter().filter_map(|line| line.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    for (number, cells) in lines.iter().enumerate() {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let text = padded.collect::<Vec<_>>().join("  ");
        let who = if number == 0 { who } else { "" };
        line(if number == 0 { "4" } else { "" }, format!("   {who:<4} {text}").trim_end());
    }
    if left_out > 0 {
        note(&format!("     ... and {left_out} more"));
    }
    Ok(())
}

fn cell(value: ValueRef<'_>) -> String {
    let text = match value {
        ValueRef::Null => "-".to_owned(),
        ValueRef::Integer(int) => int.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).replace('\n', " "),
        ValueRef::Blob(blob) => format!("{} bytes", blob.len()),
    };
    if text.chars().count() <= CELL_SHOWN_MAX {
        return text;
    }
    text.chars().take(CELL_SHOWN_MAX - 3).chain("...".chars()).collect()
}

/// Every row of every table, as text.
pub(super) fn dump(connection: &Connection) -> Result<Vec<String>> {
    let mut tables = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut lines = Vec::new();
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{quoted}\""))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let cells = (0..columns).map(|at| row.get_ref(at).map(|value| format!("{value:?}")));
            lines.push(format!("{name}|{}", cells.collect::<Result<Vec<_>, _>>()?.join("|")));
        }
    }
    Ok(lines)
}
