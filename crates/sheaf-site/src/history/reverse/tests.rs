//! The vectors of the specification, folding, and the encoding on any bytes.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn row(text: &str) -> OldRow {
    vec![("v".to_owned(), Kept::Value(Value::Text(text.to_owned())))]
}

/// Seconds of the vectors as milliseconds of a commit.
fn step(seconds: u64, old: &str, new: &str) -> Option<Step<()>> {
    let update = RowUpdate::between(Some(&row(old)), Some(&row(new)))?;
    let time_ms = seconds * 1_000;
    let (first, last) = (seconds, seconds);
    Some(Step { first, last, first_time_ms: time_ms, time_ms, authors: (), update })
}

/// The steps of a vector, oldest first, those of closed intervals as one.
fn recorded(vector: &Json) -> (Vec<Step<()>>, String) {
    let compact = vector["compact_at"].as_u64();
    let mut now = vector["initial"].as_str().unwrap().to_owned();
    let mut rows: Vec<Step<()>> = Vec::new();
    for update in vector["updates"].as_array().unwrap() {
        let (time, text) = (update[0].as_u64().unwrap(), update[1].as_str().unwrap());
        let newer = step(time, &now, text).unwrap();
        let closed = compact.is_some_and(|at| time / 600 < at / 600);
        let joins = |last: &mut Step<()>| is_same_interval(last.time_ms, newer.time_ms);
        match rows.pop_if(|last| closed && joins(last)) {
            Some(older) => rows.extend(join(older, newer, Some(&row(text)), |(), ()| ())),
            None => rows.push(newer),
        }
        text.clone_into(&mut now);
    }
    (rows, now)
}

