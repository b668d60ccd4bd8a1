//! Attributes of elements and their three-way merge.
//!
//! Source: specification d.7 (node). Invariant: an attribute that one side leaves alone is what
//! the other side made of it, bytes unchanged; linear in what the attributes hold.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::text::scalar3;

/// Attributes by name.
pub(super) type Attrs = BTreeMap<String, String>;

/// Merges by name: `class` as a set, `style` by property, anything else as one value.
pub(super) fn merge(base: &Attrs, left: &Attrs, right: &Attrs) -> Attrs {
    let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
    names.filter_map(|name| Some((name.clone(), merge_one(name, base, left, right)?))).collect()
}

fn merge_one(name: &str, base: &Attrs, left: &Attrs, right: &Attrs) -> Option<String> {
    let [base, left, right] = [base, left, right].map(|attrs| attrs.get(name).map(String::as_str));
    if left == right || left == base || right == base {
        return scalar3(base, left, right).map(str::to_owned);
    }
    let texts = [base, left, right].map(Option::unwrap_or_default);
    let merged = match name {
        "class" => Some(merge_class(texts)),
        "style" => merge_style(texts),
        _ => None,
    };
    match merged {
        Some(text) if text.is_empty() && (left.is_none() || right.is_none()) => None,
        Some(text) => Some(text),
        None => left.map(str::to_owned),
    }
}

/// Kept names in the base's order, then left's new ones, then right's.
fn merge_class(texts: [&str; 3]) -> String {
    let [base, left, right] = texts.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>());
    let [in_base, in_left, in_right] = [&base, &left, &right].map(|names| set(names));
    let kept = base.iter().filter(|name| in_left.contains(*name) && in_right.contains(*name));
    let new = left.iter().chain(&right).filter(|name| !in_base.contains(*name));
    let mut there = HashSet::new();
    let out: Vec<&str> = kept.chain(new).copied().filter(|name| there.insert(*name)).collect();
    out.join(" ")
}

fn set<'a>(names: &[&'a str]) -> HashSet<&'a str> {
    names.iter().copied().collect()
}

/// By property, or `None` if a declaration is more than words, which this does not read.
fn merge_style(texts: [&str; 3]) -> Option<String> {
    if texts.iter().any(|text| text.contains(['(', '"', '\'', '\\', '/'])) {
        return None;
    }
    let [base, left, right] = texts.map(properties);
    // The last declaration of a property counts.
    let [in_base, in_left, in_right] =
        [&base, &left, &right].map(|list| list.iter().copied().collect::<HashMap<_, _>>());
    let mut there = HashSet::new();
    let names = base.iter().chain(&left).chain(&right).map(|(name, _)| *name);
    let merged = names.filter(|name| there.insert(*name)).filter_map(|name| {
        let value = scalar3(in_base.get(name), in_left.get(name), in_right.get(name))?;
        Some(format!("{name}: {value}"))
    });
    Some(merged.collect::<Vec<_>>().join("; "))
}

fn properties(text: &str) -> Vec<(&str, &str)> {
    let pairs = text.split(';').filter_map(|part| part.split_once(':'));
    pairs.map(|(name, value)| (name.trim(), value.trim())).collect()
}
