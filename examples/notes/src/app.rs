//! The program without its terminal: instances, what keys do to them, and news that come in.
//!
//! Invariant: no error leaves this module; each becomes a line that says what to do next. Time is
//! told, never asked for.

use std::{collections::BTreeMap, time::Duration};

use crossterm::event::KeyEvent;
use sheaf::{CellWatch, Error, ErrorKind, Result, Value, Waiting, Watch};

use crate::{
    advice,
    desk::{self, Desk, Wish},
    keys::{self, Action},
    screen::{History, Mode, Screen, What},
};

mod edit;
mod news;

/// One instance and what is shown of it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) screen: Screen,
    /// The editor's handle, while a text is edited. Before `desk`, whose site it keeps open.
    cell: Option<Watch<CellWatch>>,
    pub(crate) desk: Desk,
    /// Whether what is shown of the site may be out of date.
    pub(crate) is_stale: bool,
    /// Whether pages may be missing here that reading offline will need.
    wants_pages: bool,
    /// When to ask again whether the server answers.
    /// Whether the user waits for an exchange.
    has_asked: bool,
}

/// All instances of this program.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) sides: Vec<Side>,
    pub(crate) active: usize,
    pub(crate) has_ended: bool,
    /// Whether the last key was to end it.
    wants_end: bool,
    /// Names of devices that are known here.
    names: BTreeMap<String, String>,
}

impl App {
    /// Takes instances by the names of who works with them, and keeps them exchanged.
    pub(crate) fn new(desks: Vec<(String, Desk)>) -> Self {
        let names = desks.iter().map(|(name, desk)| (desk.device.clone(), name.clone())).collect();
        let sides = desks.into_iter().map(|(name, desk)| Side::new(&name, desk)).collect();
        Self { sides, active: 0, has_ended: false, wants_end: false, names }
    }

    pub(crate) fn screens(&self) -> Vec<&Screen> {
        self.sides.iter().map(|side| &side.screen).collect()
    }

    /// Does what a key means.
    pub(crate) fn key(&mut self, key: KeyEvent, now_ms: u64) {
        let Some(side) = self.sides.get_mut(self.active) else { return };
        let Some(action) = keys::action(&side.screen.mode, key) else { return };
        let is_again = std::mem::replace(&mut self.wants_end, action == Action::Quit);
        match action {
            Action::Quit => {
                side.leave();
                // A text that could not be written keeps the program open, unless asked twice.
                self.has_ended = side.screen.edit().is_none() || is_again;
            }
            Action::OtherSide => {
                side.leave();
                self.active = (self.active + 1) % self.sides.len().max(1);
            }
            _ => {
                side.screen.notice = None;
                side.attempt(|side| side.act(action, now_ms));
                side.attempt(Side::refresh);
            }
        }
    }

    /// Takes in what has happened since the last time.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        self.tick_within(now_ms, Duration::ZERO);
    }

    /// As [`App::tick`]; waits so long for what the worker of each side was asked.
    pub(crate) fn tick_within(&mut self, now_ms: u64, wait: Duration) {
        let mut has_given = Vec::new();
        for (at, side) in self.sides.iter_mut().enumerate() {
            side.take_told(&self.names, wait);
            if side.take_events() {
                has_given.push(at);
            }
            side.screen.answers = side.desk.site.is_online();
            if side.wants_pages && side.screen.is_online {
                // A worker that has enough to do is asked again at the next tick.
                side.wants_pages = side.desk.wish(Wish::Fetch).is_err();
            }
            side.attempt(|side| side.look_after_edit(now_ms));
            side.attempt(Side::refresh);
        }
        // A bucket tells nobody, and is looked at seldom where little happens. Here both devices
        // are at hand, so the one tells the other, as a node would.
        for (at, side) in self.sides.iter_mut().enumerate() {
            if side.screen.is_online && has_given.iter().any(|of| *of != at) {
                side.desk.site.look_now();
            }
        }
    }
}

