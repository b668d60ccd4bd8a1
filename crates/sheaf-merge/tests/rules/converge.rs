//! Devices with one sequencer: whatever the order of edits, pushes and pulls, all end with the
//! same bytes, and nothing that was added is lost or there twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sheaf_merge::{Rule, Value, merge_cell};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A device changes its cell.
    Edit { device: usize, pick: usize },
    /// It sends its change, which is merged at the head of the log.
    Push { device: usize },
    /// It learns the log and redoes its change on top.
    Pull { device: usize },
}

fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (2..6usize).prop_flat_map(|devices| {
        let device = 0..devices;
        let step = prop_oneof![
            4 => (device.clone(), 0..8usize).prop_map(|(device, pick)| Step::Edit { device, pick }),
            2 => device.clone().prop_map(|device| Step::Push { device }),
            1 => device.prop_map(|device| Step::Pull { device }),
        ];
        (Just(devices), prop::collection::vec(step, 0..60))
    })
}

/// What a device agreed on last, and what it shows.
#[derive(Clone)]
struct Device {
    base: Value,
    local: Value,
}

/// Plays the steps; then everybody sends and learns. Returns what all agree on.
fn play(
    rule: Rule,
    start: &Value,
    devices: usize,
    steps: &[Step],
    mut edit: impl FnMut(usize, &Value) -> Value,
) -> Value {
    let mut log = start.clone();
    let mut at = vec![Device { base: log.clone(), local: log.clone() }; devices];
    let end = (0..devices).map(|device| Step::Push { device });
    let end = end.chain((0..devices).map(|device| Step::Pull { device }));
    for step in steps.iter().copied().chain(end) {
        match step {
            Step::Edit { device, pick } => at[device].local = edit(pick, &at[device].local),
            Step::Push { device } => {
                // A device without a change has nothing to send; the log redoes any other.
                if at[device].local != at[device].base {
                    log = merge_cell(rule, Some(&at[device].base), &at[device].local, &log).value;
                }
                at[device] = Device { base: log.clone(), local: log.clone() };
            }
            Step::Pull { device } => {
                let Device { base, local } = &at[device];
                let local = if local == base {
                    log.clone()
                } else {
                    merge_cell(rule, Some(base), local, &log).value
                };
                at[device] = Device { base: log.clone(), local };
            }
        }
    }
    for device in &at {
        assert_eq!(device.local, log);
    }
    log
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    serde_json::from_str(text(value)).unwrap()
}

proptest! {
    #![proptest_config(crate::cases(10_000))]

    #[test]
    fn counters_are_exact((devices, steps) in steps()) {
        let mut sum = 0;
        let end = play(Rule::Counter, &Value::Int(0), devices, &steps, |pick, local| {
            let Value::Int(int) = local else { panic!("{local:?}") };
            let add = [1, -1, 2, 3, 5, -8, 0, 1_000][pick];
            sum += add;
            Value::Int(int + add)
        });
        prop_assert_eq!(end, Value::Int(sum));
    }

    #[test]
    fn sets_hold_what_was_added_and_not_removed((devices, steps) in steps()) {
        let (mut next, mut removed) = (0, BTreeSet::new());
        let end = play(Rule::Set, &"[]".into(), devices, &steps, |pick, local| {
            let mut members = numbers(local);
            if pick < 5 || members.is_empty() {
                members.push(next);
                next += 1;
            } else {
                removed.insert(members.remove(pick % members.len()));
            }
            Value::Text(format!("{members:?}"))
        });
        let expected: Vec<u64> = (0..next).filter(|member| !removed.contains(member)).collect();
        let mut found = numbers(&end);
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn documents_hold_every_added_member((devices, steps) in steps()) {
        type Document = BTreeMap<String, BTreeMap<String, u64>>;
        let mut next = 0;
        let end = play(Rule::Json, &"{\"a\":{}}".into(), devices, &steps, |pick, local| {
            let mut document: Document = serde_json::from_str(text(local)).unwrap();
            let place = ["a", "b", "c"][pick % 3];
            document.entry(place.into()).or_default().insert(format!("k{next}"), next);
            next += 1;
            Value::Text(serde_json::to_string(&document).unwrap())
        });
        let document: Document = serde_json::from_str(text(&end)).unwrap();
        let mut found: Vec<u64> = document.into_values().flat_map(BTreeMap::into_values).collect();
        found.sort_unstable();
        prop_assert_eq!(found, (0..next).collect::<Vec<_>>());
    }

    #[test]
    fn every_other_rule_converges((devices, steps) in steps()) {
        for rule in Rule::ALL {
            let mut next = 0;
            play(rule, &Value::Null, devices, &steps, |pick, _| {
                next += 1;
                Value::Int(if pick < 4 { next } else { -next })
            });
        }
    }
}
