//! Rows of a site that records what became of rows, written by anybody who may push to it.
//!
//! Asserts: a look back through them ends, tells newer changes before older ones, each once, or is
//! refused; a row at a time is told or refused as well. The tables are the recorder's own; leaves
//! out records whose schema somebody has changed.

use std::sync::Arc;

use rusqlite::params;
use sheaf_site::history::{RecordPlace, Recorder, record_name};
use sheaf_site::{Site, SiteIds, Value, View};
use sheaf_volume::{
    BucketRemote, Dir, Env, ManualEnv, MemDir, MemObjects, Objects, Remote, Retention, find_site,
};

use crate::input::{Input, put_section};
use crate::site::{DEVICE, IDS, replica};
use crate::world::{assert_refused, copy};

/// Rows of one input.
const ROWS_MAX: usize = 16;
/// Changes asked for.
const EVENTS_MAX: usize = 64;
/// Each is one commit, and one change of a row; the last is what the log keeps.
const STORY: [&str; 6] = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
    "INSERT INTO t VALUES (1, 'the quick fox'), (2, 'gone soon')",
    "UPDATE t SET v = 'the quick brown fox' WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "ALTER TABLE t ADD COLUMN w DEFAULT 5",
    "UPDATE t SET w = 6 WHERE id = 1",
];
/// Milliseconds between two commits: some fall into one interval.
const PAUSE_MS: u64 = 250_000;

/// Where the device stands: within what is recorded, so that a look back may begin behind it.
const STANDS: u64 = 4;

/// A bucket with a log that was recorded and then reclaimed, and a device that has not seen all of
/// it.
struct World {
    objects: MemObjects,
    device: Site,
    record: SiteIds,
}

thread_local! {
    // One for all inputs: looking back changes nothing of it.
    static WORLD: World = World::new();
}

/// A choice of stretch or change, and what such a row holds; at most 16 of them.
pub fn target(data: &[u8]) {
    WORLD.with(|world| look(world, data));
}

fn look(world: &World, data: &[u8]) {
    let record = world.forged(Input(data));
    let open = |_| Ok(Some(record.clone()));
    // One that is there, one that has gone, and one that never was.
    for id in [1, 2, 3] {
        let key = [Value::Int(id)];
        match world.device.history_with("t", &key, (EVENTS_MAX, None), Some(&open)) {
            Ok(told) => {
                // Of those that the record tells: what it tells as one may reach into the log.
                let recorded = told.events.iter().filter(|event| event.interval.is_some());
                let ends: Vec<_> = recorded.map(|event| event.origin.at).collect();
                let is_older = |pair: &[_]| pair[0] > pair[1];
                assert!(ends.windows(2).all(is_older), "a change is told twice: {ends:?}");
            }
            Err(error) => assert_refused(&error),
        }
        if id == 3 {
            continue;
        }
        for step in [0, 2, 9] {
            let time_ms = 1_700_000_000_000 + step * PAUSE_MS;
            if let Err(error) = world.device.row_at("t", &key, time_ms, Some(&open)) {
                assert_refused(&error);
            }
        }
        if let Err(error) = world.device.blame_with("t", &key, Some(&open)) {
            assert_refused(&error);
        }
    }
}

impl World {
    fn new() -> Self {
        let env = Arc::new(ManualEnv::new(1));
        let objects = MemObjects::new();
        let bucket: Arc<dyn Objects> = Arc::new(objects.clone());
        let log = BucketRemote::new(Arc::clone(&bucket), IDS.volume, IDS.page_size);
        let [writer, reader] = [(); 2].map(|()| replica(&MemDir::new(), env.clone(), IDS));
        let conn = writer.connection(View::Local).expect("BUG: a new site");
        for (at, sql) in (1..).zip(STORY) {
            conn.execute_batch(sql).expect("BUG: the story is good SQL");
            writer.exchange_with_log(&log).expect("BUG: a bucket in memory");
            env.advance_ms(PAUSE_MS);
            if at == STANDS {
                reader.exchange_with_log(&log).expect("BUG: a bucket in memory");
            }
        }
        let clock: Arc<dyn Env> = env.clone();
        let place = RecordPlace { objects: &bucket, env: &clock, device: DEVICE, log: &log };
        let open: &sheaf_site::history::OpenDir = &|_| Ok(Box::new(MemDir::new()) as Box<dyn Dir>);
        let mut recorder = Recorder::open(&place, open).expect("BUG: a bucket in memory");
        let from = log.boundary().expect("BUG: a bucket in memory");
        let keep = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
        log.gc(env.as_ref(), &keep, false, &mut |step| match step {
            sheaf_volume::GcStep::Boundary(to) => {
                recorder.record(from, to, &mut || Ok(())).map(|_| ())
            }
            _ => Ok(()),
        })
        .expect("BUG: a bucket in memory");
        let log = Arc::new(BucketRemote::new(Arc::clone(&bucket), IDS.volume, IDS.page_size));
        reader.set_remote(Some(log as Arc<dyn Remote>));
        let found = find_site(&objects, &record_name(IDS.volume)).expect("BUG: objects in memory");
        let made = found.expect("BUG: a recorder has made it");
        let record = SiteIds { site: made.site, volume: made.volume(), page_size: made.page_size };
        Self { objects, device: reader, record }
    }

