//! `sheaf status` and `sheaf sites`: what is on this device.
//!
//! Invariant: neither talks to the server, so both work at once and offline.

use serde_json::{Value, json};

use crate::{
    args::{GlobalArgs, StatusArgs},
    backend::{Device, FailedAt, Status},
    commands::transfer::{bytes, count},
    console::Console,
    exit::{Exit, Failure},
    time,
};

pub(super) fn run(
    args: &StatusArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    if let Some(name) = &args.site {
        print(&device.existing(name)?.status(), console);
        return Ok(Exit::Done);
    }
    let mut all = Vec::new();
    let mut exit = Exit::Done;
    for name in device.sites()? {
        // One site that is damaged, or in use, must not hide the others.
        match device.existing(&name) {
            Ok(site) => all.push(site.status()),
            Err(failure) => {
                let message = format!("site `{name}`: {}", failure.message);
                console.fail(&Failure { message, ..failure });
                exit = Exit::Failed;
            }
        }
    }
    print_all(&all, &device, console);
    Ok(exit)
}

fn print_all(all: &[Status], device: &Device, console: &mut Console) {
    if console.json() {
        console.value(&Value::Array(all.iter().map(to_json).collect()));
        return;
    }
    if all.is_empty() {
        let dir = device.dir().display();
        console.tell(&format!("no site to show in {dir}; `sheaf sql NAME SQL` makes one"));
    }
    all.iter().for_each(|status| console.line(&summary(status)));
}

pub(super) fn sites(global: &GlobalArgs, console: &mut Console) -> Result<Exit, Failure> {
    let names = Device::open(global)?.sites()?;
    if console.json() {
        console.value(&json!(names));
    } else {
        names.iter().for_each(|name| console.line(name));
    }
    Ok(Exit::Done)
}

/// Prints everything about one site.
pub(crate) fn print(status: &Status, console: &mut Console) {
    if console.json() {
        console.value(&to_json(status));
    } else {
        console.text(&to_text(status));
    }
}

/// Prints the mutations that were refused.
pub(crate) fn print_rejected(status: &Status, console: &mut Console) {
    if console.json() {
        console.value(&rejected_json(status));
    } else {
        rejected_lines(status).iter().for_each(|line| console.line(line.trim_start()));
    }
}

/// One site in one line.
fn summary(status: &Status) -> String {
    let mut line = format!("{} @{}", status.name, status.base);
    for (number, what) in [(status.pending.len(), "pending"), (status.rejected.len(), "rejected")] {
        if number > 0 {
            line.push_str(&format!(", {number} {what}"));
        }
    }
    line
}

fn to_text(status: &Status) -> String {
    let mut lines = vec![
        format!("site      {}", status.name),
        format!("server    {}", status.server.as_deref().unwrap_or("none")),
    ];
    let when = match status.base_time_ms {
        0 => String::new(),
        ms => format!(", {}", time::format(ms)),
    };
    lines.push(format!("base      @{}{when}", status.base));
    let missing = match status.pages_missing {
        0 => String::new(),
        number => format!(", {number} not fetched yet"),
    };
    let pages = count(status.page_count, "page");
    lines.push(format!("size      {pages}{missing}; {} on this device", bytes(status.local_bytes)));
    if status.poisoned {
        lines.push("closed    after a disk error; check the disk and start again".to_owned());
    }
    lines.push(format!("pending   {}", status.pending.len()));
    for pending in &status.pending {
        let size = bytes(pending.bytes);
        lines.push(format!("  {} {}: {} ({size})", pending.seq, pending.kind, pending.summary));
    }
    lines.push(format!("rejected  {}", status.rejected.len()));
    lines.extend(rejected_lines(status));
    lines.push(String::new());
    lines.join("\n")
}

fn rejected_lines(status: &Status) -> Vec<String> {
    let line = |r: &crate::backend::Rejected| format!("  {} {}: {}", r.seq, r.summary, r.reason);
    status.rejected.iter().map(line).collect()
}

fn to_json(status: &Status) -> Value {
    let pending: Vec<Value> = status
        .pending
        .iter()
        .map(|p| {
            json!({ "seq": p.seq, "kind": p.kind, "summary": p.summary,
                    "time_ms": p.time_ms, "bytes": p.bytes })
        })
        .collect();
    json!({
        "site": status.name,
        "server": status.server,
        "online": status.online,
        "base": status.base,
        "base_local": status.base_local,
        "head_local": status.head_local,
        "acknowledged": status.acknowledged,
        "remote": status.remote,
        "base_time_ms": status.base_time_ms,
        "pages": status.page_count,
        "pages_present": status.pages_present,
        "pages_missing": status.pages_missing,
        "pending": pending,
        "rejected": rejected_json(status),
        "local_bytes": status.local_bytes,
        "poisoned": status.poisoned,
    })
}

fn rejected_json(status: &Status) -> Value {
    let row =
        |row: &FailedAt| json!({ "table": row.table, "key": row.key, "columns": row.columns });
    let rejected = status.rejected.iter().map(|r| {
        json!({ "seq": r.seq, "summary": r.summary, "reason": r.reason,
                "row": r.row.as_ref().map(row), "time_ms": r.time_ms })
    });
    Value::Array(rejected.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Pending, Rejected};

    fn status() -> Status {
        Status {
            name: "team/todos".into(),
            server: Some("http://h:1".into()),
            base: 12,
            base_time_ms: 1_000_000_000_000,
            page_count: 4,
            pages_present: 3,
            pages_missing: 1,
            pending: vec![Pending {
                seq: 5,
                kind: "rows",
                summary: "1 row in todos".into(),
                time_ms: 1,
                bytes: 40,
            }],
            rejected: vec![Rejected {
                seq: 4,
                summary: "call add".into(),
                reason: "UNIQUE constraint failed: todos.id".into(),
                row: Some(FailedAt {
                    table: "todos".into(),
                    key: None,
                    columns: vec!["id".into()],
                }),
                time_ms: 1,
            }],
            local_bytes: 16_384,
            ..Status::default()
        }
    }

    #[test]
    fn text() {
        let expect = "site      team/todos\n\
            server    http://h:1\n\
            base      @12, 2001-09-09T01:46:40.000Z\n\
            size      4 pages, 1 not fetched yet; 16.0 KiB on this device\n\
            pending   1\n  5 rows: 1 row in todos (40 B)\n\
            rejected  1\n  4 call add: UNIQUE constraint failed: todos.id\n";
        assert_eq!(to_text(&status()), expect);
        assert_eq!(summary(&status()), "team/todos @12, 1 pending, 1 rejected");
    }

    #[test]
    fn json_has_the_same_facts() {
        let value = to_json(&status());
        assert_eq!(value["site"], "team/todos");
        assert_eq!(value["base"], 12);
        assert_eq!(value["pending"][0]["seq"], 5);
        assert_eq!(value["rejected"][0]["reason"], "UNIQUE constraint failed: todos.id");
        let row = json!({ "table": "todos", "key": null, "columns": ["id"] });
        assert_eq!(value["rejected"][0]["row"], row);
    }
}
