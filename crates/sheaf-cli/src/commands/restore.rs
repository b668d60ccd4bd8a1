//! `sheaf restore`: back to an earlier state, by an ordinary change on top of what was done since.
//!
//! Invariant: with `--dry-run` nothing is changed, here or on the server.

use serde_json::json;

use crate::{
    args::{GlobalArgs, RestoreArgs},
    backend::{Counts, Device},
    commands::{after, before, transfer::count},
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &RestoreArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let name = &args.site.name;
    let Some(view) = args.site.view else {
        let message =
            format!("name the state to go back to, as in {name}@17; see `sheaf log {name}`");
        return Err(Failure::usage(message));
    };
    let device = Device::open(global)?;
    let site = device.existing(name)?;
    let contact = before(&site, args.exchange, console)?;
    let (counts, left_alone) = site.restore(view, args.dry_run)?;
    for table in &left_alone {
        console.warn("not_compared", &format!("virtual table `{table}` was left as it is"));
    }
    if console.json() {
        console.value(&json!({
            "site": name,
            "dry_run": args.dry_run,
            "inserted": counts.inserted,
            "deleted": counts.deleted,
            "updated": counts.updated,
            "schema": counts.schema,
        }));
    } else {
        console.line(&to_line(name, counts, args.dry_run));
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    console.flush();
    after(&site, contact, args.exchange, console)
}

fn to_line(name: &str, counts: Counts, dry_run: bool) -> String {
    if counts == Counts::default() {
        return format!("{name} is in that state already");
    }
    let what = if dry_run { "would change" } else { "changed" };
    let mut line = format!(
        "restored {name}: {what} {} ({} put back, {} removed, {} given other values)",
        count(counts.rows(), "row"),
        counts.inserted,
        counts.deleted,
        counts.updated
    );
    if counts.schema > 0 {
        line.push_str(&format!(", {} of the schema", count(counts.schema, "object")));
    }
    line
}
