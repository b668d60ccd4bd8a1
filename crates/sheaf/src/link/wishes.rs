//! What callers wish of a link, and what was done: the side of it that any thread may use.
//!
//! Invariant: everything shared is under one lock, which nobody holds while anything blocks; the
//! driver holds a site only while it works for it, and says so here.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sheaf_site::{Result, Site};

use super::state::{Entry, Started, State};
use crate::{
    event::{Event, Events},
    exchange::{Ask, Tally},
    traffic::Traffic,
};

/// What callers and the [`Driver`](super::Driver) of one node share. Any thread may use it;
/// nothing blocks.
pub struct Wishes {
    server: String,
    state: Mutex<State>,
    changed: Condvar,
    wake: Box<dyn Fn() + Send + Sync>,
    traffic: Arc<Traffic>,
    events: Events,
}

impl fmt::Debug for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wishes").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Wishes {
    /// No wishes yet. `server` names the node in events and errors; `wake` is called, from any
    /// thread, when the driver should be stepped because something is wished.
    #[must_use]
    pub fn new(server: &str, events: Events, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            server: server.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            wake: Box::new(wake),
            traffic: Arc::default(),
            events,
        })
    }

    /// Makes a site known to the driver, which does nothing for it yet.
    pub fn attach(&self, name: &str, site: Site) {
        self.lock().sites.insert(name.to_owned(), Entry::new(site));
    }

    /// Takes a site away from the driver. False while the driver still works for it (which only
    /// another thread than the driver's can see): ask again.
    #[must_use]
    pub fn detach(&self, name: &str) -> bool {
        let mut state = self.lock();
        state.sites.remove(name);
        let free = !state.holds(name);
        drop(state);
        (self.wake)();
        free
    }

    /// A site has a new local commit. Meant for [`Site::on_commit`], whose listener should hold
    /// the wishes weakly: they hold the site.
    pub fn note_commit(&self, name: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.sites.get_mut(name)
            && !entry.dirty
        {
            entry.dirty = true;
            drop(state);
            (self.wake)();
        }
    }

    /// Keeps a site exchanged in the background, or stops that.
    pub fn set_online(&self, name: &str, online: bool) {
        let mut state = self.lock();
        if let Some(entry) = state.sites.get_mut(name) {
            entry.online = online;
            entry.dirty = true;
            entry.reopen = true;
        }
        if online {
            state.retry = true;
            state.refused = None;
        }
        drop(state);
        (self.wake)();
        self.changed.notify_all();
    }

    /// Looks at the node now for a site that is kept exchanged, also if it was to be dialled
    /// later; nothing for any other.
    pub fn look_now(&self, name: &str) {
        let mut state = self.lock();
        let Some(entry) = state.sites.get_mut(name).filter(|entry| entry.online) else { return };
        entry.pull_wanted += 1;
        entry.dirty = true;
        state.retry = true;
        drop(state);
        (self.wake)();
    }

    /// Whether a site is kept exchanged in the background.
    #[must_use]
    pub fn is_online(&self, name: &str) -> bool {
        self.lock().sites.get(name).is_some_and(|entry| entry.online)
    }

    /// Whether the node answers right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Asks for an exchange. It is under way until the answer is dropped.
    ///
    /// # Errors
    /// `Closed` for a site that is not attached.
    pub fn ask(self: &Arc<Self>, name: &str, ask: Ask) -> Result<Asked> {
        let started = self.lock().begin(name, ask)?;
        (self.wake)();
        Ok(Asked { wishes: Arc::clone(self), name: name.to_owned(), ask, started })
    }

    /// What happens in the background.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The node's name or address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for an outcome.
    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    pub(super) fn tell(&self, event: Event) {
        self.events.push(event);
    }

    /// Nothing is done any more, and nobody waits.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        (self.wake)();
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits until the driver does not work for a site.
    pub(super) fn wait_until_free(&self, name: &str, timeout: Duration) {
        let held = |state: &mut State| state.holds(name);
        drop(self.changed.wait_timeout_while(self.lock(), timeout, held));
    }

    /// Works for a site without holding the lock; `None` when it was taken away.
    pub(super) fn with_site<T>(&self, name: &str, work: impl FnOnce(&Site) -> T) -> Option<T> {
        let site = {
            let mut state = self.lock();
            let site = state.sites.get(name)?.site.clone();
            state.busy = Some(name.to_owned());
            site
        };
        let outcome = work(&site);
        drop(site);
        self.lock().busy = None;
        self.changed();
        Some(outcome)
    }

    pub(super) fn entry(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().sites.get_mut(name) {
            change(entry);
        }
        self.changed();
    }
}

/// An exchange that was asked for. Dropping it takes the wish back; what is under way for it then
/// may still be done.
#[derive(Debug)]
pub struct Asked {
    wishes: Arc<Wishes>,
    name: String,
    ask: Ask,
    started: Started,
}

impl Asked {
    /// How it ended: what it brought about, or `Unavailable` when the node cannot be reached,
    /// `Denied` when it refuses the token, `Closed` when site or driver are gone, or whatever it
    /// says about the site. `None` while it has not ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Tally>> {
        self.wishes.lock().outcome(&self.name, &self.started)
    }

    /// Waits for the outcome; `None` when there is none in time.
    pub(super) fn outcome_within(&self, timeout: Duration) -> Option<Result<Tally>> {
        let open = |state: &mut State| state.outcome(&self.name, &self.started).is_none();
        let waited = self.wishes.changed.wait_timeout_while(self.wishes.lock(), timeout, open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.outcome(&self.name, &self.started)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.wishes.lock().end(&self.name, self.ask);
        (self.wishes.wake)();
    }
}
