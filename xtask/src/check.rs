//! `cargo xtask check`: whether the house is in order.
//!
//! Invariant: every step runs, also after one failed, so that one run shows all there is to mend;
//! a step that this machine cannot do says so and how to enable it, and `--strict` makes that a
//! failure. Leaves out tests: see [`crate::test`].

use std::process::Command;

use anyhow::bail;
use clap::{Args as ClapArgs, ValueEnum};

use crate::process::{self, cargo, root};

mod layers;
mod text;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only these steps; all of them when none is named
    steps: Vec<Step>,
    /// Fails when a step cannot be done on this machine, instead of skipping it
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Sources are ASCII and no file is too long
    Text,
    /// Crates know only the crates below them
    Layers,
    /// rustfmt
    Fmt,
    /// clippy, warnings denied
    Clippy,
    /// rustdoc, warnings denied
    Doc,
    /// cargo-deny: licences, advisories, sources
    Deny,
    /// The engine crates type-check for wasm32-unknown-unknown
    Wasm,
}

/// How a step that did not fail ended.
enum Outcome {
    Passed,
    /// Not possible here, and what would make it possible.
    Skipped(String),
}

/// Crates that must build where there is no operating system.
const ENGINE: [&str; 4] = ["sheaf-merge", "sheaf-volume", "sheaf-site", "sheaf-sync"];
/// The toolchain script's exit status when this machine offers no toolchain for wasm.
const NO_TOOLCHAIN: i32 = 3;

/// Runs the steps and prints a line for each.
///
/// # Errors
/// When a step failed, or was skipped under `--strict`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let steps = if args.steps.is_empty() { Step::value_variants() } else { &args.steps };
    let mut lines = Vec::new();
    let mut bad = 0;
    for &step in steps {
        let name = format!("{step:?}").to_lowercase();
        eprintln!("== {name}");
        let (line, failed) = match run_step(step) {
            Ok(Outcome::Passed) => (format!("ok       {name}"), false),
            Ok(Outcome::Skipped(why)) => (format!("skipped  {name}: {why}"), args.strict),
            Err(error) => (format!("FAILED   {name}: {error:#}"), true),
        };
        bad += usize::from(failed);
        lines.push(line);
    }
    eprintln!("== summary");
    for line in lines {
        eprintln!("{line}");
    }
    if bad > 0 {
        bail!("{bad} of {} checks failed", steps.len());
    }
    Ok(())
}

fn run_step(step: Step) -> anyhow::Result<Outcome> {
    match step {
        Step::Text => text::check(&root()?)?,
        Step::Layers => layers::check()?,
        Step::Fmt => process::run(cargo()?.args(["fmt", "--all", "--", "--check", "-l"]))?,
        Step::Clippy => {
            let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            process::run(cargo()?.args(args))?;
        }
        Step::Doc => doc()?,
        Step::Deny => return deny(),
        Step::Wasm => return wasm(),
    }
    Ok(Outcome::Passed)
}

fn doc() -> anyhow::Result<()> {
    // The binary `sheaf` and the library `sheaf` would write to one file, so each has its run.
    for selection in [&["--workspace", "--exclude", "sheaf-cli"][..], &["-p", "sheaf-cli"]] {
        let mut command = cargo()?;
        command.args(["doc", "--no-deps", "--quiet"]).args(selection);
        process::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}

fn deny() -> anyhow::Result<Outcome> {
    let installed = cargo()?.args(["deny", "--version"]).output()?.status.success();
    if !installed {
        let how = "cargo-deny is not installed; cargo install --locked cargo-deny";
        return Ok(Outcome::Skipped(how.to_owned()));
    }
    process::run(cargo()?.args(["deny", "check", "bans", "licenses", "sources"]))?;
    // The advisories come from the network, which a desk on a train does not have.
    let advisories = cargo()?.args(["deny", "check", "advisories"]).output()?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        return Ok(Outcome::Passed);
    }
    if said.contains("failed to fetch advisory database") {
        let why = "licences and sources are right; the advisory database cannot be reached";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    bail!("cargo deny check advisories:\n{said}")
}

fn wasm() -> anyhow::Result<Outcome> {
    let root = root()?;
    let script = root.join("tools/wasm-toolchain.sh");
    let prepared = Command::new(&script).current_dir(&root).status()?;
    if prepared.code() == Some(NO_TOOLCHAIN) {
        let why = "no toolchain for wasm32-unknown-unknown; the lines above say how to get one";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let mut command = Command::new(script);
    command.current_dir(&root).args(["cargo", "check", "--locked", "--no-default-features"]);
    command.args(["--target", "wasm32-unknown-unknown"]);
    for package in ENGINE {
        command.args(["-p", package]);
    }
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}
