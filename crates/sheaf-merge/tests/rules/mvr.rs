//! Multi-value cells: the vectors, and the laws of siblings.

use proptest::prelude::*;
use sheaf_merge::mvr::{Sibling, Siblings};
use sheaf_merge::{Rule, Value, limits::SIBLINGS_MAX};

use crate::value;

fn vectors(name: &str, count: usize) -> Vec<serde_json::Value> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/mvr.json")).unwrap();
    let vectors = vectors[name].as_array().unwrap().clone();
    assert_eq!(vectors.len(), count);
    vectors
}

/// A sibling as `[read, write, author, value]`.
fn sibling(json: &serde_json::Value) -> Sibling {
    let number = |i: usize| json[i].as_u64().unwrap();
    let author = u128::from(number(2));
    Sibling { read: number(0), write: number(1), author, value: value(&json[3]) }
}

fn siblings(json: &serde_json::Value) -> Vec<Sibling> {
    json.as_array().unwrap().iter().map(sibling).collect()
}

#[test]
fn proposals_supersede_what_they_had_read() {
    for vector in vectors("mvr", 6) {
        let mut cell = Siblings::new(Rule::Mvr);
        for p in vector["proposals"].as_array().unwrap() {
            let proposal = Sibling {
                read: p["read"].as_u64().unwrap(),
                write: p["write"].as_u64().unwrap(),
                author: p["author"].as_u64().unwrap().into(),
                value: value(&p["value"]),
            };
            assert_eq!(cell.propose(proposal, |_| Some(Value::Null)), Ok(None));
        }
        let left: Vec<Sibling> = cell.iter().cloned().collect();
        assert_eq!(left, siblings(&vector["siblings"]), "{vector}");
        assert_eq!(cell.is_settled(), left.len() == 1, "{vector}");
    }
}

#[test]
fn siblings_are_folded_in_log_order() {
    for vector in vectors("readmerge", 5) {
        let rule: Rule = vector["rule"].as_str().unwrap().parse().unwrap();
        let mut cell = Siblings::new(rule);
        for (author, sibling) in (1..).zip(vector["siblings"].as_array().unwrap()) {
            let proposal = Sibling { read: 0, write: 1, author, value: value(sibling) };
            cell.propose(proposal, |_| Some(value(&vector["base"]))).unwrap();
        }
        let local = Some(&vector["local"]).filter(|local| !local.is_null()).map(value);
        assert_eq!(cell.shown(local.as_ref()), Some(value(&vector["result"])), "{vector}");
    }
}

#[test]
fn stored_forms() {
    for vector in vectors("fieldblob", 3) {
        let hex = vector["hex"].as_str().unwrap();
        let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let rule = Rule::from_id(vector["rule_id"].as_u64().unwrap().try_into().unwrap()).unwrap();
        assert_eq!(rule.name(), vector["rule"], "{vector}");
        let base = &vector["base"];
        let mut cell = Siblings::new(rule);
        for sibling in siblings(&vector["siblings"]) {
            cell.propose(sibling, |lsn| {
                assert_eq!(base[0], lsn, "{vector}");
                Some(value(&base[1]))
            })
            .unwrap();
        }
        assert_eq!(cell.encode(), bytes, "{vector}");
        assert_eq!(Siblings::decode(&bytes), Ok(cell), "{vector}");
    }
}

#[test]
fn the_base_follows_what_all_have_read() {
    let shown = |lsn| Some(Value::Int([10, 12][usize::try_from(lsn).unwrap()]));
    let add = |cell: &mut Siblings, read, write, author, int| {
        cell.propose(Sibling { read, write, author, value: Value::Int(int) }, shown).unwrap();
        cell.shown(None)
    };
    // Everybody adds to what he sees: A 2, B 3; C 2, knowing A; D 5, knowing A and B.
    let mut cell = Siblings::new(Rule::Counter);
    assert_eq!(add(&mut cell, 0, 1, 1, 12), Some(Value::Int(12)));
    assert_eq!(add(&mut cell, 0, 2, 2, 13), Some(Value::Int(15)));
    assert_eq!(add(&mut cell, 1, 3, 3, 14), Some(Value::Int(17)));
    assert_eq!(add(&mut cell, 2, 4, 4, 20), Some(Value::Int(22)));
    assert_eq!(cell.iter().count(), 2);
    assert_eq!(cell.shown(Some(&Value::Int(13))), Some(Value::Int(23)));
}

