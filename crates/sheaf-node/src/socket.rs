//! One WebSocket: carries frames between a peer and its [`ServerSession`], and the session's
//! requests to the sites.
//!
//! Invariant: requests are handed to the sites in the order they came, so that the pushes of a
//! timeline cannot overtake each other; answers may come in any order. Nothing is asked of a site
//! before the token is known to be good. A peer that does not read only delays itself, and is cut
//! off when its queue is full or [`crate::limits::SEND_TIMEOUT`] has passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sheaf_site::{Answer, Batch, MutationRecord};
use sheaf_sync::{
    ServerRequest, ServerSession, limits as talk,
    wire::{OpenedSite, PushAnswer, PushBatch},
};
use sheaf_volume::{DeviceId, Error, ErrorKind, Lsn, RemoteHead, Result, TimelineId, VolumeId};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    error,
    http::Places,
    limits,
    node::Shared,
    open::{Notice, OpenSite, Watcher, closing},
    server::stopped,
    sites::Handhold,
};

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// WebSocket close code for "going away" (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;
/// "Policy violation": what follows a fatal error of ours.
const POLICY: u16 = 1008;

/// Something that a site did for this connection.
enum Done {
    Opened {
        request: u64,
        opened: Result<(Handhold, OpenedSite)>,
    },
    Pulled {
        request: u64,
        volume: VolumeId,
        pulled: Result<(Vec<Bytes>, RemoteHead)>,
        after: Lsn,
        head_only: bool,
    },
    Pushed {
        request: u64,
        volume: VolumeId,
        timeline: TimelineId,
        answer: Result<Answer>,
    },
    Watching(Result<Notice>),
}

struct Connection {
    id: u64,
    shared: Arc<Shared>,
    session: ServerSession,
    began: Instant,
    /// A header brought a good token, or everybody is let in.
    known: bool,
    device: DeviceId,
    sites: BTreeMap<VolumeId, Handhold>,
    watched: BTreeSet<VolumeId>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    watcher: Watcher,
    places: Places,
}

/// Serves one socket until either side ends it.
pub(crate) async fn run(mut stream: WebSocket, shared: Arc<Shared>, known: bool, places: Places) {
    let inside_of = Arc::clone(&shared);
    let _inside = inside_of.metrics.ws_connections.enter();
    let (notices, mut incoming) = mpsc::channel(limits::NOTICES_MAX);
    let cut = Arc::new(Notify::new());
    let mut connection = Connection {
        id: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        session: ServerSession::new(shared.node, 0),
        began: Instant::now(),
        known,
        device: shared.node,
        sites: BTreeMap::new(),
        watched: BTreeSet::new(),
        work: FuturesUnordered::new(),
        watcher: Watcher { notices, cut: Arc::clone(&cut) },
        shared,
        places,
    };
    tracing::debug!(connection = connection.id, "socket opened");
    tokio::select! {
        () = connection.serve(&mut stream, &mut incoming) => {}
        () = cut.notified() => {
            tracing::info!(connection = connection.id, "socket cut off: its peer does not read");
        }
    }
    connection.leave();
    tracing::debug!(connection = connection.id, "socket closed");
}

impl Connection {
    async fn serve(&mut self, stream: &mut WebSocket, notices: &mut mpsc::Receiver<Notice>) {
        let mut stop = self.shared.stop.subscribe();
        let mut stopping = false;
        loop {
            while let Some(request) = self.session.poll_request() {
                self.begin(request).await;
            }
            if stopping && self.work.is_empty() {
                let text = "the node is stopping: connect again later";
                self.session.close(&Error::new(ErrorKind::Unavailable, text));
            }
            if !self.send(stream).await {
                return;
            }
            if self.session.is_closing() {
                let code = if stopping { GOING_AWAY } else { POLICY };
                let frame = CloseFrame { code, reason: "".into() };
                // The peer may be gone already: then there is nobody to tell.
                let _ = stream.send(Message::Close(Some(frame))).await.is_ok();
                drain(stream).await;
                return;
            }
            let deadline = self.began + Duration::from_millis(self.session.next_deadline());
            tokio::select! {
                received = stream.recv(), if self.session.wants_frame() && !stopping => {
                    match received {
                        Some(received) => if !self.received(received) { return },
                        None => return,
                    }
                }
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                Some(notice) = notices.recv() => self.notify(&notice),
                () = sleep_until(deadline) => self.silent(),
                () = stopped(&mut stop), if !stopping => stopping = true,
            }
        }
    }

