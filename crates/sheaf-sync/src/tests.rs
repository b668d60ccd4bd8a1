//! A client and a server session back to back, over a wire that can be cut and a clock that moves
//! only when told. The node behind the server session is a list of commits.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use sheaf_volume::{
    Commit, CommitDelta, CommitHash, CommitNews, DeviceId, Error, ErrorKind, FrameRef, Lsn,
    PageCount, PageIdx, PageSet, PageSize, RemoteHead, SiteId, TimelineId, Verdict, VolumeId,
};

use crate::{
    ClientEvent, ClientSession, Identity, ServerRequest, ServerSession, commits_message, limits,
    message::{self, Body, Envelope},
    wire::{self, CreateIds, OpStands, OpenedSite, PushAnswer, PushBatch, PushMutation},
};

mod answers;
mod faults;
mod flow;

const NODE: DeviceId = DeviceId::from_bytes([9; 16]);
const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);
const VOLUME: VolumeId = VolumeId::from_bytes([2; 16]);
const TIMELINE: TimelineId = TimelineId::from_bytes([3; 16]);
const SITE: SiteId = SiteId::from_bytes([4; 16]);
const TOKEN: &str = "secret";

fn create_ids() -> CreateIds {
    CreateIds { site: SITE, volume: VOLUME, page_size: PageSize::DEFAULT }
}

/// A commit that carries about `len` bytes inline.
fn commit(lsn: u64, parent: CommitHash, len: u32) -> Commit {
    const FRAME: u32 = 4_000;
    let pages = len.div_ceil(FRAME);
    let byte = u8::try_from(lsn % 251).unwrap();
    Commit {
        volume: VOLUME,
        lsn: Lsn(lsn),
        parent,
        epoch: 1,
        writer: *NODE.as_bytes(),
        nonce: [5; 16],
        time_ms: 1_000 + lsn,
        page_size: PageSize::DEFAULT,
        page_count: PageCount(pages),
        bulk_seen: Lsn::ZERO,
        pages: PageSet::range(PageIdx::FIRST, PageIdx::new(pages).unwrap()),
        frames: vec![FrameRef { pages: 1, len: FRAME, hash: [6; 16] }; pages as usize],
        segment: None,
        inline: vec![byte; (pages * FRAME) as usize].into(),
        tables: Vec::new(),
        applied: Vec::new(),
    }
}

fn batch(first_seq: u64, count: u64, len: usize) -> PushBatch {
    let mutation =
        |seq| PushMutation { seq, base: Lsn(0), time_ms: seq, bytes: vec![7; len].into() };
    PushBatch {
        timeline: TIMELINE,
        first_seq,
        prev_hash: [8; 16],
        mutations: (first_seq..first_seq + count).map(mutation).collect(),
        tell_stands: true,
    }
}

/// A node that knows one site: its log and how far it applied one timeline.
#[derive(Default)]
struct Node {
    log: Vec<Bytes>,
    next_seq: BTreeMap<TimelineId, u64>,
    exists: bool,
    applied: Vec<u64>,
    pulls: usize,
    unavailable: bool,
}

impl Node {
    fn append(&mut self, len: u32) {
        let parent = self.log.last().map_or_else(CommitHash::default, hash);
        self.log.push(commit(self.log.len() as u64 + 1, parent, len).encode());
    }

    fn head(&self) -> RemoteHead {
        RemoteHead {
            lsn: Lsn(self.log.len() as u64),
            hash: self.log.last().map_or_else(CommitHash::default, hash),
            page_count: PageCount(u32::from(!self.log.is_empty())),
            page_size: PageSize::DEFAULT,
            time_ms: 0,
        }
    }

    fn announce(&self, session: &mut ServerSession, inline: usize) {
        let from = self.log.len().saturating_sub(inline);
        let head = self.head();
        session.changed(VOLUME, (head.lsn, head.time_ms), &self.log[from..], &[]);
    }

    /// Announces the newest commits as a node does that made deltas of them.
    fn announce_deltas(&self, session: &mut ServerSession, count: usize) {
        let head = self.head();
        let newest = &self.log[self.log.len() - count..];
        let deltas: Vec<Bytes> = newest.iter().map(delta).collect();
        session.changed(VOLUME, (head.lsn, head.time_ms), newest, &deltas);
    }

    fn serve(&mut self, session: &mut ServerSession, wanted: ServerRequest) {
        match wanted {
            ServerRequest::Authenticate { device, token, .. } if token == TOKEN => {
                session.accept(device);
            }
            ServerRequest::Authenticate { .. } => {
                session.refuse(&Error::new(ErrorKind::Denied, "token is not known"));
            }
            ServerRequest::Open { request, .. } if self.unavailable => {
                session.error(request, &Error::corrupt("the store's answer is damaged"));
            }
            ServerRequest::Open { request, name, create } => {
                self.exists |= create.is_some();
                if !self.exists {
                    session.error(request, &Error::new(ErrorKind::NotFound, "no such site"));
                    return;
                }
                let site = OpenedSite {
                    name,
                    site: SITE,
                    volume: VOLUME,
                    head: self.head(),
                    parents: Vec::new(),
                };
                session.opened(request, &site);
            }
            ServerRequest::Watch { .. } => self.announce(session, 0),
            ServerRequest::Unwatch { .. } => {}
            ServerRequest::Pull { request, pull } => {
                let after = pull.after;
                self.pulls += 1;
                let from = usize::try_from(after.0).unwrap().min(self.log.len());
                session.commits(request, VOLUME, &self.log[from..], &self.head(), false);
            }
            ServerRequest::Push { request, .. } if self.unavailable => {
                session.error(request, &Error::new(ErrorKind::Unavailable, "bucket is away"));
            }
            ServerRequest::Push { request, volume, batch } => {
                let answer = self.push(&batch);
                self.announce(session, 1);
                session.verdicts(request, volume, batch.timeline, &answer);
            }
        }
    }

