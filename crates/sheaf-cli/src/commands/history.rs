//! `sheaf history` and `sheaf blame`: what became of one row, and whose the columns of
//! one or of all are.
//!
//! Invariant: nothing is changed; the log is read as far as this device knows it.

use serde_json::{Value, json};

use crate::{
    args::{BlameArgs, GlobalArgs, HistoryArgs, RowArgs},
    backend::{Blamed, BlamedRow, Device, PastChange, Site},
    console::Console,
    exit::{Exit, Failure},
    progress::{self, Meter, Unit},
};

pub(super) fn history(
    args: &HistoryArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let site = device.existing(&args.row.site)?;
    if let Some(time_ms) = args.at {
        return row_at(args, &site, time_ms, console);
    }
    let past = site.history(&args.row, args.limit, args.since)?;
    if console.json() {
        let changes: Vec<Value> = past.changes.iter().map(PastChange::json).collect();
        console.value(&json!({
            "table": args.row.table, "key": past.json_key(), "changes": changes, "end": past.end_word(),
        }));
        return Ok(Exit::Done);
    }
    past.changes.iter().for_each(|change| console.line(&change.line()));
    if past.changes.is_empty() && args.limit > 0 && args.since.is_none() {
        console.tell(&format!("nothing is known of a row {} of `{}`", past.key(), args.row.table));
    }
    if let Some(why) = past.end(site.name()) {
        console.tell(&why);
    }
    Ok(Exit::Done)
}

/// The row as it was at a time.
fn row_at(
    args: &HistoryArgs,
    site: &Site,
    time_ms: u64,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let then = site.row_at(&args.row, time_ms)?;
    if console.json() {
        console.value(&then.json());
        return Ok(Exit::Done);
    }
    match then.line() {
        Some(line) => console.line(&line),
        None => console.tell("there was no such row"),
    }
    if let Some(note) = then.note() {
        console.tell(&note);
    }
    Ok(Exit::Done)
}

pub(super) fn blame(
    args: &BlameArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let site = device.existing(&args.site)?;
    if args.key.is_empty() {
        return blame_table(&site, args, console);
    }
    let BlameArgs { site: name, table, key, .. } = args;
    let row = RowArgs { site: name.clone(), table: table.clone(), key: key.clone() };
    let (columns, why) = site.blame(&row)?;
    if console.json() {
        console.value(&Value::Array(columns.iter().map(Blamed::json).collect()));
        return Ok(Exit::Done);
    }
    columns.iter().for_each(|column| console.line(&column.line()));
    if let Some(why) = why {
        console.tell(&why);
    }
    Ok(Exit::Done)
}

fn blame_table(site: &Site, args: &BlameArgs, console: &mut Console) -> Result<Exit, Failure> {
    let meter = Meter::default();
    let work = || site.blame_table(&args.table, args.limit, &meter);
    let found = progress::during(console, "blame", Unit::Rows, || meter.sample(), work)?;
    if console.json() {
        let row = |row: &BlamedRow| {
            let columns: Vec<Value> = row.columns.iter().map(Blamed::json).collect();
            json!({ "key": row.json_key(), "columns": columns })
        };
        let rows: Vec<Value> = found.rows.iter().map(row).collect();
        console.value(&json!({ "table": args.table, "rows": rows, "more": found.more }));
        return Ok(Exit::Done);
    }
    for row in &found.rows {
        console.line(&format!("row {}", row.key()));
        row.columns.iter().for_each(|column| console.line(&format!("  {}", column.line())));
    }
    if found.more {
        console.tell("there are more rows: give a larger --limit");
    }
    if let Some(why) = &found.why {
        console.tell(why);
    }
    Ok(Exit::Done)
}
