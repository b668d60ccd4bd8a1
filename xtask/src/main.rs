//! The project's own tool and the front door to everything one does with this repository.
//!
//! `cargo xtask check` asks whether the house is in order, `cargo xtask test` whether it works.
//! The same commands run on a desk and in `.ci/run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod demo;
mod fuzz;
mod process;
mod s3;
mod sim;
mod test;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Sheaf's own tool", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures Sheaf beside plain SQLite, as ratios from one run
    Bench(bench::Args),
    /// Checks formatting, lints, documentation, licences, layers and the wasm build
    Check(check::Args),
    /// Shows two devices that edit one database apart, reconnect and converge; then keeps serving
    Demo(demo::Args),
    /// Runs whole systems under one seeded scheduler, with faults
    Sim(sim::Args),
    /// Fuzzes every decoder in turn; needs cargo-fuzz and a nightly toolchain
    Fuzz(fuzz::Args),
    /// Runs every test of the workspace, doc tests included
    Test(test::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Test(args) => test::run(&args),
    };
    // One line: a backtrace of this tool helps nobody who broke a test.
    if let Err(error) = done {
        eprintln!("xtask: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
