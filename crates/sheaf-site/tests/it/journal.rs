//! Rollbacks of more pages than a journal keeps: what it does not keep, it reads from below.

use rusqlite::Connection;
use sheaf_site::View;

use crate::support::{Device, Rng, World, assert_converged, rows};

const ROWS: u64 = 60;
const ALL: &str = "SELECT id, n, length(body), body FROM t ORDER BY id";

/// Rows of a page or more each.
const FILL: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER UNIQUE, body TEXT);
    WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < 60)
    INSERT INTO t SELECT i, i, printf('%.*c', 2000 + i * 131, 'x') FROM c;";

/// A statement on many rows; some break off in the middle, at a number that is taken.
fn statement(rng: &mut Rng) -> String {
    let (from, to) = (rng.next() % ROWS, rng.next() % (2 * ROWS));
    let size = rng.next() % 9_000;
    match rng.next() % 12 {
        0 => format!("DELETE FROM t WHERE id BETWEEN {from} AND {to}"),
        1 => format!(
            "INSERT OR REPLACE INTO t SELECT id + 7, n + 1000, body FROM t WHERE id > {from}"
        ),
        2 => format!("UPDATE t SET n = n + 1 WHERE id < {to}"),
        3 => format!("UPDATE OR FAIL t SET n = n % 40, body = 'f' || body WHERE id > {from}"),
        4 => format!("UPDATE OR ROLLBACK t SET n = n % 50 WHERE id > {from}"),
        5 | 6 => {
            format!("UPDATE t SET n = -n, body = printf('%.*c', {size}, 'y') WHERE id % 3 = 1")
        }
        7 => "SAVEPOINT a".to_owned(),
        8 => "SAVEPOINT b".to_owned(),
        9 => "ROLLBACK TO a".to_owned(),
        10 => "ROLLBACK TO b".to_owned(),
        _ => format!("UPDATE t SET body = printf('%.*c', {size}, 'z') WHERE id >= {from}"),
    }
}

/// The statements of one transaction do and give the same as in a file of its own.
fn transaction(site: &Connection, plain: &Connection, rng: &mut Rng, seed: u64) {
    let both = |sql: &str| {
        let [here, there] = [site, plain].map(|conn| conn.execute_batch(sql));
        assert_eq!(here.is_ok(), there.is_ok(), "seed {seed}: {sql}: {here:?} {there:?}");
        assert_eq!(site.is_autocommit(), plain.is_autocommit(), "seed {seed}: {sql}");
    };
    both("BEGIN");
    for _ in 0..12 {
        both(&statement(rng));
        if site.is_autocommit() {
            break;
        }
        assert!(rows(site, ALL) == rows(plain, ALL), "seed {seed}: rows differ");
    }
    if !site.is_autocommit() {
        both(["COMMIT", "ROLLBACK"][(rng.next() % 2) as usize]);
    }
    assert!(rows(site, ALL) == rows(plain, ALL), "seed {seed}: rows differ");
    assert_eq!(rows(site, "PRAGMA integrity_check"), "ok", "seed {seed}");
}

#[test]
fn transactions_end_as_they_do_in_a_file_of_their_own() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let world = World::new();
        let device = world.device_with_memory(64 * 1024);
        let site = device.site.connection(View::Local).unwrap();
        let plain = Connection::open_in_memory().unwrap();
        // With a small cache pages are written, and read again, while the transaction runs.
        let pages = [5, 40, 2_000][(rng.next() % 3) as usize];
        for conn in [&site, &plain] {
            conn.execute_batch(&format!("PRAGMA cache_size = {pages}; {FILL}")).unwrap();
        }
        for _ in 0..4 {
            transaction(&site, &plain, &mut rng, seed);
        }
        let other = world.device();
        device.exchange();
        other.exchange();
        assert_converged(&[&device, &other]);
        assert!(rows(&plain, ALL) == other.local(ALL), "seed {seed}: the other device differs");
    }
}

fn filled(world: &World) -> (Device, Connection, String) {
    let device = world.device();
    device.sql(FILL);
    let conn = device.site.connection(View::Local).unwrap();
    let before = rows(&conn, ALL);
    (device, conn, before)
}

/// All pages are in SQLite's cache, and none can be had otherwise.
fn evicted(world: &World) -> (Device, Connection, String) {
    let (device, conn, before) = filled(world);
    device.exchange();
    assert_eq!(rows(&conn, "PRAGMA integrity_check"), "ok", "all pages are in SQLite's cache now");
    let volume = device.site.volume();
    assert!(volume.evict(&volume.writer(), 0).unwrap().pages > 60);
    device.site.set_remote(None);
    (device, conn, before)
}

#[test]
fn pages_that_are_gone_from_the_device_are_rolled_back_without_a_network() {
    let world = World::new();
    let (_device, conn, before) = evicted(&world);
    conn.execute_batch("BEGIN; UPDATE t SET n = -n; ROLLBACK").unwrap();
    assert_eq!(rows(&conn, ALL), before);
    conn.execute_batch("BEGIN; SAVEPOINT s; UPDATE t SET n = -n; ROLLBACK TO s; ROLLBACK").unwrap();
    assert_eq!(rows(&conn, ALL), before);
}

#[test]
fn a_commit_that_needs_a_page_of_the_server_says_so() {
    let world = World::new();
    let (_device, conn, before) = evicted(&world);
    let error = conn.execute_batch("UPDATE t SET n = -n WHERE id = 30").unwrap_err();
    let error = sheaf_site::explain(&conn, error);
    assert_eq!(error.kind(), sheaf_site::ErrorKind::Unavailable, "{error}");
    assert_eq!(rows(&conn, ALL), before);
}

#[test]
fn a_commit_that_is_refused_leaves_no_trace() {
    let world = World::new();
    let (device, conn, before) = filled(&world);
    // More than one mutation may hold.
    let sql = "UPDATE t SET n = -n, body = hex(randomblob(300000))";
    for cache in ["PRAGMA cache_size = 5", "PRAGMA cache_size = 20000"] {
        conn.execute_batch(cache).unwrap();
        let error = conn.execute_batch(sql).unwrap_err();
        assert!(sheaf_site::explain(&conn, error).to_string().contains("split it"));
        assert_eq!(rows(&conn, ALL), before);
        assert_eq!(rows(&conn, "PRAGMA integrity_check"), "ok");
    }
    conn.execute_batch("UPDATE t SET n = -n").unwrap();
    assert_eq!(device.local("SELECT sum(n) FROM t"), "-1830");
}

/// SQLite would make the two files one step with a file beside the first, and there is no place.
#[test]
fn a_transaction_may_also_write_a_file() {
    let world = World::new();
    let (device, conn, _) = filled(&world);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.db");
    conn.execute("ATTACH ?1 AS file", [path.to_str().unwrap()]).unwrap();
    conn.execute_batch(
        "CREATE TABLE file.c(a);
         BEGIN; INSERT INTO file.c SELECT n FROM t; UPDATE t SET n = -n; COMMIT;
         BEGIN; INSERT INTO file.c SELECT n FROM t; UPDATE t SET n = -n; ROLLBACK;",
    )
    .unwrap();
    assert_eq!(device.local("SELECT sum(n) FROM t"), "-1830");
    assert_eq!(rows(&Connection::open(&path).unwrap(), "SELECT sum(a) FROM c"), "1830");
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 1, "no journal is left");
}