#[test]
fn without_the_past_an_older_base_stays_and_a_newer_does_not() {
    let propose = |cell: &mut Siblings, read, write, author, shown: Option<i64>| {
        let value = Value::Int(i64::try_from(write).unwrap());
        cell.propose(Sibling { read, write, author, value }, |_| shown.map(Value::Int)).unwrap();
    };
    let mut cell = Siblings::new(Rule::Counter);
    propose(&mut cell, 5, 10, 1, None);
    propose(&mut cell, 5, 11, 2, Some(100));
    propose(&mut cell, 10, 12, 3, None);
    assert_eq!(cell.shown(None), Some(Value::Int(11 + 12 - 100)));
    propose(&mut cell, 2, 13, 4, None);
    assert_eq!(cell.encode()[0], 1, "no base");
}

#[test]
fn merging_the_oldest_keeps_the_base() {
    let shown_at = |lsn| Some(Value::Int(if lsn == 0 { 0 } else { 100 }));
    let mut cell = Siblings::new(Rule::Counter);
    let mut sum = 0;
    for author in 0..20 {
        let read = if author == 0 { 0 } else { 5 };
        let write = 10 + u64::try_from(author).unwrap();
        let proposal = Sibling { read, write, author, value: Value::Int(1) };
        cell.propose(proposal, shown_at).unwrap();
        sum += 1;
        assert_eq!(cell.shown(None), Some(Value::Int(sum)));
    }
}

#[test]
fn bytes_that_break_one_rule_are_refused() {
    let author = |last: u8| [[0xff; 18].as_slice(), &[last]].concat();
    let one = |author: &[u8]| [&[1, 2, 1, 0, 1], author, &[1, b'n']].concat();
    let two = |a: [u8; 3], b: [u8; 3]| [&[1, 2, 2][..], &a, b"\x01n", &b, b"\x01n"].concat();
    let check = |bytes: &[u8], expected: bool| {
        assert_eq!(Siblings::decode(bytes).is_ok(), expected, "{bytes:?}");
    };
    check(&one(&[7]), true);
    check(&one(&author(3)), true);
    // A 129th bit, a twentieth byte, zeros on top.
    check(&one(&author(4)), false);
    check(&one(&author(0x83)), false);
    check(&one(&[0x87, 0]), false);
    // Per sibling: read, write - read, author.
    check(&two([0, 1, 1], [0, 2, 2]), true);
    check(&two([0, 1, 1], [0, 1, 2]), true);
    check(&two([0, 1, 1], [0, 2, 1]), false);
    check(&two([0, 1, 1], [1, 1, 2]), false);
    check(&two([0, 2, 1], [0, 1, 2]), false);
    check(&two([0, 1, 1], [0, 0, 2]), false);
    let based = |count: u8, base: u8| {
        let siblings = [[0, 2, 1, 1, b'n'], [1, 2, 2, 1, b'n']].concat();
        let siblings = &siblings[..usize::from(count) * 5];
        [&[0x81, 2, count], siblings, &[base, 1, b'n']].concat()
    };
    check(&based(2, 0), true);
    check(&based(2, 1), false);
    check(&based(1, 0), false);
    check(&[2, 2, 0], false);
    check(&[1, 12, 0], false);
    check(&[1, 2, 9], false);
    check(&[1, 2, 0, 0], false);
    check(&[1, 2, 0], true);
}

#[test]
fn wrong_proposals_change_nothing() {
    let mut cell = Siblings::new(Rule::Mvr);
    let sibling = |read, write| Sibling { read, write, author: 1, value: Value::Null };
    cell.propose(sibling(3, 5), |_| None).unwrap();
    let before = cell.clone();
    assert!(cell.propose(sibling(6, 6), |_| None).is_err());
    assert!(cell.propose(sibling(3, 4), |_| None).is_err());
    assert_eq!(cell, before);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("NaN is NULL", |real| !real.is_nan()).prop_map(Value::Real),
        ".{0,3}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::Blob),
    ]
}

