//! Running other programs, and where this repository is.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// The root of the repository, wherever the tool was started.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    // Set by cargo for the process it runs; a built binary that was moved has no root.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("start this with `cargo xtask`")?;
    let root = PathBuf::from(manifest).join("..");
    root.canonicalize().context("find the repository")
}

/// The cargo that started us.
pub(crate) fn cargo() -> anyhow::Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Runs to the end, with the output going where ours goes.
///
/// # Errors
/// When the program cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("failed ({status}): {shown}");
    }
    Ok(())
}

/// What a program prints on its standard output.
///
/// # Errors
/// When the program cannot be started or fails.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("failed ({}): {shown}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {shown} is not text"))
}

fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut text = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
