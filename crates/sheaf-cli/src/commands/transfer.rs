//! `sheaf pull` and `sheaf push`: talk to the server now, and say what that did.
//!
//! Invariant: a rejected mutation is reported with its reason and the command fails.

use serde_json::{Value, json};

use crate::{
    args::{ContactArgs, GlobalArgs, PushArgs},
    backend::{Device, Exchanged, Merge, Refusal, Site},
    commands::contact,
    console::Console,
    exit::{Exit, Failure},
    progress::{self, Unit},
};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Learn what others changed.
    Pull,
    /// Send what was changed here.
    Push,
}

pub(super) fn pull(
    args: &ContactArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    run(Direction::Pull, &device.existing(&args.site)?, args, console)
}

pub(super) fn push(
    args: &PushArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let site = device.existing(&args.contact.site)?;
    if let Some(seq) = args.go_on {
        site.go_on(seq)?;
    }
    if let Some(seq) = args.withdraw {
        site.withdraw(seq)?;
    }
    let exit = run(Direction::Push, &site, &args.contact, console)?;
    match contact::question(&site) {
        Some(question) => Err(Failure::new("asks", question)),
        None => Ok(exit),
    }
}

fn run(
    direction: Direction,
    site: &Site,
    args: &ContactArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let doing = if direction == Direction::Push { "push" } else { "pull" };
    let done = progress::during(
        console,
        doing,
        Unit::Bytes,
        || site.push_progress(),
        || talk(site, direction, args.timeout),
    )?;
    print(direction, &done, console);
    report_rejected(&args.site, &done)
}

/// Pulls or pushes, which needs a server.
pub(crate) fn talk(
    site: &Site,
    direction: Direction,
    timeout: std::time::Duration,
) -> Result<Exchanged, Failure> {
    if site.server().is_none() {
        let message = format!(
            "site `{}` has no server; name one with --server URL or SHEAF_SERVER",
            site.name()
        );
        return Err(Failure::new("no_server", message));
    }
    let done = match direction {
        Direction::Pull => site.pull(timeout),
        Direction::Push => site.push(timeout),
    };
    let done = done.map_err(Refusal::into_failure)?;
    site.fetch_if_small();
    Ok(done)
}

/// Fails if the server rejected anything.
pub(crate) fn report_rejected(site: &str, done: &Exchanged) -> Result<Exit, Failure> {
    contact::judge_after(site, done)
}

/// Prints what an exchange did.
pub(crate) fn print(direction: Direction, done: &Exchanged, console: &mut Console) {
    if console.json() {
        console.value(&to_json(done));
    } else {
        console.line(&to_line(direction, done));
    }
}

fn to_line(direction: Direction, done: &Exchanged) -> String {
    let mut parts = Vec::new();
    if direction == Direction::Push || done.pushed > 0 {
        parts.push(format!("pushed {}", count(done.pushed, "change")));
    }
    if direction == Direction::Pull || done.pulled > 0 {
        parts.push(format!("pulled {}", count(done.pulled, "commit")));
    }
    for (number, what) in [
        (done.confirmed, "confirmed"),
        (done.merged, "merged"),
        (u64::try_from(done.rejected.len()).unwrap_or(u64::MAX), "rejected"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    format!(
        "{}; now at @{} ({} up, {} down, {}, {} ms)",
        parts.join(", "),
        done.base,
        bytes(done.bytes_up),
        bytes(done.bytes_down),
        count(done.round_trips, "round trip"),
        done.ms
    )
}

fn to_json(done: &Exchanged) -> Value {
    let rejected: Vec<Value> =
        done.rejected.iter().map(|(seq, reason)| json!({ "seq": seq, "reason": reason })).collect();
    let merge = |merge: &Merge| {
        let altered = merge.altered.iter().map(|(at, what)| json!({ "at": at, "change": what }));
        json!({ "seq": merge.seq, "stands": merge.stands, "altered": altered.collect::<Vec<_>>() })
    };
    json!({
        "pulled": done.pulled,
        "pushed": done.pushed,
        "confirmed": done.confirmed,
        "merged": done.merged,
        "rejected": rejected,
        "merges": done.merges.iter().map(merge).collect::<Vec<_>>(),
        "base": done.base,
        "bytes_up": done.bytes_up,
        "bytes_down": done.bytes_down,
        "round_trips": done.round_trips,
        "ms": done.ms,
    })
}

/// `1 change`, `2 changes`
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A size for people: `512 B`, `4.0 KiB`.
pub(crate) fn bytes(number: u64) -> String {
    const LARGER: [&str; 3] = ["MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let (mut of_unit, mut name) = (1024, "KiB");
    for larger in LARGER {
        if number / of_unit < 1024 {
            break;
        }
        (of_unit, name) = (of_unit * 1024, larger);
    }
    // Rounded down, without floating point.
    let tenths = u128::from(number) * 10 / u128::from(of_unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_one_line() {
        let done = Exchanged {
            pushed: 1,
            pulled: 2,
            merged: 1,
            rejected: vec![(1, "no".into())],
            merges: vec![Merge {
                seq: 2,
                stands: vec![true, false],
                altered: vec![(1, "update t 1 (v)".into())],
            }],
            base: 7,
            bytes_up: 100,
            bytes_down: 4096,
            round_trips: 1,
            ms: 3,
            ..Exchanged::default()
        };
        assert_eq!(
            to_line(Direction::Push, &done),
            "pushed 1 change, pulled 2 commits, 1 merged, 1 rejected; now at @7 \
             (100 B up, 4.0 KiB down, 1 round trip, 3 ms)"
        );
        assert!(to_line(Direction::Pull, &Exchanged::default()).starts_with("pulled 0 commits;"));
        assert_eq!(to_json(&done)["rejected"][0]["reason"], "no");
        let altered = json!([{ "at": 1, "change": "update t 1 (v)" }]);
        let merge = json!({ "seq": 2, "stands": [true, false], "altered": altered });
        assert_eq!(to_json(&done)["merges"][0], merge);
    }

    #[test]
    fn sizes_are_for_people() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_576, "1.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
    }
}
