//! The one door of every HTTP request: host, origin, token.
//!
//! Invariant: deny by default. A route that this file does not name needs a token, also a route
//! that does not exist. `/healthz` is open; `/metrics` is open to a peer on a loopback address
//! that no proxy speaks for; the socket may bring its token in `Hello` instead, and nothing is
//! done for it before that.
//!
//! Browsers send `Origin`: only pages of this very host may connect. While everybody is let in
//! (`--no-auth`) the host must also be a loopback name, because a page of a stranger could
//! otherwise rebind its own name to this address and pass as the same host.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    body::HttpBody as _,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use sheaf_sync::message::SOCKET_PATH;
use sheaf_volume::{Error, ErrorKind};

use crate::{error, metrics::Metrics, node::Shared, token::Access};

/// Who sent a request, as the socket says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Lets a request pass or answers it.
pub(crate) async fn gate(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<Peer>().copied();
    let passed = check_host(&shared.access, request.uri(), request.headers())
        .and_then(|()| check_token(&shared.access, &path, peer, request.headers()));
    let response = match passed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.answer(&shared.metrics, &path),
    };
    count(&shared.metrics, &response);
    response
}

#[derive(Debug)]
struct Refusal {
    reason: &'static str,
    status: StatusCode,
    message: &'static str,
}

impl Refusal {
    fn answer(&self, metrics: &Metrics, path: &str) -> Response {
        metrics.auth_denied.one(self.reason);
        tracing::debug!(reason = self.reason, "request refused");
        error::answer(path, self.status, &Error::new(ErrorKind::Denied, self.message))
    }
}

fn check_token(
    access: &Access,
    path: &str,
    peer: Option<Peer>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let token = bearer(headers);
    let open = match path {
        "/healthz" => true,
        "/metrics" => peer.is_some_and(|peer| is_direct_loopback(peer, headers)),
        // A wrong token is refused at once; none at all may still come in `Hello`.
        SOCKET_PATH => token.is_none(),
        _ => false,
    };
    if open {
        return Ok(());
    }
    access.admit(token).map_err(|denied| Refusal {
        reason: denied.reason(),
        status: StatusCode::UNAUTHORIZED,
        message: denied.message(),
    })
}

fn check_host(access: &Access, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = uri.authority().map(|a| a.as_str()).or_else(|| text(headers, header::HOST));
    let forbidden =
        |reason, message| Err(Refusal { reason, status: StatusCode::FORBIDDEN, message });
    if access.is_open() && host.is_some_and(|host| !is_loopback_name(host)) {
        let message = "a node without tokens answers only under a loopback name: use localhost";
        return forbidden("host", message);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin_host = origin.to_str().ok().and_then(|text| text.split_once("://"));
    match (origin_host, host) {
        (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => forbidden("origin", "pages of another host may not connect to this node"),
    }
}

/// The token of an `Authorization: Bearer` header. A header of another scheme is an empty token:
/// something was presented, and it is not known.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    };
    Some(token)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_direct_loopback(peer: Peer, headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    peer.0.ip().to_canonical().is_loopback()
        && proxied.iter().all(|name| !headers.contains_key(*name))
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // `[::1]` has colons of its own; a port follows the bracket.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn count(metrics: &Metrics, response: &Response) {
    let class = match response.status().as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    metrics.http_requests.one(class);
    // Streamed bodies (pages) count their bytes as they go.
    metrics.bytes.add("out", response.body().size_hint().exact().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[track_caller]
    fn check_hosts(access: &Access, pairs: &[(&'static str, &str)], expect: Option<&str>) {
        let got = check_host(access, &Uri::from_static("/"), &headers(pairs));
        assert_eq!(got.err().map(|refusal| refusal.reason), expect, "{pairs:?}");
    }

    #[test]
    fn browsers_may_connect_from_the_same_host_only() {
        let access = Access::Tokens(Vec::new());
        check_hosts(&access, &[("host", "a.example:7070")], None);
        let same = [("host", "a.example:7070"), ("origin", "http://a.example:7070")];
        check_hosts(&access, &same, None);
        let other = [("host", "a.example:7070"), ("origin", "http://b.example")];
        check_hosts(&access, &other, Some("origin"));
        check_hosts(&access, &[("host", "a.example"), ("origin", "null")], Some("origin"));
        check_hosts(&access, &[("origin", "http://b.example")], Some("origin"));
    }

    #[test]
    fn a_node_without_tokens_insists_on_a_loopback_name() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:7070", "127.1.2.3", "[::1]:70", "[::1]"]
        {
            check_hosts(&Access::Open, &[("host", host)], None);
        }
        for host in ["rebound.example:7070", "10.0.0.1", "localhost.example", "[fe80::1]:1", "::"] {
            check_hosts(&Access::Open, &[("host", host)], Some("host"));
        }
    }

    #[track_caller]
    fn check_path(path: &str, peer: &str, pairs: &[(&'static str, &str)], expect: Option<&str>) {
        let access = Access::Tokens(vec![crate::token::hash("a-token-of-the-tests")]);
        let peer = Some(Peer(SocketAddr::new(peer.parse().unwrap(), 9)));
        let got = check_token(&access, path, peer, &headers(pairs));
        assert_eq!(got.err().map(|refusal| refusal.reason), expect, "{path} {peer:?} {pairs:?}");
    }

    #[test]
    fn routes_are_closed_unless_named() {
        let good = [("authorization", "Bearer a-token-of-the-tests")];
        let wrong = [("authorization", "bearer another")];
        let basic = [("authorization", "Basic YTpi")];
        check_path("/healthz", "8.8.8.8", &[], None);
        for path in ["/v1/pages", "/v1/pull", "/nowhere", "/", "/healthz/"] {
            check_path(path, "127.0.0.1", &[], Some("missing"));
            check_path(path, "127.0.0.1", &wrong, Some("unknown"));
            check_path(path, "127.0.0.1", &basic, Some("missing"));
            check_path(path, "8.8.8.8", &good, None);
        }
        check_path(SOCKET_PATH, "8.8.8.8", &[], None);
        check_path(SOCKET_PATH, "8.8.8.8", &wrong, Some("unknown"));
        check_path("/metrics", "127.0.0.1", &[], None);
        check_path("/metrics", "::ffff:127.0.0.1", &[], None);
        check_path("/metrics", "127.0.0.1", &[("x-forwarded-for", "8.8.8.8")], Some("missing"));
        check_path("/metrics", "8.8.8.8", &[], Some("missing"));
        check_path("/metrics", "8.8.8.8", &good, None);
    }
}
