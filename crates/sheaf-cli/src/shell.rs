//! `sheaf shell`: SQL and dot commands, typed or from a pipe, in the manner of sqlite3.
//!
//! Invariant: a site is open for as long as the shell; with a person in front of it changes travel
//! in the background, with a script the server is asked once before and once after, as by
//! `sheaf sql`.

mod complete;
mod completion;
mod dot;
mod feed;
mod interrupt;
mod notices;
mod prompt;
mod schema;
mod script;

use std::io::{self, IsTerminal};

use rusqlite::Connection;

use crate::{
    args::{ExchangeArgs, GlobalArgs, ShellArgs},
    backend::{Device, Site},
    commands::{Contact, after, before, enter},
    console::Console,
    exit::{Exit, Failure},
    render::{Format, Mode},
    shell::interrupt::Interrupts,
    sql,
    view::ViewArg,
};

/// Whether to go on after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Quit(Exit),
}

/// One open site and how it is shown.
struct Shell<'c> {
    console: &'c mut Console,
    device: Device,
    site: Site,
    db: Connection,
    view: ViewArg,
    format: Format,
    exchange: ExchangeArgs,
    /// Only in a script: how the exchange before it went.
    contact: Contact,
    is_interactive: bool,
    interrupts: Interrupts,
    bail: bool,
    has_failed: bool,
    /// How many `.read` are under way.
    depth: usize,
}

/// Runs the shell.
pub(crate) fn run(
    args: &ShellArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let is_interactive = io::stdin().is_terminal() && console.is_terminal();
    let device = Device::open(global)?;
    let name = args.site.clone().map_or_else(|| only_site(&device), Ok)?;
    let (site, contact) = enter(&device, &name, args.create.page_size, args.exchange, console)?;
    site.check_page_size(args.create.page_size)?;
    let default = if is_interactive { Mode::Column } else { Mode::List };
    let mut shell = Shell {
        db: site.connection(ViewArg::Local)?,
        console,
        device,
        site,
        view: ViewArg::Local,
        format: Format::from_args(&args.format, global.json, default),
        exchange: args.exchange,
        contact,
        is_interactive,
        // A script is ended by Ctrl-C, as any other command.
        interrupts: if is_interactive { Interrupts::listen() } else { Interrupts::default() },
        bail: args.bail,
        has_failed: false,
        depth: 0,
    };
    if is_interactive && shell.site.server().is_some() && !args.exchange.offline {
        shell.site.go_online()?;
    }
    shell.set_view(args.view)?;
    if is_interactive { shell.converse() } else { shell.run_script() }
}

impl Shell<'_> {
    fn converse(&mut self) -> Result<Exit, Failure> {
        let exit = prompt::run(self);
        let pending = self.site.status().pending.len();
        if pending > 0 && self.site.server().is_some() {
            let name = self.site.name();
            let message =
                format!("{pending} pending on this device; `sheaf push {name}` sends them");
            self.console.tell(&message);
        }
        exit
    }

    fn run_script(&mut self) -> Result<Exit, Failure> {
        let flow = script::run(self, &mut io::stdin().lock())?;
        if !self.db.is_autocommit() {
            let message =
                "the script ended inside a transaction, which was rolled back; add COMMIT";
            self.console.fail(&Failure::new("sql", message));
            self.has_failed = true;
            self.set_view(self.view)?;
        }
        self.console.flush();
        let contact = std::mem::replace(&mut self.contact, Contact::None);
        let sent = after(&self.site, contact, self.exchange, self.console)?;
        Ok(match flow {
            Flow::Quit(chosen) if chosen != Exit::Done => chosen,
            _ if self.has_failed => Exit::Failed,
            _ => sent,
        })
    }

    /// Runs statements on the current view.
    fn run_sql(&mut self, sql: &str) -> Result<(), Failure> {
        let (db, format) = (&self.db, &self.format);
        let console = &mut *self.console;
        self.interrupts.during(db, || sql::run(db, sql, format, console)).map(drop)
    }

    /// Runs statements on another connection.
    fn run_on(&mut self, db: &Connection, sql: &str) -> Result<(), Failure> {
        let (format, console) = (&self.format, &mut *self.console);
        self.interrupts.during(db, || sql::run(db, sql, format, console)).map(drop)
    }

    /// Looks at another state; a transaction that is open is rolled back.
    fn set_view(&mut self, view: ViewArg) -> Result<(), Failure> {
        self.db = self.site.connection(view)?;
        self.view = view;
        Ok(())
    }

    fn is_offline(&self) -> bool {
        if self.is_interactive { !self.site.is_online() } else { self.contact == Contact::None }
    }

    fn go_online(&mut self) -> Result<(), Failure> {
        if self.site.server().is_none() {
            return Ok(());
        }
        if self.is_interactive {
            return self.site.go_online();
        }
        self.site.go_manual()?;
        let exchange = ExchangeArgs { offline: false, ..self.exchange };
        self.contact = before(&self.site, exchange, self.console)?;
        Ok(())
    }

    fn go_offline(&mut self) {
        self.site.go_offline();
        self.contact = Contact::None;
    }
}

/// The site that is meant when none is named.
fn only_site(device: &Device) -> Result<String, Failure> {
    let mut names = device.sites()?.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => {
            Err(Failure::usage("this device has no site yet; name one, as in `sheaf shell todos`"))
        }
        _ => Err(Failure::usage(
            "this device has several sites; name one of those that `sheaf sites` lists",
        )),
    }
}
