//! The device's end of the connection, as a state machine for several sites.
//!
//! Invariant: commits reach the role in log order without gaps from the position it named, or many
//! of them as one set of changes, for a role that takes that; at most one push per site is under way, and it is sent again, byte for byte, until the node has given
//! its verdicts; nothing but `Hello` is sent before `Welcome`. Opens no socket and reads no clock:
//! the role dials when [`ClientSession::poll_connect`] says so, moves frames and calls
//! [`ClientSession::tick`] at [`ClientSession::next_deadline`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sheaf_volume::{
    Changes, CommitNews, DeviceId, Error, ErrorKind, Lsn, RemoteHead, Result, TimelineId, VolumeId,
};

use crate::{
    limits,
    message::{self, Body},
    pull,
    queue::FrameQueue,
    wire::{self, CreateIds, OpenedSite, PushAnswer, PushBatch},
};
use site::{PushState, SiteState, Stage};

mod receive;
mod site;

/// Who a device says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// Its token, empty for none.
    pub token: String,
    /// Program and version, for the node's logs.
    pub agent: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and stays out of logs.
        write!(f, "Identity({}, {})", self.device, self.agent)
    }
}

/// What a session tells its role.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// The node has welcomed this device.
    Ready {
        /// The node.
        node: DeviceId,
    },
    /// A site is open on this connection. Adopt it, then call [`ClientSession::watch_from`];
    /// nothing of this site moves before that. Comes again after every reconnection.
    SiteOpened(OpenedSite),
    /// The next commits, in order, without gaps. May be sent again after `watch_from`.
    CommitsArrived {
        /// The site.
        name: String,
        /// Its volume.
        volume: VolumeId,
        /// Never empty.
        commits: Vec<CommitNews>,
        /// The newest position known.
        head: Lsn,
    },
    /// What all the commits up to a newer position changed, in place of them: only for a site for
    /// which [`ClientSession::take_merged`] was called. Follows on what came before.
    ChangesArrived {
        /// The site.
        name: String,
        /// What changed.
        changes: Box<Changes>,
    },
    /// Everything up to `head`, as of a moment after [`ClientSession::refresh`] gave this serial,
    /// has arrived.
    CaughtUp {
        /// The site.
        name: String,
        /// What `refresh` returned, or a later one.
        serial: u64,
        /// The newest position.
        head: Lsn,
    },
    /// What became of the push under way; the next one may be offered.
    Verdicts {
        /// The site.
        name: String,
        /// The batch it is about.
        batch: PushBatch,
        /// The answer.
        answer: PushAnswer,
    },
    /// Something about one site failed. It is tried again later if that can help.
    SiteError {
        /// The site.
        name: String,
        /// Why.
        error: Error,
    },
    /// Close the transport, then call [`ClientSession::closed`].
    Disconnect {
        /// Why.
        error: Error,
    },
    /// The node will not have this device: close the transport and do not dial again until
    /// [`ClientSession::retry`].
    Refused {
        /// Why.
        error: Error,
    },
}

/// State machine of the device's end.
#[derive(Debug)]
pub struct ClientSession {
    identity: Identity,
    phase: Phase,
    now: u64,
    /// Failed attempts since the last `Welcome`.
    attempts: u32,
    /// When the node last said `Welcome`.
    welcomed: u64,
    /// Connections in a row that the node itself has ended soon after that.
    turned_away: u32,
    /// Whether it has ended this one so.
    is_turned_away: bool,
    last_heard: u64,
    ping_sent: Option<u64>,
    hellos: u64,
    next_request: u64,
    requests: BTreeMap<u64, Request>,
    sites: BTreeMap<String, SiteState>,
    push_bytes_max: usize,
    push_mutations_max: usize,
    out: FrameQueue,
    events: VecDeque<ClientEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Dial at this time.
    Waiting { until: u64 },
    /// The role dials.
    Dialing,
    /// `Hello` is sent.
    Greeting { deadline: u64 },
    /// Welcome.
    Ready,
    /// The role has been told to close the transport.
    Closing,
    /// The node does not want us; only a new wish of the user changes that.
    Refused,
}

#[derive(Clone, Debug)]
struct Request {
    site: String,
    kind: RequestKind,
    deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    Open,
    Pull,
    Push,
}

