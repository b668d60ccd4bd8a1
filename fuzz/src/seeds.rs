//! Seeds: real encodings, made by the code that production uses.
//!
//! Invariant: the same bytes at every run: ids, clock and randomness are fixed. Leaves out what
//! fuzzing found, which is kept beside them in `corpus/`.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use sheaf_site::{MutationRecord, Site, SiteOptions, View};
use sheaf_volume::{
    BucketRemote, Commit, Dir as _, ManualEnv, MemDir, MemObjects, Objects as _, Page, PageSize,
    Remote,
};

mod buckets;
mod messages;

use crate::input::put_section;
use crate::site::{DEVICE, IDS};
use crate::{deeds, history};

/// One seed: its target, its name and its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// What a device writes, step by step; each is one commit.
const STORY: &[&str] = &[
    "CREATE TABLE todo(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done BOOLEAN, n COUNTER_INT)",
    "INSERT INTO todo(title, done, n) VALUES ('milk', 0, 1), ('bread', 1, 2), (x'0041', 0.5, NULL)",
    "CREATE TABLE pair(a TEXT, b INT, c REAL, PRIMARY KEY(a, b)) WITHOUT ROWID; \
     CREATE INDEX by_c ON pair(c); INSERT INTO pair VALUES ('a', 1, 1.5e300), ('b', 2, -0.25)",
    "UPDATE todo SET title = title || '!', n = n + 1; DELETE FROM pair WHERE b = 2",
    "CREATE VIEW open AS SELECT * FROM todo WHERE NOT done; \
     CREATE TRIGGER t AFTER INSERT ON pair BEGIN UPDATE todo SET n = n + 1; END; \
     INSERT INTO pair VALUES ('c', 3, NULL)",
    "DROP TABLE pair; ALTER TABLE todo ADD COLUMN due TEXT DEFAULT 'soon'",
];

/// Every seed.
///
/// # Panics
/// When the code that makes them fails, which is a bug.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    story(&mut seeds);
    page_deltas(&mut seeds);
    messages::add_all(&mut seeds);
    buckets::add_all(&mut seeds);
    sql(&mut seeds);
    add(&mut seeds, "history", "recorded", history::genuine());
    for (name, bytes) in history::odd() {
        add(&mut seeds, "history", name, bytes);
    }
    deeds::seeds(&mut |name, bytes| add(&mut seeds, "deeds", name, bytes));
    seeds
}

fn add(seeds: &mut Vec<Seed>, target: &'static str, name: &str, bytes: impl Into<Vec<u8>>) {
    seeds.push((target, name.to_owned(), bytes.into()));
}

/// A device that writes, appends to a bucket and folds its log.
fn story(seeds: &mut Vec<Seed>) {
    let (dir, objects) = (MemDir::new(), MemObjects::new());
    let mut options = SiteOptions::new("todo", DEVICE);
    options.create = Some(IDS);
    let site = Site::open(&dir, Arc::new(ManualEnv::new(1)), options).expect("BUG: a new site");
    let log = BucketRemote::new(Arc::new(objects.clone()), IDS.volume, IDS.page_size);
    let conn = site.connection(View::Local).expect("BUG: a new site");
    store(seeds, &dir, "new");
    for (at, sql) in STORY.iter().enumerate() {
        conn.execute_batch(&format!("BEGIN; {sql}; COMMIT")).expect("BUG: the story is good SQL");
        for pending in site.volume().timeline().expect("BUG: a directory in memory") {
            mutation(seeds, at, &MutationRecord::from(pending));
        }
        store(seeds, &dir, &format!("pending-{at}"));
        if at % 2 == 1 {
            let (base, mut deltas) = (site.base().0, site.volume().deltas());
            site.exchange_with_log(&log).expect("BUG: a bucket in memory");
            for commit in log.pull(base).expect("BUG: a bucket in memory") {
                let delta = deltas.next(&commit).expect("BUG: our own commit");
                let delta = delta.expect("BUG: its pages are here and in it");
                add(seeds, "delta", &format!("lsn-{}", commit.lsn), delta.encode());
            }
            store(seeds, &dir, &format!("exchanged-{at}"));
        }
        if at == 3 {
            let writer = site.volume().writer();
            site.volume().checkpoint(&writer).expect("BUG: a directory in memory");
            store(seeds, &dir, "folded");
        }
    }
    let large =
        "CREATE TABLE big(x); INSERT INTO big SELECT randomblob(900) FROM todo, todo, todo, todo";
    conn.execute_batch(large).expect("BUG: good SQL");
    site.define_mutator("add", "INSERT INTO todo(title) VALUES (:title)").expect("BUG: good SQL");
    let args = serde_json::json!({ "title": "call" });
    site.mutate("add", &args).expect("BUG: a good call");
    let mut timeline = site.volume().timeline().expect("BUG: a directory in memory");
    let calls = timeline.pop().expect("BUG: a call is pending");
    mutation(seeds, STORY.len(), &MutationRecord::from(calls));
    site.exchange_with_log(&log).expect("BUG: a bucket in memory");
    for key in objects.list("volumes/", None).expect("BUG: objects in memory") {
        let Some((_, lsn)) = key.split_once("/log/") else { continue };
        let bytes = objects.get(&key).expect("BUG: objects in memory");
        commit(seeds, lsn.trim_start_matches('0'), bytes);
    }
    let head = log.head().expect("BUG: a bucket in memory");
    messages::pulled(seeds, &log, &head);
}

