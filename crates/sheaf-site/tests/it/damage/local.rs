//! Bytes of this device's own files that are flipped.

use std::sync::Arc;

use sheaf_site::View;
use sheaf_volume::{Dir, ManualEnv, MemDir};

use super::is_clear;
use crate::support::{Device, Rng, World, assert_converged, is_long, try_rows};

const READ: &str = "SELECT id, a, length(b), b FROM t ORDER BY id";

/// A device whose files all hold something: a folded base, a log on top, two page maps, pending
/// mutations; and the rows after each of its pending transactions, oldest first.
fn device(world: &World) -> (Device, Vec<Vec<String>>) {
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b BLOB)");
    for _ in 0..3 {
        a.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
             INSERT INTO t(a, b) SELECT i, randomblob(1000) FROM n; UPDATE t SET a = a + 1;",
        );
        a.exchange();
    }
    let writer = a.site.volume().writer();
    a.site.volume().checkpoint(&writer).unwrap();
    drop(writer);
    let mut rows = vec![try_rows(&a, View::Local, READ).unwrap()];
    for round in 0..6 {
        a.sql(&format!("UPDATE t SET a = a + 10 WHERE id % 5 = {round} % 5"));
        a.site.volume().flush().unwrap();
        rows.push(try_rows(&a, View::Local, READ).unwrap());
    }
    (a, rows)
}

#[derive(Debug, Default)]
struct Tally {
    right: usize,
    errors: usize,
    shorter: usize,
}

/// What a damaged image gives: all rows, or an error, or (for damage in the log) the rows after
/// an earlier transaction, as after a torn write.
fn look(
    world: &World,
    (dir, seed): (MemDir, u64),
    rows: &[Vec<String>],
    (what, in_log, online): (&str, bool, bool),
    tally: &mut Tally,
) -> Option<Device> {
    let env = Arc::new(ManualEnv::new(seed + 1_000_000));
    let device = match world.try_reopen(dir, 1, env) {
        Ok(device) => device,
        Err(e) => {
            assert!(is_clear(&e), "{what}: {e:?}");
            tally.errors += 1;
            return None;
        }
    };
    if !online {
        device.site.set_remote(None);
    }
    match try_rows(&device, View::Local, READ) {
        Ok(found) if found == *rows.last().unwrap() => tally.right += 1,
        Ok(found) => {
            assert!(in_log && rows.contains(&found), "{what}: wrong rows");
            tally.shorter += 1;
        }
        Err(e) => {
            assert!(is_clear(&e), "{what}: {e:?}");
            tally.errors += 1;
            return None;
        }
    }
    Some(device)
}

#[test]
fn flipped_bytes_in_local_files_never_give_a_wrong_row() {
    let world = World::new();
    let (a, rows) = device(&world);
    let names = a.dir.list().unwrap();
    let seeds = if is_long() { 1_000 } else { 60 };
    let (mut rng, mut all) = (Rng::new(3), Tally::default());
    for name in &names {
        let len = a.dir.open(name).unwrap().len().unwrap();
        let mut tally = Tally::default();
        for seed in 0..if len == 0 { 0 } else { seeds } {
            let image = a.dir.fork();
            let file = image.open(name).unwrap();
            let at = rng.next() % len;
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ (1 << rng.below(8))], at).unwrap();
            let online = seed % 2 == 0;
            let what = format!("{name} of {len} bytes flipped at {at}, online {online}");
            let in_log = name.starts_with("log");
            let image = (image, seed);
            let found = look(&world, image, &rows, (&what, in_log, online), &mut tally);
            if let Some(device) = found.filter(|_| online && seed % 8 == 0) {
                // Whatever it kept can be sent, once: the bucket is a copy.
                let world = world.copy();
                let log = world.log();
                device.site.exchange_with_log(&*log).unwrap();
                let b = world.device();
                b.exchange();
                assert_eq!(
                    try_rows(&b, View::Local, READ).ok(),
                    try_rows(&device, View::Local, READ).ok()
                );
            }
        }
        println!("{name} of {len} bytes: {tally:?}");
        all.right += tally.right;
        all.errors += tally.errors;
    }
    assert!(all.right > 0 && all.errors > 0, "{all:?}");
}

#[test]
fn a_damaged_base_file_is_fetched_again() {
    let world = World::new();
    let (a, rows) = device(&world);
    a.exchange();
    let writer = a.site.volume().writer();
    a.site.volume().checkpoint(&writer).unwrap();
    drop(writer);
    let image = a.dir.fork();
    let file = image.open("main.db").unwrap();
    let len = file.len().unwrap();
    for at in (0..len).step_by(1_000) {
        file.write_at(&[0x5a], at).unwrap();
    }
    let b = world.try_reopen(image, 1, Arc::new(ManualEnv::new(77))).unwrap();
    assert!(try_rows(&b, View::Local, READ).unwrap() == *rows.last().unwrap());
    assert!(b.site.volume().status().fetched_pages > 10);
    assert_converged(&[&a, &b]);
}

#[test]
fn cut_files_give_the_right_rows_or_an_error() {
    let world = World::new();
    let (a, rows) = device(&world);
    let (mut rng, mut tally) = (Rng::new(8), Tally::default());
    for name in a.dir.list().unwrap() {
        let len = a.dir.open(&name).unwrap().len().unwrap();
        for seed in 0..if len == 0 { 0 } else { 20 } {
            let image = a.dir.fork();
            let at = rng.next() % len;
            image.open(&name).unwrap().truncate(at).unwrap();
            let what = format!("{name} of {len} bytes cut at {at}");
            let online = seed % 2 == 0;
            let in_log = name.starts_with("log");
            look(&world, (image, seed), &rows, (&what, in_log, online), &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.errors > 0 && tally.right > 0, "{tally:?}");
}