    /// Sends what the session has ready; false when the peer is gone.
    async fn send(&mut self, stream: &mut WebSocket) -> bool {
        while let Some(frame) = self.session.poll_frame() {
            self.shared.metrics.bytes.add("out", frame.len() as u64);
            if stream.send(Message::Binary(frame)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Takes what came from the peer; false when it has gone.
    fn received(&mut self, received: std::result::Result<Message, axum::Error>) -> bool {
        let now_ms = self.now_ms();
        match received {
            Ok(Message::Binary(frame)) => {
                self.shared.metrics.bytes.add("in", frame.len() as u64);
                self.session.frame(frame, now_ms);
            }
            Ok(Message::Text(_)) => {
                let text = "text frames are not spoken here: connect with a Sheaf client";
                self.session.close(&Error::invalid(text));
            }
            // Control frames are answered below us.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return false,
            Err(error) if is_too_large(&error) => {
                self.shared.metrics.limits_hit.one("message_bytes");
                let max = talk::FRAME_BYTES_MAX;
                let text = format!("frame is over the limit of {max} bytes: send less at once");
                self.session.close(&Error::new(ErrorKind::Limit, text));
            }
            Err(error) => {
                tracing::debug!(connection = self.id, %error, "socket failed");
                return false;
            }
        }
        true
    }

    fn silent(&mut self) {
        // A site that works long for this peer is no silence of the peer.
        let limit = if self.places.greeting.is_some() { "hello_time" } else { "socket_idle" };
        let now_ms = self.now_ms();
        self.session.tick(now_ms);
        if self.session.is_closing() {
            self.shared.metrics.limits_hit.one(limit);
        }
    }

    async fn begin(&mut self, request: ServerRequest) {
        match request {
            ServerRequest::Authenticate { device, token, agent } => {
                self.authenticate(device, &token, &agent);
            }
            ServerRequest::Open { request, name, create } => {
                let sites = Arc::clone(&self.shared.sites);
                self.work(
                    move || sites.open(&name, create),
                    move |opened| {
                        let opened = opened.map(|(open, site)| (Arc::downgrade(&open), site));
                        Done::Opened { request, opened }
                    },
                );
            }
            ServerRequest::Watch { volume, after } => self.watch(volume, after).await,
            ServerRequest::Unwatch { volume } => self.unwatch(volume),
            ServerRequest::Pull { request, volume, after, head_only } => {
                match self.resolve(volume).await {
                    Ok(open) => self.work(
                        move || open.pull(after, head_only),
                        move |pulled| Done::Pulled { request, volume, pulled, after, head_only },
                    ),
                    Err(error) => self.session.error(request, &error),
                }
            }
            ServerRequest::Push { request, volume, batch } => {
                self.push(request, volume, batch).await;
            }
        }
    }

    fn authenticate(&mut self, device: DeviceId, token: &str, agent: &str) {
        let given = Some(token).filter(|token| !token.is_empty());
        let admitted = match given {
            // A good header is enough; a bad token beside it is not.
            None if self.known => Ok(()),
            given => self.shared.access.admit(given),
        };
        match admitted {
            Ok(()) => {
                self.places.greeting = None;
                self.device = device;
                let agent: String = agent.chars().filter(|c| !c.is_control()).collect();
                tracing::debug!(connection = self.id, %device, agent, "device greeted");
                self.session.accept(device);
            }
            Err(denied) => {
                self.shared.metrics.auth_denied.one(denied.reason());
                self.session.refuse(&Error::new(ErrorKind::Denied, denied.message()));
            }
        }
    }

    async fn push(&mut self, request: u64, volume: VolumeId, batch: PushBatch) {
        let timeline = batch.timeline;
        let batch = to_site(batch, self.device);
        let queued = match self.resolve(volume).await {
            Ok(open) => open.push(batch).await,
            Err(error) => Err(error),
        };
        match queued {
            Ok(answer) => self.work.push(
                async move {
                    let answer = answer.await.unwrap_or_else(|_| Err(closing()));
                    Done::Pushed { request, volume, timeline, answer }
                }
                .boxed(),
            ),
            Err(error) => self.session.error(request, &error),
        }
    }

    async fn watch(&mut self, volume: VolumeId, after: Lsn) {
        match self.resolve(volume).await {
            Ok(open) => {
                // ORDER: registered before the log is looked at, so that no commit falls between.
                open.watch(self.id, self.watcher.clone());
                self.watched.insert(volume);
                let look = move || {
                    open.refresh()?;
                    Ok(open.notice_after(after))
                };
                self.work(look, Done::Watching);
            }
            // A watch has no answer of its own; the peer connects anew and tries again.
            Err(error) => self.session.close(&error),
        }
    }

    fn unwatch(&mut self, volume: VolumeId) {
        self.watched.remove(&volume);
        if let Some(open) = self.sites.remove(&volume).and_then(|open| open.upgrade()) {
            open.unwatch(self.id);
        }
    }

    fn work<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) -> Done + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.work.push(async move { done(shared.blocking(read).await) }.boxed());
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened { request, opened: Ok((hold, site)) } => {
                self.sites.insert(site.volume, hold);
                self.session.opened(request, &site);
            }
            Done::Pulled { request, volume, pulled: Ok((commits, head)), after, head_only } => {
                self.shared.metrics.commits_served.add(commits.len() as u64);
                let last = Lsn(after.0.saturating_add(commits.len() as u64));
                let more = !head_only && last < head.lsn;
                self.session.commits(request, volume, &commits, &head, more);
            }
            Done::Pushed { request, volume, timeline, answer: Ok(answer) } => {
                self.session.verdicts(request, volume, timeline, &to_wire(answer));
            }
            Done::Watching(Ok(notice)) => self.notify(&notice),
            Done::Opened { request, opened: Err(error) } => {
                self.failed(request, "open a site", &error)
            }
            Done::Pulled { request, pulled: Err(error), .. } => {
                self.failed(request, "answer a pull", &error)
            }
            // The actor has counted and logged it already.
            Done::Pushed { request, answer: Err(error), .. } => self.session.error(request, &error),
            Done::Watching(Err(error)) => {
                error::note(&self.shared.metrics, "watch a site", &error);
            }
        }
    }

