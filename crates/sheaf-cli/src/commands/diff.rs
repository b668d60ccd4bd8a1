//! `sheaf diff`: how the rows of two states differ.
//!
//! Invariant: prints while it compares; nothing is changed, and the server is asked only for what
//! is not here.

use std::path::Path;

use serde_json::json;

use crate::{
    args::{DiffArgs, GlobalArgs},
    backend::{Comparison, Counts, Device, Side},
    console::Console,
    exit::{Exit, Failure},
    view,
};

pub(super) fn run(
    args: &DiffArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let (a, b) = (side(&device, &args.a)?, side(&device, &args.b)?);
    let states = Comparison::new(a, b)?;
    for table in states.not_compared() {
        console.warn("not_compared", &format!("virtual table `{table}` is not compared"));
    }
    if args.sql {
        return print_sql(&states, args.table.as_deref(), console);
    }
    if args.table.is_none() {
        print_schema(&states, args.summary, console);
    }
    let tables = args.table.clone().map_or_else(|| states.tables(), |table| vec![table]);
    for table in tables {
        if args.summary {
            summarise(&states, &table, console)?;
        } else {
            print_rows(&states, &table, console)?;
        }
    }
    Ok(Exit::Done)
}

/// A state by what the command line calls it: a site on this device, else a file.
fn side(device: &Device, text: &str) -> Result<Side, Failure> {
    let at = view::parse_site(text);
    let file = Path::new(text);
    match at {
        Ok(at) if device.has_site(&at.name) => device.site(&at.name, None)?.side(at.view()),
        _ if file.is_file() => Side::of_file(file),
        Ok(at) => device.existing(&at.name)?.side(at.view()),
        Err(why) => Err(Failure::usage(format!("`{text}`: {why}, or a database file"))),
    }
}

fn print_schema(states: &Comparison, summary: bool, console: &mut Console) {
    let changes = states.schema();
    if summary && !console.json() {
        if !changes.is_empty() {
            console.line(&format!("schema: {} differ", changes.len()));
        }
        return;
    }
    for (kind, name, old, new) in changes {
        if console.json() {
            console.value(&json!({ "schema": kind, "name": name, "old": old, "new": new }));
            continue;
        }
        for (mark, sql) in [('-', old), ('+', new)] {
            if let Some(sql) = sql {
                console.line(&format!("{mark} {};", sql.replace('\n', "\n  ")));
            }
        }
    }
}

fn print_rows(states: &Comparison, table: &str, console: &mut Console) -> Result<(), Failure> {
    let mut is_first = true;
    states.rows(table, &mut |row| {
        if console.json() {
            console.value(&row.json(table));
            return;
        }
        if std::mem::take(&mut is_first) {
            console.line(&format!("table {table}"));
        }
        console.line(&row.line());
    })
}

fn summarise(states: &Comparison, table: &str, console: &mut Console) -> Result<(), Failure> {
    let mut counts = Counts::default();
    states.rows(table, &mut |row| {
        let counter = match row.mark {
            '-' => &mut counts.deleted,
            '+' => &mut counts.inserted,
            _ => &mut counts.updated,
        };
        *counter += 1;
    })?;
    let Counts { inserted, deleted, updated, .. } = counts;
    if console.json() {
        console.value(&json!({
            "table": table, "inserted": inserted, "deleted": deleted, "updated": updated,
        }));
    } else if counts.rows() > 0 {
        console.line(&format!("{table}: +{inserted} -{deleted} ~{updated}"));
    }
    Ok(())
}

fn print_sql(
    states: &Comparison,
    only: Option<&str>,
    console: &mut Console,
) -> Result<Exit, Failure> {
    console.line("PRAGMA foreign_keys = OFF;");
    console.line("BEGIN;");
    states.sql(only, &mut |statement| console.line(&format!("{statement};")))?;
    console.line("COMMIT;");
    Ok(Exit::Done)
}
