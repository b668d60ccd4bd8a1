//! Seeds of what a bucket holds beside commits, of branches, and of databases page by page.

use bytes::Bytes;
use rusqlite::Connection;
use sheaf_sync::branch::{self, BranchRequest};
use sheaf_sync::wire::OpenedSite;
use sheaf_volume::{
    At, CommitHash, Lsn, ManualEnv, MemObjects, Objects as _, PageCount, Parent, RemoteHead,
    Retention,
};

use super::{SIZE, Seed, add};
use crate::input::put_section;
use crate::wire::{NAME, SITE, VOLUME};
use crate::{boundary, checkpoint, pack, world};

pub(super) fn add_all(seeds: &mut Vec<Seed>) {
    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../crates/sheaf-volume/tests/fixtures/", $name))
        };
    }
    add(seeds, "checkpoint", "world", checkpoint::genuine());
    add(seeds, "checkpoint", "fixture", fixture!("checkpoint-v1.bin"));
    add(seeds, "checkpoint", "lead", checkpoint::led());
    add(seeds, "checkpoint", "fixture-lead", fixture!("checkpoint-v2.bin"));
    add(seeds, "boundary", "fixture-hint", fixture!("latest-v1.bin"));
    add(seeds, "boundary", "fixture", fixture!("boundary-v1.bin"));
    add(seeds, "pack", "fixture", fixture!("pack-v1.bin"));
    add(seeds, "branch", "pin", fixture!("branch-v1.json"));
    add(seeds, "branch", "record", fixture!("site-v2.json"));
    marks(seeds);
    pack_edits(seeds);
    branches(seeds);
    trees(seeds);
}

/// What a reclaimer writes.
fn marks(seeds: &mut Vec<Seed>) {
    let key = world::key("checkpoints", world::CUT.0);
    let (objects, reader) = world::with(world::small(), &key, checkpoint::genuine());
    let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    let pass = reader.gc(&ManualEnv::new(3), &retention, false, &mut |_| Ok(()));
    pass.expect("BUG: objects in memory");
    let mark = objects.get(&world::key("boundary", 1)).expect("BUG: the boundary has moved");
    add(seeds, "boundary", "hint-old", hint(&objects));
    // A hint to the checkpoint that the log has.
    let (objects, reader) = world::with(world::small(), &key, checkpoint::genuine());
    let retention = Retention { keep_for_ms: u64::MAX, keep_commits: 9, exact: false };
    let pass = reader.gc(&ManualEnv::new(3), &retention, false, &mut |_| Ok(()));
    pass.expect("BUG: objects in memory");
    add(seeds, "boundary", "hint", hint(&objects));
    let mut several = Vec::new();
    put_section(&mut several, &mark);
    put_section(&mut several, &mark);
    add(seeds, "boundary", "mark", mark);
    add(seeds, "boundary", "several", several);
}

fn hint(objects: &MemObjects) -> Bytes {
    objects.get(&boundary::hint_key()).expect("BUG: the pass has written a hint")
}

/// Changes to the real pack: one byte of its head, of a commit, and one commit in place of another.
fn pack_edits(seeds: &mut Vec<Seed>) {
    let pack = world::object(world::long(), &world::key("packs", pack::LAST));
    let commits = world::commits(world::long());
    let place = |lsn: usize| {
        let commit = commits[lsn - 1].encode();
        let at = pack.windows(commit.len()).position(|part| part == commit);
        (at.expect("BUG: the pack has the commit"), commit)
    };
    let (at, commit) = place(100);
    let (_, other) = place(101);
    for (name, at, bytes) in [
        ("head", 21, Bytes::from_static(&[2])),
        ("commit", at + 30, Bytes::from_static(&[0xff])),
        ("swapped", at, other.slice(..commit.len().min(other.len()))),
    ] {
        let at = u32::try_from(at).expect("BUG: a small pack").to_le_bytes();
        let mut edit = at[..3].to_vec();
        put_section(&mut edit, &bytes);
        add(seeds, "pack", name, edit);
    }
}

fn branches(seeds: &mut Vec<Seed>) {
    for (name, at) in
        [("head", At::Head), ("lsn", At::Lsn(Lsn(7))), ("time", At::Time(1_700_000_000_000))]
    {
        let (source, name_of) = (NAME.to_owned(), "team/draft".to_owned());
        let request = BranchRequest { source, at, name: name_of, site: SITE, volume: VOLUME };
        add(seeds, "branch", &format!("request-{name}"), branch::encode_request(&request));
    }
    let parent = |byte: u8, lsn| Parent {
        volume: sheaf_volume::VolumeId::from_bytes([byte; 16]),
        lsn: Lsn(lsn),
    };
    let head = RemoteHead {
        lsn: Lsn(9),
        hash: CommitHash([5; 32]),
        page_count: PageCount(3),
        page_size: SIZE,
        time_ms: 7,
    };
    let parents = vec![parent(6, 9), parent(5, 4)];
    let mut kept = vec![1, 2];
    for parent in &parents {
        kept.extend_from_slice(parent.volume.as_bytes());
        kept.extend_from_slice(&parent.lsn.0.to_le_bytes()[..1]);
    }
    add(seeds, "branch", "parents", kept);
    let name = "team/draft".to_owned();
    let opened = OpenedSite { name, site: SITE, volume: VOLUME, head, parents };
    add(seeds, "branch", "answer", branch::encode_answer(&opened));
}

/// Two states of a database with both kinds of trees and values that take pages of their own.
fn trees(seeds: &mut Vec<Seed>) {
    let mut conn = Connection::open_in_memory().expect("BUG: a database in memory");
    let script = "PRAGMA page_size = 512; \
         CREATE TABLE t(id INTEGER PRIMARY KEY, b); CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; \
         CREATE TABLE gone(x); INSERT INTO gone VALUES (zeroblob(1200)); \
         WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) \
         INSERT INTO t SELECT i, printf('%.*c', i * 2, 'x') FROM n; \
         INSERT INTO t VALUES (99, printf('%.*c', 1400, 'y')); \
         INSERT INTO w SELECT 'k' || id, b FROM t; DELETE FROM gone";
    conn.execute_batch(script).expect("BUG: good SQL");
    let pages =
        |conn: &mut Connection| conn.serialize("main").expect("BUG: a database in memory").to_vec();
    let before = pages(&mut conn);
    let root = |name: &str| -> u8 {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        conn.query_row(sql, [name], |row| row.get(0)).expect("BUG: the table is there")
    };
    let (t, w) = (root("t"), root("w"));
    for (name, sql) in [
        ("rows", "UPDATE t SET b = b || '!' WHERE id = 7; DELETE FROM w WHERE k = 'k9'"),
        ("values", "UPDATE t SET b = replace(b, 'yy', 'yz') WHERE id = 99; DELETE FROM w"),
    ] {
        conn.execute_batch(sql).expect("BUG: good SQL");
        let mut seed = vec![0, 2, t, t, 0, w, w, 1];
        put_section(&mut seed, &before);
        seed.extend(pages(&mut conn));
        add(seeds, "btree", name, seed);
    }
}
