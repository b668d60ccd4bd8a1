//! The node's end of one connection, as a state machine.
//!
//! Invariant: nothing but `Hello` is answered before the role has called
//! [`ServerSession::accept`]; a volume is only named to the role after a successful `Open` on this
//! connection; every request is answered once or ends with the connection. Decides no rights and
//! touches no site: the role does, request by request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use sheaf_volume::teeth::{Tooth, bites};
use sheaf_volume::{
    Changes, Commit, DeviceId, Error, ErrorKind, Lsn, RemoteHead, Result, TimelineId, VolumeId,
};

use crate::{
    limits,
    message::{self, Body},
    pull,
    queue::FrameQueue,
    wire::{self, CreateIds, OpenedSite, PushAnswer, PushBatch},
};

/// What a device wants of the node.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerRequest {
    /// Check the token; answer with [`ServerSession::accept`] or [`ServerSession::refuse`].
    Authenticate {
        /// Who it says it is.
        device: DeviceId,
        /// Its token, empty for none.
        token: String,
        /// Program and version, for logs.
        agent: String,
    },
    /// Find or create a site; answer with [`ServerSession::opened`].
    Open {
        /// Names the request in the answer.
        request: u64,
        /// The site's name.
        name: String,
        /// Ids to create it under; `None`: do not create.
        create: Option<CreateIds>,
    },
    /// Call [`ServerSession::changed`] for every commit after `after`, those there now included.
    Watch {
        /// The volume.
        volume: VolumeId,
        /// The newest position the device has.
        after: Lsn,
    },
    /// Stop that.
    Unwatch {
        /// The volume.
        volume: VolumeId,
    },
    /// Give commits; answer with [`ServerSession::commits`], or with [`ServerSession::changes`]
    /// to one who takes them.
    Pull {
        /// Names the request in the answer.
        request: u64,
        /// What is asked for.
        pull: pull::Request,
    },
    /// Replay mutations; answer with [`ServerSession::verdicts`].
    Push {
        /// Names the request in the answer.
        request: u64,
        /// The volume.
        volume: VolumeId,
        /// The mutations.
        batch: PushBatch,
    },
}

/// State machine of the node's end.
#[derive(Debug)]
pub struct ServerSession {
    node: DeviceId,
    phase: Phase,
    last_heard: u64,
    requests: VecDeque<ServerRequest>,
    outstanding: BTreeSet<u64>,
    open: BTreeMap<VolumeId, Option<Announced>>,
    out: FrameQueue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet.
    Silent,
    /// `Hello` is with the role.
    Greeted {
        protocol: u32,
    },
    Ready,
    /// The last frames are on their way out, nothing is read any more.
    Closing,
}

/// What a watching device has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announced {
    lsn: Lsn,
    /// The device takes commit deltas.
    deltas: bool,
    /// A newer position that waits until the transport has caught up.
    later: Option<(Lsn, u64)>,
}

impl ServerSession {
    /// The end of a connection that has just been opened.
    #[must_use]
    pub fn new(node: DeviceId, now_ms: u64) -> Self {
        Self {
            node,
            phase: Phase::Silent,
            last_heard: now_ms,
            requests: VecDeque::new(),
            outstanding: BTreeSet::new(),
            open: BTreeMap::new(),
            out: FrameQueue::default(),
        }
    }

    /// Takes a frame. What is wrong with it is told to the device; nothing is returned.
    pub fn frame(&mut self, frame: Bytes, now_ms: u64) {
        self.last_heard = now_ms;
        if self.phase == Phase::Closing {
            return;
        }
        if let Err(error) = wire::decode(frame).and_then(|body| self.take(body)) {
            self.close(&error);
        }
    }

    /// Whether the role should read the next frame: false while requests or frames pile up here.
    #[must_use]
    pub fn wants_frame(&self) -> bool {
        self.phase != Phase::Closing
            && !matches!(self.phase, Phase::Greeted { .. })
            && self.requests.is_empty()
            && self.outstanding.len() < limits::REQUESTS_MAX
            && !self.out.is_crowded()
    }

    /// The next thing the device wants, in the order it asked.
    pub fn poll_request(&mut self) -> Option<ServerRequest> {
        self.requests.pop_front()
    }

