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

/// Runs `cargo test` over the workspace.
///
/// # Errors
/// When a test fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = process::cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast"]).args(&args.rest);
    if args.long {
        // Tests that scale read this; see CONTRIBUTING.md.
        command.env("SHEAF_TEST_LONG", "1");
    }
    process::run(&mut command)
}
