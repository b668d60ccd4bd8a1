//! The socket: greeting, wrong input, and the end of a connection.

use bytes::Bytes;
use sheaf_node::Node;
use sheaf_sync::{
    limits,
    message::{self, Body, ErrorCode},
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Socket, TestNode, hello, options, run};

#[test]
fn a_good_token_is_welcomed_by_hello_or_by_header() {
    let node = TestNode::start();
    run(async {
        drop(Socket::greeted(&node).await);
        let bearer = format!("Bearer {}", node.token);
        let header = Some(("authorization", bearer.as_str()));
        let mut socket = Socket::connect_with(node.running.addr(), header).await.unwrap();
        socket.say(hello("")).await;
        assert!(matches!(socket.hear().await, Some(Body::Welcome(_))));
    });
}

#[test]
fn a_bad_token_ends_the_connection() {
    let node = TestNode::start();
    run(async {
        let addr = node.running.addr();
        for (token, hint) in [("", "--token"), ("stranger", "does not know"), ("sheaf_x", "whole")]
        {
            let mut socket = Socket::connect(addr).await;
            socket.say(hello(token)).await;
            let error = socket.hear_end().await;
            assert_eq!(error.code(), ErrorCode::Denied);
            assert!(error.message.contains(hint), "{}", error.message);
        }
        let header = Some(("authorization", "Bearer stranger"));
        assert!(Socket::connect_with(addr, header).await.is_err(), "refused before the upgrade");
        let header = Some(("origin", "http://evil.example"));
        assert!(Socket::connect_with(addr, header).await.is_err());
    });
}

#[test]
fn nothing_is_done_before_hello() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::connect(node.running.addr()).await;
        socket.say(Body::Open(message::Open { request: 1, name: "x".into(), create: None })).await;
        assert_eq!(socket.hear_end().await.code(), ErrorCode::Invalid);
    });
}

#[test]
fn a_version_from_the_future_is_told_so() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::connect(node.running.addr()).await;
        let Body::Hello(mut hello) = hello(&node.token) else { unreachable!() };
        (hello.protocol_min, hello.protocol_max) = (900, 901);
        socket.say(Body::Hello(hello)).await;
        let error = socket.hear_end().await;
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert!(error.message.contains("900"), "{}", error.message);
    });
}

#[test]
fn wrong_frames_end_the_connection_with_one_message() {
    let node = TestNode::start();
    run(async {
        for (frame, code) in [
            (Message::Text("hello".into()), ErrorCode::Invalid),
            (Message::Binary(Bytes::from_static(b"\xff\xff\xff")), ErrorCode::Invalid),
            // A message with a number of the future.
            (Message::Binary(Bytes::from_static(&[0xfa, 0x3f, 0x00])), ErrorCode::Unsupported),
            (Message::Binary(Bytes::new()), ErrorCode::Unsupported),
        ] {
            let mut socket = Socket::greeted(&node).await;
            socket.send(frame.clone()).await;
            assert_eq!(socket.hear_end().await.code(), code, "{frame:?}");
        }
        // Others are not disturbed.
        let mut socket = Socket::greeted(&node).await;
        socket.say(Body::Ping(message::Ping { nonce: 5 })).await;
        assert_eq!(socket.hear().await, Some(Body::Pong(message::Ping { nonce: 5 })));
    });
}

#[test]
fn an_oversized_frame_is_refused() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::greeted(&node).await;
        let frame = Bytes::from(vec![0; limits::FRAME_BYTES_MAX + 1]);
        socket.send(Message::Binary(frame)).await;
        // The connection may break under the bytes still on their way before the message arrives.
        if let Some(Body::Error(error)) = socket.hear().await {
            assert_eq!(error.code(), ErrorCode::Limit);
            assert!(error.fatal);
        }
    });
    assert_eq!(node.metric("sheaf_limits_hit_total{limit=\"message_bytes\"}"), 1);
}

#[test]
fn an_unknown_site_is_not_found_and_not_made() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::greeted(&node).await;
        for name in ["nobody/knows", "nobody/knows"] {
            let open = message::Open { request: 7, name: name.into(), create: None };
            socket.say(Body::Open(open)).await;
            let Some(Body::Error(error)) = socket.hear().await else { panic!("no error") };
            assert_eq!((error.request, error.code(), error.fatal), (7, ErrorCode::NotFound, false));
            assert!(error.message.contains("no site `nobody/knows` here"), "{}", error.message);
        }
    });
}

#[test]
fn a_stopping_node_tells_its_sockets() {
    let node = TestNode::start();
    let (running, token) = (node.running, node.token);
    let addr = running.addr();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let socket = std::thread::Builder::new().spawn(move || {
        run(async {
            let mut socket = Socket::connect(addr).await;
            socket.say(hello(&token)).await;
            assert!(matches!(socket.hear().await, Some(Body::Welcome(_))));
            ready.send(()).unwrap();
            let error = socket.hear_end().await;
            assert_eq!(error.code(), ErrorCode::Unavailable);
            assert!(error.message.contains("stopping"), "{}", error.message);
        });
    });
    is_ready.recv().unwrap();
    running.stop().unwrap();
    socket.unwrap().join().unwrap();
}

#[test]
fn without_tokens_everybody_on_this_machine_is_welcome() {
    let data = tempfile::tempdir().unwrap();
    let mut options = options(data.path());
    options.no_auth = true;
    let node = Node::start(options).unwrap();
    run(async {
        let mut socket = Socket::connect(node.addr()).await;
        socket.say(hello("")).await;
        assert!(matches!(socket.hear().await, Some(Body::Welcome(_))));
    });
}