    /// The next frame for the transport.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        if self.out.is_empty() {
            self.announce_later();
        }
        self.out.pop()
    }

    /// Whether the transport is to be closed as soon as [`Self::poll_frame`] has nothing more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Ends the connection when the device has been silent for too long.
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms >= self.next_deadline() && self.phase != Phase::Closing {
            self.close(&Error::new(ErrorKind::Unavailable, "connection was silent for too long"));
        }
    }

    /// When [`Self::tick`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        let patience = match self.phase {
            Phase::Silent | Phase::Greeted { .. } => limits::HELLO_TIMEOUT_MS,
            Phase::Ready | Phase::Closing => limits::IDLE_TIMEOUT_MS,
        };
        self.last_heard.saturating_add(patience)
    }

    /// The token is good; `device` is the id the node knows this device by.
    pub fn accept(&mut self, device: DeviceId) {
        let Phase::Greeted { protocol } = self.phase else {
            return;
        };
        self.phase = Phase::Ready;
        self.send(Body::Welcome(message::Welcome {
            protocol,
            node: wire::id_bytes(self.node.as_bytes()),
            device_confirmed: wire::id_bytes(device.as_bytes()),
            limits: Some(our_limits()),
        }));
    }

    /// The token is not good.
    pub fn refuse(&mut self, error: &Error) {
        self.close(error);
    }

    /// Answers `Open`.
    pub fn opened(&mut self, request: u64, site: &OpenedSite) {
        if !self.answers(request) {
            return;
        }
        if !self.open.contains_key(&site.volume) && self.open.len() >= limits::OPEN_SITES_MAX {
            let text = format!("{} sites open on one connection", limits::OPEN_SITES_MAX);
            self.send_error(request, &Error::new(ErrorKind::Limit, text), false);
            return;
        }
        self.open.entry(site.volume).or_default();
        self.send(Body::Opened(wire::opened_to_wire(request, site)));
    }

    /// Tells a watching device that the log is longer. `commits` are the newest log objects, the
    /// last at `lsn`; they are left out when the device has some of them not coming without a gap
    /// or they are too large to send unasked. `deltas` are the same commits as deltas, or nothing.
    pub fn changed(
        &mut self,
        volume: VolumeId,
        (lsn, time_ms): (Lsn, u64),
        commits: &[Bytes],
        deltas: &[Bytes],
    ) {
        let crowded = self.out.is_crowded();
        let Some(Some(announced)) = self.open.get_mut(&volume) else {
            return;
        };
        if lsn <= announced.lsn || bites(Tooth::ForgetNews) {
            return;
        }
        if crowded {
            announced.later = Some((lsn, time_ms));
            return;
        }
        *announced = Announced { lsn, later: None, ..*announced };
        let deltas = if announced.deltas { small(deltas) } else { &[] };
        let commits = if deltas.is_empty() { small(commits) } else { &[] };
        self.send(Body::Changed(message::Changed {
            volume: wire::id_bytes(volume.as_bytes()),
            lsn: lsn.0,
            time_ms,
            commits: commits.to_vec(),
            deltas: deltas.to_vec(),
        }));
    }

    /// Answers `Pull` with as many of the log objects as fit one frame.
    pub fn commits(
        &mut self,
        request: u64,
        volume: VolumeId,
        objects: &[Bytes],
        head: &RemoteHead,
        more: bool,
    ) {
        if !self.answers(request) {
            return;
        }
        match commits_message(request, volume, objects, head, more) {
            Ok(answer) => self.send(Body::Commits(answer)),
            Err(error) => self.send_error(request, &error, false),
        }
    }

    /// Answers `Pull` of one who takes it with what all the commits changed.
    pub fn changes(&mut self, request: u64, changes: &Changes) {
        if !self.answers(request) {
            return;
        }
        match changes_message(request, changes) {
            Ok(answer) => self.send(Body::Commits(answer)),
            Err(error) => self.send_error(request, &error, false),
        }
    }

    /// Answers `Push`.
    pub fn verdicts(
        &mut self,
        request: u64,
        volume: VolumeId,
        timeline: TimelineId,
        answer: &PushAnswer,
    ) {
        if self.answers(request) {
            self.send(Body::Verdicts(wire::answer_to_wire(request, volume, timeline, answer)));
        }
    }

    /// Answers a request with an error.
    pub fn error(&mut self, request: u64, error: &Error) {
        if self.answers(request) {
            self.send_error(request, error, false);
        }
    }

    /// Ends the connection and says why.
    pub fn close(&mut self, error: &Error) {
        if self.phase != Phase::Closing {
            self.send_error(0, error, true);
            self.phase = Phase::Closing;
            self.requests.clear();
            self.outstanding.clear();
        }
    }

    fn take(&mut self, body: Body) -> Result<()> {
        if let Body::Hello(hello) = body {
            return self.hello(hello);
        }
        if self.phase != Phase::Ready {
            return Err(Error::invalid("the first message is Hello, then wait for Welcome"));
        }
        match body {
            Body::Open(open) => self.request(open.request, |request| {
                wire::check_name(&open.name)?;
                let create = open.create.as_ref().map(wire::create_from_wire).transpose()?;
                Ok((None, ServerRequest::Open { request, name: open.name, create }))
            }),
            Body::Watch(watch) => self.watch(&watch),
            Body::Unwatch(unwatch) => self.unwatch(&unwatch),
            Body::Pull(pull) => self.request(pull.request, |request| {
                let pull = wire::pull_from_wire(&pull)?;
                Ok((Some(pull.volume), ServerRequest::Pull { request, pull }))
            }),
            Body::Push(push) => self.request(push.request, |request| {
                let (volume, batch) = wire::push_from_wire(push)?;
                Ok((Some(volume), ServerRequest::Push { request, volume, batch }))
            }),
            Body::Ping(ping) => {
                self.send(Body::Pong(ping));
                Ok(())
            }
            Body::Pong(_) => Ok(()),
            Body::Error(error) => Err(wire::error_from_wire(&error)),
            _ => Err(Error::invalid("this message is sent by a node only")),
        }
    }

    fn watch(&mut self, watch: &message::Watch) -> Result<()> {
        let volume = wire::volume_from_wire(&watch.volume)?;
        let after = Lsn(watch.after_lsn);
        let announced = self.open.get_mut(&volume).ok_or_else(unopened)?;
        *announced = Some(Announced { lsn: after, deltas: watch.deltas, later: None });
        self.requests.push_back(ServerRequest::Watch { volume, after });
        Ok(())
    }

    fn unwatch(&mut self, unwatch: &message::Unwatch) -> Result<()> {
        let volume = wire::volume_from_wire(&unwatch.volume)?;
        if self.open.remove(&volume).is_some() {
            self.requests.push_back(ServerRequest::Unwatch { volume });
        }
        Ok(())
    }

    fn hello(&mut self, hello: message::Hello) -> Result<()> {
        if self.phase != Phase::Silent {
            return Err(Error::invalid("a second Hello on one connection"));
        }
        let protocol = hello.protocol_max.min(message::PROTOCOL_MAX);
        if protocol < hello.protocol_min.max(message::PROTOCOL_MIN) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "no common protocol: the device speaks {} to {}, this node {} to {}",
                    hello.protocol_min,
                    hello.protocol_max,
                    message::PROTOCOL_MIN,
                    message::PROTOCOL_MAX
                ),
            ));
        }
        if hello.token.len() > limits::TOKEN_BYTES_MAX
            || hello.agent.len() > limits::AGENT_BYTES_MAX
        {
            return Err(Error::invalid("token or agent in Hello is too long"));
        }
        let device = wire::device_from_wire(&hello.device)?;
        self.phase = Phase::Greeted { protocol };
        let (token, agent) = (hello.token, hello.agent);
        self.requests.push_back(ServerRequest::Authenticate { device, token, agent });
        Ok(())
    }

    /// Admits one request. What is wrong with it alone is answered and does not end the others.
    fn request(
        &mut self,
        request: u64,
        read: impl FnOnce(u64) -> Result<(Option<VolumeId>, ServerRequest)>,
    ) -> Result<()> {
        if request == 0 || self.outstanding.contains(&request) {
            return Err(Error::invalid("a request needs a number of its own, not zero"));
        }
        if self.outstanding.len() >= limits::REQUESTS_MAX {
            let text = format!("{} requests at once on one connection", limits::REQUESTS_MAX);
            self.send_error(request, &Error::new(ErrorKind::Limit, text), false);
            return Ok(());
        }
        match read(request) {
            Ok((Some(volume), _)) if !self.open.contains_key(&volume) => {
                self.send_error(request, &unopened(), false);
            }
            Ok((_, wanted)) => {
                self.outstanding.insert(request);
                self.requests.push_back(wanted);
            }
            Err(error) => self.send_error(request, &error, false),
        }
        Ok(())
    }

    fn answers(&mut self, request: u64) -> bool {
        self.outstanding.remove(&request)
    }

    fn announce_later(&mut self) {
        let late: Vec<_> = self
            .open
            .iter()
            .filter_map(|(volume, announced)| Some((*volume, (*announced)?.later?)))
            .collect();
        for (volume, (lsn, time_ms)) in late {
            self.changed(volume, (lsn, time_ms), &[], &[]);
        }
    }

    fn send_error(&mut self, request: u64, error: &Error, fatal: bool) {
        self.send(Body::Error(wire::error_to_wire(request, error, fatal)));
    }

    fn send(&mut self, body: Body) {
        if self.phase != Phase::Closing && !self.out.push(wire::encode(body)) {
            // The device does not read. Nothing that we could say would reach it.
            self.out.clear();
            self.phase = Phase::Closing;
        }
    }
}

