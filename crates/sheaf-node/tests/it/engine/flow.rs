//! What goes well: sites are made, pushes led, notices told, by one engine or by two in turns.

use std::sync::{Arc, Mutex};

use sheaf_node::ErrorKind;
use sheaf_sync::pull;
use sheaf_volume::{Lsn, ManualEnv, MemObjects, Verdict, VolumeId};

use super::world::{Device, Disk, engine, pass_time, settle};

#[test]
fn what_one_device_pushes_the_other_is_told() {
    let env = Arc::new(ManualEnv::new(1));
    let node = Arc::new(Mutex::new(engine(&env, &MemObjects::new(), &Disk::default())));
    let mut a = Device::new(10, &env, &node);
    let mut b = Device::new(11, &env, &node);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a, &mut b]);
    a.execute("INSERT INTO todo(name) VALUES ('milk')");
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.names(), ["milk"]);
    b.execute("INSERT INTO todo(name) VALUES ('bread')");
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.names(), ["bread", "milk"]);
    assert_eq!(a.verdicts, [Verdict::Ok, Verdict::Ok]);
    assert_eq!(b.verdicts, [Verdict::Ok]);
    assert_eq!(a.site.base(), b.site.base());
    assert_eq!(node.lock().unwrap().open_volumes(), [a.site.ids().volume]);
}

#[test]
fn the_same_calls_have_the_same_effects() {
    let run = || {
        let env = Arc::new(ManualEnv::new(1));
        let node = Arc::new(Mutex::new(engine(&env, &MemObjects::new(), &Disk::default())));
        let mut a = Device::new(10, &env, &node);
        let mut b = Device::new(11, &env, &node);
        a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
        settle(&mut [&mut a, &mut b]);
        b.execute("INSERT INTO todo(name) VALUES ('bread')");
        settle(&mut [&mut a, &mut b]);
        pass_time(&env, &node);
        settle(&mut [&mut a, &mut b]);
        let deadline = node.lock().unwrap().next_deadline();
        (a.heard, b.heard, deadline)
    };
    let first = run();
    assert!(first.0.len() > 3);
    assert_eq!(first, run());
}

#[test]
fn an_unknown_volume_and_a_wrong_body_are_told_as_over_http() {
    let env = Arc::new(ManualEnv::new(1));
    let node = engine(&env, &MemObjects::new(), &Disk::default());
    let body = pull::encode_request(VolumeId::from_bytes([7; 16]), Lsn::ZERO, false);
    assert_eq!(node.pull(None, body).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(node.pull(None, b"\xff".as_slice().into()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(node.pages(None, b"\xff".as_slice().into()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(node.next_deadline(), None);
}

#[test]
fn two_nodes_lead_one_site_in_turns() {
    let env = Arc::new(ManualEnv::new(1));
    let objects = MemObjects::new();
    let nodes = [1, 2].map(|_| Arc::new(Mutex::new(engine(&env, &objects, &Disk::default()))));
    let mut a = Device::new(10, &env, &nodes[0]);
    let mut b = Device::new(11, &env, &nodes[1]);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a, &mut b]);
    let mut expected = Vec::new();
    for round in 0..6 {
        let writer = if round % 2 == 0 { &mut a } else { &mut b };
        writer.execute(&format!("INSERT INTO todo(name) VALUES ('{round}')"));
        expected.push(round.to_string());
        settle(&mut [&mut a, &mut b]);
        // The other node has to look at the log to know.
        let other = &nodes[(round + 1) % 2];
        pass_time(&env, other);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.names(), expected);
        assert_eq!(b.names(), expected);
    }
    assert_eq!(a.site.base(), b.site.base());
    assert!(a.verdicts.iter().chain(&b.verdicts).all(|verdict| *verdict == Verdict::Ok));
}

#[test]
fn nodes_that_race_for_a_position_both_get_through() {
    let env = Arc::new(ManualEnv::new(1));
    let objects = MemObjects::new();
    let nodes = [1, 2].map(|_| Arc::new(Mutex::new(engine(&env, &objects, &Disk::default()))));
    let mut a = Device::new(10, &env, &nodes[0]);
    let mut b = Device::new(11, &env, &nodes[1]);
    a.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
    settle(&mut [&mut a, &mut b]);
    pass_time(&env, &nodes[1]);
    settle(&mut [&mut a, &mut b]);
    a.execute("INSERT INTO todo(name) VALUES ('a')");
    b.execute("INSERT INTO todo(name) VALUES ('b')");
    settle(&mut [&mut a, &mut b]);
    for node in &nodes {
        pass_time(&env, node);
        settle(&mut [&mut a, &mut b]);
    }
    assert_eq!(a.names(), ["a", "b"]);
    assert_eq!(b.names(), ["a", "b"]);
    assert_eq!(a.site.base(), b.site.base());
}
