//! The link of a client to one node: wishes of any thread in, one worker thread that fulfils them.
//!
//! Invariant: wishes are levels, not messages (flags and serial numbers under one lock), so no
//! queue of them can grow; the worker holds a site only while it works for it, and [`Link::detach`]
//! waits for that. Dropping the link ends and joins the worker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use sheaf_site::{Error, ErrorKind, Integrated, Result, Site};
use sheaf_sync::Identity;
use sheaf_volume::{Lsn, Verdict};
use tokio::{runtime::Handle, sync::Notify};

use crate::{clock, event::Events, limits, node::Http, traffic::Traffic};

mod socket;
mod worker;

/// What one exchange is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) pull: bool,
    pub(crate) push: bool,
    /// Whether the site may be created under its local ids when the node does not know its name.
    pub(crate) create: bool,
}

/// What was done for a site, in growing numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) pulled: u64,
    pub(crate) pushed: u64,
    pub(crate) confirmed: u64,
    pub(crate) merged: u64,
    /// The newest rejections, and how many there were in all.
    pub(crate) rejected: Vec<(u64, String)>,
    pub(crate) rejected_total: u64,
}

impl Tally {
    pub(crate) fn reject(&mut self, seq: u64, reason: String) {
        if self.rejected.len() >= limits::REJECTED_MAX {
            self.rejected.remove(0);
        }
        self.rejected.push((seq, reason));
        self.rejected_total += 1;
    }

    pub(crate) fn integrated(&mut self, commits: u64, outcome: &Integrated) {
        self.pulled += commits;
        self.confirmed += outcome.confirmed.len() as u64;
        let merged = outcome.confirmed.iter().filter(|(_, _, v)| *v == Verdict::Merged);
        self.merged += merged.count() as u64;
        for (seq, reason) in &outcome.rejected {
            self.reject(*seq, reason.clone());
        }
    }

    /// What was added since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let new = self.rejected_total.saturating_sub(earlier.rejected_total);
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(self.rejected.len());
        let rejected = self.rejected.iter().skip(self.rejected.len() - new).cloned().collect();
        Self {
            pulled: self.pulled - earlier.pulled,
            pushed: self.pushed - earlier.pushed,
            confirmed: self.confirmed - earlier.confirmed,
            merged: self.merged - earlier.merged,
            rejected,
            rejected_total: new as u64,
        }
    }
}

/// What is wished for one site, and what was done.
#[derive(Debug)]
struct Entry {
    site: Site,
    online: bool,
    /// Exchanges that wait, and those of them that push or may create.
    waiting: u32,
    pushing: u32,
    creating: u32,
    pull_wanted: u64,
    pull_done: u64,
    push_wanted: u64,
    push_done: u64,
    /// There may be something to push.
    dirty: bool,
    /// Open it, also if the node has refused that before.
    reopen: bool,
    /// Where the last verdicts are in effect.
    confirm_at: Lsn,
    base: Lsn,
    failures: u64,
    failure: Option<Error>,
    tally: Tally,
}

impl Entry {
    fn is_active(&self) -> bool {
        self.online || self.waiting > 0
    }

    fn may_push(&self) -> bool {
        self.online || self.pushing > 0
    }
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    sites: BTreeMap<String, Entry>,
    /// The site the worker is working for.
    busy: Option<String>,
    connected: bool,
    /// Dial now, whatever happened before.
    retry: bool,
    dial_failures: u64,
    dial_failure: Option<Error>,
    refused: Option<Error>,
}

/// What callers and the worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    server: String,
    state: Mutex<State>,
    changed: Condvar,
    wake: Notify,
    traffic: Arc<Traffic>,
    events: Events,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A site has a new local commit.
    pub(crate) fn note_commit(&self, name: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.sites.get_mut(name)
            && !entry.dirty
        {
            entry.dirty = true;
            self.wake.notify_one();
        }
    }
}

