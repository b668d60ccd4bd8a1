//! One connection's business: a [`ServerSession`]'s requests to the sites, and what the sites did
//! back to the session.
//!
//! Invariant: requests are handed to the sites in the order they came, so that the pushes of a
//! timeline cannot overtake each other; answers may come in any order. Nothing is asked of a site
//! before the token is known to be good. The desk decides and never waits: what may block it
//! hands out ([`Next`]), and the transport that holds it does that work where waiting is allowed
//! and brings back the [`Outcome`]. Leaves out frames on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use sheaf_sync::{ServerRequest, ServerSession, wire::OpenedSite};
use sheaf_volume::{DeviceId, Error, ErrorKind, VolumeId};
use tokio::sync::oneshot;

use crate::{
    clock::millis,
    error,
    metrics::Metrics,
    open::{Job, Notice, OpenSite, Pulled, Watcher},
    sites::{Handhold, Sites},
    token::Access,
};

mod work;

pub(crate) use work::{Awaited, Handover, Next, Outcome, Work};
use work::{Bad, Good, Wish, to_site};

/// See the file.
#[derive(Debug)]
pub(crate) struct Desk {
    id: u64,
    session: ServerSession,
    sites: Arc<Sites>,
    access: Arc<Access>,
    /// A header brought a good token, or everybody is let in.
    known: bool,
    greeted: bool,
    device: DeviceId,
    held: BTreeMap<VolumeId, Handhold>,
    watched: BTreeSet<VolumeId>,
    watcher: Watcher,
    /// What a site is opened anew for; no other request is begun before it.
    parked: Option<(Wish, VolumeId)>,
    /// That site.
    found: Option<Arc<OpenSite>>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for open in self.held.values().filter_map(Handhold::upgrade) {
            open.unwatch(self.id);
        }
        self.metrics().ws_connections.fall();
    }
}

impl Desk {
    /// The desk of a connection that was just made. `id` is its own among all of this node.
    pub(crate) fn new(
        id: u64,
        sites: Arc<Sites>,
        access: Arc<Access>,
        known: bool,
        watcher: Watcher,
    ) -> Self {
        sites.metrics.ws_connections.rise();
        Self {
            id,
            session: ServerSession::new(sites.device, millis(sites.clock.now())),
            known,
            greeted: known,
            device: sites.device,
            held: BTreeMap::new(),
            watched: BTreeSet::new(),
            watcher,
            parked: None,
            found: None,
            sites,
            access,
        }
    }

    /// Its number, for logs.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Whether a good token is known.
    pub(crate) const fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether the next frame is to be read now; until then it stays with the transport.
    pub(crate) fn wants_frame(&self) -> bool {
        self.session.wants_frame()
    }

    /// Takes a frame from the peer.
    pub(crate) fn frame(&mut self, frame: Bytes) {
        self.metrics().bytes.add("in", frame.len() as u64);
        self.session.frame(frame, self.now_ms());
    }

