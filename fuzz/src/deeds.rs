//! The files in which a device remembers what its own mutations did.
//!
//! Asserts: whatever they hold, the replica opens, a row's newest change tells what the row is, an
//! undo is refused or makes one mutation, and that one is decided like any other: another device
//! has the same rows then. Leaves out what a log damages: the files are never the truth.

use std::sync::Arc;

use sheaf_site::history::{MutationName, RowChange};
use sheaf_site::{Site, Value, View};
use sheaf_volume::{BucketRemote, Dir as _, ManualEnv, MemDir, MemObjects, Remote};

use crate::input::{Input, assert_refusal, put_section};
use crate::site::{IDS, replica};
use crate::world;

/// Records of one file.
const RECORDS_MAX: usize = 32;
/// Bytes of a file's header, and of a record before its body (docs/format.md, 7.6).
const HEADER: usize = 21;
const FRAME: usize = 12;
/// Made offline and pushed at once, so that the log does not tell them apart.
const STORY: [&str; 4] = [
    "INSERT INTO t VALUES (1, 'the quick fox', 0), (2, 'two', 0)",
    "UPDATE t SET v = 'the quick brown fox', n = n + 5 WHERE id = 1",
    "UPDATE t SET n = n + 100",
    "DELETE FROM t WHERE id = 2",
];

/// A device that remembers its mutations, and the log that has decided them.
struct World {
    objects: MemObjects,
    dir: MemDir,
}

thread_local! {
    // One for all inputs, which work on copies of it.
    static WORLD: World = World::new();
}

/// For each of the two files: a choice, then its bytes, or a generation and the bodies of records.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (even, odd) = (file(&mut input), file(&mut input));
    let (dir, objects) = WORLD.with(World::copy);
    for (name, bytes) in [("deeds-0", even), ("deeds-1", odd)] {
        let file = dir.open(name).expect("BUG: a directory in memory");
        file.truncate(0).expect("BUG: a directory in memory");
        file.write_at(&bytes, 0).expect("BUG: a directory in memory");
    }
    let (site, log) = open(&dir, &objects, 3);
    told(&site);
    for seq in ["2", "3", "4", "5"] {
        let name: MutationName = seq.parse().expect("BUG: a mutation's name");
        let before = site.last_seq();
        match site.undo(&name, false) {
            Ok(done) => assert_eq!(site.last_seq(), done.seq.unwrap_or(before)),
            Err(error) => {
                assert_refusal(&error);
                assert_eq!(site.last_seq(), before, "a refusal has changed something");
            }
        }
    }
    site.exchange_with_log(&log).expect("BUG: a bucket in memory");
    told(&site);
    let (other, _) = open(&MemDir::new(), &objects, 4);
    other.exchange_with_log(&log).expect("BUG: a bucket in memory");
    assert_eq!(rows(&other), rows(&site), "an undo is a mutation like any other");
}

/// What a row's newest change has left is what the row is.
fn told(site: &Site) {
    for id in [1, 2] {
        let told = match site.history("t", &[Value::Int(id)], 64, None) {
            Ok(told) => told,
            Err(error) => {
                assert_refusal(&error);
                continue;
            }
        };
        let newest = told.events.first().map(|event| &event.change);
        let is_there = rows(site).split(';').any(|row| row.starts_with(&format!("{id}|")));
        let is_told = matches!(newest, Some(RowChange::Inserted(_) | RowChange::Updated(_)));
        assert!(newest.is_none() || is_told == is_there, "row {id}: {newest:?}");
    }
}

fn rows(site: &Site) -> String {
    let conn = site.connection(View::Local).expect("BUG: a good replica");
    let all = "SELECT coalesce(group_concat(id || '|' || v || '|' || n, ';'), '') FROM t";
    conn.query_row(all, [], |row| row.get(0)).expect("BUG: a good replica")
}

fn file(input: &mut Input<'_>) -> Vec<u8> {
    if input.byte().is_multiple_of(2) {
        return input.section().to_vec();
    }
    let generation = u64::from(input.byte());
    let mut bytes = b"SHFD\x01".to_vec();
    bytes.extend(generation.to_le_bytes());
    let sum = sealed(generation, &bytes);
    bytes.extend(sum);
    for _ in 0..RECORDS_MAX {
        let body = input.section();
        if body.is_empty() {
            break;
        }
        bytes.extend(u32::try_from(body.len()).expect("BUG: a section").to_le_bytes());
        bytes.extend(sealed(generation, body));
        bytes.extend_from_slice(body);
    }
    bytes
}

/// The checksum of a header or a body.
fn sealed(generation: u64, bytes: &[u8]) -> [u8; 8] {
    let all = [&generation.to_le_bytes(), bytes].concat();
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(&all).as_bytes()[..8]);
    sum
}

fn open(dir: &MemDir, objects: &MemObjects, seed: u64) -> (Site, BucketRemote) {
    let log = || BucketRemote::new(Arc::new(objects.clone()), IDS.volume, IDS.page_size);
    let site = replica(dir, Arc::new(ManualEnv::new(seed)), IDS);
    site.set_remote(Some(Arc::new(log()) as Arc<dyn Remote>));
    (site, log())
}

impl World {
    fn new() -> Self {
        let (objects, dir) = (MemObjects::new(), MemDir::new());
        let (site, log) = open(&dir, &objects, 1);
        let conn = site.connection(View::Local).expect("BUG: a new site");
        let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, v MERGE_TEXT, n COUNTER_INT)";
        conn.execute_batch(schema).expect("BUG: good SQL");
        site.exchange_with_log(&log).expect("BUG: a bucket in memory");
        for sql in STORY {
            conn.execute_batch(sql).expect("BUG: the story is good SQL");
        }
        site.exchange_with_log(&log).expect("BUG: a bucket in memory");
        drop((conn, site));
        Self { objects, dir }
    }

    fn copy(&self) -> (MemDir, MemObjects) {
        (self.dir.fork(), world::copy(&self.objects))
    }

    /// The bytes of one of the files.
    fn file(&self, name: &str) -> Vec<u8> {
        let file = self.dir.open(name).expect("BUG: a directory in memory");
        let len = file.len().expect("BUG: a directory in memory");
        let mut bytes = vec![0; usize::try_from(len).expect("BUG: a small file")];
        file.read_at(&mut bytes, 0).expect("BUG: a directory in memory");
        bytes
    }
}

/// What the device has written: as files, and taken apart into records.
pub(crate) fn seeds(add: &mut dyn FnMut(&str, Vec<u8>)) {
    let files = WORLD.with(|world| [world.file("deeds-0"), world.file("deeds-1")]);
    let (mut whole, mut apart) = (Vec::new(), Vec::new());
    for bytes in &files {
        whole.push(0);
        put_section(&mut whole, bytes);
        apart.extend([1, bytes.get(5).copied().unwrap_or_default()]);
        let mut rest = bytes.get(HEADER..).unwrap_or_default();
        while let Some((len, _)) = rest.split_first_chunk::<4>() {
            let end = FRAME + usize::try_from(u32::from_le_bytes(*len)).expect("BUG: our own file");
            put_section(&mut apart, &rest[FRAME..end]);
            rest = &rest[end..];
        }
        put_section(&mut apart, b"");
    }
    add("files", whole);
    add("records", apart);
}
