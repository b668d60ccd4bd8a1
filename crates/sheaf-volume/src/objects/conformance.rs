//! What every [`Objects`] must do, as one function that a store's tests call.
//!
//! Leaves out durability and failures in transport, which need a store that can be broken.

use std::sync::Barrier;

use bytes::Bytes;

use super::{Objects, ObjectsError};
use crate::limits::UPLOAD_PART_BYTES;

/// Callers that race for one key, and keys they race for.
const RACERS: u64 = 16;
const RACES: u64 = 20;

/// Runs every check against an empty store, and leaves it empty.
///
/// # Panics
/// When the store does not keep the contract of [`Objects`].
pub fn objects_conformance(objects: &dyn Objects) {
    assert_eq!(list(objects, "", None), Vec::<String>::new(), "the store must be empty");
    whole_objects(objects);
    streams(objects);
    conditional_create(objects);
    ranges(objects);
    batches(objects);
    listing(objects);
    unusual_keys(objects);
    races(objects);
    for key in list(objects, "", None) {
        objects.delete(&key).expect("delete");
    }
    assert_eq!(list(objects, "", None), Vec::<String>::new());
}

fn list(objects: &dyn Objects, prefix: &str, after: Option<&str>) -> Vec<String> {
    objects.list(prefix, after).expect("list")
}

fn whole_objects(objects: &dyn Objects) {
    let missing = objects.get("w/none");
    assert!(matches!(missing, Err(ObjectsError::NotFound(key)) if key == "w/none"));
    objects.put("w/a", Bytes::from_static(b"one")).expect("put");
    assert_eq!(objects.get("w/a").expect("get"), "one");
    objects.put("w/a", Bytes::from_static(b"three")).expect("put");
    assert_eq!(objects.get("w/a").expect("get"), "three", "put replaces");
    objects.put("w/empty", Bytes::new()).expect("put");
    assert!(objects.get("w/empty").expect("get").is_empty());
    let large = Bytes::from(vec![0xab; 3 << 20]);
    objects.put("w/large", large.clone()).expect("put");
    assert!(objects.get("w/large").expect("get") == large, "a large object came back changed");
    objects.delete("w/a").expect("delete");
    objects.delete("w/a").expect("deleting a missing object is no error");
    assert!(matches!(objects.get("w/a"), Err(ObjectsError::NotFound(_))));
}

fn streams(objects: &dyn Objects) {
    let part = UPLOAD_PART_BYTES;
    // Nothing, little, an even number of parts, and pieces that fit no part.
    for sizes in [&[][..], &[0, 3, 0, 5], &[part], &[part / 2; 4], &[part - 1, 3, 2 * part, 7]] {
        let pieces: Vec<Bytes> =
            (1_u8..).zip(sizes).map(|(byte, len)| Bytes::from(vec![byte; *len])).collect();
        let mut given = pieces.iter().cloned().map(Ok);
        objects.put_stream("s/a", &mut given).expect("put_stream");
        let whole = objects.get("s/a").expect("get");
        assert!(whole == pieces.concat(), "the pieces {sizes:?} came back changed");
    }
    objects.put("s/a", Bytes::from_static(b"before")).expect("put");
    for good in [0, 1, 5] {
        for key in ["s/a", "s/b"] {
            let good = (0..good).map(|_| Ok(Bytes::from(vec![7; part / 2])));
            let bad = ObjectsError::Failed("no more".to_owned());
            let mut pieces = good.chain([Err(bad), Ok(Bytes::from_static(b"too late"))]);
            let failed = objects.put_stream(key, &mut pieces);
            assert!(matches!(failed, Err(ObjectsError::Failed(why)) if why == "no more"));
        }
    }
    assert_eq!(objects.get("s/a").expect("get"), "before", "a broken stream replaces nothing");
    assert_eq!(list(objects, "s/", None), ["s/a"], "a broken stream leaves nothing");
}

fn conditional_create(objects: &dyn Objects) {
    objects.create("c/a", Bytes::from_static(b"first")).expect("create");
    for again in [&b"second"[..], b"first"] {
        match objects.create("c/a", Bytes::copy_from_slice(again)) {
            Err(ObjectsError::AlreadyExists(key)) => assert_eq!(key, "c/a"),
            other => panic!("the second create of a key must lose, not {other:?}"),
        }
    }
    assert_eq!(objects.get("c/a").expect("get"), "first", "the loser changed nothing");
    objects.delete("c/a").expect("delete");
    objects.create("c/a", Bytes::from_static(b"third")).expect("a deleted key is free");
    objects.put("c/b", Bytes::from_static(b"put")).expect("put");
    let taken = objects.create("c/b", Bytes::from_static(b"create"));
    assert!(matches!(taken, Err(ObjectsError::AlreadyExists(_))), "put takes the key too");
}

