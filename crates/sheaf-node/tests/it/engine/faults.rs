//! What goes wrong between two calls: cut wires, silence, peers that do not read, full queues,
//! crashes and stops.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sheaf_node::limits;
use sheaf_sync::{
    message::{self, Body},
    wire::{self, PushBatch, PushMutation},
};
use sheaf_volume::{ManualEnv, MemObjects, Verdict};

use super::world::{Device, Disk, Shared, engine, pass_time, settle};
use crate::harness::hello;

fn node(env: &Arc<ManualEnv>, objects: &MemObjects, disk: &Disk) -> Shared {
    Arc::new(Mutex::new(engine(env, objects, disk)))
}

#[test]
fn a_push_whose_connection_was_cut_is_repeated_and_applied_once() {
    let env = Arc::new(ManualEnv::new(1));
    let node = node(&env, &MemObjects::new(), &Disk::default());
    let mut a = Device::new(10, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a]);
    let before = a.site.base().0;
    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    assert!(a.send());
    let conn = a.conn.unwrap();
    // The push is put in the queue of its site, and nobody is there to hear the answer.
    while node.lock().unwrap().serve(conn) {}
    a.cut();
    assert!(node.lock().unwrap().turn(), "the group is led all the same");
    assert_eq!((a.verdicts.len(), a.site.base().0), (1, before));

    a.session.retry(0);
    settle(&mut [&mut a]);
    assert_eq!(a.verdicts, [Verdict::Ok, Verdict::Ok]);
    assert_eq!(a.names(), ["milk"]);
    assert_eq!(a.site.base().0, before.next(), "one commit for two pushes");
}

#[test]
fn what_was_not_read_when_the_wire_broke_never_came() {
    let env = Arc::new(ManualEnv::new(1));
    let node = node(&env, &MemObjects::new(), &Disk::default());
    let mut a = Device::new(10, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a]);
    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    assert!(a.send());
    a.cut();
    assert!(!node.lock().unwrap().turn());
    a.session.retry(0);
    settle(&mut [&mut a]);
    assert_eq!(a.names(), ["milk"]);
    assert_eq!(a.verdicts.len(), 2);
}

#[test]
fn silence_ends_the_connection_and_then_the_site() {
    let env = Arc::new(ManualEnv::new(1));
    let objects = MemObjects::new();
    let node = node(&env, &objects, &Disk::default());
    let mut a = Device::new(10, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a]);
    let conn = a.conn.unwrap();
    let mut looks = 0;
    while !node.lock().unwrap().is_closing(conn) {
        pass_time(&env, &node);
        while node.lock().unwrap().turn() {}
        looks += 1;
    }
    assert!(looks > 3, "a watched log is looked at meanwhile");
    // The device hears why, and the site is no longer watched.
    a.exchange();
    assert_eq!(a.conn, None);
    while !node.lock().unwrap().open_volumes().is_empty() {
        pass_time(&env, &node);
        while node.lock().unwrap().turn() {}
    }
    assert_eq!(node.lock().unwrap().next_deadline(), None, "nothing is left to be done");

    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    a.session.retry(0);
    settle(&mut [&mut a]);
    assert_eq!(a.verdicts.len(), 2, "it is opened again when asked for");
}

#[test]
fn a_peer_that_does_not_read_stands_still_alone() {
    let env = Arc::new(ManualEnv::new(1));
    let node = node(&env, &MemObjects::new(), &Disk::default());
    let mut a = Device::new(10, &env, &node);
    let mut b = Device::new(11, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a, &mut b]);
    for _ in 0..40 {
        a.execute("INSERT INTO todo(name) VALUES (hex(randomblob(4000)))");
        settle(&mut [&mut a]);
    }
    assert_eq!(a.verdicts.len(), 41, "nobody waits for the other");
    let conn = b.conn.unwrap();
    assert!(b.names().is_empty() && !node.lock().unwrap().is_closing(conn));
    assert!(!node.lock().unwrap().serve(conn), "it stands still");
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.names(), a.names());
}