fn shown(step: &Step<()>) -> Json {
    let RowUpdate::Columns(columns) = &step.update else { panic!("{step:?}") };
    let (prefix, suffix, insert) = match &columns[0].1 {
        Reverse::Full(Value::Text(text)) => (0, 0, text.clone()),
        Reverse::Cut { prefix, suffix, insert } => {
            (*prefix, *suffix, String::from_utf8(insert.clone()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    json!({
        "first": step.first, "last": step.last,
        "keep_prefix": prefix, "keep_suffix": suffix, "insert": insert,
    })
}

#[test]
fn vectors_of_the_specification() {
    let vectors = include_str!("../../../tests/vectors/history.json");
    let vectors: Vec<Json> = serde_json::from_str(vectors).unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let (rows, now) = recorded(&vector);
        let shown: Vec<Json> = rows.iter().map(shown).collect();
        assert_eq!(Json::Array(shown), vector["rows"], "{}", vector["id"]);
        for read in vector["reads"].as_array().unwrap() {
            let time = read["t"].as_u64().unwrap();
            let newer = rows.iter().rev().take_while(|step| step.last > time);
            let value = newer.fold(row(&now), |row, step| step.update.apply(Some(&row)).unwrap());
            assert_eq!(value, row_of(read["value"].as_str().unwrap()), "{} {read}", vector["id"]);
        }
    }
}

fn row_of(text: &str) -> OldRow {
    row(text)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        (-1e9..1e9).prop_map(Value::Real),
        "[a\u{e4}\u{1f600}]{0,6}".prop_map(Value::Text),
        prop::collection::vec(0..3u8, 0..6).prop_map(Value::Blob),
    ]
}

fn any_row() -> impl Strategy<Value = Option<OldRow>> {
    let column =
        prop_oneof![4 => value().prop_map(Kept::Value), 1 => (0..9u64).prop_map(Kept::Lost)];
    let columns = prop::collection::btree_map("[abc]", column, 0..4);
    prop::option::of(columns.prop_map(|columns| columns.into_iter().collect()))
}

/// Columns in the order of their names: rows are compared by name.
fn sorted(row: Option<OldRow>) -> Option<OldRow> {
    row.map(|mut row| {
        row.sort_by(|a, b| a.0.cmp(&b.0));
        row
    })
}

proptest! {
    #[test]
    fn an_update_gives_the_older_row_and_travels(old in any_row(), new in any_row()) {
        match RowUpdate::between(old.as_ref(), new.as_ref()) {
            None => prop_assert_eq!(sorted(old), sorted(new)),
            Some(update) => {
                let decoded = RowUpdate::decode(&update.encode()).unwrap();
                prop_assert_eq!(&decoded, &update);
                prop_assert_eq!(sorted(decoded.apply(new.as_ref())), sorted(old));
            }
        }
    }

    #[test]
    fn joined_steps_give_what_was_before_the_first(rows in prop::collection::vec(any_row(), 2..6)) {
        let mut joined: Option<Step<()>> = None;
        for (pair, at) in rows.windows(2).zip(1..) {
            let Some(update) = RowUpdate::between(pair[0].as_ref(), pair[1].as_ref()) else { continue };
            let newer = Step { first: at, last: at, first_time_ms: at, time_ms: at, authors: (), update };
            joined = match joined {
                None => Some(newer),
                Some(older) => join(older, newer, pair[1].as_ref(), |(), ()| ()),
            };
        }
        let now = rows.last().unwrap().as_ref();
        let before = joined.map_or_else(|| now.cloned(), |step| step.update.apply(now));
        prop_assert_eq!(sorted(before), sorted(rows[0].clone()));
    }

    #[test]
    fn any_bytes_are_an_update_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        kind in 0..6u8,
        row in any_row(),
    ) {
        for bytes in [bytes.clone(), [&[VERSION, kind], &bytes[..]].concat()] {
            if let Ok(update) = RowUpdate::decode(&bytes) {
                prop_assert_eq!(update.encode(), bytes);
                update.apply(row.as_ref());
            }
        }
    }
}

#[test]
fn a_value_that_is_too_large_is_named_by_its_length() {
    let long = "x".repeat(HISTORY_VALUE_BYTES_MAX + 1);
    let lost = RowUpdate::between(Some(&row(&long)), Some(&row(""))).unwrap();
    let before = lost.apply(Some(&row(""))).unwrap();
    assert_eq!(find(&before, "V"), Some(&Kept::Lost(long.len() as u64)));
    // What is only cut keeps little, however long the value is.
    let cut = RowUpdate::between(Some(&row(&long)), Some(&row(&long[1..]))).unwrap();
    assert!(cut.encode().len() < 20);
    assert_eq!(cut.apply(Some(&row(&long[1..]))), Some(row(&long)));
    // Below a value that is not known, what is cut from it is not known either.
    assert_eq!(find(&cut.apply(Some(&before)).unwrap(), "v"), Some(&Kept::Lost(long.len() as u64)));
}

#[test]
fn of_a_row_that_is_too_large_the_last_values_are_named_by_their_lengths() {
    let long = "x".repeat(HISTORY_VALUE_BYTES_MAX);
    let columns = (0..20).map(|at| (format!("c{at}"), Kept::Value(Value::Text(long.clone()))));
    let old: OldRow = columns.collect();
    let update = RowUpdate::between(Some(&old), None).unwrap();
    assert!(update.encode().len() < HISTORY_ROW_BYTES_MAX + 1_000);
    let before = update.apply(None).unwrap();
    assert_eq!(before[..8], old[..8]);
    let lost = Kept::Lost(long.len() as u64);
    assert!(before[8..].iter().all(|(_, kept)| *kept == lost), "{}", before.len());
}

#[test]
fn the_encoding_is_the_one_of_the_fixture() {
    let update = RowUpdate::Columns(vec![
        ("a".to_owned(), Reverse::Missing),
        ("b".to_owned(), Reverse::Full(Value::Int(-7))),
        ("c".to_owned(), Reverse::Cut { prefix: 1, suffix: 300, insert: b"xy".to_vec() }),
        ("d".to_owned(), Reverse::Lost(2_000_000)),
    ]);
    let fixture = include_str!("../../../tests/fixtures/history-update-v1.hex");
    assert_eq!(crate::value::encode_hex(&update.encode()), fixture.trim());
}
