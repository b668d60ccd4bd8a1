//! `cargo xtask test`: every test of the workspace, doc tests included, in cargo's own words.

use std::process::Command;

use anyhow::bail;
use clap::Args as ClapArgs;

use crate::{process, s3};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Runs the tests that scale (kills, generated SQL, races) at full length
    #[arg(long)]
    long: bool,
    /// Fails when the S3 server cannot be had here, instead of leaving its tests out
    #[arg(long)]
    strict: bool,
    /// Only the tests that run against the S3 server
    #[arg(long, conflicts_with = "strict")]
    s3: bool,
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
    if args.s3 {
        return against_s3(args);
    }
    let workspace = cargo_test(args, &["--workspace", "--no-fail-fast"]);
    let threads = ["-p", "sheaf-volume", "--features", "shuttle", "--test", "shuttle"];
    let threads = cargo_test(args, &threads);
    // With mistakes compiled in, which no other build has: a run of its own.
    let teeth = ["-p", "sheaf-sim", "--features", "teeth", "--test", "teeth"];
    let teeth = cargo_test(args, &teeth);
    let s3 = against_s3(args);
    workspace.and(threads).and(teeth).and(s3)
}

/// Runs what needs a store once more, against an S3-compatible server that has passed
/// `verify-store` (`docs/testing.md`, A real S3 API).
fn against_s3(args: &Args) -> anyhow::Result<()> {
    let Some(server) = s3::start()? else {
        if args.strict || args.s3 {
            bail!("the tests against S3 need the server; see above for what is missing");
        }
        eprintln!("xtask: SKIPPED the tests against S3; see above for what is missing");
        return Ok(());
    };
    let mut tried = process::cargo()?;
    let store = format!("{}/tried", server.store());
    tried.args(["run", "--quiet", "-p", "sheaf-cli", "--", "verify-store", &store]);
    process::run(server.configure(&mut tried))?;
    let both = ["-p", "sheaf-volume", "-p", "sheaf-cli"];
    // The suites that make thousands of commits say nothing more about a store, and take hours there.
    let volume = ["--lib", "bucket::tests::", "objects::"];
    let devices = ["--test", "it", "bucket", "store"];
    // One selection of packages for both, so that nothing is built twice.
    let volume = test(args, &[&both[..], &volume[..1]].concat(), &volume[1..]);
    let devices = test(args, &[&both[..], &devices[..2]].concat(), &devices[2..]);
    let mut done = Ok(());
    for mut command in [volume?, devices?] {
        // At their usual length: the long one takes hours of requests, and finds the same.
        command.env("SHEAF_TEST_STORE", server.store()).env_remove("SHEAF_TEST_LONG");
        let ran = process::run(server.configure(&mut command));
        done = done.and(ran);
    }
    done
}

fn cargo_test(args: &Args, which: &[&str]) -> anyhow::Result<()> {
    let mut command = test(args, which, &[])?;
    process::run(&mut command)
}

/// `cargo test` of some targets; of their tests those whose names contain one of `names`.
fn test(args: &Args, which: &[&str], names: &[&str]) -> anyhow::Result<Command> {
    let mut command = process::cargo()?;
    command.arg("test").args(which).args(&args.rest);
    if !names.is_empty() {
        command.arg("--").args(names);
    }
    if args.long {
        // Tests that scale read this; see CONTRIBUTING.md.
        command.env("SHEAF_TEST_LONG", "1");
    }
    Ok(command)
}