#[test]
fn a_peer_that_never_reads_is_cut_off() {
    let env = Arc::new(ManualEnv::new(1));
    let node = node(&env, &MemObjects::new(), &Disk::default());
    let mut a = Device::new(10, &env, &node);
    let mut b = Device::new(11, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a, &mut b]);
    let conn = b.conn.unwrap();
    for round in 0..2 * limits::NOTICES_MAX {
        if node.lock().unwrap().is_closing(conn) {
            break;
        }
        a.execute(&format!("INSERT INTO todo(name) VALUES ('{round}')"));
        settle(&mut [&mut a]);
    }
    assert!(node.lock().unwrap().is_closing(conn));
    assert_eq!(node.lock().unwrap().poll_frame(conn), None);
    b.exchange();
    b.session.retry(0);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.names(), a.names(), "it resumes from what it has");
}

#[test]
fn a_full_queue_makes_senders_wait_and_loses_nothing() {
    let env = Arc::new(ManualEnv::new(1));
    let node = node(&env, &MemObjects::new(), &Disk::default());
    let mut a = Device::new(10, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a]);
    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    let batch = a.site.outbox(a.acknowledged, 1 << 20).unwrap().unwrap();
    let push = PushBatch {
        timeline: batch.timeline,
        first_seq: batch.first_seq,
        prev_hash: batch.prev_hash,
        mutations: batch
            .mutations
            .into_iter()
            .map(|m| PushMutation { seq: m.seq, base: m.base, time_ms: m.time_ms, bytes: m.bytes })
            .collect(),
        tell_stands: true,
    };
    let each = 200;
    let volume = a.site.ids().volume;
    let mut node = node.lock().unwrap();
    let conns = [(); 2].map(|()| {
        let conn = node.connect();
        node.frame(conn, wire::encode(hello("")));
        let create = Some(wire::create_to_wire(&wire::CreateIds {
            site: a.site.ids().site,
            volume,
            page_size: a.site.ids().page_size,
        }));
        let open = message::Open { request: 1, name: super::world::NAME.to_owned(), create };
        node.frame(conn, wire::encode(Body::Open(open)));
        while node.turn() {}
        for request in 2..2 + each {
            let push = Body::Push(wire::push_to_wire(request, volume, &push));
            node.frame(conn, wire::encode(push));
        }
        conn
    });
    for conn in conns {
        while node.serve(conn) {}
    }
    assert!(2 * each > limits::SITE_QUEUE_MAX as u64);
    assert!(!node.serve(conns[1]), "it waits for room");
    while node.turn() {}
    for conn in conns {
        let frames = std::iter::from_fn(|| node.poll_frame(conn));
        let verdicts = frames.filter(is_verdicts).count() as u64;
        assert_eq!(verdicts, each);
    }
}

fn is_verdicts(frame: &Bytes) -> bool {
    matches!(wire::decode(frame.clone()), Ok(Body::Verdicts(_)))
}

#[test]
fn a_stopped_node_says_goodbye_and_a_crashed_one_does_not_lose_what_it_acknowledged() {
    let env = Arc::new(ManualEnv::new(1));
    let (objects, disk) = (MemObjects::new(), Disk::default());
    let first = node(&env, &objects, &disk);
    let mut a = Device::new(10, &env, &first);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a]);
    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    a.send();
    first.lock().unwrap().stop();
    assert!(first.lock().unwrap().is_closing(a.conn.unwrap()));
    assert!(first.lock().unwrap().open_volumes().is_empty());
    a.exchange();
    assert_eq!((a.conn, a.verdicts.len()), (None, 1));

    // The directories are free: the next node of this disk goes on, and crashes.
    for round in 2..4 {
        a.site.set_remote(None);
        let next = node(&env, &objects, &disk);
        a.engine = Arc::clone(&next);
        a.session.retry(0);
        settle(&mut [&mut a]);
        assert_eq!(a.verdicts.len(), round);
        a.execute("INSERT INTO todo(name) VALUES ('bread')");
        a.cut();
    }
    assert_eq!(a.names(), ["bread", "bread", "milk"]);
}
