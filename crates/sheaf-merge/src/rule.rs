//! The names of the column rules, and how a column declares one.
//!
//! Invariant: a declared type name that carries a rule keeps the affinity its author expects
//! (`COUNTER_INT`, `FWW_TEXT`): the rule is the part before the last underscore, the part after
//! it is a plain affinity word. Leaves out `text`, `html`, `set`, `map`, `list` and `mvr`.

use std::{fmt, str::FromStr};

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
}

impl Rule {
    const ALL: [Self; 6] = [Self::Lww, Self::Counter, Self::Fww, Self::Keep, Self::Max, Self::Min];

    /// The rule's name, as written in `sheaf_merge_rule`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lww => "lww",
            Self::Counter => "counter",
            Self::Fww => "fww",
            Self::Keep => "keep",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// The rule with this name in any case, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name().eq_ignore_ascii_case(name))
    }

    /// The rule a declared column type names, as `COUNTER_INT` does; `None` for ordinary types.
    #[must_use]
    pub fn from_decltype(decltype: &str) -> Option<Self> {
        const AFFINITY: [&str; 9] =
            ["INT", "INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC", "NUM", "DOUBLE", "ANY"];
        // `FWW_TEXT(80)` and `FWW_TEXT NOT NULL`-like tails do not change the rule.
        let word = decltype.trim().split(['(', ' ']).next()?;
        let (name, affinity) = word.rsplit_once('_')?;
        AFFINITY.iter().any(|a| a.eq_ignore_ascii_case(affinity)).then(|| Self::from_name(name))?
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
    fn names_round_trip() {
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
            assert_eq!(Rule::from_name(&rule.name().to_uppercase()), Some(rule));
        }
        assert!("crdt".parse::<Rule>().is_err());
    }

    #[test]
    fn declared_types() {
        let check = |decltype, expected| assert_eq!(Rule::from_decltype(decltype), expected);
        check("COUNTER_INT", Some(Rule::Counter));
        check("counter_real", Some(Rule::Counter));
        check("FWW_TEXT", Some(Rule::Fww));
        check("FWW_TEXT(80)", Some(Rule::Fww));
        check("KEEP_INTEGER", Some(Rule::Keep));
        check("MAX_INT", Some(Rule::Max));
        check("MIN_REAL", Some(Rule::Min));
        check("LWW_BLOB", Some(Rule::Lww));
        check("INTEGER", None);
        check("COUNTER", None);
        check("MAX_POINT", None);
        check("", None);
    }
}
