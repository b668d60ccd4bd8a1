//! Custom rules: a name in the schema, and a function that the host registers under it.
//!
//! Invariant: a function is called only for a real conflict, after the short cuts of
//! `merge_cell`. A function that is missing or fails refuses the mutation, as an unknown mutator
//! does: any other outcome would quietly break what the rule was declared for. Leaves out what a
//! function is: a closure, or an SQL expression that the host runs.

use std::{collections::BTreeMap, fmt};

use crate::{Merged, Note, Value, limits::CUSTOM_NAME_MAX};

/// The name of a custom rule: 1 to 31 of `a-z`, `0-9` and `_`, the first no digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomName {
    bytes: [u8; CUSTOM_NAME_MAX],
    len: u8,
}

impl CustomName {
    /// The name, in lower case; `None` if it is not one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let mut bytes = [0; CUSTOM_NAME_MAX];
        let place = bytes.get_mut(..name.len()).filter(|_| name.bytes().all(is_word))?;
        place.copy_from_slice(name.to_ascii_lowercase().as_bytes());
        Some(Self { bytes, len: u8::try_from(name.len()).ok()? })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let name = self.bytes.get(..usize::from(self.len));
        name.and_then(|name| std::str::from_utf8(name).ok()).expect("BUG: a name is ASCII")
    }
}

impl fmt::Debug for CustomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for CustomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a custom rule merges: both sides changed the cell, and differently.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What the author saw; `None` where there was no cell, as in a row inserted twice.
    pub base: Option<&'a Value>,
    /// What the author wrote.
    pub left: &'a Value,
    /// What was ordered in between.
    pub right: &'a Value,
}

/// What a custom rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Custom {
    /// The cell becomes this.
    Value(Value),
    /// The mutation must be rejected.
    Refuse,
    /// The host has no function of this name, or it failed: the mutation is rejected.
    Missing,
}

/// Where a host keeps the functions behind custom rules.
///
/// A function must be pure: whoever orders mutations calls it, and devices call it to predict.
pub trait CustomRules {
    /// Calls the function of this name.
    fn call(&self, name: CustomName, sides: Sides<'_>) -> Custom;
}

/// A host without custom rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCustomRules;

impl CustomRules for NoCustomRules {
    fn call(&self, _: CustomName, _: Sides<'_>) -> Custom {
        Custom::Missing
    }
}

type Function = Box<dyn Fn(Sides<'_>) -> Custom + Send + Sync>;

/// Closures by name.
#[derive(Default)]
pub struct Closures(BTreeMap<CustomName, Function>);

impl Closures {
    /// Registers a function, in place of an earlier one of the same name.
    pub fn register(
        &mut self,
        name: CustomName,
        function: impl Fn(Sides<'_>) -> Custom + Send + Sync + 'static,
    ) {
        self.0.insert(name, Box::new(function));
    }

    /// The registered names.
    pub fn names(&self) -> impl Iterator<Item = CustomName> {
        self.0.keys().copied()
    }
}

impl CustomRules for Closures {
    fn call(&self, name: CustomName, sides: Sides<'_>) -> Custom {
        self.0.get(&name).map_or(Custom::Missing, |function| function(sides))
    }
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Merges by the function of this name.
pub(crate) fn merge(rules: &dyn CustomRules, name: CustomName, sides: Sides<'_>) -> Merged {
    match rules.call(name, sides) {
        Custom::Value(value) => Merged { value, note: None },
        Custom::Refuse => Merged::noted(sides.right, Note::Refused),
        Custom::Missing => Merged::noted(sides.right, Note::NoFunction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rule, merge_cell_with};

    fn longest(sides: Sides<'_>) -> Custom {
        match (sides.left, sides.right) {
            (Value::Text(l), Value::Text(r)) => {
                Custom::Value(if l.len() >= r.len() { sides.left } else { sides.right }.clone())
            }
            (Value::Null, _) => Custom::Missing,
            _ => Custom::Refuse,
        }
    }

    #[test]
    fn functions_decide_real_conflicts() {
        let name = CustomName::new("Longest").unwrap();
        let mut rules = Closures::default();
        rules.register(name, longest);
        assert_eq!(format!("{rules:?}"), "{\"longest\"}");
        let merge = |left: &Value, right: &Value| {
            let merged = merge_cell_with(Rule::Custom(name), &rules, None, left, right);
            (merged.is_refused(), merged.value)
        };
        let (short, long): (Value, Value) = ("a".into(), "bb".into());
        assert_eq!(merge(&short, &long), (false, long.clone()));
        assert_eq!(merge(&long, &short), (false, long.clone()));
        assert_eq!(merge(&Value::Int(1), &long), (true, long.clone()));
        assert_eq!(merge(&Value::Null, &long), (true, long.clone()));
        assert_eq!(merge(&Value::Null, &Value::Null), (false, Value::Null));
    }

    #[test]
    fn a_missing_function_refuses_and_says_so() {
        let rule = Rule::Custom(CustomName::new("nobody").unwrap());
        let merged = crate::merge_cell(rule, None, &Value::Int(1), &Value::Int(2));
        assert!(merged.is_refused());
        assert_eq!((merged.value, merged.note), (Value::Int(2), Some(Note::NoFunction)));
        // Without a conflict nobody is asked.
        assert!(!crate::merge_cell(rule, None, &Value::Int(1), &Value::Int(1)).is_refused());
    }

    #[test]
    fn names_are_words() {
        assert_eq!(CustomName::new("Pick_Best2").unwrap().as_str(), "pick_best2");
        assert!(CustomName::new(&"n".repeat(CUSTOM_NAME_MAX)).is_some());
        for name in ["", "2nd", "a b", "a:b", "\u{e9}", &"n".repeat(CUSTOM_NAME_MAX + 1)] {
            assert_eq!(CustomName::new(name), None, "{name}");
        }
    }
}
