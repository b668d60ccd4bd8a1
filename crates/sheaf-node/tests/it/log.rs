//! Pushes, pulls and notifications, as far as they need no real mutations.

use bytes::Bytes;
use sheaf_node::Node;
use sheaf_sync::message::{self, Body, PULL_PATH, VerdictKind};

use crate::harness::{Socket, TestNode, options, run};

fn push(volume: &Bytes, request: u64, first_seq: u64) -> Body {
    Body::Push(message::Push {
        request,
        volume: volume.clone(),
        timeline: Bytes::from_static(&[3; 16]),
        generation: 0,
        first_seq,
        prev_hash: Bytes::from_static(&[0; 16]),
        tell_stands: false,
        mutations: vec![message::Mutation {
            seq: first_seq,
            base_lsn: 0,
            time_ms: 1,
            bytes: Bytes::from_static(b"\xffnot a mutation"),
        }],
    })
}

#[test]
fn a_site_is_created_once_under_the_ids_of_the_first() {
    let node = TestNode::start();
    run(async {
        let mut first = Socket::greeted(&node).await;
        let volume = first.open("team/todos", 1).await;
        assert_eq!(volume, Bytes::from_static(&[1; 16]));
        let mut second = Socket::greeted(&node).await;
        assert_eq!(second.open("team/todos", 2).await, volume);
        assert_ne!(second.open("team/other", 4).await, volume);
    });
    assert_eq!(node.metric("sheaf_sites_active"), 2);
}

#[test]
fn volumes_are_answered_over_http_after_they_were_opened() {
    let node = TestNode::start();
    let volume = run(async { Socket::greeted(&node).await.open("team/todos", 1).await });
    let body = [&[0x12, 16][..], &volume].concat();
    let answer = node.post(PULL_PATH, &body);
    assert_eq!(answer.status, 200);
    let commits: message::Commits = prost::Message::decode(answer.body.as_slice()).unwrap();
    assert_eq!((commits.commits.len(), commits.more), (0, false));
    assert_eq!(commits.head.unwrap().lsn, 0);

    let (data, token) = (node.data, node.token);
    node.running.stop().unwrap();
    let running = Node::start(options(data.path())).unwrap();
    let node = TestNode { running, token, data };
    assert_eq!(node.post(PULL_PATH, &body).status, 200, "also by a node that was restarted");
}

#[test]
fn a_push_that_does_not_follow_is_a_gap_and_leaves_no_commit() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::greeted(&node).await;
        let volume = socket.open("s", 1).await;
        socket.say(push(&volume, 1, 5)).await;
        let answer = socket.hear().await;
        let Some(Body::Verdicts(verdicts)) = answer else { panic!("{answer:?}") };
        assert_eq!(verdicts.verdicts[0].kind(), VerdictKind::Gap);
        assert_eq!(verdicts.next_seq, 1);
    });
    assert_eq!(node.metric("sheaf_pushes_total{outcome=\"gap\"}"), 1);
    assert_eq!(node.metric("sheaf_commits_total{outcome=\"committed\"}"), 0);
}

#[test]
fn watching_an_unopened_volume_is_an_error() {
    let node = TestNode::start();
    run(async {
        let mut socket = Socket::greeted(&node).await;
        let watch =
            message::Watch { volume: Bytes::from_static(&[8; 16]), after_lsn: 0, deltas: false };
        socket.say(Body::Watch(watch)).await;
        assert!(socket.hear_end().await.message.contains("Open"));
    });
}
