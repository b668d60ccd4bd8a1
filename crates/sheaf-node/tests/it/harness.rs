//! A node in a fresh directory, and clients so plain that they can send anything.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use sheaf_node::{Node, NodeOptions, Running};
use sheaf_sync::{
    message::{self, Body, SOCKET_PATH},
    wire,
};
use sheaf_volume::{PageSize, SiteId, VolumeId};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// Long enough for a busy machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) fn options(data: &Path) -> NodeOptions {
    NodeOptions::new(data, loopback())
}

/// A running node and its directory, which goes when the node has gone.
pub(crate) struct TestNode {
    pub(crate) running: Running,
    pub(crate) token: String,
    pub(crate) data: tempfile::TempDir,
}

impl TestNode {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let running = Node::start(options(data.path())).unwrap();
        let token = running.first_token().unwrap();
        Self { running, token, data }
    }

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Answer {
        http(self.running.addr(), "GET", path, headers, &[])
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// A `/v1/` request with the right token.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        http(self.running.addr(), "POST", path, &[&self.bearer()], body)
    }

    /// The value of one series of `/metrics`.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.get("/metrics", &[]).text();
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
        let value = line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next();
        value.unwrap().parse().unwrap()
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The message of a `/v1/` error.
    pub(crate) fn error(&self) -> message::Error {
        prost::Message::decode(self.body.as_slice()).unwrap()
    }
}

pub(crate) fn http(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        head.push_str(&format!("Host: {addr}\r\n"));
    }
    if !headers.iter().any(|line| line.starts_with("Content-Length:")) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    head.push_str("\r\n");
    raw(addr, &[head.as_bytes(), body].concat())
}

/// Sends bytes and reads until the node closes.
pub(crate) fn raw(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The node may answer and close before it has read everything.
    let _ = stream.write_all(request).is_ok();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).is_ok();
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: unchunk(&bytes[split + 4..], head_says_chunked(&bytes[..split])) }
}

fn head_says_chunked(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).to_ascii_lowercase().contains("transfer-encoding: chunked")
}

fn unchunk(mut rest: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
    }
    body
}

/// A WebSocket that sends whatever a test wants.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, None).await.unwrap()
    }

    pub(crate) async fn connect_with(
        addr: SocketAddr,
        header: Option<(&'static str, &str)>,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{addr}{SOCKET_PATH}").into_client_request().unwrap();
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        connect_async(request).await.map(|(stream, _)| Self(stream))
    }

    /// Connected and greeted.
    pub(crate) async fn greeted(node: &TestNode) -> Self {
        let mut socket = Self::connect(node.running.addr()).await;
        socket.say(hello(&node.token)).await;
        let answer = socket.hear().await;
        assert!(matches!(answer, Some(Body::Welcome(_))), "{answer:?}");
        socket
    }

    pub(crate) async fn say(&mut self, body: Body) {
        self.send(Message::Binary(wire::encode(body))).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        // The node may have closed already; what it said is still there to be heard.
        let _ = self.0.send(message).await.is_ok();
    }

    /// The next message; `None` when the node has closed.
    pub(crate) async fn hear(&mut self) -> Option<Body> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.expect("the node says nothing")? {
                Ok(Message::Binary(frame)) => return Some(wire::decode(frame).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The fatal error that ends the connection.
    pub(crate) async fn hear_end(&mut self) -> message::Error {
        let Some(Body::Error(error)) = self.hear().await else { panic!("no error") };
        assert!(error.fatal, "{error:?}");
        assert_eq!(self.hear().await, None, "closed after a fatal error");
        error
    }

    /// Opens a site, creating it under ids made of `number`.
    pub(crate) async fn open(&mut self, name: &str, number: u8) -> Bytes {
        self.say(Body::Open(message::Open {
            request: 100,
            name: name.to_owned(),
            create: Some(wire::create_to_wire(&wire::CreateIds {
                site: SiteId::from_bytes([number; 16]),
                volume: VolumeId::from_bytes([number; 16]),
                page_size: PageSize::DEFAULT,
            })),
        }))
        .await;
        let answer = self.hear().await;
        let Some(Body::Opened(opened)) = answer else { panic!("not opened: {answer:?}") };
        opened.volume
    }
}

pub(crate) fn hello(token: &str) -> Body {
    Body::Hello(message::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent: "test".to_owned(),
        device: Bytes::from_static(&[9; 16]),
        token: token.to_owned(),
    })
}

/// Runs a test's asynchronous part; the node has a runtime of its own.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}