/// Deltas as the target reads them: page size 512, what the old version begins with, the delta.
fn page_deltas(seeds: &mut Vec<Seed>) {
    let begin: Vec<u8> = (0..=255).collect();
    let mut old = begin.clone();
    old.resize(512, 0xa5);
    let changed = Page::edited(&old, |bytes| bytes[100..104].copy_from_slice(b"milk"));
    let moved = Page::edited(&old, |bytes| bytes.copy_within(10..200, 12));
    let raw = [&[0][..], &old].concat();
    for (name, delta) in [
        ("changed", sheaf_volume::encode_delta(&old, &changed)),
        ("moved", sheaf_volume::encode_delta(&old, &moved)),
        ("raw", raw),
    ] {
        let mut bytes = vec![0];
        put_section(&mut bytes, &begin);
        bytes.extend_from_slice(&delta);
        add(seeds, "delta", name, bytes);
    }
}

fn mutation(seeds: &mut Vec<Seed>, at: usize, record: &MutationRecord) {
    let mutation = record.mutation().expect("BUG: our own mutation");
    let name = format!("{}-{at}", mutation.kind());
    // The bulk of one large insert teaches nothing more than its beginning.
    if mutation.encode().len() > 4096 || seeds.iter().any(|(_, known, _)| *known == name) {
        return;
    }
    add(seeds, "mutation", &name, mutation.encode());
    let mut site = Vec::new();
    put_section(&mut site, &record.bytes);
    let rejected = [&5u64.to_le_bytes()[..], &3u32.to_le_bytes(), b"why", &record.bytes].concat();
    for (name, value) in [
        ("rejected/00000000000000000007", &rejected[..]),
        ("timeline/decided", &[0; 24]),
        ("site/name", b"other"),
    ] {
        put_section(&mut site, name.as_bytes());
        put_section(&mut site, value);
    }
    add(seeds, "site", &name, site);
}

fn commit(seeds: &mut Vec<Seed>, lsn: &str, bytes: Bytes) {
    let commit = Commit::decode(bytes.clone()).expect("BUG: our own commit");
    add(seeds, "commit", &format!("lsn-{lsn}"), bytes);
    let Some(frame) = commit.frames.first().filter(|_| commit.segment.is_none()) else { return };
    let choice = match commit.page_size.get() {
        512 => 0,
        _ => 3,
    };
    let count = u8::try_from(frame.pages).expect("BUG: at most eight pages");
    let body = commit.inline.get(..frame.len as usize).unwrap_or_default();
    add(seeds, "frame", &format!("lsn-{lsn}"), [&[choice, count, 1], body].concat());
}

