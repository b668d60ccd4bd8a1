//! Devices with one sequencer: whatever the order of edits, pushes and pulls, all end with the
//! same bytes, and nothing that was added is lost or there twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sheaf_merge::{Rule, Value, html, merge_cell};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
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

fn counters_are_exact(devices: usize, steps: &[Step]) {
    let mut sum = 0;
    let end = play(Rule::Counter, &Value::Int(0), devices, steps, |pick, local| {
        let Value::Int(int) = local else { panic!("{local:?}") };
        let add = [1, -1, 2, 3, 5, -8, 0, 1_000][pick];
        sum += add;
        Value::Int(int + add)
    });
    assert_eq!(end, Value::Int(sum));
}

fn sets_hold_what_was_added_and_not_removed(devices: usize, steps: &[Step]) {
    let (mut next, mut removed) = (0, BTreeSet::new());
    let end = play(Rule::Set, &"[]".into(), devices, steps, |pick, local| {
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
    assert_eq!(found, expected);
}

fn documents_hold_every_added_member(devices: usize, steps: &[Step]) {
    type Document = BTreeMap<String, BTreeMap<String, u64>>;
    let mut next = 0;
    let end = play(Rule::Json, &"{\"a\":{}}".into(), devices, steps, |pick, local| {
        let mut document: Document = serde_json::from_str(text(local)).unwrap();
        let place = ["a", "b", "c"][pick % 3];
        document.entry(place.into()).or_default().insert(format!("k{next}"), next);
        next += 1;
        Value::Text(serde_json::to_string(&document).unwrap())
    });
    let document: Document = serde_json::from_str(text(&end)).unwrap();
    let mut found: Vec<u64> = document.into_values().flat_map(BTreeMap::into_values).collect();
    found.sort_unstable();
    assert_eq!(found, (0..next).collect::<Vec<_>>());
}

/// Words that were typed are there once, but those that somebody deleted, who had seen them.
fn texts_hold_what_was_typed_and_not_deleted(devices: usize, steps: &[Step]) {
    let mut typed: Vec<String> = ["one", "two", "three"].map(str::to_owned).into();
    let mut deleted = BTreeSet::new();
    let end = play(Rule::Text, &"one two three".into(), devices, steps, |pick, local| {
        let mut words: Vec<String> = text(local).split_whitespace().map(str::to_owned).collect();
        if pick == 7 && !words.is_empty() {
            deleted.insert(words.remove(typed.len() % words.len()));
        } else {
            let word = format!("w{}", typed.len());
            words.insert(pick.min(words.len()), word.clone());
            typed.push(word);
        }
        Value::Text(words.join(" "))
    });
    typed.retain(|word| !deleted.contains(word));
    typed.sort_unstable();
    let mut found: Vec<&str> = text(&end).split_whitespace().collect();
    found.sort_unstable();
    assert_eq!(found, typed, "{end:?}");
}

/// The same of words in blocks, and of blocks; a block is deleted with what was typed into it.
fn trees_hold_what_was_typed_and_not_deleted(devices: usize, steps: &[Step]) {
    let start = "<ul id=\"u\"><li id=\"a\">one</li><li id=\"b\">two</li></ul><p id=\"c\">three</p>";
    let mut typed = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    let end = play(Rule::Html, &start.into(), devices, steps, |pick, local| {
        let html = text(local);
        let word = format!("w{}", typed.len());
        let blocks: Vec<&str> =
            html.match_indices(" id=\"").map(|(at, _)| &html[at + 5..at + 6]).collect();
        let items: Vec<&&str> = blocks.iter().filter(|id| !"uc".contains(**id)).collect();
        let block = "abc".get(pick % 3..pick % 3 + 1).unwrap();
        let html = match pick {
            0..4 if blocks.contains(&block) => {
                let from = html.find(&format!(" id=\"{block}\"")).unwrap();
                let end = from + html[from..].find("</").unwrap();
                typed.insert(word.clone(), block.to_owned());
                let word = if pick == 3 { format!("<b>{word}</b>") } else { word };
                format!("{} {word}{}", &html[..end], &html[end..])
            }
            4 | 5 => {
                typed.insert(word.clone(), word.clone());
                html.replace("</ul>", &format!("<li id=\"{word}\">{word}</li></ul>"))
            }
            6 if items.contains(&&"b") => {
                deleted.insert("b".to_owned());
                let from = html.find("<li id=\"b\">").unwrap();
                let end = from + html[from..].find("</li>").unwrap() + 5;
                format!("{}{}", &html[..from], &html[end..])
            }
            _ => html.to_owned(),
        };
        Value::Text(html::canon(&html))
    });
    for (word, block) in typed {
        let words = text(&end).split(['<', '>', ' ']).filter(|there| *there == word);
        assert_eq!(words.count(), usize::from(!deleted.contains(&block)), "{word} {end:?}");
    }
    assert_eq!(html::canon(text(&end)), text(&end));
}

fn every_rule_converges(devices: usize, steps: &[Step]) {
    for rule in Rule::ALL {
        let mut next = 0;
        play(rule, &Value::Null, devices, steps, |pick, _| {
            next += 1;
            Value::Int(if pick < 4 { next } else { -next })
        });
    }
}

/// Everything at once: for orders that are gone through one by one.
pub(crate) fn check(devices: usize, steps: &[Step]) {
    counters_are_exact(devices, steps);
    sets_hold_what_was_added_and_not_removed(devices, steps);
    documents_hold_every_added_member(devices, steps);
    texts_hold_what_was_typed_and_not_deleted(devices, steps);
    trees_hold_what_was_typed_and_not_deleted(devices, steps);
    every_rule_converges(devices, steps);
}

proptest! {
    #![proptest_config(crate::cases(100_000))]

    #[test]
    fn counters((devices, steps) in steps()) {
        counters_are_exact(devices, &steps);
    }

    #[test]
    fn sets((devices, steps) in steps()) {
        sets_hold_what_was_added_and_not_removed(devices, &steps);
    }

    #[test]
    fn documents((devices, steps) in steps()) {
        documents_hold_every_added_member(devices, &steps);
    }

    #[test]
    fn texts((devices, steps) in steps()) {
        texts_hold_what_was_typed_and_not_deleted(devices, &steps);
    }

    #[test]
    fn trees((devices, steps) in steps()) {
        trees_hold_what_was_typed_and_not_deleted(devices, &steps);
    }

    #[test]
    fn rules((devices, steps) in steps()) {
        every_rule_converges(devices, &steps);
    }
}