    /// The next frame for the peer.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        let frame = self.session.poll_frame()?;
        self.metrics().bytes.add("out", frame.len() as u64);
        Some(frame)
    }

    /// Whether the transport is to be closed when there are no more frames.
    pub(crate) fn is_closing(&self) -> bool {
        self.session.is_closing()
    }

    /// Ends the connection and says why.
    pub(crate) fn close(&mut self, error: &Error) {
        self.session.close(error);
    }

    /// Ends the connection because the node stops.
    pub(crate) fn close_for_stop(&mut self) {
        let text = "the node is stopping: connect again later";
        self.close(&Error::new(ErrorKind::Unavailable, text));
    }

    /// When [`Self::tick`] is to be called, in milliseconds of the node's clock.
    pub(crate) fn deadline_ms(&self) -> u64 {
        self.session.next_deadline()
    }

    /// Ends the connection when its peer has been silent for too long.
    pub(crate) fn tick(&mut self) {
        if self.session.is_closing() {
            return;
        }
        // A site that works long for this peer is no silence of the peer.
        let limit = if self.greeted { "socket_idle" } else { "hello_time" };
        self.session.tick(self.now_ms());
        if self.session.is_closing() {
            self.metrics().limits_hit.one(limit);
        }
    }

    /// The next thing to do for the peer.
    pub(crate) fn next(&mut self) -> Next {
        if let Some(open) = self.found.take()
            && let Some((wish, volume)) = self.parked.take()
        {
            return self.begin(wish, volume, open);
        }
        while let Some(request) = self.session.poll_request() {
            match request {
                ServerRequest::Authenticate { device, token, agent } => {
                    self.authenticate(device, &token, &agent);
                }
                ServerRequest::Unwatch { volume } => self.unwatch(volume),
                ServerRequest::Open { request, name, create } => {
                    let sites = Arc::clone(&self.sites);
                    let read = move || {
                        let (open, site) = sites.open(&name, create)?;
                        Ok(Good::Opened { request, hold: Arc::downgrade(&open), site })
                    };
                    let bad = Bad::Request { request, doing: "open a site" };
                    return Next::Beside(Work::new(bad, read));
                }
                ServerRequest::Watch { volume, after } => {
                    return self.find(Wish::Watch { after }, volume);
                }
                ServerRequest::Pull { request, pull } => {
                    return self.find(Wish::Pull { request, pull }, pull.volume);
                }
                ServerRequest::Push { request, volume, batch } => {
                    return self.find(Wish::Push { request, batch }, volume);
                }
            }
        }
        Next::Idle
    }

    /// Takes what became of a [`Work`] or of a push.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        match outcome {
            Ok(Good::Found(open)) => {
                let volume = open.ids.volume;
                self.held.insert(volume, Arc::downgrade(&open));
                if self.watched.contains(&volume) {
                    open.watch(self.id, self.watcher.clone());
                }
                self.found = Some(open);
            }
            Ok(Good::Opened { request, hold, site }) => self.opened(request, hold, &site),
            Ok(Good::Pulled { request, volume, pulled }) => {
                self.metrics().commits_served.add(pulled.len());
                match pulled {
                    Pulled::Commits { commits, head, more } => {
                        self.session.commits(request, volume, &commits, &head, more);
                    }
                    Pulled::Merged(changes) => self.session.changes(request, &changes),
                }
            }
            Ok(Good::Pushed { request, volume, timeline, answer }) => {
                self.session.verdicts(request, volume, timeline, &answer);
            }
            Ok(Good::Seen(notice)) => self.notify(&notice),
            Err((bad, error)) => self.failed(bad, &error),
        }
    }

    /// Tells the peer that a log is longer.
    pub(crate) fn notify(&mut self, notice: &Notice) {
        let newest = (notice.lsn, notice.time_ms);
        self.session.changed(notice.volume, newest, &notice.commits, &notice.deltas);
    }

    fn opened(&mut self, request: u64, hold: Handhold, site: &OpenedSite) {
        self.held.insert(site.volume, hold);
        self.session.opened(request, site);
    }

    fn failed(&mut self, bad: Bad, error: &Error) {
        match bad {
            Bad::Find => {
                error::note(self.metrics(), "open a site", error);
                let told = error::for_caller(error);
                match self.parked.take() {
                    Some((Wish::Pull { request, .. } | Wish::Push { request, .. }, _)) => {
                        self.session.error(request, &told);
                    }
                    // A watch has no answer of its own; the peer connects anew and tries again,
                    // whatever is wrong with this one of its sites.
                    Some((Wish::Watch { .. }, _)) | None => {
                        let told = Error::new(ErrorKind::Unavailable, told.to_string());
                        self.session.close(&told);
                    }
                }
            }
            Bad::Request { request, doing } => {
                error::note(self.metrics(), doing, error);
                self.session.error(request, &error::for_caller(error));
            }
            // The actor has counted and logged it already.
            Bad::Push { request } => self.session.error(request, error),
            Bad::Watch => error::note(self.metrics(), "watch a site", error),
        }
    }

    fn authenticate(&mut self, device: DeviceId, token: &str, agent: &str) {
        let given = Some(token).filter(|token| !token.is_empty());
        let admitted = match given {
            // A good header is enough; a bad token beside it is not.
            None if self.known => Ok(()),
            given => self.access.admit(given),
        };
        match admitted {
            Ok(()) => {
                self.greeted = true;
                self.device = device;
                let agent: String = agent.chars().filter(|c| !c.is_control()).collect();
                tracing::debug!(connection = self.id, %device, agent, "device greeted");
                self.session.accept(device);
            }
            Err(denied) => {
                self.metrics().auth_denied.one(denied.reason());
                self.session.refuse(&Error::new(ErrorKind::Denied, denied.message()));
            }
        }
    }

    fn unwatch(&mut self, volume: VolumeId) {
        self.watched.remove(&volume);
        if let Some(open) = self.held.remove(&volume).and_then(|open| open.upgrade()) {
            open.unwatch(self.id);
        }
    }

    /// Begins with the open site of a volume that the peer has opened; it is opened anew when it
    /// was closed meanwhile.
    fn find(&mut self, wish: Wish, volume: VolumeId) -> Next {
        let held = self.held.get(&volume).and_then(Handhold::upgrade);
        if let Some(open) = held.filter(|open| !open.is_dead()) {
            return self.begin(wish, volume, open);
        }
        self.parked = Some((wish, volume));
        let sites = Arc::clone(&self.sites);
        Next::First(Work::new(Bad::Find, move || sites.by_volume(volume).map(Good::Found)))
    }

    fn begin(&mut self, wish: Wish, volume: VolumeId, open: Arc<OpenSite>) -> Next {
        match wish {
            Wish::Watch { after } => {
                // ORDER: registered before the log is looked at, so that no commit falls between.
                open.watch(self.id, self.watcher.clone());
                self.watched.insert(volume);
                Next::Beside(Work::new(Bad::Watch, move || {
                    open.refresh()?;
                    Ok(Good::Seen(open.notice_after(after)))
                }))
            }
            Wish::Pull { request, pull } => {
                let bad = Bad::Request { request, doing: "answer a pull" };
                Next::Beside(Work::new(bad, move || {
                    let pulled = open.pull(&pull)?;
                    Ok(Good::Pulled { request, volume, pulled })
                }))
            }
            Wish::Push { request, batch } => {
                let (reply, answer) = oneshot::channel();
                let (timeline, tell_stands) = (batch.timeline, batch.tell_stands);
                let answer = Awaited { request, volume, timeline, tell_stands, answer };
                let job = Job::Push { batch: to_site(batch, self.device), reply };
                Next::Queue(Handover { open, job, answer })
            }
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.sites.clock.now())
    }

    fn metrics(&self) -> &Metrics {
        &self.sites.metrics
    }
}
