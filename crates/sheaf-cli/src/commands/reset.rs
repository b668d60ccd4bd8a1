//! `sheaf reset`: gives up what was changed here and is not in the log.
//!
//! Invariant: nothing is given up that was not exported or moved to a branch before, or expressly
//! discarded.

use serde_json::json;

use crate::{
    args::{GlobalArgs, ResetArgs},
    backend::{Device, Forked},
    commands::transfer::count,
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &ResetArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let name = &args.site;
    if let Some(file) = args.export.as_ref().filter(|file| file.exists()) {
        let message = format!("`{}` exists; choose another name", file.display());
        return Err(Failure::new("exists", message));
    }
    let device = Device::open(global)?;
    if let Some(new) = &args.fork {
        let forked = device.fork(name, new, args.timeout)?;
        return told(name, new, forked, console);
    }
    let site = device.existing(name)?;
    let pending = site.status().pending.len();
    if pending > 0 && args.export.is_none() && !args.discard {
        let changes = count(u64::try_from(pending).unwrap_or(u64::MAX), "change");
        return Err(Failure::usage(format!(
            "{changes} of this device would be lost; keep them with --fork NEW or \
             --export FILE, or give --discard"
        )));
    }
    let given_up = site.reset(args.export.as_deref())?;
    let file = args.export.as_ref().filter(|_| given_up > 0);
    if console.json() {
        let file = file.map(|file| file.display().to_string());
        console.value(&json!({ "site": name, "given_up": given_up, "file": file }));
        return Ok(Exit::Done);
    }
    let changes = count(u64::try_from(given_up).unwrap_or(u64::MAX), "change");
    match file {
        Some(file) => console.line(&format!("gave up {changes}; kept in `{}`", file.display())),
        None => console.line(&format!("gave up {changes}")),
    }
    Ok(Exit::Done)
}

/// Says what a fork did; fails if the branch refused anything.
fn told(
    site: &str,
    new: &str,
    forked: Option<Forked>,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let moved = forked.as_ref().map_or(0, |forked| forked.moved);
    let lsn = forked.as_ref().map(|forked| forked.lsn);
    if console.json() {
        let fork = lsn.map(|_| new);
        console.value(&json!({ "site": site, "given_up": moved, "fork": fork, "lsn": lsn }));
    } else {
        let changes = count(u64::try_from(moved).unwrap_or(u64::MAX), "change");
        console.line(&match lsn {
            Some(lsn) => format!("moved {changes} to {new}, branched from {site}@{lsn}"),
            None => format!("moved {changes}; no branch was made"),
        });
    }
    match forked.and_then(|forked| forked.rejected.into_iter().next()) {
        None => Ok(Exit::Done),
        Some((seq, reason)) => Err(Failure::new(
            "rejected",
            format!(
                "change {seq} was rejected and is not in `{new}`: {reason}; \
                 see `sheaf status {new}`"
            ),
        )),
    }
}
