//! Lists: the vectors, and a plain sequence as the model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sheaf_merge::list::{After, Applied, BadList, Element, List, ListNote, ListOp, Position};

fn load<K: Clone + Ord>(keys: impl IntoIterator<Item = K>) -> List<K> {
    let keys: Vec<K> = keys.into_iter().collect();
    let positions = Position::spread(keys.len());
    let elements = keys.into_iter().zip(positions);
    List::load(elements.map(|(key, position)| (key, Element { position, is_alive: true }))).unwrap()
}

fn after(key: &str) -> After<String> {
    if key == "^" { After::Head } else { After::Element(key.to_owned(), None) }
}

fn op(json: &serde_json::Value) -> ListOp<String> {
    let word = |i: usize| json[i].as_str().unwrap();
    match word(0) {
        "ins" => ListOp::Insert(after(word(1)), word(2).to_owned()),
        "del" => ListOp::Delete(word(1).to_owned()),
        other => panic!("no such op: {other}"),
    }
}

/// Positions are the implementation's choice, and not part of the vectors.
fn without_positions<K>(op: ListOp<K>) -> ListOp<K> {
    let plain = |after| match after {
        After::Element(key, _) => After::Element(key, None),
        After::Head => After::Head,
    };
    match op {
        ListOp::Insert(after, key) => ListOp::Insert(plain(after), key),
        ListOp::Move(after, key) => ListOp::Move(plain(after), key),
        ListOp::Delete(key) => ListOp::Delete(key),
    }
}

#[test]
fn vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/lists.json")).unwrap();
    let vectors = vectors["lists"].as_array().unwrap();
    assert_eq!(vectors.len(), 9);
    for vector in vectors {
        let strings = |name: &str| {
            let items = vector[name].as_array().unwrap().iter();
            items.map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut list = load(strings("base"));
        for committed in vector["committed"].as_array().unwrap() {
            assert!(list.apply(op(committed)).logged.is_some(), "{vector}");
        }
        for (local, log) in
            vector["local"].as_array().unwrap().iter().zip(vector["log"].as_array().unwrap())
        {
            let applied = list.apply(op(local));
            let expected = (!log.is_null()).then(|| op(log));
            assert_eq!(applied.logged.map(without_positions), expected, "{vector}");
            assert_eq!(applied.note.is_some(), vector["id"] == "L07", "{vector}");
        }
        let keys: Vec<String> = list.keys().cloned().collect();
        assert_eq!(keys, strings("result"), "{vector}");
    }
}

#[test]
fn an_unknown_predecessor_is_where_it_stood() {
    let mut list = load([1, 2, 3]);
    let at = Position::spread(3).nth(1);
    let applied = list.apply(ListOp::Insert(After::Element(9, at.clone()), 7));
    assert_eq!(list.keys().copied().collect::<Vec<_>>(), [1, 2, 7, 3]);
    let expected = Some(ListOp::Insert(After::Element(2, at), 7));
    assert_eq!(applied, Applied { logged: expected, note: Some(ListNote::AfterUnknown) });
    list.apply(ListOp::Insert(After::Element(9, Position::parse("0001").ok()), 8));
    assert_eq!(list.keys().next(), Some(&8));
}

#[test]
fn moves() {
    let mut list = load([1, 2, 3, 4]);
    let mut apply = |op| {
        let applied = list.apply(op);
        let keys: Vec<i32> = list.keys().copied().collect();
        (keys, applied.logged.is_some(), applied.note)
    };
    let to = |key| After::Element(key, None);
    assert_eq!(apply(ListOp::Move(to(3), 1)), (vec![2, 3, 1, 4], true, None));
    // Both moved it: the later place stands.
    assert_eq!(apply(ListOp::Move(After::Head, 1)), (vec![1, 2, 3, 4], true, None));
    assert_eq!(apply(ListOp::Move(to(1), 1)), (vec![1, 2, 3, 4], false, None));
    assert_eq!(apply(ListOp::Delete(2)), (vec![1, 3, 4], true, None));
    assert_eq!(apply(ListOp::Move(to(4), 2)), (vec![1, 3, 4], false, Some(ListNote::Gone)));
    // Behind a tombstone, which stays where it was.
    assert_eq!(apply(ListOp::Move(to(2), 4)), (vec![1, 4, 3], true, None));
    // A row that comes back.
    assert_eq!(apply(ListOp::Insert(to(3), 2)), (vec![1, 4, 3, 2], true, None));
}

