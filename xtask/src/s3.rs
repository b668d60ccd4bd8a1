//! An S3-compatible server on this machine, for a second run of the tests that need a store.
//!
//! Invariant: it is what `tools/s3-server` pins, lives below `target/`, is tried by
//! `sheaf verify-store` before anything is believed of it, and ends with this tool. Where it cannot
//! be installed, this says what is missing.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::process;

/// The installer's exit status when this machine cannot have the server.
const UNAVAILABLE: i32 = 3;
/// The bucket that the server makes at its start.
const BUCKET: &str = "sheaf";

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
}

/// Installs and starts the server; `None` if this machine cannot have it, which is said on stderr.
///
/// # Errors
/// When it was installed and does not start.
pub(crate) fn start() -> anyhow::Result<Option<Server>> {
    let tools = process::root()?.join("tools/s3-server");
    let installed = Command::new(tools.join("install.sh")).stderr(Stdio::inherit()).output();
    let installed = match installed {
        Ok(installed) => installed,
        Err(error) => {
            eprintln!("xtask: tools/s3-server/install.sh needs bash: {error}");
            return Ok(None);
        }
    };
    match installed.status.code() {
        Some(0) => {}
        Some(UNAVAILABLE) => return Ok(None),
        _ => bail!("tools/s3-server/install.sh failed ({})", installed.status),
    }
    let python = String::from_utf8(installed.stdout).context("path of python")?;
    let mut child = Command::new(python.trim())
        .arg(tools.join("serve.py"))
        .arg(BUCKET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the S3 server")?;
    let mut url = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut url).context("read the S3 server's URL")?;
    }
    let server = Server { child, url: url.trim().to_owned() };
    if !server.url.starts_with("http://") {
        bail!("the S3 server did not start; its words are above");
    }
    Ok(Some(server))
}

impl Server {
    /// The store for tests.
    pub(crate) fn store(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// Makes `command` find the server behind `s3://` URLs.
    pub(crate) fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends by itself when its input does; killing it is for one that hangs.
        drop(self.child.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
