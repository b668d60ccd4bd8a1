//! A replica's way to the rest of the world: a bucket, or a node.
//!
//! Invariant: every decision is the production client's own ([`sheaf::driver`]); what is here
//! carries frames and questions over the simulated network, and buckets' answers back. Leaves out
//! several sites on one connection: each replica has a connection of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use sheaf::{
    Event, Events,
    driver::{
        Ask, Asked, BucketDriver, Driver, Fault, Identity, NodeRemote, Post, Transport, Wishes,
    },
};
use sheaf_site::{Error, ErrorKind, Result, Site};
use sheaf_sync::message;
use sheaf_volume::{Env, Lineage, Objects, PageSize, Remote};

use crate::{
    bucket::Reach,
    env::{HostEnv, SteadyEnv},
    net::{Body, Packet},
    stranger::TOKEN,
    world::{Host, HostId, locked},
};

/// How long a question to a node may stay unanswered.
const ANSWER_MS: u64 = 30_000;
/// How long a dialled connection may stay unanswered.
const DIAL_MS: u64 = 10_000;
/// How long an exchange may take before it is asked for again.
const EXCHANGE_MS: u64 = 60_000;

/// The way to others that one replica has.
pub(crate) enum Link {
    Bucket(Box<BucketDriver>),
    Node(Box<NodeLink>),
}

/// How an exchange stands.
pub(crate) enum Exchanged {
    /// It is done.
    Yes,
    /// It goes on; [`Link::step`] tells when it is done.
    Later,
}

impl Link {
    pub(crate) fn new(host: &Arc<Host>, number: usize, site: &Site, env: Arc<HostEnv>) -> Self {
        match host.world.node_for(host.id, number) {
            Some(node) => Self::Node(Box::new(NodeLink::new(host, node, site))),
            None => {
                let reach = Arc::new(Reach::of(host, number));
                let objects: Arc<dyn Objects> = reach;
                let events = Events::default();
                let driver = BucketDriver::new("bucket", site.clone(), objects, env, events);
                Self::Bucket(Box::new(driver))
            }
        }
    }

    pub(crate) fn note_commit(&self) {
        if let Self::Node(link) = self {
            link.wishes.note_commit(&link.name);
        }
    }

    /// Whether it takes part by itself, without being asked to exchange.
    pub(crate) fn is_online(&self) -> bool {
        matches!(self, Self::Node(link) if link.wishes.is_online(&link.name))
    }

    /// Exchanges with a bucket at once, with a node sooner or later.
    pub(crate) fn exchange(&mut self, host: &Host) -> Result<Exchanged> {
        match self {
            Self::Bucket(driver) => driver.exchange(Ask::EVERYTHING).map(|_| Exchanged::Yes),
            Self::Node(link) => link.ask(host).map(|()| Exchanged::Later),
        }
    }

    /// When [`Self::step`] is due, in virtual time.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Bucket(_) => None,
            Self::Node(link) => link.due,
        }
    }

    /// Takes a packet that belongs here; gives back one that does not.
    pub(crate) fn take(&mut self, packet: Packet) -> Option<Packet> {
        match self {
            Self::Bucket(_) => Some(packet),
            Self::Node(link) => link.take(packet),
        }
    }

    /// Does what is due; how an exchange ended that was asked for earlier.
    pub(crate) fn step(&mut self, host: &Host) -> Option<Result<()>> {
        match self {
            Self::Bucket(_) => None,
            Self::Node(link) => link.step(host),
        }
    }
}

/// A device's link to a node.
pub(crate) struct NodeLink {
    name: String,
    wishes: Arc<Wishes>,
    driver: Driver<Wire>,
    /// The driver's numbers by the network's, shared with its [`Wire`].
    numbers: Arc<Mutex<BTreeMap<u64, u64>>>,
    asked: Option<(Asked, u64)>,
    due: Option<u64>,
}

impl NodeLink {
    fn new(host: &Arc<Host>, node: HostId, site: &Site) -> Self {
        let wishes = Wishes::new("node", Events::default(), || ());
        let env: Arc<dyn Env> = Arc::new(SteadyEnv::new(Arc::clone(host), host.rng("link")));
        let identity =
            Identity { device: site.device(), token: TOKEN.to_owned(), agent: "sim".to_owned() };
        let numbers = Arc::default();
        let wire =
            Wire { host: Arc::clone(host), node, numbers: Arc::clone(&numbers), dialling: None };
        let driver = Driver::new(Arc::clone(&wishes), identity, env, wire);
        let name = site.name();
        wishes.attach(&name, site.clone());
        // Half of the devices are told of news, the others ask now and then.
        if host.id.is_multiple_of(2) {
            wishes.set_online(&name, true);
        }
        Self { name, wishes, driver, numbers, asked: None, due: Some(host.now()) }
    }

