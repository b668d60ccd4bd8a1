//! The names and numbers of the column rules.
//!
//! Invariant: a rule is identified by name and version. A stored name means version 1, and one
//! with another version is not understood, never taken for this one; what a rule does to values
//! changes only with its version. Leaves out how a column declares its rule: see `declare`.

use std::{fmt, str::FromStr};

use crate::{CustomName, Declaration};

/// How concurrent changes of one column are resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Last writer in log order wins.
    #[default]
    Lww,
    /// Changes are added up.
    Counter,
    /// The first committed claim stands.
    Fww,
    /// A concurrent change refuses the mutation.
    Keep,
    /// The larger value wins.
    Max,
    /// The smaller value wins.
    Min,
    /// All concurrent values are kept until somebody resolves them.
    Mvr,
    /// Words are merged one by one.
    Text,
    /// Blocks by their ids, words inside them: a document in HTML.
    Html,
    /// Members are added and removed one by one: a JSON array without order.
    Set,
    /// Members are merged one by one: a JSON object.
    Json,
    /// The column says where rows stand in an order that people change.
    List,
    /// A function of the host decides.
    Custom(CustomName),
}

impl Rule {
    /// The version of every rule of this program.
    pub const VERSION: u8 = 1;

    /// Every rule but the custom ones.
    pub const ALL: [Self; 12] = [
        Self::Lww,
        Self::Counter,
        Self::Fww,
        Self::Keep,
        Self::Max,
        Self::Min,
        Self::Mvr,
        Self::Text,
        Self::Html,
        Self::Set,
        Self::Json,
        Self::List,
    ];

    /// The rule's name, without that of a custom rule's function.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lww => "lww",
            Self::Counter => "counter",
            Self::Fww => "fww",
            Self::Keep => "keep",
            Self::Max => "max",
            Self::Min => "min",
            Self::Mvr => "mvr",
            Self::Text => "text",
            Self::Html => "html",
            Self::Set => "set",
            Self::Json => "json",
            Self::List => "list",
            Self::Custom(_) => "custom",
        }
    }

    /// The rule's number in stored forms.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Lww => 0,
            Self::Fww => 1,
            Self::Mvr => 2,
            Self::Counter => 3,
            Self::Max => 4,
            Self::Set => 5,
            Self::Text => 6,
            Self::Html => 7,
            Self::Json => 8,
            Self::List => 9,
            Self::Keep => 10,
            Self::Min => 11,
            Self::Custom(_) => 12,
        }
    }

    /// The rule with this number; `None` for a custom rule, which a number does not name.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }

    /// The rule with this name in any case, if there is one: `counter`, `json` (also `map`),
    /// `custom:best`, each also with its version as in `counter@1`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name.trim().split_once('@') {
            Some((name, version)) if version.parse() == Ok(Self::VERSION) => name,
            Some(_) => return None,
            None => name.trim(),
        };
        match name.split_once(':') {
            Some((kind, function)) if kind.eq_ignore_ascii_case("custom") => {
                CustomName::new(function).map(Self::Custom)
            }
            Some(_) => None,
            None if name.eq_ignore_ascii_case("map") => Some(Self::Json),
            None => Self::ALL.into_iter().find(|rule| rule.name().eq_ignore_ascii_case(name)),
        }
    }

    /// The rule a declared column type names, as `COUNTER_INT` does; `None` for ordinary types,
    /// and for those that [`Declaration::of_type`] refuses.
    #[must_use]
    pub fn from_decltype(decltype: &str) -> Option<Self> {
        Declaration::of_type(decltype).ok().flatten()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(name) => write!(f, "custom:{name}"),
            _ => f.write_str(self.name()),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::from_name(name).ok_or_else(|| format!("no merge rule is called `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
            assert_eq!(Rule::from_name(&rule.name().to_uppercase()), Some(rule));
            assert_eq!(Rule::from_name(&format!("{rule}@1")), Some(rule));
            assert_eq!(Rule::from_id(rule.id()), Some(rule));
        }
        let custom: Rule = "Custom:Best".parse().unwrap();
        assert_eq!(custom.to_string(), "custom:best");
        assert_eq!(custom.to_string().parse(), Ok(custom));
        assert_eq!(Rule::from_id(custom.id()), None);
        assert_eq!(Rule::from_name("map"), Some(Rule::Json));
    }

    #[test]
    fn other_names_are_not_taken_for_a_rule() {
        for name in ["", "crdt", "counter@2", "counter@", "@1", "custom", "custom:", "counter:x"] {
            assert!(name.parse::<Rule>().is_err(), "{name}");
        }
    }
}
