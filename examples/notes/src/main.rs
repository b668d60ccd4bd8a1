//! A shared outline in the terminal: what Sheaf's library feels like to a program and its users.
//!
//! Invariant: the terminal is as it was when the program ends, however it ends. Everything but the
//! terminal and the command line is in the modules, which tests drive without one.

#![forbid(unsafe_code)]

mod advice;
mod app;
mod desk;
mod draw;
mod field;
mod keys;
mod limits;
mod markup;
mod outline;
mod screen;
#[cfg(test)]
mod tests;
mod two;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::DefaultTerminal;

use crate::{
    app::App,
    desk::{Desk, DeskOptions},
};

/// A shared outline of notes.
#[derive(Parser)]
#[command(name = "notes", version)]
struct Args {
    /// The site to share
    #[arg(default_value = "notes")]
    site: String,
    /// Where this device keeps it
    #[arg(long, default_value = "notes-replica")]
    dir: PathBuf,
    /// A node (http://...) or a bucket (file:///absolute/path, s3://...); without it, nothing is
    /// shared
    #[arg(long)]
    server: Option<String>,
    /// What the node asks for
    #[arg(long, env = "SHEAF_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Two devices side by side, to try what happens: both are gone when the program ends
    #[arg(long, conflicts_with_all = ["dir", "server", "token"])]
    two: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("notes: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("a terminal is needed".to_owned());
    }
    if args.two {
        let two::Two { app, root } =
            two::Two::open(&args.site).map_err(|error| advice::text(&error))?;
        let shown = show(app).map_err(|error| error.to_string());
        return shown.and_then(|()| root.close().map_err(|error| error.to_string()));
    }
    let options = DeskOptions {
        dir: &args.dir,
        server: args.server.clone(),
        token: args.token.clone(),
        site: &args.site,
    };
    let name = args.dir.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let desk = Desk::open(options).map_err(|error| advice::text(&error))?;
    show(App::new(vec![(name, desk)])).map_err(|error| error.to_string())
}

/// Shows the program until it ends. A panic gives the terminal back too.
fn show(mut app: App) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = keys_and_news(&mut terminal, &mut app);
    let restored = ratatui::try_restore();
    shown.and(restored)
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks for the time")]
fn keys_and_news(terminal: &mut DefaultTerminal, app: &mut App) -> io::Result<()> {
    let began = std::time::Instant::now();
    let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    while !app.has_ended {
        terminal.draw(|frame| draw::draw(frame, &app.screens(), app.active))?;
        if event::poll(limits::TICK)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            app.key(key, now_ms());
        }
        app.tick(now_ms());
    }
    Ok(())
}
