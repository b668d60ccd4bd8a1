//! The rule `set`: a JSON array whose members have no order and are there once.
//!
//! Invariant: a member is in the result exactly if both sides have it, or one side added it;
//! members are the same if they mean the same. The result is written sorted, so that it does not
//! depend on which side is left; a result that one side wrote already is that side's bytes. SQL
//! NULL is the empty set. Leaves out arrays whose order matters: see `json` and `list`.

use std::collections::BTreeSet;

use crate::json::Json;
use crate::{Merged, Note, Value};

/// Merges three sets: what both have, and what either added.
pub(crate) fn merge(base: Option<&Value>, left: &Value, right: &Value) -> Merged {
    let (Some(l), Some(r)) = (read(left), read(right)) else {
        return Merged::noted(left, Note::Fallback);
    };
    // A base that is no set had no members.
    let b = base.and_then(read).unwrap_or_default();
    let stays =
        |member: &&Json| (l.contains(*member) && r.contains(*member)) || !b.contains(*member);
    let mut merged = BTreeSet::new();
    for member in l.iter().chain(&r).filter(stays) {
        // Left comes first, and inserting leaves what is there already as it is spelled.
        merged.insert(member);
    }
    let value = if merged.iter().copied().eq(&l) {
        left.clone()
    } else if merged.iter().copied().eq(&r) {
        right.clone()
    } else {
        Value::Text(Json::Array(merged.into_iter().cloned().collect()).to_string())
    };
    Merged { value, note: None }
}

fn read(value: &Value) -> Option<BTreeSet<Json>> {
    match value {
        Value::Null => Some(BTreeSet::new()),
        Value::Text(text) => match Json::read(text)? {
            Json::Array(members) => {
                let mut set = BTreeSet::new();
                for member in members {
                    set.insert(member);
                }
                Some(set)
            }
            _ => None,
        },
        Value::Int(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sides: [&str; 3], expected: &str) {
        let [base, left, right] = sides.map(Value::from);
        let merged = merge(Some(&base), &left, &right);
        assert_eq!((merged.value, merged.note), (expected.into(), None), "{sides:?}");
    }

    #[test]
    fn members_are_included_three_ways() {
        check(
            ["[\"a\",\"b\",\"c\"]", "[\"a\",\"c\",\"d\"]", "[\"b\",\"c\",\"e\"]"],
            "[\"c\",\"d\",\"e\"]",
        );
        check(["[]", "[10,9]", "[null,\"9\",1.50]"], "[null,1.50,9,10,\"9\"]");
        check(["[1]", "[ 1.0, 2, 2.0 ]", "[3,1]"], "[1.0,2,3]");
        check(["[{\"a\":1,\"b\":2}]", "[]", "[{\"b\":2,\"a\":1},0]"], "[0]");
    }

    #[test]
    fn a_side_that_has_it_right_keeps_its_bytes() {
        check(["[]", "[ \"b\", \"a\" ]", "[\"b\"]"], "[ \"b\", \"a\" ]");
        check(["[]", "[\"b\"]", "[ \"b\", \"a\" ]"], "[ \"b\", \"a\" ]");
    }

    #[test]
    fn null_is_empty_and_anything_else_falls_back() {
        let set = |text: &str| Value::from(text);
        assert_eq!(merge(None, &Value::Null, &set("[1]")).value, set("[1]"));
        assert_eq!(merge(Some(&set("[1]")), &Value::Null, &set("[1,2]")).value, set("[2]"));
        assert_eq!(merge(Some(&set("[1]")), &Value::Null, &set("[]")).value, Value::Null);
        for odd in [set("{}"), set("["), Value::Int(1), Value::Blob(b"[]".to_vec())] {
            let merged = merge(Some(&set("[]")), &set("[1]"), &odd);
            assert_eq!((merged.value, merged.note), (set("[1]"), Some(Note::Fallback)));
        }
        assert_eq!(merge(Some(&Value::Int(1)), &set("[1]"), &set("[2]")).value, set("[1,2]"));
    }
}
