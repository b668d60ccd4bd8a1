use proptest::{collection::vec, prelude::*};
use sheaf_merge::list::Position;
use sheaf_volume::ErrorKind;

use super::*;
use crate::{OnFailure, places::Place};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).unwrap()).collect()
}

fn update(table: &str, key: i64, changes: &[(&str, Value, Value)]) -> Op {
    let changes = changes.iter().map(|(col, base, left)| Change {
        col: (*col).to_owned(),
        base: base.clone(),
        left: left.clone(),
    });
    Op::Update { table: table.to_owned(), key: vec![Value::Int(key)], changes: changes.collect() }
}

fn rows(ops: Vec<Op>) -> Mutation {
    Mutation::new(Body::Rows(ops), false)
}

fn decode_err(bytes: &[u8]) -> ErrorKind {
    Mutation::decode(bytes).unwrap_err().kind()
}

#[test]
fn vectors_of_the_specification() {
    // O02: a column update with its base.
    let o02 = hex("017401746b04323a693163037174797e036931303d0269372e00");
    let expected = rows(vec![update("t", 1, &[("qty", Value::Int(10), Value::Int(7))])]);
    assert_eq!(Mutation::decode(&o02).unwrap(), expected);
    assert_eq!(expected.encode(), o02);
    // O04: a row insert under a key of two columns.
    let o04 = hex("017401746b09333a746162323a69372b002e00");
    let key = vec![Value::Text("ab".into()), Value::Int(7)];
    let expected = rows(vec![Op::Insert { table: "t".into(), key, cols: vec![] }]);
    assert_eq!(Mutation::decode(&o04).unwrap(), expected);
    assert_eq!(expected.encode(), o04);
    // O05: a row delete.
    let o05 = hex("017401746b04323a69392d002e00");
    let key = vec![Value::Int(9)];
    let expected = rows(vec![Op::Delete { table: "t".into(), key, old: vec![] }]);
    assert_eq!(Mutation::decode(&o05).unwrap(), expected);
    assert_eq!(expected.encode(), o05);
    // O03: an edit without column or base is refused.
    let o03 = hex("017401746b04323a69316301613d0269316b04323a69323d016e2e00");
    assert_eq!(decode_err(&o03), ErrorKind::Invalid);
    // O01, O06: positions and node ids; O07, O08: values by reference. Specified, not known here;
    // ADR 0022 says where this format differs.
    for later in [
        "015e02313774046e6f74656b05333a6934322103402c306304626f64797001342d01332b04746e65772e00",
        "017403646f636b04323a6931630468746d6c6903352e332b0474352e342e00",
        "0174016d6b04323a693163036174743d136431323a343039363a37303030303a396633632e00",
        "0174016d6b04323a693163036174743d0e7062373a37303030303a396633632e00",
    ] {
        assert_eq!(decode_err(&hex(later)), ErrorKind::Unsupported, "{later}");
    }
}

#[test]
fn the_example_of_the_format_document() {
    let bytes = hex("0174057461736b736b04323a69376304646f6e657e0269303d0269312e00");
    let expected = rows(vec![update("tasks", 7, &[("done", Value::Int(0), Value::Int(1))])]);
    assert_eq!(expected.encode(), bytes);
    assert_eq!(Mutation::decode(&bytes).unwrap(), expected);
}

#[test]
fn the_row_ids_of_the_format_document() {
    let bytes = hex("026f0b323a7470323a6931313a6e6f0c323a7470323a6932323a69317401636b04323a6937\
        6301707e0269313d0269322e00");
    let mut ids = RowIds::default();
    ids.show("p", 1, 2);
    let change = update("c", 7, &[("p", Value::Int(1), Value::Int(2))]);
    let expected = Mutation { ids, ..rows(vec![change]) };
    assert_eq!(expected.encode(), bytes);
    assert_eq!(Mutation::decode(&bytes).unwrap(), expected);
}

#[test]
fn the_lock_of_the_format_document() {
    let bytes = hex("032118363a747461736b73323a6933323a6931323a6930323a69317405\
        7461736b736b04323a69376304646f6e657e0269303d0269312e00");
    let lock = Lock {
        name: "tasks".into(),
        seen: 3,
        own: 1,
        slack: Some(0),
        on_failure: OnFailure::Reject,
    };
    let change = update("tasks", 7, &[("done", Value::Int(0), Value::Int(1))]);
    let expected = Mutation { locks: BTreeSet::from([lock]), ..rows(vec![change]) };
    assert_eq!(expected.encode(), bytes);
    assert_eq!(Mutation::decode(&bytes).unwrap(), expected);
    let seed = include_bytes!("../../../../fuzz/corpus/mutation/seed-lock");
    assert_eq!(expected.encode(), seed[..]);
}

