//! Requests to one node over HTTP.
//!
//! Invariant: every request has a time limit; the token goes to no other host (redirects are not
//! followed). The calling thread blocks, the work is done on the client's own runtime. Reads no
//! answer but an error's.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use sheaf_site::{Error, ErrorKind, Result};
use sheaf_sync::{message, pull};
use tokio::runtime::Handle;

use crate::{
    limits,
    net::{self, Outlet},
    node::{Fault, Post},
    traffic::Traffic,
};

/// HTTP requests to one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    server: Arc<str>,
    token: Option<Arc<str>>,
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
        let token = token.map(Arc::from);
        Ok(Self { client, server: server.into(), token, runtime, traffic })
    }

    /// The node's address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request and passes its answer on; an answer that is not 200 becomes the error it
    /// says it is.
    async fn run(self, request: RequestBuilder, outlet: Outlet<Fault>) -> Result<(), Fault> {
        let sent = request.send().await;
        let mut answer = sent.map_err(|e| unreachable(&self.server, e))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let said = self.said(&mut answer).await.unwrap_or_default();
            let error = pull::decode_error(said).unwrap_or_else(|| by_status(&self.server, status));
            return Err(error.into());
        }
        while let Some(piece) = self.piece(&mut answer).await? {
            if !outlet.put(piece).await {
                break;
            }
        }
        Ok(())
    }

    async fn said(&self, answer: &mut Response) -> Result<Bytes, Fault> {
        let mut said = BytesMut::new();
        while let Some(piece) = self.piece(answer).await? {
            if said.len() + piece.len() > limits::ERROR_BYTES_MAX {
                return Err(Error::new(ErrorKind::Limit, "the error is too long").into());
            }
            said.extend_from_slice(&piece);
        }
        Ok(said.freeze())
    }

    async fn piece(&self, answer: &mut Response) -> Result<Option<Bytes>, Fault> {
        let piece = answer.chunk().await.map_err(|e| broken(&self.server, e))?;
        self.traffic.received(piece.as_ref().map_or(0, Bytes::len));
        Ok(piece)
    }
}

impl Post for Http {
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        self.traffic.trip();
        self.traffic.sent(body.len());
        let url = format!("{}{path}", self.server);
        let mut request = self.client.post(url).header(header::CONTENT_TYPE, message::MEDIA_TYPE);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let request = request.body(body);
        let http = self.clone();
        net::stream(&self.runtime, |outlet| http.run(request, outlet), take)
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
