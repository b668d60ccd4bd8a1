//! The routes: health, metrics, pulls, pages, branches, and the door to the socket.
//!
//! Invariant: a body is read only up to its route's bound and time; every answer that is not 200
//! says in one line what to do; pages are read and sent a chunk at a time, so that neither a
//! large request nor a slow reader holds much memory or any thread.

use std::{collections::VecDeque, io, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{DefaultBodyLimit, FromRequestParts as _, Request, State, WebSocketUpgrade},
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::stream;
use sheaf_sync::{limits as talk, message, pages, pull};
use sheaf_volume::{Error, ErrorKind, Result, Want};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use crate::{answers, error, gate, limits, node::Shared, open::OpenSite, socket};

/// Every route, behind the gate.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route(message::SOCKET_PATH, get(connect))
        .route(message::PULL_PATH, post(commits))
        .route(message::PAGES_PATH, post(fetch))
        .route(message::BRANCH_PATH, post(branch))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(shared), gate::gate))
        // Bodies are bounded where they are read, each by its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(shared))
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    let error =
        Error::new(ErrorKind::NotFound, "no such route: this is a Sheaf node, see its docs");
    error::answer(path, StatusCode::NOT_FOUND, &error)
}

async fn wrong_method(request: Request) -> Response {
    let error = Error::invalid("this route does not have that method");
    error::answer(request.uri().path(), StatusCode::METHOD_NOT_ALLOWED, &error)
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let reachable = shared.store_is_reachable().await;
    let ok = reachable && !shared.is_stopping();
    let body = serde_json::json!({
        "ok": ok,
        "version": env!("CARGO_PKG_VERSION"),
        "store": if reachable { "reachable" } else { "unreachable" },
        "stopping": shared.is_stopping(),
    });
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let media = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, media)], shared.metrics.render()).into_response()
}

async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (mut parts, _body) = request.into_parts();
    // The gate let a header pass only if its token is good.
    let known = gate::bearer(&parts.headers).is_some() || shared.access.is_open();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let text = "this route is a WebSocket: connect with a Sheaf client";
            return error::answer(&path, rejection.status(), &Error::invalid(text));
        }
    };
    let Some(places) = take_places(&shared, known) else {
        shared.metrics.limits_hit.one("sockets");
        let error = Error::new(ErrorKind::Unavailable, "too many connections: try again later");
        return error::answer(&path, StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    upgrade
        .max_message_size(talk::FRAME_BYTES_MAX)
        .max_frame_size(talk::FRAME_BYTES_MAX)
        .on_upgrade(move |stream| socket::run(stream, shared, known, places))
}

/// Places a socket takes: one as long as it lives, one more until its token is known to be good.
#[derive(Debug)]
pub(crate) struct Places {
    /// Given back when the socket ends.
    pub(crate) _socket: OwnedSemaphorePermit,
    /// Given back when the token is known to be good.
    pub(crate) greeting: Option<OwnedSemaphorePermit>,
}

fn take_places(shared: &Shared, known: bool) -> Option<Places> {
    let socket = Arc::clone(&shared.sockets).try_acquire_owned().ok()?;
    let greeting = match known {
        true => None,
        false => Some(Arc::clone(&shared.greetings).try_acquire_owned().ok()?),
    };
    Some(Places { _socket: socket, greeting })
}

async fn commits(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    answered(&shared, &path, "answer a pull", try_pull(&shared, request).await)
}

async fn try_pull(shared: &Arc<Shared>, request: Request) -> Result<Response> {
    let body = read_body(shared, request, limits::PULL_BODY_MAX).await?;
    let request = pull::decode_request(body)?;
    let sites = Arc::clone(&shared.sites);
    let answer = shared.blocking(move || answers::pull(&sites, &request)).await?;
    Ok(protobuf(Body::from(answer)))
}

async fn branch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    answered(&shared, &path, "create a branch", try_branch(&shared, request).await)
}

async fn try_branch(shared: &Arc<Shared>, request: Request) -> Result<Response> {
    let body = read_body(shared, request, limits::PULL_BODY_MAX).await?;
    let sites = Arc::clone(&shared.sites);
    let answer = shared.blocking(move || answers::branch(&sites, body)).await?;
    Ok(protobuf(Body::from(answer)))
}

async fn fetch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    let answer = try_fetch(&shared, request).await;
    shared.metrics.pages_duration.observe(began.elapsed());
    answered(&shared, &path, "answer a request for pages", answer)
}

async fn try_fetch(shared: &Arc<Shared>, request: Request) -> Result<Response> {
    let body = read_body(shared, request, talk::REQUEST_BODY_MAX).await?;
    let pages::PageRequest { volume, wants, held } = pages::decode_request_holding(body)?;
    let sites = Arc::clone(&shared.sites);
    let open = shared.blocking(move || sites.by_volume(volume)).await?;
    let chunks = answers::chunks(&wants);
    let held = Arc::new(held);
    let mut answer = PageAnswer { shared: Arc::clone(shared), open, chunks, held };
    // The first chunk decides the status; later failures can only break the answer off.
    let first = answer.next().await?;
    let state = (Some(first.unwrap_or_default()), answer);
    let blocks = stream::try_unfold(state, |(first, mut answer)| async move {
        let piece = match first {
            Some(piece) => Some(piece),
            None => answer.next().await.map_err(|error| {
                error::note(&answer.shared.metrics, "read pages", &error);
                io::Error::other(error.to_string())
            })?,
        };
        Ok::<_, io::Error>(piece.map(|piece| (piece, (None, answer))))
    });
    Ok(protobuf(Body::from_stream(blocks)))
}

/// An answer to a request for pages on its way.
struct PageAnswer {
    shared: Arc<Shared>,
    open: Arc<OpenSite>,
    chunks: VecDeque<Want>,
    held: Arc<pages::Held>,
}

impl PageAnswer {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(want) = self.chunks.pop_front() else { return Ok(None) };
        let (open, metrics) = (Arc::clone(&self.open), Arc::clone(&self.shared.metrics));
        let held = Arc::clone(&self.held);
        let read = move || answers::chunk(&open, &want, &held, &metrics);
        self.shared.blocking(read).await.map(Some)
    }
}

async fn read_body(shared: &Shared, request: Request, max: usize) -> Result<Bytes> {
    let too_large = || {
        shared.metrics.limits_hit.one("body_bytes");
        Error::new(ErrorKind::Limit, format!("request body is over the limit of {max} bytes"))
    };
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|len| len > max as u64) {
        return Err(too_large());
    }
    match timeout(limits::BODY_TIMEOUT, to_bytes(request.into_body(), max)).await {
        Ok(Ok(body)) => {
            shared.metrics.bytes.add("in", body.len() as u64);
            Ok(body)
        }
        // A declared length was within the bound, so a failure is the connection's.
        Ok(Err(_)) if declared.is_some() => Err(Error::invalid("request body broke off")),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            shared.metrics.limits_hit.one("body_time");
            Err(Error::new(ErrorKind::Unavailable, "request body took too long: try again"))
        }
    }
}

fn answered(
    shared: &Shared,
    path: &str,
    doing: &'static str,
    answer: Result<Response>,
) -> Response {
    answer.unwrap_or_else(|error| {
        error::note(&shared.metrics, doing, &error);
        let told = error::for_caller(&error);
        error::answer(path, error::status_of(told.kind()), &told)
    })
}

fn protobuf(body: Body) -> Response {
    ([(header::CONTENT_TYPE, message::MEDIA_TYPE)], body).into_response()
}
