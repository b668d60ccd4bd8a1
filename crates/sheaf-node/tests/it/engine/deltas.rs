//! What a live replica is told weighs what changed, and so do pages whose older version is here.

use std::sync::{Arc, Mutex};

use sheaf_site::View;
use sheaf_sync::{message::Body, wire};
use sheaf_volume::{ManualEnv, MemObjects};

use super::world::{Device, Disk, engine, settle};

/// Bytes of the newest notification, and whether it carries deltas.
fn told(device: &Device) -> (usize, bool) {
    let notice = device.heard.iter().rev().find_map(|frame| match wire::decode(frame.clone()) {
        Ok(Body::Changed(changed)) => Some((frame.len(), !changed.deltas.is_empty())),
        _ => None,
    });
    notice.expect("something was told")
}

/// A site of 20,000 rows, all of its pages on both devices.
fn filled() -> (Device, Device) {
    let env = Arc::new(ManualEnv::new(1));
    let node = Arc::new(Mutex::new(engine(&env, &MemObjects::new(), &Disk::default())));
    let mut a = Device::new(10, &env, &node);
    let mut b = Device::new(11, &env, &node);
    a.execute(
        "CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT, done INT, n INT); \
         CREATE INDEX by_n ON todo(n); \
         INSERT INTO todo(name, done, n) \
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 20000) \
         SELECT 'item ' || hex(x * 7919 % 65521) || ' of the list', 0, x * 31 % 1009 FROM i",
    );
    settle(&mut [&mut a, &mut b]);
    for device in [&a, &b] {
        device.site.volume().hydrate(&mut |_, _| {}).unwrap();
    }
    (a, b)
}

fn same(a: &Device, b: &Device) {
    let hash = |device: &Device| device.site.volume().global().content_hash().unwrap();
    assert_eq!(a.site.base(), b.site.base());
    assert_eq!(hash(a), hash(b));
}

/// The goal of the design: a one-row update in at most 400 bytes, everything included.
#[test]
fn a_live_replica_is_told_of_one_row_in_at_most_400_bytes() {
    let (mut a, mut b) = filled();
    let fetched = b.site.volume().status().fetch_requests;
    let mut figures = Vec::new();
    for (sql, most) in [
        ("UPDATE todo SET done = 1 WHERE id = 1", 400),
        ("UPDATE todo SET done = 1 WHERE id = 7777", 400),
        ("UPDATE todo SET name = 'something else altogether' WHERE id = 9999", 400),
        ("INSERT INTO todo(name, done, n) VALUES ('milk and bread', 0, 3)", 400),
        ("UPDATE todo SET done = 1 WHERE id BETWEEN 3000 AND 3009", 400),
        ("UPDATE todo SET done = 1 WHERE id BETWEEN 5000 AND 5099", 600),
        ("UPDATE todo SET done = 1 WHERE id % 200 = 42", 6_000),
    ] {
        a.execute(sql);
        settle(&mut [&mut a, &mut b]);
        let (bytes, deltas) = told(&b);
        figures.push((sql, bytes));
        assert!(bytes <= most, "{figures:#?}");
        assert!(deltas, "{figures:#?}");
        same(&a, &b);
    }
    assert_eq!(b.site.volume().status().fetch_requests, fetched, "every page was made here");
}

#[test]
fn a_device_that_was_away_gets_deltas_of_the_pages_it_reads() {
    let (mut a, mut b) = filled();
    b.cut();
    let before = b.fetched_bytes();
    // Too much for a commit to carry: the pages are in a segment, and pending.
    a.execute("UPDATE todo SET done = 1 WHERE id % 20 = 7");
    settle(&mut [&mut a]);
    b.dial_again();
    settle(&mut [&mut a, &mut b]);
    let pending = b.site.volume().status().pages_pending;
    assert!(pending > 100, "{pending}");
    b.site.volume().hydrate(&mut |_, _| {}).unwrap();
    let bytes = b.fetched_bytes() - before;
    same(&a, &b);
    let count = "SELECT count(*) FROM todo WHERE done";
    let conn = b.site.connection(View::Local).unwrap();
    assert_eq!(conn.query_row(count, [], |row| row.get(0)), Ok(1_000));
    assert!(bytes < pending * 200, "{bytes} bytes for {pending} pages");
}