#[test]
fn the_places_of_the_format_document() {
    let bytes = hex("0474046974656d6b04323a69376303706f737e0274503d027463620c323a7456323a6933323a\
        69392e00");
    let change = update("item", 7, &[("pos", "P".into(), "c".into())]);
    let mut places = Places::default();
    let behind = Place::Behind {
        position: Position::parse("V").unwrap(),
        key: vec![Value::Int(3)],
        before: Some(vec![Value::Int(9)]),
    };
    places.set("item", &[Value::Int(7)], "pos", behind);
    let expected = Mutation { places, ..rows(vec![change]) };
    assert_eq!(expected.encode(), bytes);
    assert_eq!(Mutation::decode(&bytes).unwrap(), expected);
    let seed = include_bytes!("../../../../fuzz/corpus/mutation/seed-place");
    assert_eq!(expected.encode(), seed[..]);
}

#[test]
fn a_place_stands_behind_a_new_value_and_nowhere_else() {
    let good = "0474046974656d6b04323a69376303706f737e0274503d0274636200";
    assert!(Mutation::decode(&hex(&format!("{good}2e00"))).is_ok());
    for (bad, why) in [
        ("0174046974656d6b04323a69376303706f737e0274503d02746362002e00", "version 1"),
        ("0474046974656d6b04323a69376303706f737e0274503d0274632e00", "none in version 4"),
        ("0474046974656d6b04323a69376303706f7362007e0274503d0274632e00", "before the value"),
        ("0474046974656d6b04323a693762002d002e00", "of no column"),
        ("0474046974656d6b04323a69376303706f737e0274503d02746362003d0274632e00", "value after"),
    ] {
        assert_eq!(decode_err(&hex(bad)), ErrorKind::Invalid, "{why}");
    }
    // Twice, a position that is none, and no key.
    let wrong = ["6200", "6205333a745630", "6204323a7456", "6210323a7456323a6933323a6939323a6939"];
    for more in wrong {
        assert_eq!(decode_err(&hex(&format!("{good}{more}2e00"))), ErrorKind::Invalid, "{more}");
    }
}

#[test]
fn three_small_updates_are_small() {
    let titles = ["buy milk", "buy bread", "call Ada"];
    let ops = titles.iter().zip(1..).map(|(title, id)| {
        let done = ("done", Value::Int(0), Value::Int(1));
        update("tasks", id, &[("title", "todo".into(), (*title).into()), done])
    });
    let mutation = rows(ops.collect());
    let bytes = mutation.encode();
    // At most 150 are promised.
    assert_eq!(bytes.len(), 136);
    assert_eq!(Mutation::decode(&bytes).unwrap(), mutation);
    let lock = Lock {
        name: "tasks".into(),
        seen: 12,
        own: 1,
        slack: Some(0),
        on_failure: OnFailure::Merge,
    };
    let locked = Mutation { locks: BTreeSet::from([lock]), ..mutation };
    assert_eq!(locked.encode().len(), 136 + 27);
}

#[test]
fn registers_are_written_only_when_they_change() {
    let one = rows(vec![update("notes", 1, &[("body", Value::Null, Value::Int(1))])]);
    let two = rows(vec![
        update("notes", 1, &[("body", Value::Null, Value::Int(1))]),
        update("notes", 2, &[("body", Value::Null, Value::Int(1))]),
    ]);
    // The second update spells neither table nor column: key 6, column 4, base 3, value 4.
    assert_eq!(two.encode().len() - one.encode().len(), 6 + 4 + 3 + 4);
}

fn stream(records: &[(char, &str)]) -> Vec<u8> {
    let mut bytes = vec![1];
    for (op, value) in records {
        bytes.push(u8::try_from(*op).unwrap());
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value.as_bytes());
    }
    bytes
}

