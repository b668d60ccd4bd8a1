//! A disk that is full, and one that fails to flush.

use std::sync::Arc;

use sheaf_site::{ErrorKind, View};
use sheaf_volume::ManualEnv;

use crate::support::{Device, World, assert_converged, rows};

const ALL: &str = "SELECT id, v, length(b) FROM t ORDER BY id";
const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                    INSERT INTO t(v, b) SELECT i, randomblob(3000) FROM n";

fn two(world: &World) -> (Device, Device) {
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v, b BLOB)");
    a.sql("INSERT INTO t(v, b) VALUES (1, randomblob(3000)), (2, randomblob(3000))");
    a.exchange();
    b.exchange();
    (a, b)
}

/// The image of a device after a kill holds the same rows.
fn reopened_equals(world: &World, device: &Device, expected: &str) {
    let env = Arc::new(ManualEnv::new(4_242));
    let again = world.try_reopen(device.dir.fork(), 1, env).unwrap();
    assert_eq!(again.local(ALL), expected);
}

#[test]
fn a_full_disk_during_a_commit() {
    let world = World::new();
    let (a, b) = two(&world);
    let before = a.local(ALL);
    let conn = a.site.connection(View::Local).unwrap();
    for room in [0, 4_096, 40_960, 409_600] {
        a.dir.set_capacity(Some(a.dir.used() + room));
        let seq = a.site.last_seq();
        let error = conn.execute_batch(MANY).unwrap_err();
        assert_eq!(error.sqlite_error().unwrap().extended_code & 0xff, 13, "SQLITE_FULL");
        let error = sheaf_site::explain(&conn, error);
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        assert!(error.to_string().contains("disk is full"), "{error}");
        assert!(conn.is_autocommit());
        assert_eq!(rows(&conn, ALL), before);
        assert_eq!(a.site.last_seq(), seq);
        reopened_equals(&world, &a, &before);
    }
    a.dir.set_capacity(None);
    conn.execute_batch(MANY).unwrap();
    a.exchange();
    b.exchange();
    assert_eq!(b.local("SELECT count(*) FROM t"), "202");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_full_disk_during_a_rebase() {
    let world = World::new();
    let (a, b) = two(&world);
    b.sql(MANY);
    b.exchange();
    a.sql("UPDATE t SET v = 'mine' WHERE id = 1");
    let (before, base) = (a.local(ALL), a.site.base());
    for room in [0, 4_096, 81_920] {
        a.dir.set_capacity(Some(a.dir.used() + room));
        match a.site.exchange_with_log(&*a.log) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
                assert!(error.to_string().contains("disk is full"), "{error}");
                assert_eq!((a.local(ALL), a.site.base()), (before.clone(), base));
            }
            // Pages stay pending, so a pull may well fit.
            Ok(_) => assert!(room > 0),
        }
        a.dir.set_capacity(None);
        reopened_equals(&world, &a, &a.local(ALL));
    }
    a.exchange();
    b.exchange();
    assert_eq!(a.local("SELECT v FROM t WHERE id = 1"), "mine");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_full_disk_during_a_fold() {
    let world = World::new();
    let (a, b) = two(&world);
    a.sql(MANY);
    a.exchange();
    a.sql("DELETE FROM t WHERE id % 2 = 0");
    let log = world.log();
    a.site.exchange_with_log(&*log).unwrap();
    a.sql(MANY);
    let before = a.local(ALL);
    for room in [0, 4_096, 65_536, 262_144] {
        a.sql("UPDATE t SET v = v");
        let writer = a.site.volume().writer();
        a.dir.set_capacity(Some(a.dir.used() + room));
        let folded = a.site.volume().checkpoint(&writer);
        a.dir.set_capacity(None);
        drop(writer);
        if let Err(error) = folded {
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains("disk is full"), "{error}");
        } else {
            assert!(room > 0, "a fold needs room");
        }
        assert_eq!(a.local(ALL), before);
        reopened_equals(&world, &a, &before);
    }
    let writer = a.site.volume().writer();
    a.site.volume().checkpoint(&writer).unwrap();
    drop(writer);
    assert_eq!(a.local(ALL), before);
    a.exchange();
    b.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn a_failed_flush_closes_the_replica_until_it_is_opened_again() {
    let world = World::new();
    let (a, b) = two(&world);
    a.sql("UPDATE t SET v = 'not flushed' WHERE id = 1");
    let before = a.local(ALL);
    a.dir.fail_flush(true);
    assert_eq!(a.site.volume().flush().unwrap_err().kind(), ErrorKind::Io);
    a.dir.fail_flush(false);
    assert!(a.site.status().poisoned);
    let conn = a.site.connection(View::Local).unwrap();
    let error = conn.execute_batch("UPDATE t SET v = 'more'").unwrap_err();
    let error = sheaf_site::explain(&conn, error);
    assert!(error.to_string().contains("open it again"), "{error:?}");
    assert_eq!(a.site.exchange_with_log(&*a.log).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(rows(&conn, ALL), before, "reading goes on");
    reopened_equals(&world, &a, &before);
    let env = Arc::new(ManualEnv::new(4_243));
    let again = world.try_reopen(a.dir.fork(), 1, env).unwrap();
    again.sql("UPDATE t SET v = 'again' WHERE id = 2");
    again.exchange();
    b.exchange();
    assert_eq!(b.local("SELECT v FROM t ORDER BY id"), "not flushed;again");
    assert_converged(&[&again, &b]);
}
