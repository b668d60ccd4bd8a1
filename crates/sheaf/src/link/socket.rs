//! The transport of a link: one WebSocket as a task, frames both ways through bounded queues.
//!
//! Invariant: a task ends when its sender is dropped, when the socket ends, or when a frame is over
//! the limit; its last word is always [`Input::Closed`]. A worker that is busy stops the reading.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use sheaf_site::{Error, ErrorKind};
use sheaf_sync::limits::FRAME_BYTES_MAX;
use sheaf_volume::{Lineage, PageSize, Remote};
use tokio::{
    runtime::Handle,
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
    },
    time::timeout,
};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use super::Transport;
use crate::{http::Http, limits, node::NodeRemote, server};

/// What the socket tells the worker. The number is the connection's.
#[derive(Debug)]
pub(super) enum Input {
    Connected(u64),
    Frame(u64, Bytes),
    Closed(u64, Error),
}

/// The sockets of one link, of which at most one is in use.
pub(super) struct Sockets {
    http: Arc<Http>,
    inputs: mpsc::Sender<Input>,
    runtime: Handle,
    /// Wakes the worker when a frame has left.
    room: Arc<Notify>,
    frames: Option<mpsc::Sender<Bytes>>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("http", &self.http).finish_non_exhaustive()
    }
}

impl Sockets {
    pub(super) fn new(
        http: Arc<Http>,
        inputs: mpsc::Sender<Input>,
        runtime: Handle,
        room: Arc<Notify>,
    ) -> Self {
        Self { http, inputs, runtime, room, frames: None }
    }
}

impl Transport for Sockets {
    fn dial(&mut self, number: u64) {
        let (frames, queue) = mpsc::channel(limits::FRAMES_MAX);
        self.frames = Some(frames);
        let server = self.http.server().to_owned();
        let (inputs, room) = (self.inputs.clone(), Arc::clone(&self.room));
        drop(self.runtime.spawn(run(number, server, queue, inputs, room)));
    }

    fn send(&mut self, _: u64, frame: Bytes) -> Result<(), Bytes> {
        let Some(frames) = &self.frames else { return Ok(()) };
        match frames.try_send(frame) {
            Err(TrySendError::Full(frame)) => Err(frame),
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn hang_up(&mut self) {
        self.frames = None;
    }

    fn remote(&self, lineage: Lineage, size: PageSize) -> Arc<dyn Remote> {
        Arc::new(NodeRemote::new(self.http.clone(), lineage, size))
    }
}

/// Dials and moves frames until the end.
async fn run(
    number: u64,
    server: String,
    frames: mpsc::Receiver<Bytes>,
    inputs: mpsc::Sender<Input>,
    room: Arc<Notify>,
) {
    let error = talk(number, &server, frames, &inputs, &room).await;
    // Nobody listens any more only when the worker has ended.
    let _ = inputs.send(Input::Closed(number, error)).await.is_ok();
}

async fn talk(
    number: u64,
    server: &str,
    mut frames: mpsc::Receiver<Bytes>,
    inputs: &mpsc::Sender<Input>,
    room: &Notify,
) -> Error {
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let url = server::socket_url(server);
    let dial = connect_async_with_config(url, Some(config), true);
    let mut socket = match timeout(limits::CONNECT_TIMEOUT, dial).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return refused(server, error),
        Err(_) => {
            let text = format!("cannot reach the node at {server}: no answer");
            return Error::new(ErrorKind::Unavailable, text);
        }
    };
    if inputs.send(Input::Connected(number)).await.is_err() {
        return broken("the client was closed");
    }
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else {
                    // The other side may be gone: closing politely must not take long.
                    let _ = timeout(limits::READ_TIMEOUT, socket.close(None)).await.is_ok();
                    return broken("closed by this device");
                };
                let sending = timeout(limits::READ_TIMEOUT, socket.send(Message::Binary(frame)));
                match sending.await {
                    Ok(Ok(())) => room.notify_one(),
                    Ok(Err(error)) => return broken(&error.to_string()),
                    Err(_) => return broken("the node takes no frames"),
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    if inputs.send(Input::Frame(number, frame)).await.is_err() {
                        return broken("the client was closed");
                    }
                }
                // WebSocket's own pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => return broken("the node sent text"),
                Some(Ok(Message::Close(_))) | None => return broken("the node closed it"),
                Some(Err(error)) => return broken(&error.to_string()),
            },
        }
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the connection ended: {why}"))
}

/// Why dialing failed, in terms of what to do.
fn refused(server: &str, error: tungstenite::Error) -> Error {
    let tungstenite::Error::Http(answer) = &error else {
        let text = format!("cannot reach the node at {server}");
        return Error::with_source(ErrorKind::Unavailable, text, error);
    };
    let status = answer.status().as_u16();
    let said = answer.body().clone().and_then(|body| sheaf_sync::pull::decode_error(body.into()));
    said.unwrap_or_else(|| {
        let (kind, why) = match status {
            401 | 403 => (ErrorKind::Denied, "does not let this device in"),
            500.. => (ErrorKind::Unavailable, "or a proxy before it does not answer properly"),
            _ => (ErrorKind::Invalid, "is not a Sheaf node: check the address"),
        };
        Error::new(kind, format!("{server} {why} status=`{status}`"))
    })
}