    /// The record as it is in a bucket of its own.
    fn recorded(&self) -> (Site, BucketRemote) {
        let (objects, ids) = (Arc::new(copy(&self.objects)), self.record);
        let log = BucketRemote::new(objects, ids.volume, ids.page_size);
        let site = replica(&MemDir::new(), Arc::new(ManualEnv::new(9)), ids);
        site.exchange_with_log(&log).expect("BUG: a bucket in memory");
        (site, log)
    }

    /// The record with these rows in place of its own.
    fn forged(&self, mut input: Input<'_>) -> Site {
        let (site, log) = self.recorded();
        let conn = site.connection(View::Local).expect("BUG: our own record");
        conn.execute_batch("BEGIN; DELETE FROM history; DELETE FROM span")
            .expect("BUG: our own tables");
        for _ in 0..ROWS_MAX {
            if input.is_empty() {
                break;
            }
            let put = match input.byte() % 4 {
                0 => {
                    let (first, last) = (number(&mut input), number(&mut input));
                    conn.execute(
                        "INSERT OR REPLACE INTO span VALUES (?1, ?2, ?3, NULL)",
                        params![first, last, number(&mut input)],
                    )
                }
                choice => {
                    let key = key(choice, &mut input);
                    let (last, first) = (number(&mut input), number(&mut input));
                    let (time, before) = (number(&mut input), number(&mut input));
                    let (authors, upd) = (input.section(), input.section());
                    conn.execute(
                        "INSERT OR REPLACE INTO history VALUES ('t', ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                        params![key, last, first, time, before, authors, upd],
                    )
                }
            };
            put.expect("BUG: our own tables take it");
        }
        conn.execute_batch("COMMIT").expect("BUG: a directory in memory");
        site.exchange_with_log(&log).expect("BUG: a bucket in memory");
        site
    }
}

/// A small number as it is; from 251 on steps of time, the largest, and one that is negative.
fn number(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        255 => i64::MAX,
        254 => -1,
        byte @ 251..=253 => 1_700_000_000_000 + i64::from(byte - 251) * 700_000,
        byte => i64::from(byte),
    }
}

/// No key, that of row 1, or any.
fn key<'a>(choice: u8, input: &mut Input<'a>) -> &'a [u8] {
    match choice {
        1 => &[],
        2 => &ROW_1,
        _ => input.section(),
    }
}

/// The key record of the integer 1 (docs/format.md, 9.1).
const ROW_1: [u8; 4] = *b"2:i1";

/// What a recorder has written, as an input.
pub(crate) fn genuine() -> Vec<u8> {
    WORLD.with(|world| {
        let (site, _) = world.recorded();
        let conn = site.connection(View::Global).expect("BUG: our own record");
        let mut out = Vec::new();
        let byte = |number: i64| u8::try_from(number).unwrap_or(251);
        let mut spans = conn.prepare("SELECT first, last FROM span").expect("BUG: our own table");
        let mut rows = spans.query([]).expect("BUG: our own table");
        while let Some(row) = rows.next().expect("BUG: our own table") {
            let get = |at| row.get(at).expect("BUG: our own table");
            out.extend([0, byte(get(0)), byte(get(1)), 251]);
        }
        let mut all = conn
            .prepare("SELECT key, last, first, authors, upd FROM history ORDER BY last DESC")
            .expect("BUG: our own table");
        let mut rows = all.query([]).expect("BUG: our own table");
        while let Some(row) = rows.next().expect("BUG: our own table") {
            let bytes = |at| row.get::<_, Vec<u8>>(at).expect("BUG: our own table");
            let get = |at| row.get(at).expect("BUG: our own table");
            out.push(3);
            put_section(&mut out, &bytes(0));
            out.extend([byte(get(1)), byte(get(2)), 251, 251]);
            put_section(&mut out, &bytes(3));
            put_section(&mut out, &bytes(4));
        }
        out
    })
}

/// Changes that contradict themselves: of a table, from a position behind the one that it ends at;
/// of a row, the same; and both in each other's places.
pub(crate) fn odd() -> [(&'static str, Vec<u8>); 3] {
    let change = |key: u8, last: u8, first: u8, kind: u8| {
        let mut out = vec![0, 0, 5, 251, key, last, first, 251, 251];
        let authors = [&[1, 0][..], &[1; 16]].concat();
        put_section(&mut out, &authors);
        put_section(&mut out, &[1, kind]);
        out
    };
    [
        ("table-backwards", change(1, 1, 90, 0)),
        ("row-backwards", change(2, 1, 90, 0)),
        ("places", [change(1, 2, 2, 0), change(2, 1, 1, 3)].concat()),
    ]
}
