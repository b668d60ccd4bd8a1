//! What a node refuses to start with, and what it keeps between starts.

use sheaf_node::{ErrorKind, Node, NodeOptions};

use crate::harness::{TestNode, http, options};

#[track_caller]
fn check_refused(options: NodeOptions, kind: ErrorKind, hint: &str) {
    let error = Node::start(options).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(hint), "{error}");
    assert!(!error.to_string().contains('\n'), "one line: {error}");
}

#[test]
fn no_auth_on_a_public_address_is_refused_and_nothing_is_made() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let mut options = NodeOptions::new(&data, ([0, 0, 0, 0], 0).into());
    options.no_auth = true;
    check_refused(options, ErrorKind::Invalid, "--no-auth");
    assert!(!data.exists());
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let node = TestNode::start();
    check_refused(options(node.data.path()), ErrorKind::Busy, "another node");
    assert_eq!(node.get("/healthz", &[]).status, 200, "the first one is unharmed");
    let data = node.data;
    node.running.stop().unwrap();
    Node::start(options(data.path())).unwrap().stop().unwrap();
}

#[test]
fn a_taken_address_is_refused_and_makes_no_token() {
    let node = TestNode::start();
    let data = tempfile::tempdir().unwrap();
    let mut options = options(data.path());
    options.listen = node.running.addr();
    check_refused(options.clone(), ErrorKind::Busy, "in use");
    drop(node);
    let node = Node::start(options).unwrap();
    assert!(node.first_token().is_some(), "the failed start had not used the first token up");
}

#[test]
fn a_bad_store_url_is_refused() {
    let data = tempfile::tempdir().unwrap();
    for url in ["", "no url", "gopher://x/y"] {
        let mut options = options(data.path());
        options.store = Some(url.to_owned());
        let error = Node::start(options).unwrap_err();
        assert!(!error.to_string().is_empty(), "{url}");
    }
}

#[test]
fn the_token_is_made_once_and_stays_good() {
    let node = TestNode::start();
    let (token, data) = (node.token, node.data);
    node.running.stop().unwrap();
    let again = Node::start(options(data.path())).unwrap();
    assert_eq!(again.first_token(), None);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(http(again.addr(), "GET", "/nowhere", &[&bearer], &[]).status, 404);
}

#[test]
fn an_operators_token_file_is_used_instead() {
    let data = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), b"# ours\nour-own-secret-token\n").unwrap();
    let mut options = options(data.path());
    options.token_file = Some(file.path().to_owned());
    let node = Node::start(options).unwrap();
    assert_eq!(node.first_token(), None);
    for (token, status) in [("our-own-secret-token", 404), ("# ours", 401), ("other", 401)] {
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(http(node.addr(), "GET", "/nowhere", &[&bearer], &[]).status, status, "{token}");
    }
}
