//! The written vectors, and the properties every rule must have.

use proptest::prelude::*;
use sheaf_merge::{Presence, RowPolicy, Rule, Value, merge_cell, merge_row};

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("vectors/columns.json")).expect("the vectors are JSON")
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Number(number) => {
            Value::Int(number.as_i64().expect("a number of the vectors is an integer"))
        }
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Value::Text(json.to_string()),
        other @ serde_json::Value::Bool(_) => panic!("no such vector value: {other}"),
    }
}

#[test]
fn cell_vectors() {
    let vectors = vectors();
    let vectors = vectors["merge"].as_array().unwrap();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let rule: Rule =
            vector["kind"].as_str().unwrap().strip_prefix("column:").unwrap().parse().unwrap();
        let base = value(&vector["base"]);
        let merged =
            merge_cell(rule, Some(&base), &value(&vector["left"]), &value(&vector["right"]));
        assert_eq!(merged.value, value(&vector["result"]), "{}", vector["id"]);
    }
}

#[test]
fn inclusion_vectors() {
    let vectors = vectors();
    let vectors = vectors["inclusion"].as_array().unwrap();
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let bit = |name: &str| vector[name].as_u64().unwrap() == 1;
        let base = if bit("base") { Presence::Unchanged } else { Presence::Absent };
        let sides = |name| match (bit(name), bit("base")) {
            (false, _) => vec![Presence::Absent],
            (true, false) => vec![Presence::Changed],
            (true, true) => vec![Presence::Unchanged, Presence::Changed],
        };
        for left in sides("left") {
            for right in sides("right") {
                let outcome = merge_row(RowPolicy::DeleteWins, base, left, right);
                assert_eq!(outcome.row_exists(right), bit("result"), "{vector} {left:?} {right:?}");
            }
        }
    }
}

#[test]
fn update_wins_keeps_what_somebody_changed() {
    use Presence::{Absent, Changed, Unchanged};
    let exists =
        |left, right| merge_row(RowPolicy::UpdateWins, Unchanged, left, right).row_exists(right);
    assert!(exists(Changed, Absent));
    assert!(exists(Absent, Changed));
    assert!(!exists(Absent, Unchanged));
    assert!(!exists(Unchanged, Absent));
    assert!(!exists(Absent, Absent));
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (-3i64..4).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Real),
        "[a-c]{0,2}".prop_map(Value::Text),
        Just("[1,\"a\"]".into()),
        Just("[1, 2]".into()),
        Just("{\"a\":{\"b\":1}}".into()),
        Just("{\"a\":{}, \"c\":0}".into()),
        proptest::collection::vec(0u8..3, 0..3).prop_map(Value::Blob),
    ]
}

proptest! {
    #[test]
    fn an_unchanged_side_yields(b in any_value(), x in any_value()) {
        for rule in Rule::ALL {
            prop_assert_eq!(&merge_cell(rule, Some(&b), &b, &x).value, &x);
            prop_assert_eq!(&merge_cell(rule, Some(&b), &x, &b).value, &x);
            prop_assert_eq!(merge_cell(rule, Some(&b), &b, &x).note, None);
        }
    }

    #[test]
    fn equal_sides_agree(b in any_value(), x in any_value()) {
        for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::Counter) {
            prop_assert_eq!(&merge_cell(rule, Some(&b), &x, &x).value, &x);
        }
    }

    #[test]
    fn a_result_absorbs(b in any_value(), l in any_value(), r in any_value()) {
        for rule in Rule::ALL {
            let merged = merge_cell(rule, Some(&b), &l, &r).value;
            prop_assert_eq!(&merge_cell(rule, Some(&r), &merged, &r).value, &merged);
        }
    }

    #[test]
    fn counters_add_up_in_any_order(start in -1000i64..1000, steps in
        proptest::collection::vec(-1000i64..1000, 0..8).prop_shuffle()) {
        // Every step was captured against `start`, as by devices that were all offline.
        let base = Value::Int(start);
        let mut right = base.clone();
        for step in &steps {
            right = merge_cell(Rule::Counter, Some(&base), &Value::Int(start + step), &right).value;
        }
        prop_assert_eq!(right, Value::Int(start + steps.iter().sum::<i64>()));
    }

    #[test]
    fn rows_exist_as_both_sides_allow(base: bool, l in 0..3, r in 0..3, update_wins: bool) {
        let presence = |n| [Presence::Absent, Presence::Unchanged, Presence::Changed][n as usize];
        let (left, right) = (presence(l), presence(r));
        let policy = if update_wins { RowPolicy::UpdateWins } else { RowPolicy::DeleteWins };
        let base = if base { Presence::Unchanged } else { Presence::Absent };
        let exists = merge_row(policy, base, left, right).row_exists(right);
        // Nothing appears from nowhere, and what both have stays.
        if left == Presence::Absent && right == Presence::Absent {
            prop_assert!(!exists);
        }
        if left != Presence::Absent && right != Presence::Absent {
            prop_assert!(exists);
        }
    }
}