#[test]
fn malformed_streams_are_refused() {
    let good = stream(&[('t', "t"), ('k', "2:i1"), ('c', "a"), ('~', "n"), ('=', "i1"), ('.', "")]);
    assert!(Mutation::decode(&good).is_ok());
    for bad in [
        &[][..],
        &[('.', "x")],
        &[('.', ""), ('.', "")],
        &[('k', "2:i1"), ('-', ""), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('.', "")],
        &[('t', "t"), ('k', ""), ('-', ""), ('.', "")],
        &[('t', "t"), ('k', "3:i1"), ('-', ""), ('.', "")],
        &[('t', "t"), ('k', "02:i1"), ('-', ""), ('.', "")],
        &[('t', "t"), ('-', ""), ('.', "")],
        &[('t', "#0"), ('k', "2:i1"), ('-', ""), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('c', "a"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('c', "a"), ('~', "n"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('c', "a"), ('=', "n"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('~', "n"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('+', ""), ('-', ""), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('+', ""), ('c', "a"), ('~', "n"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('-', ""), ('c', "a"), ('=', "n"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('-', ""), ('$', "x"), ('.', "")],
        &[('t', "t"), ('k', "2:i1"), ('-', ""), ('@', "x"), ('.', "")],
        &[('@', "x"), ('.', "")],
        &[('a', "x"), ('.', "")],
        &[('?', ""), ('.', "")],
    ] {
        assert_eq!(decode_err(&stream(bad)), ErrorKind::Invalid, "{bad:?}");
    }
}

#[test]
fn malformed_row_ids_are_refused() {
    let second = |records: &[(char, &str)]| {
        let mut bytes = stream(records);
        bytes[0] = 2;
        bytes
    };
    let (one, two) = ("2:tt2:i11:n", "2:tt2:i22:i1");
    let good = second(&[('f', "1"), ('o', one), ('o', two), ('.', "")]);
    let ids = Mutation::decode(&good).unwrap().ids;
    assert_eq!(ids.iter().collect::<Vec<_>>(), [("t", 1, None), ("t", 2, Some(1))]);
    for bad in [
        &[('.', "")][..],
        &[('o', one), ('f', "1"), ('.', "")],
        &[('o', two), ('o', one), ('.', "")],
        &[('o', one), ('o', one), ('.', "")],
        &[('$', "x"), ('o', one), ('.', "")],
        &[('t', "t"), ('o', one), ('.', "")],
        &[('@', "x"), ('o', one), ('.', "")],
        &[('o', "2:tT2:i11:n"), ('.', "")],
        &[('o', "2:tt2:i1"), ('.', "")],
        &[('o', "2:tt2:i12:ta"), ('.', "")],
        &[('o', "2:tt1:n1:n"), ('.', "")],
        &[('o', ""), ('.', "")],
    ] {
        assert_eq!(decode_err(&second(bad)), ErrorKind::Invalid, "{bad:?}");
    }
    let time = "1";
    let seed = "12345678901234567890123456789012";
    let call = second(&[('o', one), ('@', "x"), ('s', seed), ('m', time), ('.', "")]);
    assert_eq!(decode_err(&call), ErrorKind::Invalid, "a call");
    assert_eq!(decode_err(&stream(&[('o', one), ('.', "")])), ErrorKind::Invalid, "version 1");
}

#[test]
fn malformed_locks_are_refused() {
    let third = |records: &[(char, &str)]| {
        let mut bytes = stream(records);
        bytes[0] = 3;
        bytes
    };
    let (p, q) = ("2:tp2:i12:i01:n2:i0", "2:tq2:i12:i02:i02:i1");
    let id = ('o', "2:tt2:i11:n");
    let good = third(&[('f', "1"), ('!', p), ('!', q), id, ('.', "")]);
    let good = Mutation::decode(&good).unwrap();
    assert_eq!((good.locks.len(), good.ids.is_empty()), (2, false));
    let seed = "12345678901234567890123456789012";
    let call = third(&[('!', p), ('@', "x"), ('s', seed), ('m', "1"), ('.', "")]);
    assert_eq!(Mutation::decode(&call).unwrap().locks.len(), 1, "a call takes locks");
    for bad in [
        &[('.', "")][..],
        &[id, ('.', "")],
        &[('!', p), ('f', "1"), ('.', "")],
        &[id, ('!', p), ('.', "")],
        &[('!', q), ('!', p), ('.', "")],
        &[('!', p), ('!', p), ('.', "")],
        &[('$', "x"), ('!', p), ('.', "")],
        &[('t', "t"), ('!', p), ('.', "")],
        &[('@', "x"), ('!', p), ('.', "")],
        &[('!', ""), ('.', "")],
        &[('!', "2:tp2:i12:i01:n"), ('.', "")],
        &[('!', "1:t2:i12:i01:n2:i0"), ('.', "")],
        &[('!', "2:xp2:i12:i01:n2:i0"), ('.', "")],
        &[('!', "2:tp2:i12:i21:n2:i0"), ('.', "")],
        &[('!', "2:tp3:i-12:i01:n2:i0"), ('.', "")],
        &[('!', "2:tp2:i12:i03:i-12:i0"), ('.', "")],
        &[('!', "2:tp2:i12:i02:t02:i0"), ('.', "")],
    ] {
        assert_eq!(decode_err(&third(bad)), ErrorKind::Invalid, "{bad:?}");
    }
    // A newer version may know more modes.
    let mode = third(&[('!', "2:tp2:i12:i01:n2:i9"), ('.', "")]);
    assert_eq!(decode_err(&mode), ErrorKind::Unsupported);
    // An older version wrote no locks.
    for version in [1, 2] {
        let mut old = stream(&[('!', p), id, ('.', "")]);
        old[0] = version;
        assert_eq!(decode_err(&old), ErrorKind::Invalid, "version {version}");
    }
}

#[test]
fn malformed_values_are_refused() {
    for bad in [
        "",
        "i",
        "i+1",
        "i01",
        "i9223372036854775808",
        "rnan",
        "r1e999",
        "r1.50e0",
        "r1.5",
        "r",
        "nn",
        "q",
    ] {
        let bytes =
            stream(&[('t', "t"), ('k', "2:i1"), ('c', "a"), ('~', "n"), ('=', bad), ('.', "")]);
        assert_eq!(decode_err(&bytes), ErrorKind::Invalid, "{bad}");
    }
    assert_eq!(decode_err(b""), ErrorKind::Invalid);
    assert_eq!(decode_err(b"\x05.\x00"), ErrorKind::Unsupported);
    // A length of two spellings, and one beyond 32 bits.
    assert_eq!(decode_err(b"\x01.\x80\x00"), ErrorKind::Invalid);
    assert_eq!(decode_err(b"\x01.\xff\xff\xff\xff\x7f"), ErrorKind::Invalid);
}

#[test]
fn limits_hold() {
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    let change = [("a", Value::Null, Value::Null)];
    assert_eq!(rows(vec![update(&long, 1, &change)]).check().unwrap_err().kind(), ErrorKind::Limit);
    let col = ("a".to_owned(), Value::Null);
    let cols = vec![col; limits::COLUMNS_MAX + 1];
    let wide = Op::Insert { table: "t".into(), key: vec![Value::Int(1)], cols };
    assert_eq!(rows(vec![wide]).check().unwrap_err().kind(), ErrorKind::Limit);
    let sql = "x".repeat(limits::SQL_BYTES_MAX + 1);
    assert_eq!(rows(vec![Op::Ddl { sql }]).check().unwrap_err().kind(), ErrorKind::Limit);
    // Order is part of the format: a schema change after rows would not come back.
    let late = rows(vec![update("t", 1, &change), Op::Ddl { sql: "x".into() }]);
    assert_eq!(late.check().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn names_cannot_outgrow_the_stream() {
    let col = "c".repeat(limits::NAME_BYTES_MAX);
    let row = |n: i64| Op::Insert {
        table: "t".into(),
        key: vec![Value::Int(n)],
        cols: vec![(col.clone(), Value::Null); 1000],
    };
    let bomb = rows((0..80).map(row).collect());
    assert!(bomb.encode().len() < 1024 * 1024);
    assert_eq!(bomb.check().unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn summaries() {
    let done = ("done", Value::Int(0), Value::Int(1));
    let title = ("title", Value::Null, "x".into());
    let one = rows(vec![update("tasks", 7, &[title, done.clone()])]);
    assert_eq!((one.summary().as_str(), one.kind()), ("update tasks 7 (title, done)", "rows"));
    let delete =
        Op::Delete { table: "tags".into(), key: vec!["a".into(), Value::Int(2)], old: vec![] };
    let two = rows(vec![delete, update("tasks", 7, &[done])]);
    assert_eq!(two.summary(), "delete tags 'a',2 and 1 more");
    let ddl = rows(vec![Op::Ddl { sql: "CREATE  TABLE\n x(a)".into() }]);
    assert_eq!((ddl.summary().as_str(), ddl.kind()), ("CREATE TABLE x(a)", "ddl"));
    let body = Body::Call { name: "add_task".into(), args: vec![], seed: [0; 32], time_ms: 0 };
    let call = Mutation::new(body, true);
    assert_eq!((call.summary().as_str(), call.kind()), ("call add_task", "call"));
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("NaN is null", |r| !r.is_nan()).prop_map(Value::Real),
        ".{0,12}".prop_map(Value::Text),
        vec(any::<u8>(), 0..200).prop_map(Value::Blob),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", "#{0,3}[0-9]{0,2}", ".{0,8}"]
}

fn any_op() -> impl Strategy<Value = Op> {
    let key = || vec(any_value(), 1..4);
    let cols = || vec((any_name(), any_value()), 0..5);
    let change = (any_name(), any_value(), any_value());
    let change = change.prop_map(|(col, base, left)| Change { col, base, left });
    prop_oneof![
        (any_name(), key(), cols()).prop_map(|(table, key, cols)| Op::Insert { table, key, cols }),
        (any_name(), key(), cols()).prop_map(|(table, key, old)| Op::Delete { table, key, old }),
        (any_name(), key(), vec(change, 1..5)).prop_map(|(table, key, changes)| Op::Update {
            table,
            key,
            changes
        }),
    ]
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let count = 0..=i64::MAX.unsigned_abs();
    let on_failure = (0..3i64).prop_filter_map("a mode", OnFailure::from_code);
    (".{1,8}", count.clone(), any::<u64>(), prop::option::of(count), on_failure).prop_map(
        |(name, seen, own, slack, on_failure)| {
            let own = own.checked_rem(seen).unwrap_or(0);
            Lock { name, seen, own, slack, on_failure }
        },
    )
}

fn any_place() -> impl Strategy<Value = Place> {
    let behind = ("[0-9A-Za-z]{0,5}[1-9A-Za-z]", vec(any_value(), 4), any::<bool>());
    let behind = behind.prop_map(|(position, key, is_last)| Place::Behind {
        position: Position::parse(&position).unwrap(),
        before: (!is_last).then(|| key.clone()),
        key,
    });
    prop_oneof![1 => Just(Place::First), 3 => behind]
}

/// Places for some of the values that a mutation writes.
fn places(body: &Body, placed: Vec<(prop::sample::Index, Place)>) -> Places {
    let Body::Rows(ops) = body else { return Places::default() };
    let cells = ops.iter().flat_map(|op| match op {
        Op::Insert { table, key, cols } => {
            cols.iter().map(|(col, _)| (table, key, col)).collect::<Vec<_>>()
        }
        Op::Update { table, key, changes } => {
            changes.iter().map(|change| (table, key, &change.col)).collect()
        }
        _ => Vec::new(),
    });
    let cells: Vec<_> = cells.collect();
    let mut places = Places::default();
    for (index, place) in placed.into_iter().filter(|_| !cells.is_empty()) {
        let (table, key, col) = index.get(&cells);
        let mut place = place;
        if let Place::Behind { key: behind, before, .. } = &mut place {
            behind.truncate(key.len());
            before.iter_mut().for_each(|before| before.truncate(key.len()));
        }
        places.set(table, key, col, place);
    }
    places
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let ddl = vec(".{0,20}".prop_map(|sql| Op::Ddl { sql }), 0..3);
    let rows = (ddl, vec(any_op(), 0..8)).prop_map(|(mut ops, rows)| {
        ops.extend(rows);
        Body::Rows(ops)
    });
    let args = proptest::collection::btree_map(any_name(), any_value(), 0..5);
    let call = (any_name(), args, any::<[u8; 32]>(), any::<u64>());
    let call = call.prop_map(|(name, args, seed, time_ms)| Body::Call {
        name,
        args: args.into_iter().collect(),
        seed,
        time_ms,
    });
    let listed = vec((any_name(), any::<i64>(), any::<Option<i64>>()), 0..4);
    let listed = prop_oneof![Just(Vec::new()), listed];
    let locks = proptest::collection::btree_set(any_lock(), 0..3);
    let placed = vec((any::<prop::sample::Index>(), any_place()), 0..4);
    let placed = prop_oneof![Just(Vec::new()), placed];
    (prop_oneof![3 => rows, 1 => call], any::<bool>(), listed, locks, placed).prop_map(
        |(body, foreign_keys, listed, locks, placed)| {
            let mut ids = RowIds::default();
            if matches!(body, Body::Rows(_)) {
                listed.into_iter().for_each(|(table, shown, id)| ids.set(&table, shown, id));
            }
            let places = places(&body, placed);
            Mutation { body, foreign_keys, ids, locks, places }
        },
    )
}

proptest! {
    #[test]
    fn mutations_round_trip(mutation in any_mutation()) {
        let bytes = mutation.encode();
        prop_assert_eq!(Mutation::decode(&bytes).unwrap(), mutation.clone());
        prop_assert!(mutation.check().is_ok());
        prop_assert!(!mutation.summary().contains('\n'));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(Mutation::decode(&bytes));
    }

    #[test]
    fn every_truncation_is_refused(mutation in any_mutation(), at: prop::sample::Index) {
        let bytes = mutation.encode();
        prop_assert!(Mutation::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn flipped_bits_decode_to_an_error_or_to_another_mutation(
        mutation in any_mutation(), at: prop::sample::Index, bit in 0..8,
    ) {
        let mut bytes = mutation.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        if let Ok(other) = Mutation::decode(&bytes) {
            prop_assert_ne!(other, mutation);
        }
    }
}
