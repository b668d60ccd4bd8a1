//! `cargo xtask sim`: the simulator at full speed, with every assertion on.
//!
//! Invariant: everything behind `sim` goes to the simulator's own command, whose `--help` says
//! what there is. Leaves out the runs on every change: those are tests of `sheaf-sim`.

use clap::Args as ClapArgs;

use crate::process::{self, cargo};

#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// As in `--seed 47 --verbose`, `--seeds 0..300`, `--campaign 1h` or `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the simulator and runs it; `--teeth` proves instead that it notices mistakes.
///
/// # Errors
/// When it cannot be built, or finds something.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo()?;
    if let [only] = args.rest.as_slice()
        && only == "--teeth"
    {
        command.args(["test", "--profile", "sim", "-p", "sheaf-sim", "--features", "teeth"]);
        command.args(["--test", "teeth", "--", "--nocapture"]);
        return process::run(&mut command);
    }
    command.args(["run", "--quiet", "--profile", "sim", "-p", "sheaf-sim", "--bin", "sheaf-sim"]);
    command.arg("--").args(&args.rest);
    process::run(&mut command)
}
