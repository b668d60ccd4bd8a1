//! What is wrong ends in one clear error, on the side that can do something about it.

use super::*;

fn refused(world: &World) -> Option<ErrorKind> {
    world.events.iter().find_map(|event| match event {
        ClientEvent::Refused { error } => Some(error.kind()),
        _ => None,
    })
}

/// What the node answers when these frames come, after a good `Hello` if `greeted`.
fn answers(greeted: bool, frames: &[Bytes]) -> Vec<Body> {
    let mut session = ServerSession::new(NODE, 0);
    let mut node = Node::default();
    let hello = hello(message::PROTOCOL_MIN, message::PROTOCOL_MAX);
    let first = greeted.then_some(hello);
    for frame in first.iter().chain(frames) {
        session.frame(frame.clone(), 0);
        while let Some(wanted) = session.poll_request() {
            node.serve(&mut session, wanted);
        }
    }
    std::iter::from_fn(|| session.poll_frame()).map(|frame| wire::decode(frame).unwrap()).collect()
}

fn hello(min: u32, max: u32) -> Bytes {
    wire::encode(Body::Hello(message::Hello {
        protocol_min: min,
        protocol_max: max,
        agent: "test/1".to_owned(),
        device: wire::id_bytes(DEVICE.as_bytes()),
        token: TOKEN.to_owned(),
    }))
}

fn open(request: u64, name: &str) -> Bytes {
    let create = Some(wire::create_to_wire(&create_ids()));
    wire::encode(Body::Open(message::Open { request, name: name.to_owned(), create }))
}

fn error_of(body: Option<&Body>) -> (ErrorKind, bool, String) {
    let Some(Body::Error(error)) = body else { panic!("not an error: {body:?}") };
    (wire::error_from_wire(error).kind(), error.fatal, error.message.clone())
}

#[test]
fn a_bad_token_is_final_until_the_user_tries_again() {
    let mut world = World::new("wrong");
    world.client.open_site("todo", None).unwrap();
    world.run();
    assert_eq!(refused(&world), Some(ErrorKind::Denied));
    assert_eq!(world.client.next_deadline(), None, "it does not dial again by itself");
    world.client.retry(world.now);
    assert!(world.client.poll_connect(world.now));
}

/// A watch has no answer of its own: what goes wrong with its site ends the connection, and may
/// pass.
#[test]
fn what_is_wrong_with_a_site_is_no_reason_to_stay_away_for_good() {
    for (kind, is_final) in [
        (ErrorKind::Corrupt, false),
        (ErrorKind::NotFound, false),
        (ErrorKind::Expired, false),
        (ErrorKind::Conflict, false),
        (ErrorKind::Unavailable, false),
        (ErrorKind::Limit, false),
        (ErrorKind::Internal, false),
        (ErrorKind::Denied, true),
        (ErrorKind::Unsupported, true),
        (ErrorKind::Invalid, true),
    ] {
        let mut world = World::settled();
        world.server().close(&Error::new(kind, "not now"));
        world.run();
        assert_eq!(refused(&world).is_some(), is_final, "{kind:?}");
        let Some(next) = world.client.next_deadline() else {
            assert!(is_final, "{kind:?}: it does not dial again");
            continue;
        };
        world.advance(next - world.now);
        assert!(world.client.is_ready(), "{kind:?}");
    }
}

#[test]
fn who_is_sent_away_each_time_comes_back_later_each_time() {
    let mut world = World::settled();
    let away = |world: &mut World| {
        world.server().close(&Error::new(ErrorKind::Unavailable, "not now"));
        world.run();
        let pause = world.client.next_deadline().expect("it comes back") - world.now;
        world.advance(pause);
        assert!(world.client.is_ready());
        pause
    };
    let pauses: Vec<u64> = (0..10).map(|_| away(&mut world)).collect();
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses.last().is_some_and(|last| *last >= limits::BACKOFF_MAX_MS / 2), "{pauses:?}");
    // A node that is restarted now and then does not turn anybody away.
    world.advance(limits::BACKOFF_MAX_MS);
    assert!(away(&mut world) <= limits::BACKOFF_MIN_MS);
}

#[test]
fn a_site_for_which_there_is_no_room_is_asked_for_once_more() {
    let mut world = World::settled();
    world.client.open_site("more", Some(create_ids())).unwrap();
    while let Some(frame) = world.client.poll_frame() {
        world.server.as_mut().unwrap().frame(frame, world.now);
    }
    let Some(ServerRequest::Open { request, .. }) = world.server().poll_request() else {
        panic!("it asks for the site")
    };
    world.server().error(request, &Error::new(ErrorKind::Limit, "no room"));
    world.run();
    let Some(ClientEvent::SiteError { error, .. }) = world.events.last() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(error.kind(), ErrorKind::Limit);
    let asked = world.client.round_trips();
    world.advance(limits::SITE_MISSING_HOLD_MS - 1);
    assert_eq!(world.client.round_trips(), asked, "not soon");
    world.advance(1);
    assert!(
        matches!(world.events.last(), Some(ClientEvent::SiteOpened(site)) if site.name == "more")
    );
}

