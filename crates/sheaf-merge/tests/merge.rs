//! The written vectors, and the properties every rule must have.

use proptest::prelude::*;
use sheaf_merge::{
    Closures, Custom, CustomName, Merged, Note, Presence, RowPolicy, Rule, Sides, Value,
    merge_cell, merge_cell_with, merge_row,
};

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
        "[a-c ]{0,8}".prop_map(Value::Text),
        "<p id=[1-3]>[a-c ]{0,6}(<b>x</b>)?".prop_map(Value::Text),
        proptest::collection::vec(0u8..3, 0..3).prop_map(Value::Blob),
    ]
}

/// Every rule, and a custom one that writes what neither side has.
fn rules() -> impl Iterator<Item = Rule> {
    let name = CustomName::new("odd").expect("a name");
    Rule::ALL.into_iter().chain([Rule::Custom(name)])
}

fn merge(rule: Rule, base: &Value, left: &Value, right: &Value) -> Merged {
    let mut custom = Closures::default();
    let odd = |sides: Sides<'_>| Custom::Value(Value::Text(format!("{sides:?}")));
    custom.register(CustomName::new("odd").expect("a name"), odd);
    merge_cell_with(rule, &custom, Some(base), left, right)
}

/// As often as the issue of merging asks for on request, else a moment's worth.
fn cases() -> ProptestConfig {
    let is_long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    ProptestConfig::with_cases(if is_long { 100_000 } else { 256 })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_unchanged_side_yields(b in any_value(), x in any_value()) {
        for rule in rules() {
            prop_assert_eq!(&merge(rule, &b, &b, &x).value, &x);
            prop_assert_eq!(&merge(rule, &b, &x, &b).value, &x);
            prop_assert_eq!(merge(rule, &b, &b, &x).note, None);
        }
    }

    #[test]
    fn equal_sides_agree(b in any_value(), x in any_value()) {
        for rule in rules().filter(|rule| *rule != Rule::Counter) {
            prop_assert_eq!(&merge(rule, &b, &x, &x).value, &x);
        }
    }

    #[test]
    fn a_result_absorbs(b in any_value(), l in any_value(), r in any_value()) {
        for rule in rules() {
            // Nobody notices, and neither does who makes the same of it again.
            let merged = merge(rule, &b, &l, &r).value;
            prop_assert_eq!(&merge(rule, &r, &merged, &r).value, &merged);
            prop_assert_eq!(&merge(rule, &b, &l, &r).value, &merged);
        }
    }

    #[test]
    fn where_only_one_value_can_stand_it_is_one_of_a_side(
        b in any_value(), l in any_value(), r in any_value()) {
        for rule in [Rule::Lww, Rule::Fww, Rule::Keep, Rule::Max, Rule::Min, Rule::Mvr, Rule::List] {
            let merged = merge(rule, &b, &l, &r).value;
            prop_assert!(merged.same(&l) || merged.same(&r), "{}: {:?}", rule, merged);
        }
        let larger = merge(Rule::Max, &b, &l, &r).value;
        let smaller = merge(Rule::Min, &b, &l, &r).value;
        if !l.same(&b) && !r.same(&b) {
            prop_assert!(larger.sqlite_order(&l).is_ge() && larger.sqlite_order(&r).is_ge());
            prop_assert!(smaller.sqlite_order(&l).is_le() && smaller.sqlite_order(&r).is_le());
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

/// Stretches of two words, too large for a table and without landmarks.
#[test]
fn what_is_not_compared_throughout_is_told() {
    let stretch = |count: usize, every: usize| -> String {
        (0..count).map(|at| if at % every == 0 { "a " } else { "b " }).collect()
    };
    let versions = |count: usize| {
        [3, 4, 5]
            .map(|every| format!("<p id=p>one {}two</p>", stretch(count, every)))
            .map(Value::Text)
    };
    for rule in [Rule::Text, Rule::Html] {
        let [base, left, right] = versions(2_500);
        let merged = merge(rule, &base, &left, &right);
        assert_eq!(merged.note, Some(Note::Coarse), "{rule}");
        assert_eq!(merge(rule, &base, &left, &base).note, None, "{rule}");
        let [base, left, right] = versions(500);
        assert_eq!(merge(rule, &base, &left, &right).note, None, "{rule}");
    }
    // Of strangers there is nothing to compare.
    let words = |name: &str| -> Value {
        Value::Text((0..2_500).map(|at| format!("{name}{at} ")).collect())
    };
    assert_eq!(merge(Rule::Text, &words("b"), &words("l"), &words("r")).note, None);
}