fn ranges(objects: &dyn Objects) {
    objects.put("r/a", Bytes::from_static(b"0123456789")).expect("put");
    let want = |key: &str, start, end| (key.to_owned(), start..end);
    let answers = objects.get_ranges(&[
        want("r/a", 8, 10),
        want("r/none", 0, 1),
        want("r/a", 0, 4),
        want("r/a", 5, 5),
        want("r/a", 8, 11),
        want("r/a", 10, 11),
        want("r/a", 900, 901),
        want("r/a", 0, 10),
        want("r/a", 2, 5),
    ]);
    let texts = answers.iter().map(|answer| match answer {
        Ok(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Err(ObjectsError::NotFound(key)) => format!("none {key}"),
        Err(ObjectsError::Failed(_)) => "failed".to_owned(),
        Err(other) => format!("{other}"),
    });
    let expected =
        ["89", "none r/none", "0123", "", "failed", "failed", "failed", "0123456789", "234"];
    assert_eq!(texts.collect::<Vec<_>>(), expected, "ranges in the order of the requests");
    assert!(objects.get_ranges(&[]).is_empty());
}

fn batches(objects: &dyn Objects) {
    let keys: Vec<String> = (0..50).map(|n| format!("b/{n}")).collect();
    for key in keys.iter().filter(|key| !key.ends_with('7')) {
        objects.put(key, Bytes::from(key.clone())).expect("put");
    }
    let answers = objects.get_many(&keys);
    assert_eq!(answers.len(), keys.len());
    for (key, answer) in keys.iter().zip(answers) {
        match answer {
            Ok(bytes) => assert_eq!(bytes, *key, "answers in the order of the keys"),
            Err(ObjectsError::NotFound(missing)) => {
                assert!(key.ends_with('7') && missing == *key, "{key} is missing");
            }
            Err(other) => panic!("{key}: {other}"),
        }
    }
}

fn listing(objects: &dyn Objects) {
    for key in ["l/log/02", "l/log/10", "l/log/01", "l/logs/x", "l/seg/a", "l/log/sub/x"] {
        objects.put(key, Bytes::new()).expect("put");
    }
    let log = ["l/log/01", "l/log/02", "l/log/10", "l/log/sub/x"];
    assert_eq!(list(objects, "l/log/", None), log);
    assert_eq!(list(objects, "l/log", None).len(), 5, "a prefix need not end a segment");
    assert_eq!(list(objects, "l/log/0", None), ["l/log/01", "l/log/02"]);
    assert_eq!(list(objects, "l/log/", Some("l/log/01")), ["l/log/02", "l/log/10", "l/log/sub/x"]);
    assert_eq!(list(objects, "l/log/", Some("l/log/015")), ["l/log/02", "l/log/10", "l/log/sub/x"]);
    assert_eq!(list(objects, "l/log/", Some("l/log/zz")), Vec::<String>::new());
    assert_eq!(list(objects, "l/log/", Some("a")), log, "after may lie before the prefix");
    assert_eq!(list(objects, "l/none/", None), Vec::<String>::new());
    let wants = [("l/log/02".to_owned(), 0..0), ("l/none".to_owned(), 0..1)];
    let both = objects.get_ranges_and_list(&wants, "l/log/", Some("l/log/02"));
    let (parts, keys) = both.expect("parts and list");
    assert!(matches!(&*parts, [Ok(_), Err(ObjectsError::NotFound(_))]), "{parts:?}");
    assert_eq!(keys, ["l/log/10", "l/log/sub/x"]);
}

fn unusual_keys(objects: &dyn Objects) {
    for name in ["%2e%2e", "caf%C3%A9", "a%2Fb", "a+b", "a=b", "~a", "A", "a.b-c_d", "%25"] {
        let key = format!("u/{name}/site.json");
        objects.create(&key, Bytes::from(key.clone())).expect("create");
        assert_eq!(objects.get(&key).expect("get"), key);
        assert_eq!(list(objects, &key, None), [key.as_str()]);
    }
    assert_eq!(list(objects, "u/", None).len(), 9);
}

fn races(objects: &dyn Objects) {
    for race in 0..RACES {
        let key = format!("race/{race:020}");
        let start = Barrier::new(usize::try_from(RACERS).expect("a small number"));
        let winners: Vec<u64> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (key, start) = (&key, &start);
                    scope.spawn(move || {
                        start.wait();
                        match objects.create(key, Bytes::from(racer.to_string())) {
                            Ok(()) => Some(racer),
                            Err(ObjectsError::AlreadyExists(_)) => None,
                            Err(other) => panic!("{key}: {other}"),
                        }
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().expect("a racer panicked")).collect()
        });
        assert_eq!(winners.len(), 1, "winners of {key}: {winners:?}");
        let kept = objects.get(&key).expect("get");
        assert_eq!(Some(kept), winners.first().map(|winner| Bytes::from(winner.to_string())));
    }
}