#[test]
fn without_room_all_get_new_positions() {
    let element = |text: &str| Element { position: Position::parse(text).unwrap(), is_alive: true };
    // Plain SQL wrote one position twice.
    let dead = Element { is_alive: false, ..element("VV") };
    let elements = [(1, element("V")), (2, element("V")), (3, element("W")), (4, dead)];
    let mut list = List::load(elements).unwrap();
    list.apply(ListOp::Insert(After::Element(1, None), 9));
    assert_eq!(list.keys().copied().collect::<Vec<_>>(), [1, 9, 2, 3]);
    assert_eq!(list.changes().count(), 5);
    assert_eq!(list.changes().filter(|(_, element)| element.is_alive).count(), 4);
    let mut list = List::load([(1, element(&"z".repeat(64)))]).unwrap();
    list.apply(ListOp::Insert(After::Element(1, None), 2));
    assert_eq!(list.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(list.changes().all(|(_, element)| element.position.as_str().len() == 1));
}

#[test]
fn a_list_has_each_element_once_and_not_too_many() {
    let element = Element { position: Position::parse("V").unwrap(), is_alive: true };
    assert_eq!(List::load([(1, element.clone()), (1, element.clone())]).unwrap_err(), BadList);
    let many = |count: usize| List::load((0..count).map(|key| (key, element.clone())));
    assert!(many(sheaf_merge::limits::LIST_LEN_MAX).is_ok());
    assert_eq!(many(sheaf_merge::limits::LIST_LEN_MAX + 1).unwrap_err(), BadList);
}

/// A sequence of keys, dead ones included.
struct Model(Vec<(u8, bool)>);

impl Model {
    fn index(&self, key: u8) -> Option<usize> {
        self.0.iter().position(|(other, _)| *other == key)
    }

    fn is_alive(&self, key: u8) -> bool {
        self.0.contains(&(key, true))
    }

    fn put(&mut self, after: &After<u8>, key: u8) {
        let behind = match after {
            After::Head => None,
            After::Element(after, _) => Some(self.index(*after)),
        };
        // Its old place is gone before the new one is looked for.
        let anchor = behind.flatten().map(|i| self.0[i].0).filter(|anchor| *anchor != key);
        self.0.retain(|(other, _)| *other != key);
        let at = match (behind, anchor) {
            (None, _) => 0,
            (Some(_), Some(anchor)) => self.index(anchor).unwrap() + 1,
            (Some(_), None) => self.0.len(),
        };
        self.0.insert(at, (key, true));
    }

    fn apply(&mut self, op: &ListOp<u8>) {
        match op {
            ListOp::Insert(after, key) if !self.is_alive(*key) => self.put(after, *key),
            ListOp::Move(after, key)
                if self.is_alive(*key) && !matches!(after, After::Element(a, _) if a == key) =>
            {
                self.put(after, *key);
            }
            ListOp::Delete(key) => {
                self.0.iter_mut().filter(|(other, _)| other == key).for_each(|e| e.1 = false);
            }
            _ => {}
        }
    }

    fn keys(&self) -> Vec<u8> {
        self.0.iter().filter(|(_, is_alive)| *is_alive).map(|(key, _)| *key).collect()
    }
}

fn any_op() -> impl Strategy<Value = ListOp<u8>> {
    let after = prop_oneof![
        1 => Just(After::Head),
        4 => (0..20u8).prop_map(|key| After::Element(key, None)),
    ];
    prop_oneof![
        4 => (after.clone(), 0..20u8).prop_map(|(after, key)| ListOp::Insert(after, key)),
        2 => (after, 0..20u8).prop_map(|(after, key)| ListOp::Move(after, key)),
        2 => (0..20u8).prop_map(ListOp::Delete),
    ]
}

proptest! {
    #![proptest_config(crate::cases(100_000))]

    #[test]
    fn a_list_is_the_model(ops in prop::collection::vec(any_op(), 0..60)) {
        let (mut list, mut model) = (load([]), Model(Vec::new()));
        let mut stored: BTreeMap<u8, Element> = BTreeMap::new();
        for op in ops {
            model.apply(&op);
            let before: Vec<u8> = list.keys().copied().collect();
            let applied = list.apply(op);
            let keys: Vec<u8> = list.keys().copied().collect();
            prop_assert_eq!(&keys, &model.keys());
            prop_assert!(applied.logged.is_some() || keys == before);
            // What is logged names what was alive, and says the same.
            if let Some(ListOp::Insert(After::Element(after, _), key)) = &applied.logged {
                let at = keys.iter().position(|other| other == key).unwrap();
                prop_assert_eq!(&keys[at - 1], after);
            }
            // The changes are all that a host has to write.
            stored.extend(list.changes().map(|(key, element)| (*key, element.clone())));
            list = List::load(stored.clone()).unwrap();
            prop_assert_eq!(list.keys().copied().collect::<Vec<_>>(), keys);
        }
    }

    #[test]
    fn what_is_kept_stands_where_it_would_be_put(
        ops in prop::collection::vec(any_op(), 0..30),
        (after, key) in (prop::option::of(0..20u8), 0..20u8),
        at in "[0-9A-Za-z]{0,2}[1-9A-Za-z]",
    ) {
        let mut list = load([]);
        ops.into_iter().for_each(|op| drop(list.apply(op)));
        let after = after.map_or(After::Head, |after| After::Element(after, None));
        prop_assume!(!matches!(&after, After::Element(after, _) if !list.has(after)));
        let keys = |list: &List<u8>| list.keys().copied().collect::<Vec<_>>();
        let (before, mut put, at) = (keys(&list), list.clone(), Position::parse(&at).unwrap());
        let op = if before.contains(&key) { ListOp::Move } else { ListOp::Insert };
        put.apply(op(after.clone(), key));
        if list.keep(&after, &key, &at) {
            prop_assert_eq!(keys(&list), keys(&put));
            let (_, element) = list.changes().find(|(other, _)| **other == key).unwrap();
            prop_assert_eq!(&element.position, &at);
        } else {
            prop_assert_eq!(keys(&list), before);
        }
    }

    #[test]
    fn in_front_of_a_row_and_at_the_end(ops in prop::collection::vec(any_op(), 0..30), at: u8) {
        let mut list = load([]);
        ops.into_iter().for_each(|op| drop(list.apply(op)));
        let mut keys: Vec<u8> = list.keys().copied().collect();
        let at = usize::from(at) % (keys.len() + 1);
        let after = keys.get(at).map_or_else(|| list.end(), |key| list.before(key));
        list.apply(ListOp::Insert(after, 99));
        keys.insert(at, 99);
        prop_assert_eq!(list.keys().copied().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn runs_stay_whole_left_before_right(base in 1..5u8, at in 0..5u8, l in 1..6u8, r in 1..6u8) {
        let run = |from: u8, len: u8| {
            let mut after = if at == 0 { After::Head } else { After::Element(at.min(base), None) };
            (from..from + len).map(move |key| {
                let behind = std::mem::replace(&mut after, After::Element(key, None));
                ListOp::Insert(behind, key)
            })
        };
        let mut list = load(1..=base);
        for op in run(200, r).chain(run(100, l)) {
            list.apply(op);
        }
        let at = at.min(base);
        let expected: Vec<u8> =
            (1..=at).chain(100..100 + l).chain(200..200 + r).chain(at + 1..=base).collect();
        prop_assert_eq!(list.keys().copied().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn there_is_room_between_any_two_positions(a in "[0-9A-Za-z]{0,6}[1-9A-Za-z]",
                                               b in "[0-9A-Za-z]{0,6}[1-9A-Za-z]") {
        let [a, b] = [&a, &b].map(|text| Position::parse(text).unwrap());
        let (low, high) = (a.clone().min(b.clone()), a.max(b));
        let between = Position::between(Some(&low), Some(&high));
        prop_assert_eq!(between.is_some(), low != high);
        if let Some(between) = between {
            prop_assert!(low < between && between < high);
            prop_assert_eq!(Position::parse(between.as_str()), Ok(between.clone()));
            // None that is shorter: all of that length, taken from the bounds and one digit up.
            let len = between.as_str().len() - 1;
            let cut = |p: &Position| p.as_str().chars().take(len).collect::<String>();
            for text in [cut(&high), cut(&low), bumped(&cut(&low))] {
                if let Ok(shorter) = Position::parse(&text) {
                    prop_assert!(shorter <= low || shorter >= high, "{} is shorter", shorter);
                }
            }
        }
        let (first, last) = (Position::between(None, Some(&low)), Position::between(Some(&high), None));
        prop_assert!(first.unwrap() < low && high < last.unwrap());
    }
}

/// The next text of this length in the order of positions, if the last digit has one.
fn bumped(text: &str) -> String {
    const DIGITS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some(last) = text.chars().last() else { return String::new() };
    let next = DIGITS.chars().skip_while(|digit| *digit != last).nth(1).unwrap_or('z');
    format!("{}{next}", &text[..text.len() - 1])
}