/// A client's link to one node.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    http: Arc<Http>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts the worker. It dials only when a site wishes it.
    ///
    /// # Errors
    /// `Io` when the system gives no thread, `Internal` when TLS cannot be set up.
    pub(crate) fn start(
        server: &str,
        identity: Identity,
        runtime: &Handle,
        events: Events,
    ) -> Result<Self> {
        let traffic = Arc::new(Traffic::default());
        let token = Some(identity.token.clone()).filter(|token| !token.is_empty());
        let http = Http::new(server, token, runtime.clone(), Arc::clone(&traffic))?;
        let http = Arc::new(http);
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            wake: Notify::new(),
            traffic,
            events,
        });
        let worker =
            worker::Worker::new(Arc::clone(&shared), Arc::clone(&http), identity, runtime.clone());
        let thread = thread::Builder::new().name("sheaf-link".to_owned());
        let thread = thread.spawn(move || worker.run()).map_err(|e| Error::io("start link", e))?;
        Ok(Self { shared, http, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        &self.http
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// For the commit listener of a site, which must not keep the link alive.
    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    /// Makes a site known to the worker, which does nothing for it yet.
    pub(crate) fn attach(&self, name: &str, site: Site) {
        let base = site.base().0;
        let entry = Entry {
            site,
            online: false,
            waiting: 0,
            pushing: 0,
            creating: 0,
            pull_wanted: 0,
            pull_done: 0,
            push_wanted: 0,
            push_done: 0,
            dirty: true,
            reopen: true,
            confirm_at: Lsn::ZERO,
            base,
            failures: 0,
            failure: None,
            tally: Tally::default(),
        };
        self.shared.lock().sites.insert(name.to_owned(), entry);
    }

    /// Takes a site away from the worker and waits until it has let go.
    pub(crate) fn detach(&self, name: &str) {
        let mut state = self.shared.lock();
        state.sites.remove(name);
        self.shared.wake.notify_one();
        let busy = |state: &mut State| state.busy.as_deref() == Some(name) && !state.stop;
        let waited = self.shared.changed.wait_timeout_while(state, limits::DETACH_TIMEOUT, busy);
        drop(waited);
    }

    /// Keeps a site exchanged in the background, or stops that.
    pub(crate) fn set_online(&self, name: &str, online: bool) {
        let mut state = self.shared.lock();
        if let Some(entry) = state.sites.get_mut(name) {
            entry.online = online;
            entry.dirty = true;
            entry.reopen = true;
        }
        if online {
            state.retry = true;
            state.refused = None;
        }
        self.shared.wake.notify_one();
        self.shared.changed.notify_all();
    }

    /// Whether a site is kept exchanged, and whether the node answers right now.
    pub(crate) fn is_online(&self, name: &str) -> (bool, bool) {
        let state = self.shared.lock();
        let wanted = state.sites.get(name).is_some_and(|entry| entry.online);
        (wanted, state.connected)
    }

    /// Does what is asked, and returns what it brought about.
    ///
    /// # Errors
    /// `Unavailable` when the node cannot be reached or does not answer in time, `Denied` when it
    /// refuses the token, or whatever it says about the site.
    pub(crate) fn exchange(&self, name: &str, ask: Ask, timeout: Duration) -> Result<Tally> {
        let deadline = clock::now_ms().saturating_add(millis(timeout));
        let mut state = self.shared.lock();
        let started = state.begin(name, ask)?;
        self.shared.wake.notify_one();
        let outcome = loop {
            if let Some(outcome) = state.outcome(name, &started) {
                break outcome;
            }
            let left = deadline.saturating_sub(clock::now_ms());
            if left == 0 {
                let text = format!(
                    "the node at {} did not answer within {} s",
                    self.shared.server,
                    timeout.as_secs_f32()
                );
                break Err(Error::new(ErrorKind::Unavailable, text));
            }
            let left = Duration::from_millis(left);
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.end(name, ask);
        self.shared.wake.notify_one();
        outcome
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("link panicked");
        }
    }
}

/// Where things stood when an exchange began.
struct Started {
    pull: u64,
    push: u64,
    dial_failures: u64,
    failures: u64,
    tally: Tally,
}

impl State {
    fn begin(&mut self, name: &str, ask: Ask) -> Result<Started> {
        let dial_failures = self.dial_failures;
        self.retry = true;
        self.refused = None;
        let entry = self.sites.get_mut(name).ok_or_else(closed)?;
        entry.waiting += 1;
        entry.pushing += u32::from(ask.push);
        entry.creating += u32::from(ask.create);
        entry.pull_wanted += u64::from(ask.pull);
        entry.push_wanted += u64::from(ask.push);
        entry.dirty = true;
        entry.reopen = true;
        Ok(Started {
            pull: if ask.pull { entry.pull_wanted } else { 0 },
            push: if ask.push { entry.push_wanted } else { 0 },
            dial_failures,
            failures: entry.failures,
            tally: entry.tally.clone(),
        })
    }

    fn end(&mut self, name: &str, ask: Ask) {
        if let Some(entry) = self.sites.get_mut(name) {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.pushing = entry.pushing.saturating_sub(u32::from(ask.push));
            entry.creating = entry.creating.saturating_sub(u32::from(ask.create));
        }
    }

    /// How an exchange ended; `None` while it has not.
    fn outcome(&self, name: &str, started: &Started) -> Option<Result<Tally>> {
        if self.stop {
            return Some(Err(closed()));
        }
        let Some(entry) = self.sites.get(name) else { return Some(Err(closed())) };
        let pushed = entry.push_done >= started.push;
        let caught_up = entry.base >= entry.confirm_at || started.push == 0;
        if entry.pull_done >= started.pull && pushed && caught_up {
            return Some(Ok(entry.tally.since(&started.tally)));
        }
        if let Some(error) = &self.refused {
            return Some(Err(error.clone()));
        }
        if self.dial_failures > started.dial_failures {
            return self.dial_failure.clone().map(Err);
        }
        if entry.failures > started.failures {
            return entry.failure.clone().map(Err);
        }
        None
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the site was closed")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
