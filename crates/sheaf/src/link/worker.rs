//! The worker of a link: drives the session, integrates commits, offers mutations.
//!
//! Invariant: everything that may block (integrating fetches pages, offering flushes) happens on
//! this thread with no lock held. It is no thread of the runtime, which therefore always moves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use sheaf_site::{Error, ErrorKind, MutationRecord, Result, Site, SiteIds};
use sheaf_sync::{
    ClientEvent, ClientSession, Identity,
    wire::{CreateIds, OpenedSite, PushAnswer, PushBatch, PushMutation},
};
use sheaf_volume::{Commit, Env as _, SystemEnv};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use super::{
    Entry, Shared, millis,
    socket::{self, Input},
};
use crate::{
    clock,
    event::Event,
    limits,
    node::{Http, NodeRemote},
};

/// What the worker itself remembers of a site that is open in the session.
#[derive(Debug, Default)]
struct Progress {
    /// Pulls passed on to the session: its serial, ours.
    passed: Vec<(u64, u64)>,
    passed_to: u64,
    /// Newest sequence number with a verdict.
    acknowledged: u64,
    /// The gap the node named last: the same one twice cannot be mended by sending again.
    gap: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    http: Arc<Http>,
    runtime: Handle,
    session: ClientSession,
    progress: BTreeMap<String, Progress>,
    inputs: mpsc::Receiver<Input>,
    input: mpsc::Sender<Input>,
    socket: Option<mpsc::Sender<Bytes>>,
    number: u64,
    /// A frame the socket had no room for.
    stalled: Option<Bytes>,
    /// When the connection was last of use.
    used_at: u64,
    /// Whether the last event about the connection was that there is none.
    told_offline: bool,
    /// Round trips of the session that were counted.
    trips: u64,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Also when the engine has panicked: nobody must wait for a worker that is no more.
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        http: Arc<Http>,
        identity: Identity,
        runtime: Handle,
    ) -> Self {
        let (input, inputs) = mpsc::channel(limits::INPUTS_MAX);
        let now = clock::now_ms();
        Self {
            shared,
            http,
            runtime,
            session: ClientSession::new(identity, now),
            progress: BTreeMap::new(),
            inputs,
            input,
            socket: None,
            number: 0,
            stalled: None,
            used_at: now,
            told_offline: false,
            trips: 0,
        }
    }

    /// Works until the link is dropped.
    pub(super) fn run(mut self) {
        while let Some(active) = self.take_wishes() {
            self.connect_or_hang_up(active);
            self.session.tick(clock::now_ms());
            while let Some(event) = self.session.poll_event() {
                self.handle(event);
            }
            self.offer_all();
            self.send_all();
            self.wait(active);
        }
    }

    /// Brings the session in line with what callers wish; whether any site is active, or `None`
    /// at the end.
    fn take_wishes(&mut self) -> Option<bool> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.stop {
            return None;
        }
        if std::mem::take(&mut state.retry) {
            self.session.retry(clock::now_ms());
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
        shared.changed.notify_all();
        Some(active)
    }

    fn connect_or_hang_up(&mut self, active: bool) {
        let now = clock::now_ms();
        if active {
            self.used_at = now;
            if self.session.poll_connect(now) {
                let (frames, queue) = mpsc::channel(limits::FRAMES_MAX);
                self.number += 1;
                self.socket = Some(frames);
                self.stalled = None;
                self.shared.traffic.trip();
                let shared = Arc::clone(&self.shared);
                let input = self.input.clone();
                drop(self.runtime.spawn(socket::run(self.number, shared, queue, input)));
            }
        } else if self.socket.is_some() && now >= self.used_at + millis(limits::LINGER) {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.socket = None;
        self.stalled = None;
        self.number += 1;
        let mut random = [0; 8];
        SystemEnv.fill_random(&mut random);
        self.session.closed(clock::now_ms(), u64::from_le_bytes(random));
        self.shared.lock().connected = false;
    }

    fn wait(&mut self, active: bool) {
        let now = clock::now_ms();
        let linger = (!active).then(|| self.used_at + millis(limits::LINGER));
        let session = self.session.next_deadline();
        let deadline = match (&self.socket, active) {
            (Some(_), _) => [session, linger].into_iter().flatten().min(),
            (None, true) => session,
            (None, false) => None,
        };
        // A full hour stands for "until woken"; waking early does no harm.
        let pause = deadline.map_or(3_600_000, |at| at.saturating_sub(now));
        let shared = Arc::clone(&self.shared);
        let inputs = &mut self.inputs;
        let input = self.runtime.block_on(async {
            let next = async {
                tokio::select! {
                    input = inputs.recv() => input,
                    () = shared.wake.notified() => None,
                }
            };
            timeout(Duration::from_millis(pause), next).await.unwrap_or_default()
        });
        if let Some(input) = input {
            self.take(input);
        }
    }

    fn take(&mut self, input: Input) {
        let now = clock::now_ms();
        match input {
            Input::Connected(number) if number == self.number => self.session.connected(now),
            Input::Frame(number, frame) if number == self.number => {
                self.shared.traffic.received(frame.len());
                self.session.frame(frame, now);
            }
            Input::Closed(number, error) if number == self.number => self.closed(error),
            // The last words of a connection that was given up already.
            Input::Connected(_) | Input::Frame(..) | Input::Closed(..) => {}
        }
    }

    fn closed(&mut self, error: Error) {
        // A connection that breaks is made again without a word to whoever waits. One that could
        // not be made, or that the session gave up, is told: waiting longer would not help.
        let broke = self.session.is_ready();
        self.hang_up();
        let mut state = self.shared.lock();
        if !broke {
            state.dial_failures += 1;
            state.dial_failure = Some(error.clone());
        }
        drop(state);
        self.shared.changed.notify_all();
        if !std::mem::replace(&mut self.told_offline, true) {
            let server = self.shared.server.clone();
            self.shared.events.push(Event::Offline { server, reason: error });
        }
    }

    fn handle(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Ready { .. } => {
                self.shared.lock().connected = true;
                self.told_offline = false;
                let server = self.shared.server.clone();
                self.shared.events.push(Event::Online { server });
            }
            ClientEvent::SiteOpened(opened) => self.opened(&opened),
            ClientEvent::CommitsArrived { name, commits, .. } => self.integrate(&name, commits),
            ClientEvent::CaughtUp { name, serial, .. } => self.caught_up(&name, serial),
            ClientEvent::Verdicts { name, batch, answer } => self.verdicts(&name, &batch, answer),
            ClientEvent::SiteError { name, error } => self.failed(&name, error),
            ClientEvent::Disconnect { error } => self.closed(error),
            ClientEvent::Refused { error } => {
                self.hang_up();
                self.shared.lock().refused = Some(error.clone());
                self.shared.changed.notify_all();
                let server = self.shared.server.clone();
                self.shared.events.push(Event::Refused { server, reason: error });
            }
        }
    }

    /// Works for a site without holding the lock; `None` when it was taken away.
    fn with_site<T>(&mut self, name: &str, work: impl FnOnce(&mut Self, &Site) -> T) -> Option<T> {
        let site = {
            let mut state = self.shared.lock();
            let site = state.sites.get(name)?.site.clone();
            state.busy = Some(name.to_owned());
            site
        };
        let outcome = work(self, &site);
        drop(site);
        self.shared.lock().busy = None;
        self.shared.changed.notify_all();
        Some(outcome)
    }

    fn entry(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.shared.lock().sites.get_mut(name) {
            change(entry);
        }
        self.shared.changed.notify_all();
    }

    fn opened(&mut self, opened: &OpenedSite) {
        let adopted = self.with_site(&opened.name, |worker, site| {
            let before = site.ids();
            let size = opened.head.page_size;
            // ORDER: adopting replays the timeline, which may need pages of the new base.
            site.set_remote(Some(Arc::new(NodeRemote::new(
                Arc::clone(&worker.http),
                opened.volume,
                size,
            ))));
            let ids = SiteIds { site: opened.site, volume: opened.volume, page_size: size };
            let adopted = site.adopt(ids, opened.head);
            if adopted.is_err() {
                let http = Arc::clone(&worker.http);
                let remote = NodeRemote::new(http, before.volume, before.page_size);
                site.set_remote(Some(Arc::new(remote)));
            }
            adopted.map(|_| site.base().0)
        });
        match adopted {
            Some(Ok(base)) => {
                self.entry(&opened.name, |entry| {
                    entry.base = base;
                    entry.dirty = true;
                });
                self.session.watch_from(&opened.name, base);
            }
            Some(Err(error)) => self.stuck(&opened.name, error),
            None => {}
        }
    }

    fn integrate(&mut self, name: &str, commits: Vec<Commit>) {
        let count = commits.len() as u64;
        let integrated = self.with_site(name, |_, site| site.integrate(commits));
        let outcome = match integrated {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => return self.stuck(name, error),
            None => return,
        };
        self.entry(name, |entry| {
            entry.base = outcome.base;
            entry.tally.integrated(count, &outcome);
        });
        let site = name.to_owned();
        for (seq, reason) in outcome.rejected {
            self.shared.events.push(Event::Rejected { site: site.clone(), seq, reason });
        }
        let (lsn, confirmed) = (outcome.base, outcome.confirmed.len() as u64);
        self.shared.events.push(Event::Changed { site, lsn, commits: count, confirmed });
    }

    fn caught_up(&mut self, name: &str, serial: u64) {
        let Some(progress) = self.progress.get_mut(name) else { return };
        let reached = progress.passed.iter().filter(|(session, _)| *session <= serial);
        let reached = reached.map(|(_, ours)| *ours).max();
        progress.passed.retain(|(session, _)| *session > serial);
        if let Some(reached) = reached {
            self.entry(name, |entry| entry.pull_done = entry.pull_done.max(reached));
        }
    }

    fn verdicts(&mut self, name: &str, batch: &PushBatch, answer: PushAnswer) {
        let Some(progress) = self.progress.get_mut(name) else { return };
        match answer {
            PushAnswer::Verdicts { first_seq, verdicts, lsn } => {
                let count = verdicts.len() as u64;
                let last = (first_seq + count).saturating_sub(1);
                progress.acknowledged = progress.acknowledged.max(last);
                progress.gap = None;
                self.entry(name, |entry| {
                    entry.tally.pushed += count;
                    entry.confirm_at = entry.confirm_at.max(lsn);
                    entry.dirty = true;
                });
            }
            PushAnswer::Gap { next } if progress.gap != Some(next) && next > 0 => {
                progress.gap = Some(next);
                progress.acknowledged = next - 1;
                self.entry(name, |entry| entry.dirty = true);
            }
            PushAnswer::Gap { next } => {
                let text = format!(
                    "the node lost mutations that it had acknowledged, perhaps because it was \
                     restored from an older copy seq=`{next}`"
                );
                self.failed(name, Error::corrupt(text));
            }
            PushAnswer::Fork { .. } => {
                tracing::warn!(
                    site = name,
                    timeline = %batch.timeline,
                    "timeline forked (was this device restored from a backup?), starting a new one"
                );
                (progress.acknowledged, progress.gap) = (0, None);
                let restarted = self.with_site(name, |_, site| site.restart_timeline());
                match restarted {
                    Some(Err(error)) => self.failed(name, error),
                    _ => self.entry(name, |entry| entry.dirty = true),
                }
            }
            PushAnswer::Malformed(reason) => {
                let text = format!("the node cannot read this device's mutations: {reason}");
                self.failed(name, Error::new(ErrorKind::Invalid, text));
            }
        }
    }

    /// The replica could not take what came. Later it may.
    fn stuck(&mut self, name: &str, error: Error) {
        let passing = matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Ambiguous | ErrorKind::Conflict
        );
        let pause = if passing { limits::REOPEN_SOON } else { limits::REOPEN_LATE };
        self.session.reopen_later(name, millis(pause));
        self.failed(name, error);
    }

    fn failed(&self, name: &str, error: Error) {
        tracing::debug!(site = name, %error, "site failed");
        self.entry(name, |entry| {
            entry.fail(error.clone());
            entry.dirty = true;
        });
        self.shared.events.push(Event::Failed { site: name.to_owned(), error });
    }

    /// Offers what the sites have to push.
    fn offer_all(&mut self) {
        let wishes: Vec<(String, u64)> = {
            let state = self.shared.lock();
            let wishing = state.sites.iter().filter(|(_, e)| e.may_push() && e.dirty);
            wishing.map(|(name, entry)| (name.clone(), entry.push_wanted)).collect()
        };
        for (name, wanted) in wishes {
            if !self.session.can_offer(&name) {
                continue;
            }
            // Whatever is committed from here on makes it dirty again.
            self.entry(&name, |entry| entry.dirty = false);
            match self.offer(&name) {
                Ok(true) => {}
                Ok(false) => {
                    self.entry(&name, |entry| entry.push_done = entry.push_done.max(wanted));
                }
                Err(error) => self.failed(&name, error),
            }
        }
    }

    /// Whether there was anything to offer.
    fn offer(&mut self, name: &str) -> Result<bool> {
        let after = self.progress.get(name).map_or(0, |progress| progress.acknowledged);
        let max = self.session.push_bytes_max();
        let batch = self.with_site(name, |_, site| site.outbox(after, max));
        let Some(batch) = batch.transpose()?.flatten() else { return Ok(false) };
        let mutation = |record: MutationRecord| PushMutation {
            seq: record.seq,
            base: record.base,
            time_ms: record.time_ms,
            bytes: record.bytes,
        };
        let batch = PushBatch {
            timeline: batch.timeline,
            first_seq: batch.first_seq,
            prev_hash: batch.prev_hash,
            mutations: batch.mutations.into_iter().map(mutation).collect(),
        };
        self.session.offer(name, batch)?;
        Ok(true)
    }

    fn send_all(&mut self) {
        let Some(socket) = &self.socket else { return };
        let trips = self.session.round_trips();
        (self.trips..trips).for_each(|_| self.shared.traffic.trip());
        self.trips = trips;
        while let Some(frame) = self.stalled.take().or_else(|| self.session.poll_frame()) {
            let len = frame.len();
            match socket.try_send(frame) {
                Ok(()) => self.shared.traffic.sent(len),
                // The socket wakes this thread when it has sent one.
                Err(TrySendError::Full(frame)) => {
                    self.stalled = Some(frame);
                    return;
                }
                // Its last word is on its way.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

impl Entry {
    fn fail(&mut self, error: Error) {
        // Whoever waits is told; what is wished online stays wished.
        self.failures += 1;
        self.failure = Some(error);
    }
}
