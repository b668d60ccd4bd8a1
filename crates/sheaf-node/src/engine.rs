//! The node without threads, runtime and sockets: the same desks, sites and actors as the server,
//! stepped by whoever holds it. For simulators and tests.
//!
//! Invariant: nothing happens between two calls, and what happens in a call follows from the calls
//! before it, the clock, the environment and the store alone. Leaves out HTTP and the bounds on
//! sockets; who asks over HTTP shows a token here as an argument.
//!
//! The holder moves frames and time. It gives what a device sent to [`Engine::frame`], calls
//! [`Engine::turn`] until there is nothing to do, takes what the device shall have from
//! [`Engine::poll_frame`], ends the connection when [`Engine::is_closing`] says so, and calls
//! [`Engine::turn`] again at [`Engine::next_deadline`] at the latest. [`Engine::serve`] and
//! [`Engine::work`] are the parts of a turn, for holders that mix them in an order of their own.
//! An engine that is dropped without [`Engine::stop`] has crashed, as far as its replicas and the
//! bucket are concerned. It does not check its store; [`sheaf_volume::probe`] does.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use sheaf_sync::{pages, pull};
use sheaf_volume::{DeviceId, Env, Error, ErrorKind, Objects, Result, VolumeId};

mod bench;
mod connection;

use crate::{
    answers,
    crew::Crew,
    error,
    metrics::Metrics,
    sites::{Dirs, Sites},
    token::{self, Access},
};
pub use crate::{clock::Clock, sites::OpenDir};
use bench::Bench;
use connection::Connection;

/// Names a connection of one [`Engine`]. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node that does something only when it is called. See the module.
#[derive(Debug)]
pub struct Engine {
    connections: BTreeMap<ConnId, Connection>,
    next: u64,
    sites: Arc<Sites>,
    bench: Arc<Bench>,
    access: Arc<Access>,
}

impl Engine {
    /// A node with no connection and no open site. `env` gives what is written into commits and
    /// ids, `clock` measures waiting; one value may be both unless its time can be set back.
    #[must_use]
    pub fn new(
        objects: Arc<dyn Objects>,
        env: Arc<dyn Env>,
        clock: Arc<dyn Clock>,
        node: DeviceId,
        dirs: Box<OpenDir>,
    ) -> Self {
        let bench = Arc::new(Bench::default());
        let crew: Arc<dyn Crew> = Arc::clone(&bench) as Arc<dyn Crew>;
        let metrics = Arc::new(Metrics::new());
        let sites = Sites::new(objects, env, node, clock, metrics, Dirs(dirs), crew);
        Self {
            connections: BTreeMap::new(),
            next: 1,
            sites: Arc::new(sites),
            bench,
            access: Arc::new(Access::Open),
        }
    }

    /// Lets in only who shows one of these tokens, instead of everybody.
    #[must_use]
    pub fn with_tokens(mut self, tokens: &[&str]) -> Self {
        let hashes = tokens.iter().map(|token| token::hash(token)).collect();
        self.access = Arc::new(Access::Tokens(hashes));
        self
    }

    /// A device has connected.
    pub fn connect(&mut self) -> ConnId {
        let id = ConnId(self.next);
        self.next += 1;
        let (sites, access) = (Arc::clone(&self.sites), Arc::clone(&self.access));
        self.connections.insert(id, Connection::new(id.0, sites, access));
        id
    }

