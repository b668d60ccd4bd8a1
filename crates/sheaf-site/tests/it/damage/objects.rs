//! Objects in the bucket that are flipped, cut, swapped, missing or from the future.

use bytes::Bytes;
use sheaf_site::View;
use sheaf_volume::{ErrorKind, Lsn, MemDir, Objects, Remote};

use super::is_clear;
use crate::support::{Device, Rng, World, assert_converged, is_long, try_rows};

const READ: &str = "SELECT id, a, length(b), b FROM t ORDER BY id";

/// A site of small commits (inline) and large ones (with a segment), and its rows at every lsn.
fn history(seed: u64) -> (World, Vec<Vec<String>>) {
    let world = World::new();
    let a = world.device();
    let mut rows = vec![Vec::new()];
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b BLOB)");
    for lsn in 1..=7_u64 {
        let count = if lsn.is_multiple_of(3) { 25 } else { 2 };
        a.sql(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO t(a, b) SELECT {seed} * 100 + i, randomblob(4000) FROM n;
             UPDATE t SET a = a + 1 WHERE id % 3 = {lsn} % 3;"
        ));
        a.exchange();
        assert_eq!(a.site.base().0, Lsn(lsn));
        rows.push(try_rows(&a, View::Global, READ).unwrap());
    }
    (world, rows)
}

fn keys(world: &World, part: &str) -> Vec<String> {
    let keys = world.objects.list("", None).unwrap();
    keys.into_iter().filter(|key| key.contains(part)).collect()
}

/// What a device finds: its position and rows, or an error.
fn look(device: &Device) -> sheaf_site::Result<(Lsn, Vec<String>)> {
    device.site.exchange_with_log(&*device.log)?;
    let rows = try_rows(device, View::Local, READ)?;
    Ok((device.site.base().0, rows))
}

/// First contact that takes only the head, as a client of a node does.
fn adopt(device: &Device) -> sheaf_site::Result<(Lsn, Vec<String>)> {
    let head = device.log.head()?;
    device.site.adopt(device.site.ids(), head)?;
    Ok((device.site.base().0, try_rows(device, View::Local, READ)?))
}

/// Whether what a device found is true: the rows of the position it says it is at. Only a commit
/// that nothing follows can be missing unnoticed: then it has not been made yet.
fn is_true(
    found: &sheaf_site::Result<(Lsn, Vec<String>)>,
    rows: &[Vec<String>],
    lost_newest: bool,
    what: &str,
) -> bool {
    match found {
        Ok((lsn, found)) => {
            assert!(*found == rows[lsn.0 as usize], "{what}: wrong rows at lsn {lsn}");
            let newest = rows.len() as u64 - 1;
            assert!(lsn.0 == newest || (lost_newest && lsn.0 + 1 == newest), "{what}: at {lsn}");
            true
        }
        Err(e) => {
            assert!(is_clear(e), "{what}: {e:?}");
            false
        }
    }
}

fn damaged(
    rng: &mut Rng,
    key: &str,
    whole: &Bytes,
    others: &[Bytes],
) -> Vec<(String, Option<Bytes>)> {
    let mut forms = vec![("missing".to_owned(), None), ("empty".to_owned(), Some(Bytes::new()))];
    for _ in 0..if is_long() { 40 } else { 3 } {
        let mut bytes = whole.to_vec();
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
        forms.push((format!("flipped at {at}"), Some(bytes.into())));
        let at = rng.below(whole.len());
        forms.push((format!("cut at {at}"), Some(whole.slice(..at))));
    }
    let mut longer = whole.to_vec();
    longer.extend_from_slice(b"more");
    forms.push(("longer".to_owned(), Some(longer.into())));
    forms.extend(others.iter().map(|other| ("swapped".to_owned(), Some(other.clone()))));
    if key.contains("/log/") {
        forms.push(("of the future".to_owned(), Some(of_the_future(whole))));
    }
    forms
}