/// Who proposes, how far it had read, whether a commit ends here, what it wrote.
type Move = (u8, u64, bool, Value);

fn moves(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec((0..12u8, 0..40u64, any::<bool>(), value), 1..40)
}

/// Plays moves; calls back after each with the cell and what was merged away.
fn play(rule: Rule, moves: Vec<Move>, mut check: impl FnMut(&Siblings, &Sibling, Option<Sibling>)) {
    let mut cell = Siblings::new(rule);
    let mut lsn = 1;
    let mut history = vec![Value::Int(0)];
    for (author, back, is_end, value) in moves {
        let read = (lsn - 1) - back.min(lsn - 1);
        let proposal = Sibling { read, write: lsn, author: author.into(), value };
        let shown_at = |at: u64| history.get(usize::try_from(at).unwrap()).cloned();
        let merged = cell.propose(proposal.clone(), shown_at).unwrap();
        check(&cell, &proposal, merged);
        if is_end {
            lsn += 1;
            history.resize(usize::try_from(lsn).unwrap(), cell.shown(None).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(crate::cases(100_000))]

    #[test]
    fn no_sibling_has_read_another(moves in moves(any_value())) {
        play(Rule::Mvr, moves, |cell, proposal, _| {
            let siblings: Vec<&Sibling> = cell.iter().collect();
            assert!(siblings.len() <= SIBLINGS_MAX);
            assert_eq!(siblings.last(), Some(&proposal));
            for (i, a) in siblings.iter().enumerate() {
                for b in &siblings[i + 1..] {
                    assert!(a.write <= b.write && a.write > b.read && a.author != b.author);
                }
            }
            assert_eq!(Siblings::decode(&cell.encode()).as_ref(), Ok(cell));
            assert_eq!(cell.shown(None).as_ref(), Some(&proposal.value));
        });
    }

    #[test]
    fn who_has_read_everything_leaves_one(moves in moves(any_value()), value in any_value()) {
        let mut last = None;
        play(Rule::Mvr, moves, |cell, _, _| last = Some(cell.clone()));
        let mut cell = last.unwrap();
        let read = cell.iter().map(|sibling| sibling.write).max().unwrap();
        let resolution = Sibling { read, write: read + 1, author: 99, value: value.clone() };
        cell.propose(resolution, |_| panic!("one value needs no base")).unwrap();
        prop_assert!(cell.is_settled());
        prop_assert_eq!(cell.shown(None), Some(value));
    }

    #[test]
    fn merging_the_oldest_changes_nothing_that_is_shown(
        adds in prop::collection::vec(-9i64..10, 1..30)) {
        // Nobody has read anybody, so all adds count, in however few siblings.
        let mut cell = Siblings::new(Rule::Counter);
        let mut merged = 0;
        for (i, add) in (1..).zip(&adds) {
            let proposal = Sibling { read: 0, write: i, author: i.into(), value: Value::Int(*add) };
            merged += usize::from(cell.propose(proposal, |_| Some(Value::Int(0))).unwrap().is_some());
        }
        prop_assert_eq!(cell.shown(None), Some(Value::Int(adds.iter().sum())));
        prop_assert_eq!(cell.iter().count() + merged, adds.len());
        prop_assert_eq!(cell.iter().count(), adds.len().min(SIBLINGS_MAX));
    }

    #[test]
    fn any_bytes_are_siblings_in_their_one_form_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..40), is_headed: bool, moves in moves(any_value()),
        at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut forms = vec![bytes.clone()];
        if is_headed {
            forms.push([&[0x81, 2, 2][..], &bytes].concat());
        }
        play(Rule::Mvr, moves, |cell, _, _| {
            let mut bytes = cell.encode();
            forms.push(bytes[..cut.index(bytes.len())].to_vec());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            forms.push(bytes);
        });
        for bytes in forms {
            if let Ok(cell) = Siblings::decode(&bytes) {
                prop_assert_eq!(cell.encode(), bytes);
            }
        }
    }
}