fn file(dir: &MemDir, name: &str) -> Vec<u8> {
    let file = dir.open(name).expect("BUG: a directory in memory");
    let len = file.len().expect("BUG: a directory in memory");
    let mut bytes = vec![0; usize::try_from(len).expect("BUG: it is in memory")];
    file.read_at(&mut bytes, 0).expect("BUG: a directory in memory");
    bytes
}

/// The files of a store as they are now, and the metadata of its newest records.
fn store(seeds: &mut Vec<Seed>, dir: &MemDir, name: &str) {
    const HEADER: usize = 36;
    let newest = usize::from(file(dir, "meta-1").len() > 40);
    let (meta, log) = (file(dir, &format!("meta-{newest}")), file(dir, &format!("log-{newest}")));
    let mut bytes = Vec::new();
    put_section(&mut bytes, &meta);
    put_section(&mut bytes, &log);
    bytes.extend_from_slice(&file(dir, "main.db"));
    add(seeds, "store", name, bytes);
    add(seeds, "record", &format!("meta-{name}"), [&[0], &meta[..]].concat());
    let start = log.windows(4).rposition(|magic| magic == b"SHFR");
    let Some(head) = start.and_then(|start| log.get(start..start + HEADER)) else { return };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (from, pages) = (start.unwrap_or(0) + HEADER, number(8));
    let metadata = log.get(from..from + number(4) as usize).unwrap_or_default();
    let Ok(pages) = u8::try_from(pages) else { return };
    if pages < 16 {
        add(seeds, "record", &format!("record-{name}"), [&[pages], metadata].concat());
    }
}

/// Databases of plain SQLite, and SQL to run over them.
fn sql(seeds: &mut Vec<Seed>) {
    let database = |script: &str| {
        let mut conn = Connection::open_in_memory().expect("BUG: a database in memory");
        conn.execute_batch("PRAGMA page_size = 512").expect("BUG: good SQL");
        conn.execute_batch(script).expect("BUG: good SQL");
        let bytes = conn.serialize("main").expect("BUG: a database in memory");
        bytes.to_vec()
    };
    let story = database(&STORY.join(";"));
    let deep = database(
        "CREATE TABLE t(a PRIMARY KEY, b); CREATE INDEX i ON t(b, a); \
         WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150) \
         INSERT INTO t SELECT i, printf('%.*c', i, 'x') FROM n; DELETE FROM t WHERE a % 3 = 0",
    );
    let text = database(
        "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('one two'), ('two three')",
    );
    let vacuum = database("PRAGMA auto_vacuum = 1; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    for (name, sql, bytes) in [
        ("story-read", "SELECT * FROM todo; SELECT * FROM open; PRAGMA integrity_check", &story),
        ("story-write", "UPDATE todo SET n = n + 1; DELETE FROM todo WHERE id = 2; VACUUM", &story),
        ("story-ddl", "ALTER TABLE todo RENAME TO t2; CREATE TABLE x(a); DROP TABLE t2", &story),
        ("deep-read", "SELECT * FROM t ORDER BY b; SELECT count(*) FROM t WHERE b > 'x'", &deep),
        (
            "deep-write",
            "BEGIN; UPDATE t SET b = a || b; SAVEPOINT s; DELETE FROM t; \
          ROLLBACK TO s; COMMIT; REINDEX; ANALYZE",
            &deep,
        ),
        (
            "text",
            "INSERT INTO f VALUES ('four'); SELECT * FROM f('two'); \
          INSERT INTO f(f) VALUES ('integrity-check')",
            &text,
        ),
        (
            "vacuum",
            "INSERT INTO t SELECT randomblob(400) FROM t; DELETE FROM t; \
          PRAGMA incremental_vacuum",
            &vacuum,
        ),
        (
            "new",
            "CREATE TABLE t(a INT, b TEXT UNIQUE); INSERT INTO t VALUES (1, 'x'), (2, 'y'); \
          PRAGMA journal_mode = wal; PRAGMA user_version = 3; SELECT sheaf_failure()",
            &Vec::new(),
        ),
    ] {
        add(seeds, "sql", name, [sql.as_bytes(), &[0], bytes].concat());
    }
}

/// The page size of the seeds that name one.
const SIZE: PageSize = IDS.page_size;