/// The same commit with a higher format version and a trailer that fits.
fn of_the_future(commit: &Bytes) -> Bytes {
    let mut bytes = commit.to_vec();
    bytes[4] += 1;
    let body = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(hash.as_bytes());
    bytes.into()
}

#[test]
fn damaged_objects_never_give_a_wrong_row() {
    let (world, rows) = history(1);
    let (stranger, _) = history(2);
    // Went away after three commits; the others are to come.
    let half = {
        let early = world.copy();
        for lsn in 4..=7 {
            early.objects.delete(&keys(&world, "/log/")[lsn - 1]).unwrap();
        }
        let device = early.device();
        assert_eq!(look(&device).unwrap().0, Lsn(3));
        device.dir.fork()
    };
    let mut rng = Rng::new(5);
    let (mut errors, mut unnoticed) = (0, 0);
    for part in ["/log/", "/segments/"] {
        let all = keys(&world, part);
        assert!(all.len() >= 2, "{part}: {all:?}");
        for (at, key) in all.iter().enumerate() {
            let whole = world.objects.get(key).unwrap();
            let others = [
                world.objects.get(&all[(at + 1) % all.len()]).unwrap(),
                stranger.objects.get(&keys(&stranger, part)[at]).unwrap(),
            ];
            for (how, bytes) in damaged(&mut rng, key, &whole, &others) {
                let what = format!("{key} {how}");
                match bytes {
                    Some(bytes) => world.objects.put(key, bytes).unwrap(),
                    None => world.objects.delete(key).unwrap(),
                }
                let devices = [world.device(), world.open(half.fork(), 9), world.device()];
                let lost_newest = how == "missing" && key == all.last().unwrap() && part == "/log/";
                let found = [look(&devices[0]), look(&devices[1]), adopt(&devices[2])];
                for found in &found {
                    match is_true(found, &rows, lost_newest, &what) {
                        true => unnoticed += 1,
                        false => errors += 1,
                    }
                    if how == "of the future"
                        && let Err(e) = found
                    {
                        assert_eq!(e.kind(), ErrorKind::Unsupported, "{what}: {e:?}");
                        assert!(e.to_string().contains("upgrade"), "{what}: {e:?}");
                    }
                }
                world.objects.put(key, whole.clone()).unwrap();
                for device in &devices[..2] {
                    let (lsn, now) = look(device).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                    assert!(lsn == Lsn(7) && now == rows[7], "{what}: not mended");
                }
                assert!(try_rows(&devices[2], View::Local, READ).is_ok() || found[2].is_err());
            }
        }
    }
    println!("{errors} errors, {unnoticed} times the damage was not in the way");
    assert!(errors > unnoticed, "damage must be noticed");
    let (a, b) = (world.open(MemDir::new(), 20), world.device());
    a.exchange();
    a.sql("INSERT INTO t(a) VALUES ('after')");
    a.exchange();
    b.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn a_damaged_past_gives_an_error_and_the_present_goes_on() {
    let (world, rows) = history(3);
    let device = world.device();
    assert_eq!(look(&device).unwrap().1, rows[7]);
    let segment = keys(&world, "/segments/").remove(0);
    let whole = world.objects.get(&segment).unwrap();
    world.objects.delete(&segment).unwrap();
    let fresh = world.open(device.dir.fork(), 30);
    for (lsn, expected) in rows.iter().enumerate().skip(1) {
        match try_rows(&fresh, View::At(Lsn(lsn as u64)), READ) {
            Ok(found) => assert!(found == *expected, "wrong rows at {lsn}"),
            Err(e) => assert!(is_clear(&e), "{lsn}: {e:?}"),
        }
    }
    fresh.sql("INSERT INTO t(a) VALUES ('goes on')");
    fresh.exchange();
    world.objects.put(&segment, whole).unwrap();
    for (lsn, expected) in rows.iter().enumerate().skip(1) {
        assert!(try_rows(&fresh, View::At(Lsn(lsn as u64)), READ).unwrap() == *expected);
    }
}
