//! A node as the remote of a volume: commits and pages over HTTP.
//!
//! Invariant: bytes are checked against their hashes before anybody sees them; every request has
//! a time limit; the token goes to no other host (redirects are not followed). The calling thread
//! blocks, the work is done on the client's own runtime.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode, header};
use sheaf_site::{Error, ErrorKind, Result};
use sheaf_sync::{message, pages, pull};
use sheaf_volume::{Commit, FetchedPage, Lsn, PageSize, Remote, RemoteHead, VolumeId, Want};
use tokio::runtime::Handle;

use crate::{limits, net, traffic::Traffic};

/// HTTP requests to one node.
pub(crate) struct Http {
    client: reqwest::Client,
    server: String,
    token: Option<String>,
    runtime: Handle,
    traffic: Arc<Traffic>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and stays out of logs.
        write!(f, "Http({})", self.server)
    }
}

impl Http {
    /// A client for one node. Opens no connection yet.
    ///
    /// # Errors
    /// `Internal` when TLS cannot be set up.
    pub(crate) fn new(
        server: &str,
        token: Option<String>,
        runtime: Handle,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        // The WebSocket beside it knows no proxy either; a proxy for one of the two helps nobody.
        let client = reqwest::Client::builder()
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .read_timeout(limits::READ_TIMEOUT)
            .timeout(limits::REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .map_err(|e| Error::with_source(ErrorKind::Internal, "set up HTTP", e))?;
        Ok(Self { client, server: server.to_owned(), token, runtime, traffic })
    }

    /// The newest state of a log.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`, or whatever the node says.
    pub(crate) fn head(self: &Arc<Self>, volume: VolumeId) -> Result<RemoteHead> {
        self.pull(volume, Lsn::ZERO, true).map(|answer| answer.head)
    }

    /// Commits after a position.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub(crate) fn pull(
        self: &Arc<Self>,
        volume: VolumeId,
        after: Lsn,
        head_only: bool,
    ) -> Result<pull::Pulled> {
        let http = Arc::clone(self);
        let body = pull::encode_request(volume, after, head_only);
        let answer = net::wait(&self.runtime, async move {
            repeated(|| http.whole(message::PULL_PATH, body.clone())).await
        })?;
        pull::decode_answer(volume, after, answer)
    }

    /// Pages as they were; in as many requests as the limits need.
    ///
    /// # Errors
    /// As [`Self::head`]; `Corrupt` when a page fails its hash.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        volume: VolumeId,
        size: PageSize,
        wants: &[Want],
    ) -> Result<Vec<FetchedPage>> {
        let requests = pages::split_wants(wants);
        let http = Arc::clone(self);
        net::wait(&self.runtime, async move {
            let mut found = Vec::new();
            for wants in requests {
                found.extend(repeated(|| http.fetch_once(volume, size, &wants)).await?);
            }
            Ok(found)
        })
    }

    async fn fetch_once(
        &self,
        volume: VolumeId,
        size: PageSize,
        wants: &[Want],
    ) -> Result<Vec<FetchedPage>, Fault> {
        let body = pages::encode_request(volume, wants)?;
        let mut answer = self.post(message::PAGES_PATH, body).await?;
        let mut reader = pages::BlockReader::new(volume, size, wants);
        let mut found = Vec::new();
        while let Some(piece) = self.piece(&mut answer).await? {
            found.extend(reader.feed(&piece)?);
        }
        // Ending early without an error on the wire is how a node says that it failed half-way.
        reader.finish().map_err(Fault::BrokeOff)?;
        Ok(found)
    }

    async fn whole(&self, path: &str, body: Bytes) -> Result<Bytes, Fault> {
        let mut answer = self.post(path, body).await?;
        self.collect(&mut answer, limits::ANSWER_BYTES_MAX).await
    }

    async fn collect(&self, answer: &mut Response, max: usize) -> Result<Bytes, Fault> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece(answer).await? {
            if whole.len() + piece.len() > max {
                let text = format!("the node's answer is over {max} bytes");
                return Err(Error::new(ErrorKind::Limit, text).into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    async fn piece(&self, answer: &mut Response) -> Result<Option<Bytes>, Fault> {
        let piece = answer.chunk().await.map_err(|e| broken(&self.server, e))?;
        self.traffic.received(piece.as_ref().map_or(0, Bytes::len));
        Ok(piece)
    }

    /// Sends a request; an answer that is not 200 becomes the error it says it is.
    async fn post(&self, path: &str, body: Bytes) -> Result<Response, Fault> {
        self.traffic.trip();
        self.traffic.sent(body.len());
        let url = format!("{}{path}", self.server);
        let mut request = self.client.post(url).header(header::CONTENT_TYPE, message::MEDIA_TYPE);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = request.body(body).send().await;
        let mut answer = sent.map_err(|e| unreachable(&self.server, e))?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let said = self.collect(&mut answer, limits::ERROR_BYTES_MAX).await.unwrap_or_default();
        Err(pull::decode_error(said).unwrap_or_else(|| by_status(&self.server, status)).into())
    }
}

/// A volume whose pages a node has.
#[derive(Debug)]
pub(crate) struct NodeRemote {
    http: Arc<Http>,
    volume: VolumeId,
    size: PageSize,
}

impl NodeRemote {
    pub(crate) fn new(http: Arc<Http>, volume: VolumeId, size: PageSize) -> Self {
        Self { http, volume, size }
    }
}

impl Remote for NodeRemote {
    fn head(&self) -> Result<RemoteHead> {
        self.http.head(self.volume)
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.http.pull(self.volume, after, false).map(|answer| answer.commits)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.http.fetch(self.volume, self.size, wants)
    }
}

/// Why one attempt failed, by whether another may do better.
enum Fault {
    /// The answer ended early. A node that cannot be reached at all, or that says "not now", is
    /// the caller's business instead.
    BrokeOff(Error),
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

async fn repeated<T, F: Future<Output = Result<T, Fault>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let mut left = limits::REQUEST_ATTEMPTS;
    loop {
        left -= 1;
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(Fault::BrokeOff(_)) if left > 0 => {}
            Err(Fault::BrokeOff(error) | Fault::Final(error)) => return Err(error),
        }
    }
}

fn unreachable(server: &str, error: reqwest::Error) -> Fault {
    if !error.is_connect() && !error.is_timeout() {
        return broken(server, error);
    }
    let text = format!("cannot reach the node at {server}");
    let cause = innermost(&error.without_url());
    Fault::Final(Error::with_source(ErrorKind::Unavailable, text, cause))
}

fn broken(server: &str, error: reqwest::Error) -> Fault {
    let text = format!("the answer of the node at {server} broke off");
    let cause = innermost(&error.without_url());
    Fault::BrokeOff(Error::with_source(ErrorKind::Unavailable, text, cause))
}

/// The cause that a person can do something about is the innermost one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn by_status(server: &str, status: StatusCode) -> Error {
    let (kind, text) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (ErrorKind::Denied, "does not accept this token")
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            (ErrorKind::Invalid, "is not a Sheaf node: check the address")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::Limit, "takes no request of this size"),
        _ => (ErrorKind::Unavailable, "or a proxy before it did not answer properly"),
    };
    Error::new(kind, format!("{server} {text} status=`{}`", status.as_u16()))
}
