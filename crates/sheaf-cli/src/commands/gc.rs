//! `sheaf gc`: delete from a bucket what no kept state needs any more.
//!
//! Invariant: a dry run deletes nothing and says what would go and why, object by object. One site
//! that cannot be reclaimed does not keep the others from it, but makes the command fail.

use serde_json::{Value, json};

use crate::{
    args::{GcArgs, GlobalArgs},
    backend::{Device, Reclaimed},
    commands::transfer::{bytes, count},
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &GcArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let names = match args.sites.is_empty() {
        true => device.bucket_sites()?,
        false => args.sites.clone(),
    };
    let (mut all, mut exit) = (Vec::new(), Exit::Done);
    for name in names {
        let mut progress = |text: &str| console.tell(&format!("{name}: {text}"));
        match device.gc(&name, args.retention, args.dry_run, &mut progress) {
            Ok(done) if console.json() => all.push(to_json(&done, args.dry_run)),
            Ok(done) => print(&done, args.dry_run, console),
            Err(failure) => {
                let message = format!("site `{name}`: {}", failure.message);
                console.fail(&Failure { message, ..failure });
                exit = Exit::Failed;
            }
        }
    }
    if console.json() {
        console.value(&Value::Array(all));
    }
    Ok(exit)
}

fn print(done: &Reclaimed, dry_run: bool, console: &mut Console) {
    if dry_run {
        for lsn in &done.checkpoints {
            console.line(&format!("{}: would make a checkpoint at @{lsn}", done.name));
        }
        for object in &done.doomed {
            let size = object.bytes.map_or_else(String::new, |size| format!(", {}", bytes(size)));
            console.line(&format!("would delete {} ({}{size})", object.key, object.why));
        }
    }
    console.line(&summary(done, dry_run));
}

fn summary(done: &Reclaimed, dry_run: bool) -> String {
    let Reclaimed { name, head, boundary_before, boundary, .. } = done;
    let moved = match (boundary_before == boundary, boundary) {
        (true, 0) => format!("all of @1 to @{head} is kept"),
        (true, _) => format!("@{boundary} to @{head} are kept, as before"),
        (false, _) => {
            format!("@{boundary} to @{head} are kept, before it was from @{boundary_before}")
        }
    };
    let objects = count(done.doomed.len() as u64, "object");
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    let known: u64 = done.doomed.iter().filter_map(|object| object.bytes).sum();
    let size = if known > 0 { format!(" ({} or more)", bytes(known)) } else { String::new() };
    let wrote = match (done.written, dry_run) {
        (0, _) => String::new(),
        (written, true) => format!(", at most {} to be written", bytes(written)),
        (written, false) => format!(", {} written", bytes(written)),
    };
    format!("{name}: {moved}; {objects} {verb}{size}{wrote}")
}

fn to_json(done: &Reclaimed, dry_run: bool) -> Value {
    let objects: Vec<Value> = done
        .doomed
        .iter()
        .map(|object| json!({ "key": object.key, "why": object.why, "bytes": object.bytes }))
        .collect();
    json!({
        "site": done.name,
        "dry_run": dry_run,
        "head": done.head,
        "boundary_before": done.boundary_before,
        "boundary": done.boundary,
        "checkpoints": done.checkpoints,
        "written": done.written,
        "deleted": objects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DoomedObject;

    #[test]
    fn a_pass_is_one_line() {
        let object = |bytes| DoomedObject { key: "k".into(), why: "because".into(), bytes };
        let done = Reclaimed {
            name: "s".into(),
            head: 9,
            boundary: 7,
            checkpoints: vec![7],
            written: 2048,
            doomed: vec![object(Some(1024)), object(None)],
            ..Reclaimed::default()
        };
        assert_eq!(
            summary(&done, false),
            "s: @7 to @9 are kept, before it was from @0; 2 objects deleted (1.0 KiB or more), \
             2.0 KiB written"
        );
        assert!(summary(&done, true).ends_with(
            "2 objects would be deleted (1.0 KiB or more), at most 2.0 KiB to be written"
        ));
        let idle = Reclaimed { boundary_before: 7, doomed: vec![], written: 0, ..done.clone() };
        assert_eq!(summary(&idle, false), "s: @7 to @9 are kept, as before; 0 objects deleted");
        assert_eq!(to_json(&done, true)["deleted"][0]["why"], "because");
    }
}