impl Side {
    fn new(name: &str, desk: Desk) -> Self {
        let screen = Screen::new(name, &desk.site.name(), desk.site.status().server.is_some());
        let mut side =
            Self { screen, cell: None, desk, is_stale: true, wants_pages: false, has_asked: false };
        if side.screen.has_server {
            side.attempt(|side| side.desk.site.go_online());
        }
        side.attempt(Self::refresh);
        side
    }

    /// Runs something; an error becomes a line.
    fn attempt(&mut self, f: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = f(self) {
            self.screen.warn(advice::text(&error));
        }
    }

    /// Reads what is shown of the site, if it may have changed.
    fn refresh(&mut self) -> Result<()> {
        if let Some(answer) = self.desk.outline.try_next() {
            self.is_stale = true;
            answer?;
        }
        if !std::mem::take(&mut self.is_stale) {
            return Ok(());
        }
        let site = &self.desk.site;
        self.screen.show(self.desk.entries()?);
        let pending = site.pending()?;
        let sent = pending.iter().filter(|change| change.is_sent).count();
        self.screen.pending = (pending.len(), sent);
        self.screen.conflicts = site.conflicts()?;
        self.screen.waiting.clear();
        for entry in &self.screen.entries {
            let id = &entry.note.id;
            let waiting = site.waiting("note", &[Value::from(id.as_str())])?;
            if waiting != Waiting::No {
                self.screen.waiting.insert(id.clone(), waiting);
            }
        }
        // A list that got shorter has its end elsewhere.
        self.screen.step(0);
        self.look_at_cells()
    }

    fn look_at_cells(&mut self) -> Result<()> {
        let id = self.screen.current().map(|entry| entry.note.id.clone());
        self.screen.waiting_cells = match id {
            Some(id) if self.screen.waiting.contains_key(&id) => self.desk.waiting_cells(&id)?,
            _ => Vec::new(),
        };
        Ok(())
    }

    fn act(&mut self, action: Action, now_ms: u64) -> Result<()> {
        match action {
            // Those concern all sides.
            Action::Quit | Action::OtherSide => {}
            Action::ToggleOnline => self.toggle_online()?,
            Action::Exchange => self.exchange()?,
            Action::Help => self.open(Mode::Help),
            Action::Conflicts => self.open(Mode::Conflicts(0)),
            Action::History => self.show_history()?,
            Action::Back => self.back(),
            Action::Step(by) => {
                self.screen.step(by);
                self.look_at_cells()?;
            }
            Action::Choose(_) | Action::TakeOurs | Action::TakeTheirs | Action::Dismiss => {
                self.resolve(action)?;
            }
            Action::Restore => self.restore()?,
            Action::Edit(what) => self.begin(what)?,
            Action::Type(_)
            | Action::Backspace
            | Action::DeleteForward
            | Action::Go(_)
            | Action::Pull => self.type_in(action, now_ms)?,
            _ => self.change(action)?,
        }
        Ok(())
    }

    /// Changes the outline.
    fn change(&mut self, action: Action) -> Result<()> {
        self.is_stale = true;
        let note = self.screen.current().map(|entry| entry.note.clone());
        if let Action::New { below } = action {
            let near = note.map(|note| note.id);
            let id = self.desk.add(near.as_deref(), below)?;
            self.refresh()?;
            self.screen.select(&id);
            return self.begin(What::Title);
        }
        let Some(note) = note else {
            self.screen.say("there is no note yet: n makes one");
            return Ok(());
        };
        let id = note.id.as_str();
        let (has_moved, why_not) = match action {
            Action::ToggleDone => {
                (self.desk.set(id, "done", &i64::from(!note.is_done).into()).map(|()| true)?, "")
            }
            Action::Priority(to) => (self.desk.set(id, "priority", &to.into()).map(|()| true)?, ""),
            Action::Indent => (self.desk.indent(id)?, "no note above that it could stand below"),
            Action::Outdent => (self.desk.outdent(id)?, "it stands at the top level"),
            Action::Shift(by) => (self.desk.shift(id, by)?, "it is at the end of its list"),
            Action::AskDelete => {
                self.screen.mode = Mode::Deleting;
                let title = &note.title;
                let text = format!("delete `{title}` and what stands below it? x deletes");
                self.screen.warn(text);
                (true, "")
            }
            Action::Delete => {
                self.screen.mode = Mode::Outline;
                let gone = self.desk.delete(id)?;
                self.screen.say(format!("{gone} deleted"));
                (true, "")
            }
            _ => (true, ""),
        };
        if !has_moved {
            self.screen.say(why_not);
        }
        Ok(())
    }

