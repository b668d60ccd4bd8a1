//! The driver of a link: decides what to dial, send, adopt, integrate, offer and try again.
//!
//! Invariant: single-threaded and without a clock, a socket or a thread of its own: time and
//! randomness come from [`Env`], frames leave through [`Transport`] and arrive as calls. What may
//! block (integrating fetches pages, offering flushes) happens inside [`Driver::step`], with no
//! lock held.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sheaf_site::{Asking, Error};
use sheaf_sync::{ClientEvent, ClientSession, Identity, wire::CreateIds};
use sheaf_volume::{Env, Lineage, Lsn, PageSize, Remote};

use super::{state::Entry, wishes::Wishes};
use crate::{event::Event, limits};

mod events;
mod offers;
#[cfg(test)]
mod tests;

/// Frames between a device and its node, one connection at a time, and the node as a remote.
///
/// Nothing here may block. What happens to a connection is told to the driver: [`Driver::connected`],
/// [`Driver::frame`], [`Driver::closed`], each with the connection's number.
pub trait Transport: fmt::Debug {
    /// Begins to open a connection under this number; an earlier one is given up. Ends in
    /// [`Driver::connected`] or [`Driver::closed`], never within this call.
    fn dial(&mut self, number: u64);

    /// Hands a frame to the connection.
    ///
    /// # Errors
    /// Gives the frame back when there is no room for it now: step the driver when there is. A
    /// connection that has ended swallows frames; its [`Driver::closed`] is on its way.
    fn send(&mut self, number: u64, frame: Bytes) -> Result<(), Bytes>;

    /// Gives up the connection. Nothing more needs to be said about it.
    fn hang_up(&mut self);

    /// A history whose commits and pages the node has.
    fn remote(&self, lineage: Lineage, size: PageSize) -> Arc<dyn Remote>;
}

/// What the driver itself remembers of a site that is open in the session.
#[derive(Debug, Default)]
struct Progress {
    /// Pulls passed on to the session: its serial, ours.
    passed: Vec<(u64, u64)>,
    passed_to: u64,
    /// Newest sequence number with a verdict.
    acknowledged: u64,
    /// The gap the node named last: the same one twice cannot be mended by sending again.
    gap: Option<u64>,
    /// The node waits for this device's user, who learns it from the state at this position:
    /// nothing is offered before it is here.
    asked_at: Option<Lsn>,
    /// The question that was told last.
    told_asking: Option<Asking>,
}

/// One device's end of its link to one node. Whoever owns it calls [`Driver::step`] after every
/// input, when the wishes wake it, when there is room for frames again, and at the deadline.
#[derive(Debug)]
pub struct Driver<T: Transport> {
    wishes: Arc<Wishes>,
    env: Arc<dyn Env>,
    transport: T,
    session: ClientSession,
    progress: BTreeMap<String, Progress>,
    /// The number of the connection now; words of any other are stale.
    number: u64,
    /// Whether that connection is dialled or open.
    linked: bool,
    /// A frame the transport had no room for.
    stalled: Option<Bytes>,
    /// When the connection was last of use.
    used_at: u64,
    /// Whether the last event about the connection was that there is none.
    told_offline: bool,
    /// Round trips of the session that were counted.
    trips: u64,
}

impl<T: Transport> Drop for Driver<T> {
    fn drop(&mut self) {
        // Also when the engine has panicked: nobody must wait for a driver that is no more.
        self.wishes.stop();
    }
}

impl<T: Transport> Driver<T> {
    /// A driver that fulfils these wishes and dials when there is one. The clock of `env` is used
    /// for waiting only; it should not run backwards.
    #[must_use]
    pub fn new(wishes: Arc<Wishes>, identity: Identity, env: Arc<dyn Env>, transport: T) -> Self {
        let now = env.now_ms();
        Self {
            wishes,
            env,
            transport,
            session: ClientSession::new(identity, now),
            progress: BTreeMap::new(),
            number: 0,
            linked: false,
            stalled: None,
            used_at: now,
            told_offline: false,
            trips: 0,
        }
    }

    /// What callers share with this driver.
    #[must_use]
    pub fn wishes(&self) -> &Arc<Wishes> {
        &self.wishes
    }

    /// What frames leave through.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Does everything that can be done now. Returns when to be called again at the latest, in
    /// milliseconds of the environment's clock; `None`: when something happens.
    pub fn step(&mut self) -> Option<u64> {
        let active = self.take_wishes()?;
        self.connect_or_hang_up(active);
        self.session.tick(self.env.now_ms());
        self.handle_events();
        self.offer_all();
        self.send_all();
        // What is sent may be too much for the session, which then asks to end the connection.
        self.handle_events();
        self.deadline(active)
    }

    /// A dialled connection is open.
    pub fn connected(&mut self, number: u64) {
        if number == self.number {
            self.session.connected(self.env.now_ms());
        }
    }

    /// A connection brought a frame.
    pub fn frame(&mut self, number: u64, frame: Bytes) {
        if number == self.number {
            self.wishes.traffic().received(frame.len());
            self.session.frame(frame, self.env.now_ms());
        }
    }

    /// A connection has ended, or could not be opened.
    pub fn closed(&mut self, number: u64, error: Error) {
        if number == self.number {
            self.lost(error);
        }
    }

