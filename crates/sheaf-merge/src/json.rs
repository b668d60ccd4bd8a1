//! The rule `json`: documents, merged member by member.
//!
//! Invariant: a member exists afterwards exactly as the three-way inclusion rule says; a number
//! that nobody changed keeps every digit; a result that means what one side wrote is that side's
//! bytes. Members stand in right's order, left's new ones behind them. SQL NULL is the empty
//! object. Leaves out arrays, which are merged whole, and SQLite's binary form (JSONB).

mod number;
mod tree;

use std::collections::BTreeSet;

pub(crate) use tree::Json;
use tree::{Member, Object};

use crate::{Merged, Note, Value};

/// Merges three documents, by section 3.4 of the rules: per member, recursively into objects.
pub(crate) fn merge(base: Option<&Value>, left: &Value, right: &Value) -> Merged {
    let read = |value| read(value);
    let (Some(l), Some(r)) = (read(left), read(right)) else {
        return Merged::noted(left, Note::Fallback);
    };
    // A base that is no document is no ancestor: then both sides created theirs.
    let b = base.and_then(read);
    let mut merge = Merge::default();
    let merged = merge.value(b.as_ref(), &l, &r);
    let note = merge.note();
    let value = if merged == l {
        left.clone()
    } else if merged == r {
        right.clone()
    } else {
        Value::Text(merged.to_string())
    };
    Merged { value, note }
}

fn read(value: &Value) -> Option<Json> {
    match value {
        Value::Null => Some(Json::Object(Object::new())),
        Value::Text(text) => Json::read(text),
        Value::Int(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}

/// What happened on the way.
#[derive(Default)]
struct Merge {
    is_decided_by_order: bool,
    is_change_dropped: bool,
}

impl Merge {
    fn value(&mut self, base: Option<&Json>, left: &Json, right: &Json) -> Json {
        if left == right || base == Some(right) {
            return left.clone();
        }
        if base == Some(left) {
            return right.clone();
        }
        if let (Json::Object(l), Json::Object(r)) = (left, right) {
            let empty = Object::new();
            let b = if let Some(Json::Object(b)) = base { b } else { &empty };
            return Json::Object(self.object(b, l, r));
        }
        self.is_decided_by_order = true;
        left.clone()
    }

    fn object(&mut self, base: &Object, left: &Object, right: &Object) -> Object {
        let end = right.values().map(|member| member.place + 1).max().unwrap_or(0);
        let mut merged = Object::new();
        for key in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
            let member = match (base.get(key), left.get(key), right.get(key)) {
                (Some(base), Some(one), None) | (Some(base), None, Some(one)) => {
                    self.is_change_dropped |= one != base;
                    continue;
                }
                (None, None, Some(right)) => right.clone(),
                (None, Some(left), None) => {
                    Member { place: end + left.place, value: left.value.clone() }
                }
                (base, Some(left), Some(right)) => Member {
                    place: right.place,
                    value: self.value(base.map(|base| &base.value), &left.value, &right.value),
                },
                (_, None, None) => continue,
            };
            merged.insert(key.clone(), member);
        }
        merged
    }

    fn note(&self) -> Option<Note> {
        if self.is_change_dropped {
            Some(Note::Dropped)
        } else {
            self.is_decided_by_order.then_some(Note::LeftStands)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sides: [&str; 3], expected: (&str, Option<Note>)) {
        let [base, left, right] = sides.map(Value::from);
        let merged = merge(Some(&base), &left, &right);
        assert_eq!((merged.value, merged.note), (expected.0.into(), expected.1), "{sides:?}");
    }

    #[test]
    fn members_merge_one_by_one() {
        check(
            ["{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3,\"c\":4}", "{\"a\":9}"],
            ("{\"a\":9,\"c\":4}", Some(Note::Dropped)),
        );
        check(
            ["{\"o\":{\"x\":1,\"y\":1}}", "{\"o\":{\"x\":2,\"y\":1}}", "{\"o\":{\"x\":1,\"y\":3}}"],
            ("{\"o\":{\"x\":2,\"y\":3}}", None),
        );
        check(
            ["{\"a\":[1]}", "{\"a\":[1,2],\"z\":0}", "{\"a\":[3]}"],
            ("{\"a\":[1,2],\"z\":0}", Some(Note::LeftStands)),
        );
        // Both created one key: objects merge, anything else is left's.
        check(
            ["{}", "{\"k\":{\"l\":1}}", "{\"k\":{\"r\":2}}"],
            ("{\"k\":{\"r\":2,\"l\":1}}", None),
        );
        check(["{}", "{\"k\":1}", "{\"k\":{\"r\":2}}"], ("{\"k\":1}", Some(Note::LeftStands)));
        check(["{\"k\":1}", "{}", "{\"k\":1,\"n\":2}"], ("{\"n\":2}", None));
    }

    #[test]
    fn order_digits_and_bytes_are_kept() {
        check(
            [
                "{\"z\":1.50,\"a\":1}",
                "{\"z\":1.50,\"a\":2,\"n\":0}",
                "{\"z\":1.50,\"a\":1,\"b\":1e400}",
            ],
            ("{\"z\":1.50,\"a\":2,\"b\":1e400,\"n\":0}", None),
        );
        // Left wrote what right has, and more: its own bytes stand.
        check(
            ["{\"a\":1}", "{ \"b\": 2, \"a\": 3 }", "{\"a\":3}"],
            ("{ \"b\": 2, \"a\": 3 }", None),
        );
        // Reformatting is no change.
        check(["{\"a\":1}", "{ \"a\" : 1.0 }", "{\"a\":2}"], ("{\"a\":2}", None));
    }

    #[test]
    fn null_is_the_empty_document_and_anything_else_falls_back() {
        let (null, doc) = (Value::Null, Value::from("{\"a\":1}"));
        let more = Value::from("{\"a\":1,\"b\":2}");
        assert_eq!(merge(Some(&doc), &null, &more).value, "{\"b\":2}".into());
        assert_eq!(merge(Some(&more), &null, &doc), Merged { value: null.clone(), note: None });
        assert_eq!(merge(None, &doc, &more).value, more);
        for odd in [Value::Int(1), Value::from("{"), Value::Blob(b"{}".to_vec())] {
            assert_eq!(merge(Some(&doc), &odd, &more).note, Some(Note::Fallback));
            assert_eq!(merge(Some(&doc), &more, &odd).value, more);
            assert_eq!(merge(Some(&odd), &doc, &more).value, more);
        }
    }
}
