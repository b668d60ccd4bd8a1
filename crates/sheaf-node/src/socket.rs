//! One WebSocket: carries frames between a peer and its [`Desk`], and does for the desk what may
//! block, on blocking threads.
//!
//! Invariant: what the desk wants done first is done before it is asked again. A peer that does
//! not read only delays itself, and is cut off when its queue is full or
//! [`crate::limits::SEND_TIMEOUT`] has passed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sheaf_sync::limits as talk;
use sheaf_volume::{Error, ErrorKind};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};

use crate::{
    desk::{Desk, Handover, Next, Outcome, Work},
    http::Places,
    limits,
    node::Shared,
    open::{Notice, Watcher},
    server::stopped,
};

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// WebSocket close code for "going away" (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;
/// "Policy violation": what follows a fatal error of ours.
const POLICY: u16 = 1008;

struct Connection {
    shared: Arc<Shared>,
    desk: Desk,
    work: FuturesUnordered<BoxFuture<'static, Outcome>>,
    places: Places,
}

/// Serves one socket until either side ends it.
pub(crate) async fn run(mut stream: WebSocket, shared: Arc<Shared>, known: bool, places: Places) {
    let (notices, mut incoming) = mpsc::channel(limits::NOTICES_MAX);
    let cut = Arc::new(Notify::new());
    let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let watcher = Watcher { notices, cut: Arc::clone(&cut) };
    let (sites, access) = (Arc::clone(&shared.sites), Arc::clone(&shared.access));
    let desk = Desk::new(id, sites, access, known, watcher);
    let mut connection = Connection { shared, desk, work: FuturesUnordered::new(), places };
    tracing::debug!(connection = id, "socket opened");
    tokio::select! {
        () = connection.serve(&mut stream, &mut incoming) => {}
        () = cut.notified() => {
            tracing::info!(connection = id, "socket cut off: its peer does not read");
        }
    }
    drop(connection);
    tracing::debug!(connection = id, "socket closed");
}

impl Connection {
    async fn serve(&mut self, stream: &mut WebSocket, notices: &mut mpsc::Receiver<Notice>) {
        let mut stop = self.shared.stop.subscribe();
        let mut stopping = false;
        loop {
            self.begin().await;
            if stopping && self.work.is_empty() {
                self.desk.close_for_stop();
            }
            if !self.send(stream).await {
                return;
            }
            if self.desk.is_closing() {
                let code = if stopping { GOING_AWAY } else { POLICY };
                let frame = CloseFrame { code, reason: "".into() };
                // The peer may be gone already: then there is nobody to tell.
                let _ = stream.send(Message::Close(Some(frame))).await.is_ok();
                drain(stream).await;
                return;
            }
            let deadline = Duration::from_millis(self.desk.deadline_ms());
            let patience = deadline.saturating_sub(self.shared.sites.clock.now());
            tokio::select! {
                received = stream.recv(), if self.desk.wants_frame() && !stopping => {
                    match received {
                        Some(received) => if !self.received(received) { return },
                        None => return,
                    }
                }
                Some(outcome) = self.work.next(), if !self.work.is_empty() => {
                    self.desk.done(outcome);
                }
                Some(notice) = notices.recv() => self.desk.notify(&notice),
                () = sleep(patience) => self.desk.tick(),
                () = stopped(&mut stop), if !stopping => stopping = true,
            }
        }
    }

    /// Begins everything that the peer has asked for.
    async fn begin(&mut self) {
        loop {
            match self.desk.next() {
                Next::Idle => break,
                Next::Beside(work) => {
                    self.work.push(blocking(Arc::clone(&self.shared), work).boxed());
                }
                Next::First(work) => {
                    let outcome = blocking(Arc::clone(&self.shared), work).await;
                    self.desk.done(outcome);
                }
                Next::Queue(Handover { open, job, answer }) => match open.hand(job).await {
                    Ok(()) => self.work.push(answer.wait().boxed()),
                    Err(error) => self.desk.done(answer.refused(error)),
                },
            }
        }
        if self.desk.is_greeted() {
            self.places.greeting = None;
        }
    }

    /// Sends what the desk has ready; false when the peer is gone.
    async fn send(&mut self, stream: &mut WebSocket) -> bool {
        while let Some(frame) = self.desk.poll_frame() {
            if stream.send(Message::Binary(frame)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Takes what came from the peer; false when it has gone.
    fn received(&mut self, received: Result<Message, axum::Error>) -> bool {
        match received {
            Ok(Message::Binary(frame)) => self.desk.frame(frame),
            Ok(Message::Text(_)) => {
                let text = "text frames are not spoken here: connect with a Sheaf client";
                self.desk.close(&Error::invalid(text));
            }
            // Control frames are answered below us.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return false,
            Err(error) if is_too_large(&error) => {
                self.shared.metrics.limits_hit.one("message_bytes");
                let max = talk::FRAME_BYTES_MAX;
                let text = format!("frame is over the limit of {max} bytes: send less at once");
                self.desk.close(&Error::new(ErrorKind::Limit, text));
            }
            Err(error) => {
                tracing::debug!(connection = self.desk.id(), %error, "socket failed");
                return false;
            }
        }
        true
    }
}

async fn blocking(shared: Arc<Shared>, work: Work) -> Outcome {
    let Work { bad, read } = work;
    shared.blocking(read).await.map_err(|error| (bad, error))
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
