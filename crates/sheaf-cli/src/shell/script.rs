//! The shell without a person: lines from a pipe or a file.
//!
//! Invariant: an error is reported with its line and, as in sqlite3, does not stop the script
//! unless `--bail` or `.bail on` says so; the exit status is 1 if there was any.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
};

use super::{
    Flow, Shell, dot,
    feed::{Fed, Feed, Text},
};
use crate::exit::{Exit, Failure};

/// How deep `.read` may go: a file that reads itself ends here.
const READ_DEPTH_MAX: usize = 25;

/// Runs all lines of `input`.
pub(super) fn run(shell: &mut Shell<'_>, input: &mut dyn BufRead) -> Result<Flow, Failure> {
    let mut feed = Feed::default();
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        // Whoever writes the script a line at a time waits for the answer to the last one.
        shell.console.flush();
        let read = input.read_until(b'\n', &mut bytes);
        if read.map_err(|error| Failure::io("read the script", &error))? == 0 {
            break;
        }
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        let flow = match feed.push(line.trim_end_matches(['\n', '\r'])) {
            Fed::Nothing | Fed::More => Flow::Continue,
            Fed::Dot(command) => {
                let ran = dot::run(shell, &command);
                settle(shell, ran, number)
            }
            Fed::Sql(text) => run_text(shell, &text),
        };
        if let Flow::Quit(exit) = flow {
            return Ok(Flow::Quit(exit));
        }
    }
    let flow = feed.finish().map_or(Flow::Continue, |text| run_text(shell, &text));
    Ok(flow)
}

/// `.read FILE`
pub(super) fn read_file(shell: &mut Shell<'_>, file: &str) -> Result<Flow, Failure> {
    if shell.depth >= READ_DEPTH_MAX {
        let message =
            format!("files read each other more than {READ_DEPTH_MAX} deep; untangle them");
        return Err(Failure::new("limit", message));
    }
    let opened = OpenOptions::new().read(true).open(file);
    let opened = opened.map_err(|error| Failure::io(&format!("read `{file}`"), &error))?;
    shell.depth += 1;
    let flow = run(shell, &mut BufReader::new(opened));
    shell.depth -= 1;
    flow
}

fn run_text(shell: &mut Shell<'_>, text: &Text) -> Flow {
    let ran = shell.run_sql(&text.sql).map(|()| Flow::Continue);
    settle(shell, ran, text.line)
}

/// Reports an error with its line, and decides whether the script goes on.
fn settle(shell: &mut Shell<'_>, ran: Result<Flow, Failure>, line: usize) -> Flow {
    match ran {
        Ok(flow) => flow,
        Err(failure) => {
            let message = format!("near line {line}: {}", failure.message);
            shell.console.fail(&Failure { message, ..failure });
            shell.has_failed = true;
            if shell.bail { Flow::Quit(Exit::Failed) } else { Flow::Continue }
        }
    }
}