    /// Brings the session in line with what callers wish; whether any site is active, or `None`
    /// at the end.
    fn take_wishes(&mut self) -> Option<bool> {
        let wishes = Arc::clone(&self.wishes);
        let mut state = wishes.lock();
        if state.stop {
            return None;
        }
        if std::mem::take(&mut state.retry) {
            self.session.retry(self.env.now_ms());
        }
        let inactive: Vec<String> = self
            .progress
            .keys()
            .filter(|name| !state.sites.get(*name).is_some_and(Entry::is_active))
            .cloned()
            .collect();
        for name in inactive {
            self.session.close_site(&name);
            self.progress.remove(&name);
        }
        let mut active = false;
        for (name, entry) in state.sites.iter_mut().filter(|(_, entry)| entry.is_active()) {
            active = true;
            let ids = entry.site.ids();
            let create = CreateIds { site: ids.site, volume: ids.volume, page_size: ids.page_size };
            let may_create = entry.online || entry.creating > 0;
            // Only a wish of a person opens a site again that the node has refused.
            if std::mem::take(&mut entry.reopen)
                && let Err(error) = self.session.open_site(name, may_create.then_some(create))
            {
                entry.fail(error);
                continue;
            }
            let progress = self.progress.entry(name.clone()).or_default();
            if entry.pull_wanted > progress.passed_to
                && entry.pull_wanted > entry.pull_done
                && let Some(serial) = self.session.refresh(name)
            {
                progress.passed_to = entry.pull_wanted;
                progress.passed.push((serial, entry.pull_wanted));
            }
        }
        drop(state);
        // Wakes whoever waits for an entry that has just failed.
        wishes.changed();
        Some(active)
    }

    fn connect_or_hang_up(&mut self, active: bool) {
        let now = self.env.now_ms();
        if active {
            self.used_at = now;
            if self.session.poll_connect(now) {
                self.number += 1;
                self.linked = true;
                self.stalled = None;
                self.wishes.traffic().trip();
                self.transport.dial(self.number);
            }
        } else if self.linked && now >= self.used_at + millis(limits::LINGER) {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.transport.hang_up();
        self.linked = false;
        self.stalled = None;
        self.number += 1;
        let mut random = [0; 8];
        self.env.fill_random(&mut random);
        self.session.closed(self.env.now_ms(), u64::from_le_bytes(random));
        self.wishes.lock().connected = false;
    }

    fn deadline(&self, active: bool) -> Option<u64> {
        let linger = (!active).then(|| self.used_at + millis(limits::LINGER));
        let session = self.session.next_deadline();
        match (self.linked, active) {
            (true, _) => [session, linger].into_iter().flatten().min(),
            (false, true) => session,
            (false, false) => None,
        }
    }

    fn lost(&mut self, error: Error) {
        // A connection that breaks is made again without a word to whoever waits. One that could
        // not be made, or that the session gave up, is told: waiting longer would not help.
        let broke = self.session.is_ready();
        self.hang_up();
        let mut state = self.wishes.lock();
        if !broke {
            state.dial_failures += 1;
            state.dial_failure = Some(error.clone());
        }
        drop(state);
        self.wishes.changed();
        if !std::mem::replace(&mut self.told_offline, true) {
            let server = self.wishes.server().to_owned();
            self.wishes.tell(Event::Offline { server, reason: error });
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Ready { .. } => {
                self.wishes.lock().connected = true;
                self.told_offline = false;
                let server = self.wishes.server().to_owned();
                self.wishes.tell(Event::Online { server });
            }
            ClientEvent::SiteOpened(opened) => self.opened(&opened),
            ClientEvent::CommitsArrived { name, commits, .. } => {
                let count = commits.len() as u64;
                self.integrate(&name, count, |site| site.integrate_news(commits));
            }
            ClientEvent::ChangesArrived { name, changes } => {
                let count = changes.head.lsn.0.saturating_sub(changes.after.0);
                self.integrate(&name, count, |site| site.jump(&changes));
            }
            ClientEvent::CaughtUp { name, serial, .. } => self.caught_up(&name, serial),
            ClientEvent::Verdicts { name, batch, answer } => self.verdicts(&name, &batch, answer),
            ClientEvent::SiteError { name, error } => self.failed(&name, error),
            ClientEvent::Disconnect { error } => self.lost(error),
            ClientEvent::Refused { error } => {
                self.hang_up();
                self.wishes.lock().refused = Some(error.clone());
                self.wishes.changed();
                let server = self.wishes.server().to_owned();
                self.wishes.tell(Event::Refused { server, reason: error });
            }
        }
    }

    fn send_all(&mut self) {
        if !self.linked {
            return;
        }
        let trips = self.session.round_trips();
        (self.trips..trips).for_each(|_| self.wishes.traffic().trip());
        self.trips = trips;
        while let Some(frame) = self.stalled.take().or_else(|| self.session.poll_frame()) {
            let len = frame.len();
            match self.transport.send(self.number, frame) {
                Ok(()) => self.wishes.traffic().sent(len),
                Err(frame) => {
                    self.stalled = Some(frame);
                    return;
                }
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