/// The answer to a pull, over either transport: a prefix of `objects` that fits one frame.
///
/// # Errors
/// `Limit` when already the first commit does not fit.
pub fn commits_message(
    request: u64,
    volume: VolumeId,
    objects: &[Bytes],
    head: &RemoteHead,
    more: bool,
) -> Result<message::Commits> {
    // Field tags, ids and the head take far less than this.
    const ENVELOPE: usize = 1024;
    let mut bytes = 0;
    let fits = objects.iter().take(limits::COMMITS_MAX).take_while(|object| {
        bytes += object.len();
        bytes <= limits::COMMITS_BYTES_MAX || bytes == object.len()
    });
    let commits: Vec<Bytes> = fits.cloned().collect();
    if commits.first().is_some_and(|first| first.len() + ENVELOPE > limits::FRAME_BYTES_MAX) {
        let text = "a commit of this site is too large for one message: exchange with its bucket";
        return Err(Error::new(ErrorKind::Limit, text));
    }
    Ok(message::Commits {
        request,
        volume: wire::id_bytes(volume.as_bytes()),
        more: more || commits.len() < objects.len(),
        commits,
        head: Some(wire::head_to_wire(head)),
        changes: None,
    })
}

/// The answer with merged changes, over either transport: the newest of their commits that fit.
///
/// # Errors
/// `Limit` when the page set alone does not fit one frame.
pub fn changes_message(request: u64, changes: &Changes) -> Result<message::Commits> {
    let pages: Bytes = changes.pages.to_bytes().into();
    if pages.len() > limits::COMMITS_BYTES_MAX {
        let text = "what changed is too much for one message: exchange with the site's bucket";
        return Err(Error::new(ErrorKind::Limit, text));
    }
    let mut bytes = 0;
    let newest = changes.told.iter().rev().map(Commit::encode).take(limits::COMMITS_MAX);
    let fits = newest.take_while(|object| {
        bytes += object.len();
        bytes <= limits::COMMITS_BYTES_MAX
    });
    let mut commits: Vec<Bytes> = fits.collect();
    commits.reverse();
    Ok(message::Commits {
        request,
        volume: wire::id_bytes(changes.volume.as_bytes()),
        commits,
        head: Some(wire::head_to_wire(&changes.head)),
        more: false,
        changes: Some(message::Changes {
            after_lsn: changes.after.0,
            parent: changes.parent.map(|hash| Bytes::copy_from_slice(&hash.0)).unwrap_or_default(),
            floor: changes.floor.0,
            pages,
        }),
    })
}

/// These, unless they are too much to send unasked.
fn small(commits: &[Bytes]) -> &[Bytes] {
    let bytes: usize = commits.iter().map(Bytes::len).sum();
    let fits = bytes <= limits::CHANGED_BYTES_MAX && commits.len() <= limits::COMMITS_MAX;
    if fits { commits } else { &[] }
}

fn unopened() -> Error {
    Error::invalid("this volume is not open on this connection: send Open first")
}

fn our_limits() -> message::Limits {
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    message::Limits {
        frame_bytes_max: limits::FRAME_BYTES_MAX as u64,
        push_bytes_max: limits::PUSH_BYTES_MAX as u64,
        push_mutations_max: small(limits::PUSH_MUTATIONS_MAX),
        open_sites_max: small(limits::OPEN_SITES_MAX),
        idle_ms_max: u32::try_from(limits::IDLE_TIMEOUT_MS).unwrap_or(u32::MAX),
    }
}