    /// Bytes from a device, one whole message. They wait, as in a socket, until the connection
    /// reads them. Ignored for a connection that is gone.
    pub fn frame(&mut self, conn: ConnId, frame: Bytes) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.receive(frame);
        }
    }

    /// The next message for a device. A connection whose messages are not taken stands still
    /// after [`crate::limits::ENGINE_UNSENT_BYTES`], and is cut off when too many notices wait for it.
    pub fn poll_frame(&mut self, conn: ConnId) -> Option<Bytes> {
        self.connections.get_mut(&conn)?.take_frame()
    }

    /// Whether the node ends this connection: take the last messages, then
    /// [`Engine::disconnect`]. True for one that is gone.
    #[must_use]
    pub fn is_closing(&self, conn: ConnId) -> bool {
        self.connections.get(&conn).is_none_or(Connection::is_closing)
    }

    /// The connection is gone, at once: what it did not take is lost, and so is what it asked for
    /// and was not begun. A push in the queue of its site stays there.
    pub fn disconnect(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
    }

    /// Ends a connection whose device has been silent for too long. [`Engine::turn`] does the
    /// same for all of them.
    pub fn tick(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.tick();
        }
    }

    /// Does everything that waits: for each connection all it can do, for each open site one
    /// group of pushes, look at its log or closing. True if anything was done.
    pub fn turn(&mut self) -> bool {
        let mut did = false;
        for connection in self.connections.values_mut() {
            while connection.serve() {
                did = true;
            }
            connection.tick();
        }
        for volume in self.bench.volumes() {
            did |= self.bench.step(volume);
        }
        did
    }

    /// Does one thing for one connection: takes a message, opens a site, answers a pull, puts a
    /// push in its site's queue, hands over an answer or a notice. True if there was one.
    pub fn serve(&mut self, conn: ConnId) -> bool {
        self.connections.get_mut(&conn).is_some_and(Connection::serve)
    }

    /// Does what waits at one open site: a group of pushes, a look at its log, or closing. True
    /// if there was anything.
    pub fn work(&mut self, volume: VolumeId) -> bool {
        self.bench.step(volume)
    }

    /// The volumes of the sites that are open.
    #[must_use]
    pub fn open_volumes(&self) -> Vec<VolumeId> {
        self.bench.volumes()
    }

    /// When something is to be done although nobody asks (a look at a watched log, closing an
    /// idle site, ending a silent connection), in milliseconds of the clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let connections = self.connections.values().filter_map(Connection::deadline_ms);
        connections.chain(self.bench.deadline_ms()).min()
    }

    /// What `POST /v1/pull` answers to a body (see [`sheaf_sync::pull`]).
    ///
    /// # Errors
    /// `Denied` without a token that is let in, `Invalid` for a body that is not a request, `NotFound` for an unknown volume, and those of
    /// store and replica, as a device would be told.
    pub fn pull(&self, token: Option<&str>, body: Bytes) -> Result<Bytes> {
        self.admit(token)?;
        let answer =
            pull::decode_request(body).and_then(|request| answers::pull(&self.sites, &request));
        answer.map_err(|error| self.told("answer a pull", &error))
    }

    /// What `POST /v1/pages` answers to a body (see [`sheaf_sync::pages`]), all chunks together.
    ///
    /// # Errors
    /// `Denied` without a token that is let in, `Invalid` or `Limit` for a body that is not a request or asks for too much, `NotFound` for
    /// what is not there, and those of store and replica, as a device would be told.
    pub fn pages(&self, token: Option<&str>, body: Bytes) -> Result<Bytes> {
        self.admit(token)?;
        self.try_pages(body).map_err(|error| self.told("answer a request for pages", &error))
    }

    /// Finishes what was begun, says goodbye to the devices and closes the sites. What the
    /// devices shall still have can be taken afterwards; nothing new is begun.
    pub fn stop(&mut self) {
        self.connections.values_mut().for_each(Connection::stop_reading);
        while self.turn() {}
        self.connections.values_mut().for_each(Connection::close_for_stop);
        self.sites.stop();
    }

    /// What the gate of the routes does first.
    fn admit(&self, token: Option<&str>) -> Result<()> {
        self.access.admit(token).map_err(|denied| Error::new(ErrorKind::Denied, denied.message()))
    }

    fn try_pages(&self, body: Bytes) -> Result<Bytes> {
        let request = pages::decode_request_holding(body)?;
        let open = self.sites.by_volume(request.volume)?;
        let mut blocks = BytesMut::new();
        for want in answers::chunks(&request.wants) {
            let metrics = &self.sites.metrics;
            blocks.extend_from_slice(&answers::chunk(&open, &want, &request.held, metrics)?);
        }
        Ok(blocks.freeze())
    }

    fn told(&self, doing: &'static str, error: &Error) -> Error {
        error::note(&self.sites.metrics, doing, error);
        error::for_caller(error)
    }
}