    fn ask(&mut self, host: &Host) -> Result<()> {
        let late = |since: &u64| host.now() > since + EXCHANGE_MS;
        if self.asked.as_ref().is_some_and(|(_, since)| !late(since)) {
            return Ok(());
        }
        self.asked = Some((self.wishes.ask(&self.name, Ask::EVERYTHING)?, host.now()));
        self.due = Some(host.now());
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Option<Packet> {
        let number = |conn: u64| self.driver_number(conn);
        match packet.body {
            Body::Accept { conn } => match number(conn) {
                Some(number) => {
                    self.driver.transport().dialling = None;
                    self.driver.connected(number);
                }
                None => return Some(packet),
            },
            Body::Frame { conn, ref bytes } => match number(conn) {
                Some(number) => self.driver.frame(number, bytes.clone()),
                None => return Some(packet),
            },
            Body::Hangup { conn } => match number(conn) {
                Some(number) => {
                    self.driver.transport().dialling = None;
                    self.driver.transport().host.trace(format_args!("loses {conn}"));
                    let text = "connection lost (injected)";
                    self.driver.closed(number, Error::new(ErrorKind::Unavailable, text));
                }
                None => return Some(packet),
            },
            Body::Dial { .. } | Body::Ask { .. } | Body::Answer { .. } => return Some(packet),
        }
        self.due = Some(0);
        None
    }

    fn driver_number(&self, conn: u64) -> Option<u64> {
        locked(&self.numbers).get(&conn).copied()
    }

    /// Gives up a dialled connection that nobody answers, as a transport has to.
    fn check_dialling(&mut self, host: &Host) {
        let wire = self.driver.transport();
        if let Some((number, since)) = wire.dialling
            && host.now() >= since + DIAL_MS
        {
            wire.dialling = None;
            let text = "nobody answers (injected)";
            self.driver.closed(number, Error::new(ErrorKind::Unavailable, text));
            self.due = Some(0);
        }
    }

    fn step(&mut self, host: &Host) -> Option<Result<()>> {
        self.check_dialling(host);
        if self.due.is_some_and(|due| due <= host.now()) {
            let due = self.driver.step().map(|at| SteadyEnv::virtual_ms(at).max(host.now() + 1));
            let dialling = self.driver.transport().dialling.map(|(_, since)| since + DIAL_MS);
            self.due = [due, dialling].into_iter().flatten().min();
        }
        while let Some(event) = self.wishes.events().try_next() {
            tell(host, &event);
        }
        let (asked, _) = self.asked.as_ref()?;
        let outcome = asked.outcome()?;
        self.asked = None;
        if let Ok(tally) = &outcome {
            host.trace(format_args!("exchanged: {} up, {} down", tally.pushed, tally.pulled));
        }
        Some(outcome.map(drop))
    }
}

fn tell(host: &Host, event: &Event) {
    match event {
        Event::Online { .. } => {
            host.count("link: online");
            host.trace(format_args!("is online"));
        }
        Event::Offline { reason, .. } => {
            host.count("link: offline");
            host.trace(format_args!("is offline: {reason}"));
        }
        Event::Rejected { .. } => host.count("link: told of a rejection"),
        Event::Failed { error, .. } => {
            host.count("link: a site failed");
            host.trace(format_args!("site failed: {error}"));
        }
        Event::Refused { reason, .. } => host.trace(format_args!("is refused: {reason}")),
        _ => {}
    }
}

/// Frames to a node over the simulated network.
#[derive(Debug)]
struct Wire {
    host: Arc<Host>,
    node: HostId,
    /// Connections by the network's number, and the driver's numbers for them.
    numbers: Arc<Mutex<BTreeMap<u64, u64>>>,
    /// The connection that is dialled, by the driver's number, and since when.
    dialling: Option<(u64, u64)>,
}

impl Wire {
    fn current(&self) -> Option<u64> {
        locked(&self.numbers).keys().next_back().copied()
    }
}

impl Transport for Wire {
    fn dial(&mut self, number: u64) {
        let conn = self.host.number();
        locked(&self.numbers).insert(conn, number);
        self.dialling = Some((number, self.host.now()));
        self.host.count("link: dialled");
        self.host.trace(format_args!("dials {conn}"));
        self.host.send(self.node, Body::Dial { conn });
    }

    fn send(&mut self, _: u64, frame: Bytes) -> Result<(), Bytes> {
        if let Some(conn) = self.current() {
            self.host.send(self.node, Body::Frame { conn, bytes: frame });
        }
        Ok(())
    }

    fn hang_up(&mut self) {
        self.dialling = None;
        if let Some(conn) = self.current() {
            locked(&self.numbers).clear();
            self.host.send(self.node, Body::Hangup { conn });
        }
    }

    fn remote(&self, lineage: Lineage, size: PageSize) -> Arc<dyn Remote> {
        let post = Arc::new(Poster { host: Arc::clone(&self.host), node: self.node });
        Arc::new(NodeRemote::new(post, lineage, size))
    }
}

/// Questions to a node over the simulated network.
#[derive(Debug)]
struct Poster {
    host: Arc<Host>,
    node: HostId,
}

impl Post for Poster {
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        let host = &self.host;
        let id = host.number();
        let path =
            if path == message::PULL_PATH { message::PULL_PATH } else { message::PAGES_PATH };
        host.send(self.node, Body::Ask { id, path, token: TOKEN, bytes: body });
        let until = host.now() + ANSWER_MS;
        let mine = |body: &Body| matches!(body, Body::Answer { id: of, .. } if *of == id);
        let Some(Packet { body: Body::Answer { answer, .. }, .. }) = host.wait_for(until, mine)
        else {
            let text = "the node does not answer (injected)";
            return Err(Error::new(ErrorKind::Unavailable, text).into());
        };
        let answer = answer?;
        if host.chance(host.world.options.faults.network.cut) {
            host.count("network: answer broke off");
            take(answer.slice(..answer.len() / 2))?;
            let text = "the answer broke off (injected)";
            return Err(Fault::BrokeOff(Error::new(ErrorKind::Unavailable, text)));
        }
        take(answer).map_err(Fault::from)
    }
}
