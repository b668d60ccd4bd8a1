//! Long timelines with little memory, and what a replica takes of its disk in the long run.

use sheaf_site::View;
use sheaf_volume::{Dir as _, HeldMutation, MemDir};

use super::support::{Device, World, assert_converged, is_long};

/// Bytes of pages of a draft, and of a timeline, that a device of these tests keeps in memory.
const MEMORY: usize = 64 * 1024;

fn bytes_here(device: &Device) -> usize {
    let held = device.site.volume().held();
    held.iter().filter(|held| held.is_here()).map(HeldMutation::len).sum()
}

#[test]
fn a_timeline_longer_than_memory_is_merged_and_becomes_several_commits() {
    let world = World::new();
    let a = world.device_with_memory(MEMORY);
    let b = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, body BLOB)");
    a.sql("INSERT INTO t VALUES (1, 0, NULL)");
    a.exchange();
    b.exchange();
    // What B did comes below all of it, so A's redo meets it.
    b.sql("INSERT INTO t VALUES (2, 5, NULL); UPDATE t SET n = 7 WHERE id = 1");
    b.exchange();
    for id in 10..60 {
        a.sql(&format!("INSERT INTO t VALUES ({id}, {id}, randomblob(250000))"));
        assert!(bytes_here(&a) <= MEMORY, "{} bytes of mutations in memory", bytes_here(&a));
    }
    let twin = world.open(a.dir.fork(), 77);
    assert_eq!(twin.local("SELECT count(*), sum(n) FROM t WHERE id >= 10"), "50|1725");
    drop(twin);
    let done = a.exchange();
    assert_eq!((done.pushed, done.pulled, done.rejected.len()), (50, 1, 0));
    // Two from A and one from B before; 12.5 MB in batches of at most 8 MiB.
    assert_eq!(a.site.base().0.0, 4, "each batch is one commit");
    assert_eq!(a.site.volume().status().pages_pending, 0, "what a device has pushed stays here");
    b.exchange();
    assert_converged(&[&a, &b]);
    assert_eq!(b.local("SELECT n FROM t WHERE id = 1"), "7");
    assert_eq!(b.local("SELECT count(*), sum(length(body)) FROM t"), "52|12500000");
}

fn bytes_on_disk(dir: &MemDir) -> u64 {
    let names = dir.list().unwrap();
    names.iter().map(|name| dir.open(name).unwrap().len().unwrap()).sum()
}

/// Small commits, exchanged now and then: in the end the replica takes little more than the
/// database does. The long form makes 100,000.
#[test]
fn after_many_small_commits_a_replica_is_hardly_larger_than_a_vacuumed_copy() {
    let commits = if is_long() { 100_000u32 } else { 600 };
    let world = World::new();
    let a = world.device();
    a.sql(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, body TEXT);
         WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < 4000)
         INSERT INTO t SELECT i, 0, hex(randomblob(200)) FROM c",
    );
    a.exchange();
    let conn = a.site.connection(View::Local).unwrap();
    let mut update = conn.prepare("UPDATE t SET n = n + 1 WHERE id = ?1").unwrap();
    for number in 0..commits {
        update.execute([1 + number * 7_919 % 4_000]).unwrap();
        if number % 100 == 99 {
            a.exchange();
        }
    }
    drop(update);
    drop(conn);
    a.exchange();
    let before = bytes_on_disk(&a.dir);
    let volume = a.site.volume();
    volume.checkpoint(&volume.writer()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("copy.db");
    a.site.export_file(View::Local, &path).unwrap();
    let vacuumed = path.metadata().unwrap().len();
    let after = bytes_on_disk(&a.dir);
    println!("{commits} commits: {before} bytes, folded {after}, vacuumed copy {vacuumed}");
    assert!(after * 10 <= vacuumed * 13, "{after} bytes for a database of {vacuumed}");
    assert!(u64::from(commits) * 4_096 > vacuumed, "there was more to reclaim than there is");
}

#[test]
fn an_evicted_site_is_read_and_written_as_ever() {
    let world = World::new();
    let a = world.device();
    a.sql(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB);
         WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < 500)
         INSERT INTO t SELECT i, randomblob(3000) FROM c",
    );
    a.exchange();
    let hash = a.site.volume().head().content_hash().unwrap();
    a.sql("UPDATE t SET body = 'mine' WHERE id = 3");
    let volume = a.site.volume();
    let evicted = volume.evict(&volume.writer(), 0).unwrap();
    assert!(evicted.pages > 300, "{evicted:?}");
    assert_eq!(evicted.bytes_left, 4_096, "page 1 stays");
    let twin = world.open(a.dir.crash(), 78);
    assert_eq!(twin.local("SELECT body FROM t WHERE id = 3"), "mine");
    drop(twin);
    assert_eq!(a.local("SELECT count(*) FROM t WHERE length(body) = 3000"), "499");
    assert_eq!(volume.global().content_hash().unwrap(), hash);
    a.exchange();
    let b = world.device();
    b.exchange();
    assert_converged(&[&a, &b]);
}
