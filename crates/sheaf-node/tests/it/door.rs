//! HTTP: who is let in, what is bounded, what is answered.

use sheaf_node::Node;
use sheaf_sync::message::{BRANCH_PATH, ErrorCode, PAGES_PATH, PULL_PATH};

use crate::harness::{TestNode, http, options, raw};

#[test]
fn health_is_open_and_says_what_it_found() {
    let node = TestNode::start();
    let answer = node.get("/healthz", &[]);
    assert_eq!(answer.status, 200);
    for part in ["\"ok\":true", "\"store\":\"reachable\"", "\"version\":\""] {
        assert!(answer.text().contains(part), "{}", answer.text());
    }
}

#[test]
fn every_other_route_wants_a_token() {
    let node = TestNode::start();
    let addr = node.running.addr();
    let damaged = format!("Authorization: Bearer {}", &node.token[..node.token.len() - 1]);
    let unknown = "Authorization: Bearer somebody-elses-token";
    let posts = [PULL_PATH, PAGES_PATH, BRANCH_PATH].map(|path| ("POST", path));
    for (method, path) in posts.into_iter().chain([("GET", "/nowhere")]) {
        for headers in [&[][..], &[damaged.as_str()], &[unknown]] {
            let answer = http(addr, method, path, headers, &[]);
            assert_eq!(answer.status, 401, "{path} {headers:?}");
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"));
        }
        let answer = http(addr, method, path, &[&node.bearer()], &[]);
        assert_ne!(answer.status, 401, "{path}");
    }
    let refusal = http(addr, "POST", PULL_PATH, &[&damaged], &[]).error();
    assert_eq!(refusal.code(), ErrorCode::Denied);
    assert!(refusal.message.contains("checksum"), "{}", refusal.message);
    assert_eq!(node.metric("sheaf_auth_denied_total{reason=\"missing\"}"), 4);
    assert_eq!(node.metric("sheaf_auth_denied_total{reason=\"damaged\"}"), 5);
    assert_eq!(node.metric("sheaf_auth_denied_total{reason=\"unknown\"}"), 4);
}

#[test]
fn metrics_are_for_this_machine_or_a_token() {
    let node = TestNode::start();
    let answer = node.get("/metrics", &[]);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("# TYPE sheaf_commits_total counter"), "{}", answer.text());
    let proxied = "X-Forwarded-For: 203.0.113.9";
    assert_eq!(node.get("/metrics", &[proxied]).status, 401);
    assert_eq!(node.get("/metrics", &[proxied, &node.bearer()]).status, 200);
}

#[test]
fn unknown_routes_and_methods_are_told_apart() {
    let node = TestNode::start();
    assert_eq!(node.get("/nowhere", &[&node.bearer()]).status, 404);
    assert_eq!(node.get(PULL_PATH, &[&node.bearer()]).status, 405);
    assert_eq!(http(node.running.addr(), "DELETE", "/healthz", &[], &[]).status, 405);
}

#[test]
fn an_oversized_body_is_refused_before_and_while_it_is_read() {
    let node = TestNode::start();
    let declared = http(
        node.running.addr(),
        "POST",
        PULL_PATH,
        &[&node.bearer(), "Content-Length: 1000000000"],
        &[],
    );
    assert_eq!(declared.status, 413);
    assert_eq!(declared.error().code(), ErrorCode::Limit);

    let mut request = format!(
        "POST {PULL_PATH} HTTP/1.1\r\nHost: {}\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n",
        node.running.addr(),
        node.bearer()
    )
    .into_bytes();
    request.extend_from_slice(b"8000\r\n");
    request.extend_from_slice(&[0; 0x8000]);
    request.extend_from_slice(b"\r\n0\r\n\r\n");
    let streamed = raw(node.running.addr(), &request);
    assert_eq!(streamed.status, 413);
    assert_eq!(node.metric("sheaf_limits_hit_total{limit=\"body_bytes\"}"), 2);
}

#[test]
fn oversized_headers_are_refused() {
    let node = TestNode::start();
    let long = format!("X-Long: {}", "x".repeat(64 * 1024));
    assert_eq!(node.get("/healthz", &[&long]).status, 431);
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let node = TestNode::start();
    for path in [PULL_PATH, PAGES_PATH] {
        for body in [&b"\xff\xff\xff"[..], b"hello", b"\x0a\x03abc"] {
            let answer = node.post(path, body);
            assert_eq!(answer.status, 400, "{path} {body:?}");
            assert_eq!(answer.error().code(), ErrorCode::Invalid);
        }
    }
    // The right shape, but nobody knows this volume.
    let answer = node.post(PULL_PATH, &[&[0x12, 16][..], &[7; 16]].concat());
    assert_eq!(answer.status, 404, "{}", answer.error().message);
}

#[test]
fn browsers_of_other_hosts_stay_out() {
    let node = TestNode::start();
    let here = format!("Origin: http://{}", node.running.addr());
    assert_eq!(node.get("/nowhere", &[&node.bearer(), &here]).status, 404);
    let there = "Origin: http://evil.example";
    assert_eq!(node.get("/nowhere", &[&node.bearer(), there]).status, 403);
    assert_eq!(node.metric("sheaf_auth_denied_total{reason=\"origin\"}"), 1);
}

#[test]
fn without_tokens_only_loopback_names_are_answered() {
    let data = tempfile::tempdir().unwrap();
    let mut options = options(data.path());
    options.no_auth = true;
    let node = Node::start(options).unwrap();
    assert_eq!(node.first_token(), None);
    let get = |headers: &[&str]| http(node.addr(), "GET", "/nowhere", headers, &[]).status;
    assert_eq!(get(&[]), 404);
    assert_eq!(get(&["Host: localhost:7070"]), 404);
    // A stranger's page that rebound its own name to this address: same host, still no.
    assert_eq!(get(&["Host: evil.example", "Origin: http://evil.example"]), 403);
}