#[test]
fn no_common_version_says_who_speaks_what() {
    let all = answers(false, &[hello(message::PROTOCOL_MAX + 1, message::PROTOCOL_MAX + 3)]);
    let (kind, fatal, text) = error_of(all.first());
    assert_eq!((kind, fatal), (ErrorKind::Unsupported, true));
    assert!(text.contains("the device speaks 2 to 4, this node 1 to 1"), "{text}");
}

#[test]
fn a_node_from_the_future_is_refused() {
    let mut world = World::new(TOKEN);
    assert!(world.client.poll_connect(0));
    world.client.connected(0);
    let welcome = message::Welcome {
        protocol: message::PROTOCOL_MAX + 1,
        node: wire::id_bytes(NODE.as_bytes()),
        device_confirmed: wire::id_bytes(DEVICE.as_bytes()),
        limits: None,
    };
    world.client.frame(wire::encode(Body::Welcome(welcome)), 0);
    world.run();
    assert_eq!(refused(&world), Some(ErrorKind::Unsupported));
}

#[test]
fn an_unknown_message_is_named_as_such() {
    // Field 100, length-delimited, empty.
    let unknown = Bytes::from_static(&[0xa2, 0x06, 0x00]);
    assert_eq!(Envelope::decode(unknown.clone()).unwrap().body, None);
    let (kind, fatal, text) = error_of(answers(true, &[unknown]).last());
    assert_eq!((kind, fatal), (ErrorKind::Unsupported, true));
    assert!(text.contains("unknown message"), "{text}");
}

#[test]
fn frames_that_are_not_for_a_node_end_the_connection() {
    let cases: [(bool, Bytes, ErrorKind); 6] = [
        (true, Bytes::from(vec![0; limits::FRAME_BYTES_MAX + 1]), ErrorKind::Limit),
        (true, Bytes::from_static(b"\xff\xff\xff"), ErrorKind::Invalid),
        (false, open(1, "todo"), ErrorKind::Invalid),
        (true, hello(1, 1), ErrorKind::Invalid),
        (true, open(0, "todo"), ErrorKind::Invalid),
        (
            true,
            wire::encode(Body::Watch(message::Watch {
                volume: wire::id_bytes(VOLUME.as_bytes()),
                after_lsn: 0,
                deltas: false,
            })),
            ErrorKind::Invalid,
        ),
    ];
    for (greeted, frame, expected) in cases {
        let all = answers(greeted, std::slice::from_ref(&frame));
        let (kind, fatal, text) = error_of(all.last());
        assert_eq!((kind, fatal), (expected, true), "{text}");
    }
}

#[test]
fn a_wrong_request_is_answered_and_harms_no_other() {
    let push = |request, first_seq, mutations: Vec<(u64, usize)>| {
        let mutation = |(seq, len)| message::Mutation {
            seq,
            base_lsn: 0,
            time_ms: 0,
            bytes: vec![0; len].into(),
        };
        wire::encode(Body::Push(message::Push {
            request,
            volume: wire::id_bytes(VOLUME.as_bytes()),
            timeline: wire::id_bytes(TIMELINE.as_bytes()),
            generation: 0,
            first_seq,
            prev_hash: Bytes::copy_from_slice(&[0; 16]),
            mutations: mutations.into_iter().map(mutation).collect(),
            tell_stands: false,
        }))
    };
    let cases = [
        (open(2, ""), ErrorKind::Invalid),
        (open(2, &"x".repeat(limits::NAME_BYTES_MAX + 1)), ErrorKind::Invalid),
        (open(2, "a\nb"), ErrorKind::Invalid),
        (push(2, 1, vec![]), ErrorKind::Invalid),
        (push(2, 1, vec![(1, 1), (3, 1)]), ErrorKind::Invalid),
        (push(2, u64::MAX, vec![(u64::MAX, 1)]), ErrorKind::Invalid),
        (push(2, 1, vec![(1, limits::PUSH_BYTES_MAX + 1)]), ErrorKind::Limit),
    ];
    for (frame, expected) in cases {
        let all = answers(true, &[open(1, "todo"), frame, open(3, "todo")]);
        assert_eq!(all.len(), 4, "{all:?}");
        let (kind, fatal, text) = error_of(all.get(2));
        assert_eq!((kind, fatal), (expected, false), "{text}");
        assert!(matches!(all.last(), Some(Body::Opened(_))));
    }
}

