//! The `sheaf` command: the face of the client library and of the node for people and scripts.
//!
//! Invariant: every way out is one of the four exit codes in `exit`, and every failure is one line
//! on stderr (a JSON object with `--json`). All knowledge of the library and of the node is in
//! `backend` and `commands/serve`; everything else is parsing and printing.

#![deny(unsafe_code)]

mod args;
mod backend;
mod commands;
mod console;
mod exit;
mod heap;
mod progress;
mod render;
mod shell;
mod signals;
mod sql;
mod time;
mod view;

use std::{panic, process::ExitCode};

use crate::{
    args::Parsed,
    console::Console,
    exit::{Exit, Failure},
};

fn main() -> ExitCode {
    heap::keep_small();
    let mut console = Console::new(args::asks_for_json(std::env::args_os()));
    let mut exit = guarded(&mut console);
    console.flush();
    if console.has_failed() && exit == Exit::Done {
        exit = Exit::Failed;
    }
    ExitCode::from(exit.code())
}

/// Runs the command; a panic becomes one line and the status of a failure.
fn guarded(console: &mut Console) -> Exit {
    // The default hook prints a backtrace hint over several lines, which helps nobody here.
    panic::set_hook(Box::new(|_| {}));
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| run(console)));
    match ran {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            console.fail(&failure);
            failure.exit
        }
        Err(payload) => {
            let failure = Failure::internal(exit::panic_text(payload.as_ref()));
            console.fail(&failure);
            failure.exit
        }
    }
}

fn run(console: &mut Console) -> Result<Exit, Failure> {
    match args::parse(std::env::args_os())? {
        Parsed::Print(text) => {
            console.text(&text);
            Ok(Exit::Done)
        }
        Parsed::Run(cli) => commands::run(*cli, console),
    }
}
