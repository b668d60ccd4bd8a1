//! `sheaf undo`: one change taken back, by an ordinary change that leaves what others did since.
//!
//! Invariant: with `--dry-run` nothing is changed, here or on the server.

use serde_json::json;

use crate::{
    args::{GlobalArgs, UndoArgs},
    backend::{Device, Mutation, Undone},
    commands::{after, before},
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &UndoArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let mutation = Mutation::parse(&args.mutation)?;
    let device = Device::open(global)?;
    let site = device.existing(&args.site)?;
    let contact = before(&site, args.exchange, console)?;
    let done = site.undo(&mutation, args.dry_run)?;
    for table in &done.not_compared {
        console.warn("not_compared", &format!("virtual table `{table}` was left as it is"));
    }
    done.left.iter().for_each(|left| console.warn("left_alone", left));
    print(&done, args, console);
    if args.dry_run {
        return Ok(Exit::Done);
    }
    console.flush();
    after(&site, contact, args.exchange, console)
}

/// The rows as `sheaf diff` shows them, from what is here to what the undo makes of it.
fn print(done: &Undone, args: &UndoArgs, console: &mut Console) {
    if console.json() {
        let rows: Vec<_> = done.rows.iter().map(|(table, row)| row.json(table)).collect();
        console.value(&json!({
            "site": args.site, "dry_run": args.dry_run, "seq": done.seq, "rows": rows,
            "left_alone": done.left,
        }));
        return;
    }
    let mut last = None;
    for (table, row) in &done.rows {
        if last.replace(table) != Some(table) {
            console.line(&format!("table {table}"));
        }
        console.line(&row.line());
    }
    if done.rows.is_empty() {
        console.line("nothing of it is left to undo");
    }
}
