//! `cargo xtask fuzz`: cargo-fuzz over every target in turn.
//!
//! Invariant: nothing is downloaded; what is missing is named with the command that installs it.
//! Leaves out keeping what was found: see docs/testing.md.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;

use crate::process::{self, root};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only these targets; all of them when none is named
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 120)]
    seconds: u32,
}

/// Bytes of one input: some pages, not a large database.
const INPUT_BYTES_MAX: u32 = 40_000;
/// Seconds after which one input counts as a hang.
const HANG_SECONDS: u32 = 20;

/// Fuzzes each target for its time.
///
/// # Errors
/// When a target is not known, a tool is missing, or an input was found that a target does not
/// survive.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = root()?;
    let known = targets(&root)?;
    if let Some(unknown) = args.targets.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    let installed = nightly()?.args(["fuzz", "--version"]).output()?.status.success();
    if !installed {
        bail!(
            "cargo-fuzz or a nightly toolchain is not installed; \
             rustup toolchain install nightly && cargo install --locked cargo-fuzz"
        );
    }
    let targets = if args.targets.is_empty() { &known } else { &args.targets };
    for target in targets {
        let mut command = nightly()?;
        // What is found goes below target/; only what is worth keeping moves to fuzz/corpus.
        let found = root.join("target/fuzz").join(target);
        fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        command.args(["fuzz", "run", "--features", "libfuzzer", target]);
        command.arg(found).arg(root.join("fuzz/corpus").join(target)).arg("--");
        command.arg(format!("-max_total_time={}", args.seconds));
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        command.arg(format!("-timeout={HANG_SECONDS}"));
        process::run(command.arg("-print_final_stats=1"))?;
    }
    Ok(())
}

/// The nightly toolchain's cargo: libFuzzer needs flags that a stable compiler refuses.
fn nightly() -> anyhow::Result<std::process::Command> {
    let mut command = std::process::Command::new("cargo");
    command.arg("+nightly").current_dir(root()?);
    // Set by the cargo that runs us, for itself; a proxy would obey it instead of `+nightly`.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    Ok(command)
}

fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let dir = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
