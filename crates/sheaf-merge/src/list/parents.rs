//! Which columns divide the rows of a table into lists.
//!
//! ```text
//! list(column, "another column")
//! ```
//!
//! Invariant: reading what was written gives the same columns; none is named twice, in any case.
//! Leaves out whether the table has them.

use std::fmt;

use crate::{Rule, limits::LIST_PARENTS_MAX};

/// The columns whose values rows of one list have in common, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parents(Vec<String>);

impl Parents {
    /// These columns; `None` if there is none, one is there twice or without a name, or there are
    /// more than 16.
    #[must_use]
    pub fn new(columns: Vec<String>) -> Option<Self> {
        let is_new = |(at, column): (usize, &String)| {
            let mut before = columns.iter().take(at);
            !column.is_empty() && !before.any(|known| known.eq_ignore_ascii_case(column))
        };
        let is_good = !columns.is_empty()
            && columns.len() <= LIST_PARENTS_MAX
            && columns.iter().enumerate().all(is_new);
        is_good.then_some(Self(columns))
    }

    /// Reads the name of a rule with columns, `list(a, b)`; `None` if it is none.
    #[must_use]
    pub fn of_rule(rule: &str) -> Option<Self> {
        let (name, rest) = rule.trim().split_once('(')?;
        if Rule::from_name(name) != Some(Rule::List) {
            return None;
        }
        let mut rest = rest.strip_suffix(')')?;
        let mut columns = Vec::new();
        while columns.len() <= LIST_PARENTS_MAX {
            let (column, behind) = column(rest)?;
            columns.push(column);
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None if behind.is_empty() => return Self::new(columns),
                None => return None,
            }
        }
        None
    }

    /// The columns, in the order in which they were declared.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Parents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("list(")?;
        for (at, column) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            if is_plain(column) {
                write!(f, "{comma}{column}")?;
            } else {
                write!(f, "{comma}\"{}\"", column.replace('"', "\"\""))?;
            }
        }
        f.write_str(")")
    }
}

/// Whether a name needs no quotes.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.bytes().next().is_none_or(|first| first.is_ascii_digit())
}

/// The first name of several, quoted or not, and what stands behind it.
fn column(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(mut rest) = text.strip_prefix('"') else {
        let (name, _) = text.split_once(',').unwrap_or((text, ""));
        let behind = text.get(name.len()..)?;
        let name = name.trim_end();
        return is_plain(name).then(|| (name.to_owned(), behind));
    };
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind.trim_start())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, stored) in [
            ("list(a)", "list(a)"),
            (" LIST@1( a,B_2 ) ", "list(a, B_2)"),
            (r#"list("a b","c""d" , e)"#, r#"list("a b", "c""d", e)"#),
            (r#"list("(,)")"#, r#"list("(,)")"#),
            ("list(\"\u{e9}\")", "list(\"\u{e9}\")"),
        ] {
            let parents = Parents::of_rule(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parents.to_string(), stored);
            assert_eq!(Parents::of_rule(stored), Some(parents));
        }
    }

    #[test]
    fn other_texts_are_no_parents() {
        let many =
            format!("list({})", (0..17).map(|i| format!("c{i}")).collect::<Vec<_>>().join(","));
        for text in [
            "list",
            "list(",
            "list()",
            "list(a",
            "list(a,)",
            "list(,a)",
            "list(a b)",
            "list(a)b",
            "list(a, A)",
            "list(\"a)",
            "list(\"\")",
            "list(\"a\"b)",
            "list@2(a)",
            "lww(a)",
            "(a)",
            "list(1)",
            &many,
        ] {
            assert_eq!(Parents::of_rule(text), None, "{text}");
        }
    }
}