#[test]
fn a_missing_site_is_an_error_of_that_site() {
    let mut world = World::new(TOKEN);
    world.client.open_site("todo", None).unwrap();
    world.run();
    let Some(ClientEvent::SiteError { error, .. }) = world.events.last() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(world.client.is_ready());
    world.client.open_site("todo", Some(create_ids())).unwrap();
    world.run();
    assert!(matches!(world.events.last(), Some(ClientEvent::SiteOpened(_))));
}

#[test]
fn a_node_that_falls_silent_is_left() {
    let mut world = World::settled();
    world.client.offer("todo", batch(1, 1, 10)).unwrap();
    assert!(world.client.poll_frame().is_some());
    let due = world.now + limits::PING_AFTER_MS;
    world.client.tick(due);
    assert!(world.client.poll_frame().is_some(), "a ping");
    world.client.tick(due + limits::PONG_TIMEOUT_MS);
    let Some(ClientEvent::Disconnect { error }) = world.client.poll_event() else {
        panic!("it should leave")
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// A node that replays a large push for minutes answers pings meanwhile.
#[test]
fn a_push_waits_as_long_as_the_node_is_alive() {
    let mut world = World::settled();
    world.client.offer("todo", batch(1, 1, 10)).unwrap();
    let began = world.now;
    assert!(world.client.poll_frame().is_some(), "the push");
    loop {
        let due = world.client.next_deadline().expect("a push under way");
        world.client.tick(due);
        if let Some(event) = world.client.poll_event() {
            let ClientEvent::Disconnect { error } = event else { panic!("{event:?}") };
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(due, began + limits::PUSH_TIMEOUT_MS, "its own bound");
            return;
        }
        while let Some(frame) = world.client.poll_frame() {
            let Body::Ping(ping) = wire::decode(frame).unwrap() else { panic!("no ping") };
            world.client.frame(wire::encode(Body::Pong(ping)), due);
        }
    }
}

#[test]
fn a_device_that_falls_silent_is_dropped() {
    let mut world = World::settled();
    let due = world.server().next_deadline();
    world.server().tick(due);
    assert!(world.server().is_closing());
}

#[test]
fn a_device_that_does_not_read_is_told_later_and_holds_no_memory() {
    let mut world = World::settled();
    let mut sent = 0;
    for _ in 0..2_000 {
        world.node.append(60_000);
        let node = std::mem::take(&mut world.node);
        node.announce(world.server(), 1);
        world.node = node;
    }
    assert!(!world.server().wants_frame(), "nothing more is read from it");
    let frames: Vec<Bytes> = std::iter::from_fn(|| world.server().poll_frame()).collect();
    for frame in &frames {
        sent += frame.len();
    }
    assert!(sent <= limits::OUT_BYTES_MAX, "{sent}");
    for frame in frames {
        world.client.frame(frame, world.now);
        while world.role() {}
    }
    world.run();
    assert_eq!(world.base, Lsn(2_000), "the last word names the newest position");
}

#[test]
fn commits_that_contradict_each_other_are_corrupt() {
    let first = commit(1, CommitHash::default(), 10).encode();
    let second = commit(2, hash(&first), 10).encode();
    let skipped = commit(3, hash(&second), 10).encode();
    let decode = |objects: &[Bytes]| wire::commits_from_wire(&VOLUME.into(), objects);
    assert_eq!(decode(&[first.clone(), second.clone()]).unwrap().len(), 2);
    for wrong in [vec![first.clone(), skipped], vec![Bytes::new()]] {
        assert_eq!(decode(&wrong).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let other = VolumeId::from_bytes([0; 16]);
    assert!(wire::commits_from_wire(&other.into(), &[first]).is_err());
}

#[test]
fn a_lying_node_is_left() {
    let mut world = World::settled();
    let mut node = std::mem::take(&mut world.node);
    node.append(10);
    world.client.refresh("todo").unwrap();
    assert!(world.client.poll_frame().is_some());
    let lie = commits_message(2, VOLUME, &[], &node.head(), true).unwrap();
    world.client.frame(wire::encode(Body::Commits(lie)), world.now);
    assert!(matches!(world.client.poll_event(), Some(ClientEvent::Disconnect { .. })));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_either_end_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let frame = Bytes::from(bytes);
        answers(true, std::slice::from_ref(&frame));
        let mut world = World::settled();
        world.client.frame(frame, world.now);
        world.run();
    }
}
