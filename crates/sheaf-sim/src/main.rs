//! The simulator's command: one seed, many seeds, or as many as fit into a time.
//!
//! Invariant: what it prints of a finding is enough to see it again. Leaves out building itself:
//! `cargo xtask sim` does that.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use sheaf_sim::{Campaign, Outcome, Violation, options::Options, run, shrink};
use sheaf_volume::{Env as _, SystemEnv};

/// Findings that are made smaller at the end of a campaign.
const SHRUNK_MAX: usize = 3;
/// From so many runs on, a campaign must have reached everything.
const COVERED_FROM: u64 = 200;
/// Seconds between two lines of progress.
const PROGRESS_S: u64 = 10;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", about = "Sheaf under one seeded scheduler, with faults")]
struct Args {
    /// Runs this seed alone, and makes it smaller if it finds something
    #[arg(long, conflicts_with_all = ["seeds", "campaign"])]
    seed: Option<u64>,
    /// Runs these seeds, from the first to the one before the last
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Runs new seeds for so long, as in `90s`, `20m` or `1h`
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "seeds")]
    campaign: Option<Duration>,
    /// The first seed of a campaign; otherwise one that no earlier campaign began with
    #[arg(long, requires = "campaign")]
    from: Option<u64>,
    /// Changes an option of every run, as in `devices=2`
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, u64)>,
    /// Prints everything that happens
    #[arg(long, short)]
    verbose: bool,
    /// Runs every seed twice and compares everything that happened
    #[arg(long)]
    twice: bool,
    /// Leaves a finding as large as it is
    #[arg(long)]
    no_shrink: bool,
    /// Runs at the same time
    #[arg(long, short, default_value_t = cores())]
    jobs: usize,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    ends.filter(|(from, to)| from < to).ok_or_else(|| "give a range, as in 0..300".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a time, as in 90s, 20m or 1h".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn setting(text: &str) -> Result<(String, u64), String> {
    let parts = text.split_once('=').ok_or("give NAME=VALUE, as in devices=2")?;
    let value = parts.1.parse().map_err(|_| format!("not a number: `{}`", parts.1))?;
    Ok((parts.0.to_owned(), value))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(&args, seed),
        None => many(&args),
    }
}

fn options(args: &Args, seed: u64) -> Result<Options, String> {
    let mut options = Options::draw(seed);
    for (name, value) in &args.set {
        options.set(name, *value)?;
    }
    Ok(options)
}

/// Runs once, or twice and compares.
fn run_once_or_twice(args: &Args, options: &Options, verbose: bool) -> Outcome {
    let mut outcome = run(options.clone(), verbose);
    if args.twice {
        let again = run(options.clone(), false);
        if again.trace != outcome.trace && outcome.violation.is_none() {
            let what = format!(
                "{} lines {}, then {} lines {}",
                outcome.lines, outcome.trace, again.lines, again.trace
            );
            outcome.violation = Some(Violation { claim: "everything follows from the seed", what });
        }
    }
    outcome
}

fn one(args: &Args, seed: u64) -> ExitCode {
    let options = match options(args, seed) {
        Ok(options) => options,
        Err(why) => return refused(&why),
    };
    let outcome = run_once_or_twice(args, &options, args.verbose);
    if args.json {
        return one_as_json(args, &options, outcome);
    }
    let Some(found) = outcome.violation.clone() else {
        say(&format!(
            "seed {seed}: nothing found in {} simulated s, {} lines, trace {}",
            outcome.simulated_ms / 1_000,
            outcome.lines,
            outcome.trace
        ));
        return ExitCode::SUCCESS;
    };
    if !args.verbose {
        outcome.newest.iter().for_each(|line| say(line));
    }
    say(&format!("seed {seed}: {found}"));
    if !args.no_shrink && !args.twice {
        report_smaller(&options, outcome);
    }
    ExitCode::FAILURE
}

