//! Sets and documents, with the short cuts out of the way: a side that is "the same" is spelled
//! with one more space.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value as Json;
use sheaf_merge::{Note, Rule, Value, merge_cell};

fn merge(rule: Rule, base: &Json, left: &Json, right: &Json) -> Json {
    let spelled = |json: &Json, spaces: &str| Value::Text(format!("{spaces}{json}"));
    let base = spelled(base, "  ");
    match merge_cell(rule, Some(&base), &spelled(left, " "), &spelled(right, "")).value {
        Value::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn scalar() -> impl Strategy<Value = Json> + Clone {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-2..3i64).prop_map(Json::from),
        "[a\"\\\\\u{e9}\n]{0,2}".prop_map(Json::from),
    ]
}

fn object() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        3 => scalar(),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(Json::from),
    ];
    let level = |value: BoxedStrategy<Json>| {
        prop::collection::btree_map("[a-d]", value, 0..4)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
            .boxed()
    };
    let inner = level(leaf.clone().boxed());
    level(prop_oneof![leaf.boxed(), inner].boxed())
}

fn set() -> impl Strategy<Value = Json> {
    prop::collection::vec(prop_oneof![scalar(), object()], 0..6).prop_map(Json::from)
}

fn members(set: &Json) -> BTreeSet<String> {
    set.as_array().unwrap().iter().map(|member| member.to_string()).collect()
}

/// The paths of all members.
fn paths(json: &Json, at: &str, found: &mut BTreeSet<String>) {
    for (key, member) in json.as_object().into_iter().flatten() {
        let path = format!("{at}/{key}");
        paths(member, &path, found);
        found.insert(path);
    }
}

proptest! {
    #![proptest_config(crate::cases(100_000))]

    #[test]
    fn sets_include_what_both_have_and_either_added(b in set(), l in set(), r in set()) {
        let merged = merge(Rule::Set, &b, &l, &r);
        let [b, l, r] = [&b, &l, &r].map(members);
        let expected: BTreeSet<String> =
            l.union(&r).filter(|m| (l.contains(*m) && r.contains(*m)) || !b.contains(*m))
            .cloned().collect();
        prop_assert_eq!(members(&merged), expected);
    }

    #[test]
    fn sets_do_not_depend_on_the_side(b in set(), l in set(), r in set()) {
        let (one, other) = (merge(Rule::Set, &b, &l, &r), merge(Rule::Set, &b, &r, &l));
        prop_assert_eq!(members(&one), members(&other));
    }

    #[test]
    fn an_unchanged_side_yields(b in object(), x in object(), s in set(), y in set()) {
        prop_assert_eq!(&merge(Rule::Json, &b, &b, &x), &x);
        prop_assert_eq!(&merge(Rule::Json, &b, &x, &b), &x);
        prop_assert_eq!(&merge(Rule::Json, &b, &x, &x), &x);
        prop_assert_eq!(members(&merge(Rule::Set, &s, &s, &y)), members(&y));
        prop_assert_eq!(members(&merge(Rule::Set, &s, &y, &s)), members(&y));
        prop_assert_eq!(members(&merge(Rule::Set, &s, &y, &y)), members(&y));
    }

    #[test]
    fn a_result_absorbs(b in object(), l in object(), r in object(),
                        s in set(), m in set(), t in set()) {
        let merged = merge(Rule::Json, &b, &l, &r);
        prop_assert_eq!(&merge(Rule::Json, &r, &merged, &r), &merged);
        let merged = merge(Rule::Set, &s, &m, &t);
        prop_assert_eq!(members(&merge(Rule::Set, &t, &merged, &t)), members(&merged));
    }

    #[test]
    fn members_of_documents_come_from_somewhere(b in object(), l in object(), r in object()) {
        let merged = merge(Rule::Json, &b, &l, &r);
        let [mut from, mut found] = [BTreeSet::new(), BTreeSet::new()];
        paths(&l, "", &mut from);
        paths(&r, "", &mut from);
        paths(&merged, "", &mut found);
        prop_assert!(found.is_subset(&from), "{}", merged);
        let other = merge(Rule::Json, &b, &r, &l);
        let keys = |json: &Json| json.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        prop_assert_eq!(keys(&merged), keys(&other));
        for key in keys(&l).intersection(&keys(&r)) {
            prop_assert!(merged.get(key).is_some(), "both have {}", key);
        }
    }

    #[test]
    fn what_only_one_side_touched_is_as_it_wrote_it(b in object(), l in object(), r in object()) {
        let merged = merge(Rule::Json, &b, &l, &r);
        for key in ["a", "b", "c", "d"] {
            let [b, l, r, m] = [&b, &l, &r, &merged].map(|json| json.get(key));
            if l == b {
                prop_assert_eq!(m, r);
            } else if r == b || l == r {
                prop_assert_eq!(m, l);
            }
        }
    }

    #[test]
    fn any_text_is_merged_or_falls_back(b in "\\PC{0,20}", l in soup(), r in soup()) {
        for rule in [Rule::Set, Rule::Json] {
            let [b, l, r] = [&b, &l, &r].map(|text| Value::from(text.as_str()));
            let merged = merge_cell(rule, Some(&b), &l, &r);
            if merged.note == Some(Note::Fallback) {
                prop_assert_eq!(&merged.value, &l);
            } else if merged.value != l && merged.value != r {
                let Value::Text(text) = &merged.value else { panic!("{merged:?}") };
                prop_assert!(serde_json::from_str::<Json>(text).is_ok(), "{}", text);
            }
        }
    }

    #[test]
    fn digits_of_what_nobody_changed_are_kept(n in "-?[1-9][0-9]{0,40}(\\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?") {
        let [b, l, r] = ["\"x\":1", "\"x\":2", "\"x\":1,\"y\":1"]
            .map(|rest| Value::Text(format!("{{\"n\":{n},{rest}}}")));
        let expected = Value::Text(format!("{{\"n\":{n},\"x\":2,\"y\":1}}"));
        prop_assert_eq!(merge_cell(Rule::Json, Some(&b), &l, &r).value, expected);
        let [b, l, r] = ["", "2,", "3,"].map(|more| Value::Text(format!("[{more}{n}]")));
        let Value::Text(merged) = merge_cell(Rule::Set, Some(&b), &l, &r).value else { panic!() };
        prop_assert!(merged.split(['[', ',', ']']).any(|member| member == n), "{}", merged);
    }
}

fn soup() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"a\""),
        Just("\"b\""),
        Just("1"),
        Just("-0.5e3"),
        Just("null"),
        Just("\\"),
        Just("\""),
        Just(" "),
        Just("{\"a\":1}"),
        Just("[1,\"a\"]"),
        Just("{\"a\":"),
        Just("\\u00"),
        Just("\u{0}"),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

#[test]
fn beyond_the_limits_the_later_stands() {
    let nested = |n: usize| Value::Text(format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n)));
    let many = |n: usize| Value::Text(format!("[{}]", vec!["1"; n].join(",")));
    for (rule, far, fits) in [(Rule::Json, nested(100_000), "{}"), (Rule::Set, many(500_000), "[]")]
    {
        let fits = Value::from(fits);
        let merged = merge_cell(rule, None, &fits, &far);
        assert_eq!((merged.value, merged.note), (fits, Some(Note::Fallback)), "{rule}");
    }
}