    fn push(&mut self, batch: &PushBatch) -> PushAnswer {
        let next = *self.next_seq.entry(batch.timeline).or_insert(1);
        if batch.first_seq > next {
            return PushAnswer::Gap { next };
        }
        let new: Vec<u64> = (next..batch.end_seq()).collect();
        if !new.is_empty() {
            self.append(100);
            self.applied.extend(&new);
            self.next_seq.insert(batch.timeline, batch.end_seq());
        }
        let verdicts = batch.mutations.iter().map(|_| (Verdict::Ok, String::new())).collect();
        PushAnswer::Verdicts {
            first_seq: batch.first_seq,
            verdicts,
            stands: BTreeMap::new(),
            lsn: self.head().lsn,
        }
    }
}

/// Both ends and the wire between them.
struct World {
    node: Node,
    client: ClientSession,
    server: Option<ServerSession>,
    now: u64,
    events: Vec<ClientEvent>,
    /// Where the replica on the device is.
    base: Lsn,
}

impl World {
    fn new(token: &str) -> Self {
        let identity =
            Identity { device: DEVICE, token: token.to_owned(), agent: "test/1".to_owned() };
        Self {
            node: Node::default(),
            client: ClientSession::new(identity, 0),
            server: None,
            now: 0,
            events: Vec::new(),
            base: Lsn::ZERO,
        }
    }

    /// A connection with the site open and nothing to do.
    fn settled() -> Self {
        let mut world = Self::new(TOKEN);
        world.client.open_site("todo", Some(create_ids())).unwrap();
        world.run();
        assert!(world.client.is_ready());
        world
    }

    /// Moves frames and events until nothing moves any more.
    fn run(&mut self) {
        loop {
            let mut moved = false;
            if self.client.poll_connect(self.now) {
                self.server = Some(ServerSession::new(NODE, self.now));
                self.client.connected(self.now);
                moved = true;
            }
            moved |= self.move_to_server() | self.move_to_client() | self.role();
            if !moved {
                return;
            }
        }
    }

    fn move_to_server(&mut self) -> bool {
        let Some(server) = &mut self.server else {
            return false;
        };
        let mut moved = false;
        while server.wants_frame() {
            let Some(frame) = self.client.poll_frame() else {
                break;
            };
            server.frame(frame, self.now);
            moved = true;
            while let Some(wanted) = server.poll_request() {
                self.node.serve(server, wanted);
            }
        }
        moved
    }

    fn move_to_client(&mut self) -> bool {
        let Some(server) = &mut self.server else {
            return false;
        };
        let Some(frame) = server.poll_frame() else {
            if server.is_closing() {
                self.cut();
                return true;
            }
            return false;
        };
        self.client.frame(frame, self.now);
        true
    }

    /// What a device does with events: adopt, integrate.
    fn role(&mut self) -> bool {
        let Some(event) = self.client.poll_event() else {
            return false;
        };
        match &event {
            ClientEvent::SiteOpened(site) => self.client.watch_from(&site.name, self.base),
            ClientEvent::CommitsArrived { commits, .. } => {
                for commit in commits {
                    assert_eq!(commit.lsn(), self.base.next(), "commits come in order");
                    self.base = commit.lsn();
                }
            }
            ClientEvent::Disconnect { .. } | ClientEvent::Refused { .. } => self.cut(),
            _ => {}
        }
        self.events.push(event);
        true
    }

    fn cut(&mut self) {
        if self.server.take().is_some() {
            self.client.closed(self.now, 3);
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now += ms;
        self.client.tick(self.now);
        if let Some(server) = &mut self.server {
            server.tick(self.now);
        }
        self.run();
    }

    fn server(&mut self) -> &mut ServerSession {
        self.server.as_mut().expect("a connection")
    }

    fn verdicts(&self) -> Vec<PushAnswer> {
        let answer = |event: &ClientEvent| match event {
            ClientEvent::Verdicts { answer, .. } => Some(answer.clone()),
            _ => None,
        };
        self.events.iter().filter_map(answer).collect()
    }

    fn caught_up(&self) -> Option<(u64, Lsn)> {
        self.events.iter().rev().find_map(|event| match event {
            ClientEvent::CaughtUp { serial, head, .. } => Some((*serial, *head)),
            _ => None,
        })
    }
}

/// A commit as a delta, without its pages.
fn delta(object: &Bytes) -> Bytes {
    let commit = Commit::decode(object.clone()).unwrap();
    CommitDelta::new(&commit, &[]).encode()
}

fn hash(object: &Bytes) -> CommitHash {
    Commit::decode(object.clone()).unwrap().hash()
}
