//! The state that callers and the driver of a link share, as plain values.
//!
//! Invariant: wishes are levels, not messages (flags and serial numbers), so no queue of them can
//! grow; what was done only grows. Leaves out the lock and who is woken.

use std::collections::BTreeMap;

use sheaf_site::{Error, ErrorKind, Result, Site};
use sheaf_volume::Lsn;

use crate::exchange::{Ask, Tally};

/// What is wished for one site, and what was done.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) site: Site,
    pub(super) online: bool,
    /// Exchanges that wait, and those of them that push or may create.
    waiting: u32,
    pushing: u32,
    pub(super) creating: u32,
    pub(super) pull_wanted: u64,
    pub(super) pull_done: u64,
    pub(super) push_wanted: u64,
    pub(super) push_done: u64,
    /// There may be something to push.
    pub(super) dirty: bool,
    /// Open it, also if the node has refused that before.
    pub(super) reopen: bool,
    /// Where the last verdicts are in effect.
    pub(super) confirm_at: Lsn,
    pub(super) base: Lsn,
    failures: u64,
    failure: Option<Error>,
    pub(super) tally: Tally,
}

impl Entry {
    pub(super) fn new(site: Site) -> Self {
        let base = site.base().0;
        Self {
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
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.online || self.waiting > 0
    }

    pub(super) fn may_push(&self) -> bool {
        self.online || self.pushing > 0
    }

    pub(super) fn fail(&mut self, error: Error) {
        // Whoever waits is told; what is wished online stays wished.
        self.failures += 1;
        self.failure = Some(error);
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stop: bool,
    pub(super) sites: BTreeMap<String, Entry>,
    /// The site the driver is working for.
    pub(super) busy: Option<String>,
    pub(super) connected: bool,
    /// Dial now, whatever happened before.
    pub(super) retry: bool,
    pub(super) dial_failures: u64,
    pub(super) dial_failure: Option<Error>,
    pub(super) refused: Option<Error>,
}

/// Where things stood when an exchange began.
#[derive(Debug)]
pub(super) struct Started {
    pull: u64,
    push: u64,
    dial_failures: u64,
    failures: u64,
    tally: Tally,
}

impl State {
    /// Whether the driver works for a site.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.busy.as_deref() == Some(name) && !self.stop
    }

    pub(super) fn begin(&mut self, name: &str, ask: Ask) -> Result<Started> {
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

    pub(super) fn end(&mut self, name: &str, ask: Ask) {
        if let Some(entry) = self.sites.get_mut(name) {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.pushing = entry.pushing.saturating_sub(u32::from(ask.push));
            entry.creating = entry.creating.saturating_sub(u32::from(ask.create));
        }
    }

    /// How an exchange ended; `None` while it has not.
    pub(super) fn outcome(&self, name: &str, started: &Started) -> Option<Result<Tally>> {
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