fn one_as_json(args: &Args, options: &Options, outcome: Outcome) -> ExitCode {
    let json = |options: &Options, outcome: &Outcome| {
        let found = outcome.violation.as_ref();
        serde_json::json!({
            "seed": options.seed, "simulated_ms": outcome.simulated_ms, "lines": outcome.lines,
            "trace": outcome.trace.to_string(), "again": options.command(),
            "found": found.map(|found| serde_json::json!({"claim": found.claim, "what": found.what})),
        })
    };
    let (said, failed) = (json(options, &outcome), outcome.violation.is_some());
    if failed && !args.no_shrink && !args.twice {
        let (smaller, outcome) = shrink(options, outcome, &mut |_| ());
        say(&serde_json::json!({"run": said, "smaller": json(&smaller, &outcome)}).to_string());
    } else {
        say(&serde_json::json!({ "run": said }).to_string());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn report_smaller(options: &Options, outcome: Outcome) {
    let (smaller, outcome) = shrink(options, outcome, &mut |best| {
        note(&format!("smaller: {}", best.command()));
    });
    if let Some(found) = &outcome.violation {
        say(&format!("smallest: {found}"));
    }
    say(&format!("again:    {}", smaller.command()));
}

/// What several threads share.
struct Work<'a> {
    args: &'a Args,
    next: AtomicU64,
    end: u64,
    until_ms: Option<u64>,
    campaign: Mutex<Campaign>,
    told_ms: AtomicU64,
}

fn many(args: &Args) -> ExitCode {
    if let Err(why) = options(args, 0) {
        return refused(&why);
    }
    let now = SystemEnv.now_ms();
    let (from, end) = match (args.campaign, args.seeds) {
        // Seconds since 1970, times a thousand: no two campaigns share seeds.
        (Some(_), _) => (args.from.unwrap_or(now / 1_000 * 1_000), u64::MAX),
        (None, seeds) => seeds.unwrap_or((0, 100)),
    };
    let until_ms = args.campaign.map(|time| now + u64::try_from(time.as_millis()).unwrap_or(0));
    let work = Work {
        args,
        next: AtomicU64::new(from),
        end,
        until_ms,
        campaign: Mutex::default(),
        told_ms: AtomicU64::new(now),
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| work.run());
        }
    });
    let campaign = work.campaign.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(args, from, &campaign, SystemEnv.now_ms() - now)
}

impl Work<'_> {
    fn run(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let now = SystemEnv.now_ms();
            if seed >= self.end || self.until_ms.is_some_and(|until| now >= until) {
                return;
            }
            let Ok(options) = options(self.args, seed) else { return };
            let outcome = run_once_or_twice(self.args, &options, false);
            if let Some(found) = &outcome.violation {
                note(&format!("seed {seed}: {found}\n  again: {}", options.command()));
            }
            let mut campaign = self.campaign.lock().unwrap_or_else(PoisonError::into_inner);
            campaign.add(&options, &outcome);
            let told = self.told_ms.load(Ordering::Relaxed);
            if now >= told + PROGRESS_S * 1_000 {
                self.told_ms.store(now, Ordering::Relaxed);
                note(&progress(
                    &campaign,
                    seed,
                    self.until_ms.map(|until| until.saturating_sub(now)),
                ));
            }
        }
    }
}

fn progress(campaign: &Campaign, seed: u64, left_ms: Option<u64>) -> String {
    let left = left_ms.map(|ms| format!(", {} s left", ms / 1_000)).unwrap_or_default();
    format!(
        "seed {seed}: {} runs, {} simulated h, {} found{left}",
        campaign.seeds,
        campaign.simulated_ms / 3_600_000,
        campaign.found.len()
    )
}

fn report(args: &Args, from: u64, campaign: &Campaign, real_ms: u64) -> ExitCode {
    let never = if campaign.seeds >= COVERED_FROM { campaign.never() } else { Vec::new() };
    let failed = !campaign.found.is_empty() || !never.is_empty();
    if args.json {
        let found = campaign.found.iter().map(|(options, found)| {
            serde_json::json!({
                "seed": options.seed, "claim": found.claim, "what": found.what,
                "again": options.command(),
            })
        });
        let json = serde_json::json!({
            "first_seed": from, "seeds": campaign.seeds, "simulated_ms": campaign.simulated_ms,
            "real_ms": real_ms, "jobs": args.jobs, "counts": campaign.counts, "never": never,
            "found": found.collect::<Vec<_>>(),
        });
        say(&json.to_string());
    } else {
        for (name, count) in &campaign.counts {
            say(&format!("{count:>10}  {name}"));
        }
        let rate = campaign.simulated_ms.checked_div(real_ms).unwrap_or(0);
        say(&format!(
            "{} runs from seed {from}, {:.1} simulated h in {} s ({rate} simulated s per s on {} threads), {} found",
            campaign.seeds,
            campaign.simulated_ms as f64 / 3_600_000.0,
            real_ms / 1_000,
            args.jobs,
            campaign.found.len()
        ));
        never.iter().for_each(|name| say(&format!("never happened: {name}")));
        if !args.no_shrink && !args.twice {
            for (options, _) in campaign.found.iter().take(SHRUNK_MAX) {
                say(&format!("seed {}:", options.seed));
                report_smaller(options, run(options.clone(), false));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stdout, reason = "a command speaks on its standard output")]
fn say(line: &str) {
    println!("{line}");
}

fn note(line: &str) {
    eprintln!("{line}");
}

fn refused(why: &str) -> ExitCode {
    note(&format!("error: {why}"));
    ExitCode::from(2)
}