impl ClientSession {
    /// A session that wants to connect at once.
    #[must_use]
    pub fn new(identity: Identity, now_ms: u64) -> Self {
        Self {
            identity,
            phase: Phase::Waiting { until: now_ms },
            now: now_ms,
            attempts: 0,
            welcomed: now_ms,
            turned_away: 0,
            is_turned_away: false,
            last_heard: now_ms,
            ping_sent: None,
            hellos: 0,
            next_request: 1,
            requests: BTreeMap::new(),
            sites: BTreeMap::new(),
            push_bytes_max: limits::PUSH_BYTES_MAX,
            push_mutations_max: limits::PUSH_MUTATIONS_MAX,
            out: FrameQueue::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether the role should dial now; true once per attempt.
    pub fn poll_connect(&mut self, now_ms: u64) -> bool {
        self.now = now_ms;
        let due = matches!(self.phase, Phase::Waiting { until } if now_ms >= until);
        if due {
            self.phase = Phase::Dialing;
        }
        due
    }

    /// The transport is open.
    pub fn connected(&mut self, now_ms: u64) {
        self.now = now_ms;
        self.last_heard = now_ms;
        self.ping_sent = None;
        self.phase = Phase::Greeting { deadline: now_ms.saturating_add(limits::HELLO_TIMEOUT_MS) };
        self.out.clear();
        self.hellos += 1;
        self.send(Body::Hello(message::Hello {
            protocol_min: message::PROTOCOL_MIN,
            protocol_max: message::PROTOCOL_MAX,
            agent: self.identity.agent.clone(),
            device: wire::id_bytes(self.identity.device.as_bytes()),
            token: self.identity.token.clone(),
        }));
    }

    /// The transport is closed, or dialing failed. `random` spreads the devices of a node that
    /// comes back.
    pub fn closed(&mut self, now_ms: u64, random: u64) {
        self.now = now_ms;
        self.out.clear();
        self.requests.clear();
        self.sites.values_mut().for_each(SiteState::disconnect);
        let is_turned_away = std::mem::take(&mut self.is_turned_away);
        self.turned_away = if is_turned_away { self.turned_away.saturating_add(1) } else { 0 };
        if self.phase != Phase::Refused {
            let delay = backoff_ms(self.attempts.max(self.turned_away), random);
            self.attempts = self.attempts.saturating_add(1);
            self.phase = Phase::Waiting { until: now_ms.saturating_add(delay) };
        }
    }

    /// Forgets back-off and refusal: the user wants a connection now.
    pub fn retry(&mut self, now_ms: u64) {
        self.now = now_ms;
        if matches!(self.phase, Phase::Waiting { .. } | Phase::Refused) {
            self.attempts = 0;
            self.turned_away = 0;
            self.phase = Phase::Waiting { until: now_ms };
        }
    }

    /// Takes a frame from the node.
    pub fn frame(&mut self, frame: Bytes, now_ms: u64) {
        self.now = now_ms;
        self.last_heard = now_ms;
        self.ping_sent = None;
        if !matches!(self.phase, Phase::Greeting { .. } | Phase::Ready) {
            return;
        }
        if let Err(error) = wire::decode(frame).and_then(|body| self.take(body)) {
            self.fail(error);
        }
    }

    /// Passes the time: timeouts, pings, repeated attempts.
    pub fn tick(&mut self, now_ms: u64) {
        self.now = now_ms;
        let overdue = match self.phase {
            Phase::Greeting { deadline } => now_ms >= deadline,
            Phase::Ready => self.requests.values().any(|request| now_ms >= request.deadline),
            _ => return,
        };
        let unanswered =
            self.ping_sent.is_some_and(|at| now_ms >= at.saturating_add(limits::PONG_TIMEOUT_MS));
        if overdue || unanswered {
            self.fail(Error::new(ErrorKind::Unavailable, "the node does not answer"));
        } else if self.phase == Phase::Ready
            && self.ping_sent.is_none()
            && now_ms >= self.last_heard.saturating_add(limits::PING_AFTER_MS)
        {
            self.ping_sent = Some(now_ms);
            self.send(Body::Ping(message::Ping { nonce: now_ms }));
        }
    }

    /// When [`Self::tick`] (or [`Self::poll_connect`]) is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Greeting { deadline } => Some(deadline),
            Phase::Ready => {
                let ping = match self.ping_sent {
                    Some(at) => at.saturating_add(limits::PONG_TIMEOUT_MS),
                    None => self.last_heard.saturating_add(limits::PING_AFTER_MS),
                };
                let requests = self.requests.values().map(|request| request.deadline).min();
                let now = self.now;
                let holds = self.sites.values().map(|site| site.hold_until).filter(|at| *at > now);
                [Some(ping), requests, holds.min()].into_iter().flatten().min()
            }
            Phase::Dialing | Phase::Closing | Phase::Refused => None,
        }
    }

