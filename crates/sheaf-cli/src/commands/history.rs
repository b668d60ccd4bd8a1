//! `sheaf history` and `sheaf blame`: what became of one row, and whose its columns are.
//!
//! Invariant: nothing is changed; the log is read as far as this device knows it.

use serde_json::{Value, json};

use crate::{
    args::{BlameArgs, GlobalArgs, HistoryArgs},
    backend::{Blamed, Device, PastChange, Site},
    console::Console,
    exit::{Exit, Failure},
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
    let site = device.existing(&args.row.site)?;
    let (columns, why) = site.blame(&args.row)?;
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
