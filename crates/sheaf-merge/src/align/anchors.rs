//! Alignment of lists too large for a table: tokens that occur once on either side.
//!
//! Invariant: pairs ascend on both sides. Linear but for one binary search per unique token.

use std::collections::HashMap;

use super::{Token, hash};

/// The longest ascending run of tokens that occur once in `a` and once in `b` (patience sorting:
/// leftmost pile, predecessor the top of the pile to the left).
pub(super) fn unique(a: &[Token], b: &[Token]) -> Vec<(usize, usize)> {
    let (in_a, in_b) = (places(a), places(b));
    let both = a.iter().enumerate().filter_map(|(i, token)| {
        in_a.get(&token.key)?.as_ref()?;
        Some((i, (*in_b.get(&token.key)?)?))
    });
    // Every card: its pair and the card below it in the run that ends with it.
    let mut cards: Vec<((usize, usize), Option<usize>)> = Vec::new();
    let mut tops: Vec<usize> = Vec::new();
    for pair in both {
        let pile =
            tops.partition_point(|&top| cards.get(top).is_some_and(|card| card.0.1 < pair.1));
        let below = pile.checked_sub(1).and_then(|left| tops.get(left).copied());
        cards.push((pair, below));
        match tops.get_mut(pile) {
            Some(top) => *top = cards.len() - 1,
            None => tops.push(cards.len() - 1),
        }
    }
    let mut pairs = Vec::with_capacity(tops.len());
    let mut next = tops.last().copied();
    while let Some(&(pair, below)) = next.and_then(|card| cards.get(card)) {
        pairs.push(pair);
        next = below;
    }
    pairs.reverse();
    pairs
}

/// Where a key stands, or `None` if it stands in several places.
fn places(tokens: &[Token]) -> HashMap<u32, Option<usize>, hash::Key> {
    let mut places = HashMap::with_capacity_and_hasher(tokens.len(), hash::Key::draw());
    for (at, token) in tokens.iter().enumerate() {
        places.entry(token.key).and_modify(|place| *place = None).or_insert(Some(at));
    }
    places
}
