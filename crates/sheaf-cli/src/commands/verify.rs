//! `sheaf verify` and `sheaf repair`: what is wrong with a site, and mending it.
//!
//! Invariant: every finding is one line that says what, where, and which command mends it; the exit
//! status is 0 only if nothing is wrong with what was looked at, and what was not looked at is
//! said. A repair drops no pending change.

use serde_json::{Value, json};

use crate::{
    args::{GlobalArgs, RepairArgs, VerifyArgs},
    backend::{Check, CheckFinding, Device, Mended},
    commands::transfer::count,
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn verify(
    args: &VerifyArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let check = device.verify(&args.site, args.full, &mut teller(console))?;
    if console.json() {
        console.value(&to_json(&check));
    } else {
        to_lines(&args.site, &check).iter().for_each(|line| console.line(line));
    }
    judge(&args.site, &check, console)
}

pub(super) fn repair(
    args: &RepairArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let name = &args.site;
    if args.dry_run {
        let check = device.verify(name, args.full, &mut teller(console))?;
        let would: Vec<&CheckFinding> = check.findings.iter().filter(|f| f.by_repair).collect();
        if console.json() {
            let would: Vec<Value> = would.iter().map(|f| finding_json(f)).collect();
            console.value(&json!({ "would_mend": would, "findings": check.findings.len() }));
        } else {
            would.iter().for_each(|f| console.line(&format!("would mend {}", f.text)));
            console.line(&format!("{} of {}", would.len(), count(len(&check), "finding")));
        }
        return Ok(Exit::Done);
    }
    let mended = device.repair(name, args.full, &mut teller(console))?;
    if console.json() {
        console.value(&mended_json(&mended));
    } else {
        mended_lines(&mended).iter().for_each(|line| console.line(line));
        to_lines(name, &mended.after).iter().for_each(|line| console.line(line));
    }
    for failed in &mended.failed {
        console.warn("not_mended", failed);
    }
    judge(name, &mended.after, console)
}

/// Tells a person how far it is, a few times per stage.
fn teller(console: &mut Console) -> impl FnMut(&'static str, u64, u64) {
    let mut last = ("", 0);
    move |stage, done, all| {
        let tenth = (done * 10).checked_div(all).unwrap_or_default();
        if all >= TOLD_FROM && (stage, tenth) != last {
            last = (stage, tenth);
            console.tell(&format!("{stage}: {done} of {all}"));
        }
    }
}

/// Steps from which on it is worth telling how many are done.
const TOLD_FROM: u64 = 1_000;

fn len(check: &Check) -> u64 {
    check.findings.len() as u64 + check.more
}

fn judge(name: &str, check: &Check, console: &mut Console) -> Result<Exit, Failure> {
    let found = len(check);
    if found > 0 {
        let mut message = format!("{} in site `{name}`", count(found, "finding"));
        let mut remedies: Vec<&str> = check.findings.iter().map(|f| f.remedy.as_str()).collect();
        remedies.sort_unstable();
        remedies.dedup();
        message.push_str(&format!(": {}", remedies.join("; ")));
        return Err(Failure::new("corrupt", message));
    }
    match &check.unreachable {
        None => Ok(Exit::Done),
        Some(reason) => {
            let message = format!(
                "this device's part is sound, but the server could not be asked ({reason}): run \
                 it again when it can be reached"
            );
            console.warn("unavailable", &message);
            Ok(Exit::Unreachable)
        }
    }
}

fn to_lines(name: &str, check: &Check) -> Vec<String> {
    let mut lines = vec![format!(
        "files     {}, {} of the log, {}",
        count(check.pages, "page"),
        count(check.records, "record"),
        count(check.mutations, "pending change")
    )];
    if let Some(log) = &check.log {
        let (commits, frames) = (count(log.commits, "commit"), count(log.frames, "frame"));
        lines.push(format!("log       {commits}, {frames}, ends at @{}", log.head));
    }
    if check.sqlite {
        let compared = if check.compared { ", every page compared with the log" } else { "" };
        lines.push(format!("database  looked at by SQLite{compared}"));
    }
    lines.extend(check.notes.iter().map(|note| format!("note      {note}")));
    lines.extend(check.findings.iter().map(|f| format!("WRONG     {}; {}", f.text, f.remedy)));
    if check.more > 0 {
        lines.push(format!("WRONG     and {} more", check.more));
    }
    if len(check) == 0 {
        lines.push(format!("nothing wrong in {name}"));
    }
    lines
}

fn mended_lines(mended: &Mended) -> Vec<String> {
    let mut lines = Vec::new();
    if mended.fetched > 0 {
        lines.push(format!("fetched   {} again", count(mended.fetched, "damaged page")));
    }
    if mended.redone > 0 {
        lines.push(format!("redone    {}", count(mended.redone, "pending change")));
    }
    lines.extend(mended.rewritten.iter().map(|key| format!("rewritten {key}")));
    if mended.found > 0 {
        let left = len(&mended.after);
        lines.push(format!(
            "mended    {} of {}",
            mended.found - left.min(mended.found),
            count(mended.found, "finding")
        ));
    }
    lines
}

fn finding_json(finding: &CheckFinding) -> Value {
    json!({
        "place": finding.place,
        "lsn": finding.lsn,
        "pages": finding.pages,
        "what": finding.what,
        "remedy": finding.remedy,
        "by_repair": finding.by_repair,
    })
}

fn to_json(check: &Check) -> Value {
    let log = check.log.as_ref();
    json!({
        "sound": len(check) == 0,
        "findings": check.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "more": check.more,
        "notes": check.notes,
        "pages": check.pages,
        "pages_missing": check.pending,
        "records": check.records,
        "pending_changes": check.mutations,
        "commits": log.map(|log| log.commits),
        "frames": log.map(|log| log.frames),
        "head": log.map(|log| log.head),
        "database_checked": check.sqlite,
        "pages_compared": check.compared,
        "unreachable": check.unreachable,
    })
}

fn mended_json(mended: &Mended) -> Value {
    json!({
        "found": mended.found,
        "pages_fetched": mended.fetched,
        "changes_redone": mended.redone,
        "rewritten": mended.rewritten,
        "failed": mended.failed,
        "after": to_json(&mended.after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::CheckedLog;

    fn check() -> Check {
        Check {
            pages: 3,
            records: 1,
            log: Some(CheckedLog { commits: 2, frames: 4, head: 2 }),
            sqlite: true,
            ..Check::default()
        }
    }

    #[test]
    fn a_sound_site_is_said_to_be() {
        let expect = [
            "files     3 pages, 1 record of the log, 0 pending changes",
            "log       2 commits, 4 frames, ends at @2",
            "database  looked at by SQLite",
            "nothing wrong in s",
        ];
        assert_eq!(to_lines("s", &check()), expect);
        assert_eq!(to_json(&check())["sound"], true);
    }

    #[test]
    fn a_finding_says_what_mends_it() {
        let finding = CheckFinding {
            place: "main.db".into(),
            lsn: None,
            pages: vec![2],
            what: "bad".into(),
            text: "main.db: bad (pages 2)".into(),
            remedy: "run `sheaf repair s`".into(),
            by_repair: true,
        };
        let check = Check { findings: vec![finding], ..check() };
        let lines = to_lines("s", &check);
        assert_eq!(lines[3], "WRONG     main.db: bad (pages 2); run `sheaf repair s`");
        assert_eq!(lines.len(), 4);
        assert_eq!(to_json(&check)["findings"][0]["remedy"], "run `sheaf repair s`");
        let failure = judge("s", &check, &mut Console::new(true)).unwrap_err();
        assert_eq!(failure.message, "1 finding in site `s`: run `sheaf repair s`");
    }
}
