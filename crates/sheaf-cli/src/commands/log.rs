//! `sheaf log`: the newest entries of a site's log.
//!
//! Invariant: newest first, as the server has them; a site without a server has no log.

use serde_json::{Value, json};

use crate::{
    args::{GlobalArgs, LogArgs},
    backend::{Device, Entry, Site},
    commands::transfer::{bytes, count},
    console::Console,
    exit::{Exit, Failure},
    time,
};

pub(super) fn run(
    args: &LogArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    show(&device.existing(&args.site)?, args.limit, console)?;
    Ok(Exit::Done)
}

/// Reads and prints the newest entries.
pub(crate) fn show(site: &Site, limit: usize, console: &mut Console) -> Result<(), Failure> {
    if site.server().is_none() {
        let name = site.name();
        console.tell(&format!(
            "site `{name}` has no server and so no log yet; `sheaf status {name}` shows its changes"
        ));
        print(&[], console);
        return Ok(());
    }
    print(&site.log(limit)?, console);
    Ok(())
}

/// Prints entries, one line each.
fn print(entries: &[Entry], console: &mut Console) {
    if console.json() {
        console.value(&Value::Array(entries.iter().map(to_json).collect()));
    } else {
        entries.iter().for_each(|entry| console.line(&to_line(entry)));
    }
}

fn to_line(entry: &Entry) -> String {
    let size = format!("{}, {}", count(entry.pages, "page"), bytes(entry.bytes));
    let when = time::format(entry.time_ms);
    format!("@{} {when} by {}: {} ({size})", entry.lsn, entry.writer, entry.summary)
}

fn to_json(entry: &Entry) -> Value {
    json!({
        "lsn": entry.lsn,
        "time_ms": entry.time_ms,
        "writer": entry.writer,
        "authors": entry.authors,
        "pages": entry.pages,
        "bytes": entry.bytes,
        "tables": entry.tables,
        "summary": entry.summary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = Entry {
            lsn: 3,
            time_ms: 1_000_000_000_000,
            writer: "abc".into(),
            authors: vec!["def".into()],
            pages: 1,
            bytes: 40,
            tables: vec!["t".into()],
            summary: "2 changes".into(),
        };
        assert_eq!(to_line(&entry), "@3 2001-09-09T01:46:40.000Z by abc: 2 changes (1 page, 40 B)");
        assert_eq!(to_json(&entry)["authors"][0], "def");
    }
}