    /// Whether the node has welcomed this device and the connection stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// How many messages that wait for an answer were sent so far, `Hello` included.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.hellos + self.next_request - 1
    }

    /// The next frame for the transport.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        self.pump();
        self.out.pop()
    }

    /// The next event for the role.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Wishes a site open, now and after every reconnection. `create` are the ids to create it
    /// under if the node does not know the name.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be, `Limit` for one site too many.
    pub fn open_site(&mut self, name: &str, create: Option<CreateIds>) -> Result<()> {
        wire::check_name(name)?;
        if let Some(site) = self.sites.get_mut(name) {
            site.create = create;
            if site.stage == Stage::Failed || site.missing {
                site.stage = Stage::Closed;
                site.missing = false;
                site.hold_until = 0;
            }
            return Ok(());
        }
        if self.sites.len() >= limits::OPEN_SITES_MAX {
            let text = format!("{} sites open on one connection", limits::OPEN_SITES_MAX);
            return Err(Error::new(ErrorKind::Limit, text));
        }
        self.sites.insert(name.to_owned(), SiteState::new(create));
        Ok(())
    }

    /// Forgets a site and whatever was under way for it.
    pub fn close_site(&mut self, name: &str) {
        let Some(site) = self.sites.remove(name) else {
            return;
        };
        self.requests.retain(|_, request| request.site != name);
        if let (Phase::Ready, Some(volume)) = (self.phase, site.volume) {
            let volume = wire::id_bytes(volume.as_bytes());
            self.send(Body::Unwatch(message::Unwatch { volume }));
        }
    }

    /// The replica of this site equals the log at `base`: send what comes after it. Called after
    /// every `SiteOpened`, and when commits could not be integrated.
    pub fn watch_from(&mut self, name: &str, base: Lsn) {
        let Some(site) = self.sites.get_mut(name) else {
            return;
        };
        let Some(volume) = site.volume else { return };
        site.delivered = base;
        if site.stage != Stage::Opened {
            return;
        }
        site.stage = Stage::Watching;
        // What the log had when the site was opened is pulled; only what is newer is announced.
        let after_lsn = site.known.max(base).0;
        if site.known <= base {
            let serial = site.fresh_serial;
            site.refresh_done = serial;
            if serial > 0 {
                let (name, head) = (name.to_owned(), site.known);
                self.events.push_back(ClientEvent::CaughtUp { name, serial, head });
            }
        }
        self.send(Body::Watch(message::Watch {
            volume: wire::id_bytes(volume.as_bytes()),
            after_lsn,
            deltas: true,
        }));
    }

    /// From now on the node may answer with merged changes when this site is far behind, together
    /// with the commits that tell of this timeline. To be called again when it is another one.
    pub fn take_merged(&mut self, name: &str, timeline: TimelineId) {
        if let Some(site) = self.sites.get_mut(name) {
            site.timeline = Some(timeline);
        }
    }

    /// The role could not adopt the site or integrate its commits: open it again after `pause_ms`
    /// and start from wherever the replica is then.
    pub fn reopen_later(&mut self, name: &str, pause_ms: u64) {
        let Some(site) = self.sites.get_mut(name) else {
            return;
        };
        self.requests.retain(|_, request| request.site != name);
        site.disconnect();
        site.hold_until = self.now.saturating_add(pause_ms);
    }

    /// Asks for everything up to the log's head as it will be; [`ClientEvent::CaughtUp`] with
    /// this serial (or a later one) says when it is there. `None` for a site that is not open.
    pub fn refresh(&mut self, name: &str) -> Option<u64> {
        let site = self.sites.get_mut(name)?;
        site.refresh_wanted += 1;
        Some(site.refresh_wanted)
    }

    /// Whether a push may be offered now.
    #[must_use]
    pub fn can_offer(&self, name: &str) -> bool {
        let ready = self.phase == Phase::Ready;
        let now = self.now;
        let free = |site: &SiteState| {
            site.stage == Stage::Watching && site.push.is_none() && site.hold_until <= now
        };
        ready && self.sites.get(name).is_some_and(free)
    }

    /// How many bytes of mutations the node takes in one push.
    #[must_use]
    pub fn push_bytes_max(&self) -> usize {
        self.push_bytes_max
    }

    /// Gives the session a batch to push; it is kept until the node's verdicts are here.
    ///
    /// # Errors
    /// `Busy` while another batch is under way, `Limit` or `Invalid` when it cannot be sent.
    pub fn offer(&mut self, name: &str, mut batch: PushBatch) -> Result<()> {
        batch.mutations.truncate(self.push_mutations_max);
        wire::check_push(&batch)?;
        if batch.mutations.iter().map(|m| m.bytes.len()).sum::<usize>() > self.push_bytes_max {
            return Err(Error::new(ErrorKind::Limit, "push is larger than this node takes"));
        }
        let site = self.sites.get_mut(name).ok_or_else(|| Error::invalid("site is not open"))?;
        if site.push.is_some() {
            return Err(Error::new(ErrorKind::Busy, "a push is under way"));
        }
        site.push = Some(PushState { batch, sent: false });
        Ok(())
    }

    /// Whether commits of this site are left with the node while the push under way is: a role
    /// that has much more to push takes them all at once when it is done.
    pub fn hold_commits(&mut self, name: &str, hold: bool) {
        if let Some(site) = self.sites.get_mut(name) {
            site.hold_commits = hold;
        }
    }

    /// Sends what the sites want, as far as their stage allows.
    fn pump(&mut self) {
        // Asking for more while the role has not taken what came would only pile it up here.
        if self.phase != Phase::Ready || self.out.is_crowded() || !self.events.is_empty() {
            return;
        }
        let names: Vec<String> = self.sites.keys().cloned().collect();
        for name in names {
            self.pump_site(&name);
        }
    }

    fn pump_site(&mut self, name: &str) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(name) else {
            return;
        };
        if site.hold_until > now {
            return;
        }
        let mut wanted = Vec::new();
        let mut admit = |kind| {
            let request = self.next_request;
            self.next_request += 1;
            let patience = match kind {
                RequestKind::Push => limits::PUSH_TIMEOUT_MS,
                RequestKind::Open | RequestKind::Pull => limits::REQUEST_TIMEOUT_MS,
            };
            let deadline = now.saturating_add(patience);
            self.requests.insert(request, Request { site: name.to_owned(), kind, deadline });
            request
        };
        if site.stage == Stage::Closed {
            site.stage = Stage::Opening;
            site.missing = false;
            site.fresh_serial = site.refresh_wanted;
            let create = site.create.as_ref().map(wire::create_to_wire);
            let request = admit(RequestKind::Open);
            wanted.push(Body::Open(message::Open { request, name: name.to_owned(), create }));
        }
        if let (Stage::Watching, Some(volume)) = (site.stage, site.volume) {
            if let Some(push) = site.push.as_mut().filter(|push| !push.sent) {
                push.sent = true;
                let request = admit(RequestKind::Push);
                wanted.push(Body::Push(wire::push_to_wire(request, volume, &push.batch)));
            }
            if !site.pulling && site.wants_pull() {
                site.pulling = true;
                site.refresh_sent = site.refresh_sent.max(site.refresh_wanted);
                let (after, merge_for) = (site.delivered, site.timeline);
                let pull = pull::Request { volume, after, head_only: false, merge_for };
                wanted.push(Body::Pull(wire::pull_to_wire(admit(RequestKind::Pull), &pull)));
            }
        }
        wanted.into_iter().for_each(|body| self.send(body));
    }

    fn send(&mut self, body: Body) {
        if !self.out.push(wire::encode(body)) {
            self.fail(Error::new(ErrorKind::Limit, "the connection does not take frames"));
        }
    }

    /// Ends this connection; a later one may do better.
    fn fail(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Closing | Phase::Refused) {
            self.phase = Phase::Closing;
            self.out.clear();
            self.events.push_back(ClientEvent::Disconnect { error });
        }
    }
}

/// Doubles from [`limits::BACKOFF_MIN_MS`] to [`limits::BACKOFF_MAX_MS`], then takes a random
/// point of the upper half, so that devices which were cut off together do not return together.
fn backoff_ms(attempts: u32, random: u64) -> u64 {
    let full =
        limits::BACKOFF_MIN_MS.saturating_mul(1 << attempts.min(16)).min(limits::BACKOFF_MAX_MS);
    full / 2 + random % (full / 2 + 1)
}

/// The first of `commits` that the role does not have.
fn first_new(commits: &[CommitNews], delivered: Lsn) -> usize {
    commits.partition_point(|commit| commit.lsn() <= delivered)
}

/// The head a commit list ends at, or the one known before.
fn newest(head: &RemoteHead, known: Lsn) -> Lsn {
    head.lsn.max(known)
}