    fn open(&mut self, mode: Mode) {
        self.leave();
        if self.screen.edit().is_none() {
            self.screen.mode = mode;
        }
    }

    fn back(&mut self) {
        match self.screen.mode {
            Mode::Edit(_) => self.leave(),
            _ => self.screen.mode = Mode::Outline,
        }
    }

    fn toggle_online(&mut self) -> Result<()> {
        if !self.screen.has_server {
            let text = "this site has no server: start with --server URL";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.screen.is_online = !self.screen.is_online;
        if self.screen.is_online {
            self.desk.site.go_online()?;
            self.screen.say("online: changes travel by themselves");
        } else {
            self.desk.site.go_offline();
            self.screen.answers = false;
            self.screen.say("offline: go on working; F3 comes back");
        }
        Ok(())
    }

    fn exchange(&mut self) -> Result<()> {
        if !self.screen.is_online {
            self.screen.warn("you are offline: F3 first");
            return Ok(());
        }
        self.attempt(Self::flush);
        self.has_asked = true;
        self.desk.wish(Wish::Exchange)
    }

    fn show_history(&mut self) -> Result<()> {
        let Some(id) = self.screen.current().map(|entry| entry.note.id.clone()) else {
            self.screen.say("there is no note yet: n makes one");
            return Ok(());
        };
        if !self.screen.is_online {
            self.screen.warn("the log is at the server: F3 goes online, then F5");
            return Ok(());
        }
        self.desk.wish(Wish::History(id.clone()))?;
        self.open(Mode::History(History { id, versions: None, at: 0 }));
        Ok(())
    }

    fn restore(&mut self) -> Result<()> {
        let Some(version) = self.screen.version() else { return Ok(()) };
        let (lsn, entry) = (version.lsn, version.entry.clone());
        let Some(entry) = entry else {
            self.screen.say("it was deleted there: choose another version");
            return Ok(());
        };
        self.is_stale = true;
        self.desk.restore(&entry.note)?;
        self.screen.mode = Mode::Outline;
        self.screen.say(format!("as it was at {lsn}: an ordinary change on top of all others"));
        Ok(())
    }

    fn resolve(&mut self, action: Action) -> Result<()> {
        let Some(conflict) = self.screen.conflict().cloned() else { return Ok(()) };
        self.is_stale = true;
        let chosen = match action {
            Action::Choose(number) => conflict.siblings.get(number.saturating_sub(1)).cloned(),
            Action::TakeOurs => conflict.ours.clone().filter(|_| !conflict.is_cut),
            Action::TakeTheirs => conflict.theirs.clone().filter(|_| !conflict.is_cut),
            _ => None,
        };
        match (action, chosen) {
            (Action::Dismiss, _) => match (conflict.id, conflict.seq, conflict.is_decided) {
                (Some(_), _, false) => {
                    self.screen.say("not decided yet: it can be dismissed when it is");
                }
                (Some(id), ..) => drop(self.desk.site.dismiss_conflict(id)?),
                (None, Some(seq), _) => drop(self.desk.site.dismiss_rejected(seq)?),
                (None, None, _) => self.screen.say("choose one of the values by its number"),
            },
            (_, Some(value)) => {
                self.desk.choose(&conflict, &value)?;
                if let Some(id) = conflict.id.filter(|_| conflict.is_decided) {
                    self.desk.site.dismiss_conflict(id)?;
                }
                let (_, column) = desk::place(&conflict)?;
                self.screen.say(format!("{column} is settled"));
            }
            (_, None) => self.screen.say("there is no such value here"),
        }
        Ok(())
    }
}