    fn failed(&mut self, request: u64, doing: &'static str, error: &Error) {
        error::note(&self.shared.metrics, doing, error);
        self.session.error(request, &error::for_caller(error));
    }

    fn notify(&mut self, notice: &Notice) {
        self.session.changed(notice.volume, notice.lsn, notice.time_ms, &notice.commits);
    }

    /// The open site of a volume that the peer has opened; reopened when it was closed meanwhile.
    async fn resolve(&mut self, volume: VolumeId) -> Result<Arc<OpenSite>> {
        let held = self.sites.get(&volume).and_then(Handhold::upgrade);
        if let Some(open) = held.filter(|open| !open.is_dead()) {
            return Ok(open);
        }
        let sites = Arc::clone(&self.shared.sites);
        let open = self.shared.blocking(move || sites.by_volume(volume)).await;
        let open = open.map_err(|error| {
            error::note(&self.shared.metrics, "open a site", &error);
            error::for_caller(&error)
        })?;
        self.sites.insert(volume, Arc::downgrade(&open));
        if self.watched.contains(&volume) {
            open.watch(self.id, self.watcher.clone());
        }
        Ok(open)
    }

    fn leave(&mut self) {
        for open in self.sites.values().filter_map(Handhold::upgrade) {
            open.unwatch(self.id);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Reads until the peer has closed too: closing first could discard our last frames on their way.
async fn drain(stream: &mut WebSocket) {
    let rest = async { while let Some(Ok(_)) = stream.recv().await {} };
    let _ = timeout(limits::CLOSE_WAIT, rest).await.is_ok();
}

/// Whether the socket refused a message for its size. The library tells it by text alone.
fn is_too_large(error: &axum::Error) -> bool {
    let text = error.to_string();
    text.contains("too long") || text.contains("too large") || text.contains("too big")
}

fn to_site(batch: PushBatch, device: DeviceId) -> Batch {
    let PushBatch { timeline, first_seq, prev_hash, mutations } = batch;
    let mutations = mutations.into_iter().map(|m| MutationRecord {
        seq: m.seq,
        base: m.base,
        time_ms: m.time_ms,
        bytes: m.bytes,
    });
    Batch { timeline, first_seq, prev_hash, mutations: mutations.collect(), device }
}

fn to_wire(answer: Answer) -> PushAnswer {
    match answer {
        Answer::Verdicts { first_seq, verdicts, lsn } => {
            PushAnswer::Verdicts { first_seq, verdicts, lsn }
        }
        Answer::Gap { next } => PushAnswer::Gap { next },
        Answer::Fork { next } => PushAnswer::Fork { next },
        Answer::Malformed(why) => PushAnswer::Malformed(why),
    }
}
