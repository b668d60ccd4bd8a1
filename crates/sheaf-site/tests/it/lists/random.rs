//! Random work on one list by devices apart, against a plain sequence, and with deletes against
//! what must hold of any outcome.

use std::collections::BTreeSet;

use crate::support::{Rng, is_long};

use super::{Lists, NAME, SHAPES};

/// One row of a mutation, and what it was put behind.
type Step = (char, Option<char>);

/// The order that everybody must come to, and what each device has not told the log.
struct Model {
    agreed: Vec<char>,
    waiting: Vec<Vec<Step>>,
    deleted: BTreeSet<char>,
    next: u32,
}

impl Model {
    fn decide(&mut self, device: usize) {
        for (name, after) in std::mem::take(&mut self.waiting[device]) {
            self.agreed.retain(|known| *known != name);
            let at = after.map_or(0, |after| {
                1 + self.agreed.iter().position(|known| *known == after).unwrap()
            });
            self.agreed.insert(at, name);
        }
    }

    fn fresh(&mut self) -> char {
        self.next += 1;
        char::from_u32(0x4e00 + self.next).unwrap()
    }
}

/// A device puts a run of new rows somewhere, or moves one.
fn work(lists: &Lists, model: &mut Model, rng: &mut Rng, device: usize) {
    let order: Vec<char> = lists.order(device).chars().collect();
    let after = match rng.below(order.len() + 1) {
        0 => None,
        at => Some(order[at - 1]),
    };
    let name_of = |after: Option<char>| after.map_or_else(|| "^".to_owned(), String::from);
    if rng.chance(30) {
        let name = order[rng.below(order.len())];
        if after == Some(name) {
            return;
        }
        let see = format!("SELECT pos FROM item WHERE {NAME} = '{name}'");
        let before = lists.devices[device].local(&see);
        lists.shift(device, &String::from(name), &name_of(after));
        // What gets the position that it has was not moved.
        if lists.devices[device].local(&see) != before {
            model.waiting[device].push((name, after));
        }
        return;
    }
    let (mut sql, mut after) = (Vec::new(), after);
    for _ in 0..=rng.below(3) {
        let name = model.fresh();
        sql.push(lists.insert(&String::from(name), &name_of(after)));
        model.waiting[device].push((name, after));
        after = Some(name);
    }
    lists.devices[device].sql(&format!("BEGIN; {}; COMMIT", sql.join(";")));
}

fn start(rng: &mut Rng) -> (Lists, Model) {
    let count = 2 + rng.below(3);
    let lists = Lists::new(count, rng.below(SHAPES.len()), "abc");
    let (agreed, waiting) = ("abc".chars().collect(), vec![Vec::new(); count]);
    (lists, Model { agreed, waiting, deleted: BTreeSet::new(), next: 0 })
}

fn rounds(short: u64) -> u64 {
    if is_long() { short * 20 } else { short }
}

#[test]
fn everybody_comes_to_the_order_of_the_model() {
    for seed in 0..rounds(6) {
        let mut rng = Rng::new(seed);
        let (lists, mut model) = start(&mut rng);
        for _ in 0..30 {
            let device = rng.below(lists.devices.len());
            match rng.below(10) {
                0 => drop(lists.devices[device].pull()),
                1 | 2 => {
                    lists.devices[device].exchange();
                    model.decide(device);
                }
                _ => work(&lists, &mut model, &mut rng, device),
            }
        }
        (0..lists.devices.len()).for_each(|device| model.decide(device));
        lists.agree();
        let expected: String = model.agreed.iter().collect();
        assert_eq!(lists.order(0), expected, "seed {seed}, {}", lists.shape.0);
        lists.shows(&expected);
    }
}

#[test]
fn with_deletes_nothing_else_is_lost_and_runs_stay_whole() {
    for seed in 0..rounds(6) {
        let mut rng = Rng::new(1_000 + seed);
        let (lists, mut model) = start(&mut rng);
        let mut runs = Vec::new();
        for _ in 0..30 {
            let device = rng.below(lists.devices.len());
            let order: Vec<char> = lists.order(device).chars().filter(|c| *c != 'N').collect();
            match rng.below(10) {
                0 => drop(lists.devices[device].exchange()),
                1..=4 if order.len() > 2 => {
                    let name = order[rng.below(order.len())];
                    lists.delete(device, &String::from(name));
                    model.deleted.insert(name);
                }
                _ => {
                    let after = order.last().filter(|_| rng.chance(80)).copied();
                    let after = after.map_or_else(|| "^".to_owned(), String::from);
                    let (one, two) = (model.fresh(), model.fresh());
                    lists.put(device, &String::from(one), &after);
                    lists.put(device, &String::from(two), &String::from(one));
                    runs.push((one, two));
                }
            }
        }
        lists.agree();
        let order = lists.order(0);
        lists.shows(&order);
        for (one, two) in runs {
            let is_left = |name| !model.deleted.contains(&name);
            assert_eq!(order.contains(one), is_left(one), "seed {seed}");
            assert_eq!(order.contains(two), is_left(two), "seed {seed}");
            if is_left(one) && is_left(two) {
                assert!(order.contains(&String::from_iter([one, two])), "seed {seed}: {order}");
            }
        }
    }
}
