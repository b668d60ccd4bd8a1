//! What a node says of a push, there and back: verdicts, and which operations stand.

use super::*;

const VERDICTS: [Verdict; 3] = [Verdict::Ok, Verdict::Merged, Verdict::Rejected];

fn there_and_back(answer: &PushAnswer) -> PushAnswer {
    let Body::Verdicts(told) = wire::decode(wire::encode(Body::Verdicts(wire::answer_to_wire(
        1, VOLUME, TIMELINE, answer,
    ))))
    .unwrap() else {
        panic!("another message")
    };
    let (volume, timeline, back) = wire::answer_from_wire(told).unwrap();
    assert_eq!((volume, timeline), (VOLUME, TIMELINE));
    back
}

/// The answer to `count` merged mutations, each told of so many operations, all altered.
fn merged(count: u64, ops: u32) -> PushAnswer {
    let told = OpStands { ops, packed: vec![0; ops.div_ceil(32) as usize * 4].into() };
    PushAnswer::Verdicts {
        first_seq: 1,
        verdicts: (0..count).map(|_| (Verdict::Merged, String::new())).collect(),
        stands: (1..=count).map(|seq| (seq, told.clone())).collect(),
        lsn: Lsn(1),
    }
}

fn told(answer: &PushAnswer) -> &BTreeMap<u64, OpStands> {
    let PushAnswer::Verdicts { stands, .. } = answer else { panic!("{answer:?}") };
    stands
}

#[test]
fn the_wish_travels_with_the_push() {
    for tell_stands in [false, true] {
        let sent = PushBatch { tell_stands, ..batch(1, 2, 9) };
        let frame = wire::encode(Body::Push(wire::push_to_wire(1, VOLUME, &sent)));
        let Body::Push(push) = wire::decode(frame).unwrap() else { panic!("another message") };
        assert_eq!(wire::push_from_wire(push).unwrap(), (VOLUME, sent));
    }
}

#[test]
fn what_is_told_of_operations_is_bounded() {
    let most = u32::try_from(limits::VERDICT_OPS_MAX).unwrap();
    let large = there_and_back(&merged(12, most));
    let bytes: usize = told(&large).values().map(|told| told.packed.len()).sum();
    assert_eq!(told(&large).len(), 8, "as many as fit");
    assert!(bytes <= limits::STANDS_BYTES_MAX);
    // More operations than a mutation may have are not told of.
    assert!(told(&there_and_back(&merged(1, most + 1))).is_empty());
}

#[test]
fn bits_that_are_not_those_of_the_operations_are_refused() {
    let entry = |ops, stands: usize| message::VerdictEntry {
        kind: message::VerdictKind::Merged.into(),
        reason: String::new(),
        ops,
        stands: vec![0; stands].into(),
    };
    let most = u32::try_from(limits::VERDICT_OPS_MAX).unwrap();
    let answer = |entry| message::Verdicts {
        verdicts: vec![entry],
        ..wire::answer_to_wire(1, VOLUME, TIMELINE, &PushAnswer::Gap { next: 1 })
    };
    for (ops, stands) in [(1, 3), (33, 4), (32, 8), (most + 1, 0), (u32::MAX, 0)] {
        let refused = wire::answer_from_wire(answer(entry(ops, stands)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{ops} {stands}");
    }
    for (ops, stands) in [(0, 0), (1, 0), (33, 8), (most, 0)] {
        wire::answer_from_wire(answer(entry(ops, stands))).unwrap();
    }
}

#[test]
fn verdicts_that_are_not_those_of_the_push_end_the_connection() {
    for (first_seq, count) in [(2, 1), (u64::MAX, 2), (1, 3)] {
        let mut world = World::settled();
        world.client.offer("todo", batch(1, 2, 10)).unwrap();
        let Some(Body::Push(push)) = world.client.poll_frame().map(|f| wire::decode(f).unwrap())
        else {
            panic!("a push")
        };
        let verdicts = vec![(Verdict::Ok, String::new()); count];
        let right =
            PushAnswer::Verdicts { first_seq: 1, verdicts, stands: BTreeMap::new(), lsn: Lsn(1) };
        let mut answer = wire::answer_to_wire(push.request, VOLUME, TIMELINE, &right);
        answer.first_seq = first_seq;
        world.client.frame(wire::encode(Body::Verdicts(answer)), world.now);
        assert!(matches!(world.client.poll_event(), Some(ClientEvent::Disconnect { .. })));
    }
}

proptest::proptest! {
    #[test]
    fn answers_survive_the_wire(
        first_seq in 1u64..=u64::MAX - 8,
        entries in proptest::collection::vec((0usize..3, 0u32..100, proptest::prelude::any::<bool>()), 0..8),
        lsn: u64,
    ) {
        let mut stands = BTreeMap::new();
        for (seq, (verdict, ops, is_all)) in (first_seq..).zip(&entries).map(|(s, e)| (s, *e)) {
            if VERDICTS[verdict] == Verdict::Merged && ops > 0 {
                let bytes = if is_all { 0 } else { ops.div_ceil(32) as usize * 4 };
                stands.insert(seq, OpStands { ops, packed: vec![1; bytes].into() });
            }
        }
        let reason = |verdict| match verdict {
            Verdict::Rejected => "no".to_owned(),
            _ => String::new(),
        };
        let verdicts = entries.iter().map(|(at, ..)| (VERDICTS[*at], reason(VERDICTS[*at])));
        let verdicts = verdicts.collect();
        let answer = PushAnswer::Verdicts { first_seq, verdicts, stands, lsn: Lsn(lsn) };
        proptest::prop_assert_eq!(there_and_back(&answer), answer);
    }
}
