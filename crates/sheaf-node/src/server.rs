//! Accepts connections and serves HTTP/1 on them, each in a task of its own.
//!
//! Invariant: connections, header bytes, header time and write time are bounded; a panic ends one
//! connection and no other; when the node stops, open requests are finished within
//! [`limits::STOP_GRACE`] and no new ones begin.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{gate::Peer, limits, node::Shared, pace::Paced};

/// Pause after a failed accept: the usual cause, no free file descriptor, does not end at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection over the bound is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 31\r\n\r\ntoo many connections, try later";

/// Serves until told to stop, then until the open requests are done.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(done) = open.join_next(), if !open.is_empty() => note_panic(done),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match Arc::clone(&slots).try_acquire_owned() {
                    Ok(slot) => {
                        let shared = Arc::clone(&shared);
                        open.spawn(connection(stream, peer, router.clone(), shared, stop.clone(), slot));
                    }
                    Err(_) => refuse(&stream, &shared),
                },
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let finish = async {
        while let Some(done) = open.join_next().await {
            note_panic(done);
        }
    };
    if tokio::time::timeout(limits::STOP_GRACE, finish).await.is_err() {
        tracing::warn!("connections were cut off: they did not end in time");
    }
    open.shutdown().await;
}

/// Ends when the node is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node itself is gone: the same thing.
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}

fn note_panic(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!(%error, "connection ended by a bug: please report it");
    }
}

fn refuse(stream: &TcpStream, shared: &Shared) {
    shared.metrics.limits_hit.one("connections");
    // As much as fits at once: nobody waits for a connection that is turned away.
    let _ = stream.try_write(FULL).is_ok();
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) {
    let _inside = shared.metrics.http_connections.enter();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let inner = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        inner.call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIMEOUT)
        .max_buf_size(limits::HEADER_BYTES_MAX);
    let served = builder.serve_connection(TokioIo::new(Paced::new(stream)), service);
    let mut served = pin!(served.with_upgrades());
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stopped(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
    drop(slot);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_refusal_is_a_whole_answer() {
        let text = std::str::from_utf8(super::FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(length.unwrap().parse(), Ok(body.len()));
    }
}
