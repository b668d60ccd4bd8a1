//! `cargo xtask test`: every test of the workspace, doc tests included, in cargo's own words.

use clap::Args as ClapArgs;

use crate::process;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Runs the tests that scale (kills, generated SQL, races) at full length
    #[arg(long)]
    long: bool,
    /// Passed on to `cargo test`, as in `cargo xtask test -- rebase`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs `cargo test` over the workspace, then the volume's threads under a scheduler, which needs
/// a build of its own (`docs/testing.md`, Concurrency).
///
/// # Errors
/// When a test fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let workspace = cargo_test(args, &["--workspace", "--no-fail-fast"]);
    let threads = ["-p", "sheaf-volume", "--features", "shuttle", "--test", "shuttle"];
    let threads = cargo_test(args, &threads);
    // With mistakes compiled in, which no other build has: a run of its own.
    let teeth = ["-p", "sheaf-sim", "--features", "teeth", "--test", "teeth"];
    let teeth = cargo_test(args, &teeth);
    workspace.and(threads).and(teeth)
}

fn cargo_test(args: &Args, which: &[&str]) -> anyhow::Result<()> {
    let mut command = process::cargo()?;
    command.arg("test").args(which).args(&args.rest);
    if args.long {
        // Tests that scale read this; see CONTRIBUTING.md.
        command.env("SHEAF_TEST_LONG", "1");
    }
    process::run(&mut command)
}
