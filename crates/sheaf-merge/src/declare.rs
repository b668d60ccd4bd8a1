//! How a schema declares rules: by a column's type name, or by a stored name.
//!
//! Invariant: a rule is never declared for a column whose affinity would rewrite its values.
//! SQLite derives the affinity from letters anywhere in the type name and turns text that looks
//! like a number into one unless they say TEXT or BLOB, so a name that leaves it to chance is
//! refused, with what to write in its place. Leaves out reading the schema.

use std::fmt;

use crate::{RowPolicy, Rule, list::Parents};

/// What SQLite does to values that are stored in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// Text that looks like a number becomes an integer or a real.
    Integer,
    /// Numbers become text.
    Text,
    /// Nothing.
    Blob,
    /// Numbers become reals.
    Real,
    /// As `Integer`.
    Numeric,
}

impl Affinity {
    /// The affinity of a declared type, by SQLite's five rules.
    #[must_use]
    pub fn of_type(decltype: &str) -> Self {
        let upper = decltype.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if upper.trim().is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        })
    }
}

/// What a row of the table of rules declares. Its text is what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// The rule of one column.
    Column(Rule),
    /// The rule `list`, for rows with equal values in these columns.
    List(Parents),
    /// What wins when one deletes a row of the table and another changes it.
    Rows(RowPolicy),
}

impl Declaration {
    /// The rule that a declared type names: one word (`COUNTER_INT`, `SET`) or several (`HTML
    /// TEXT`, `TEXT MERGED`). `None` for ordinary types.
    ///
    /// # Errors
    /// [`DeclareError`] if it names a rule, but the affinity is left to chance or unfit for the
    /// rule, or if it names two.
    pub fn of_type(decltype: &str) -> Result<Option<Rule>, DeclareError> {
        let mut rule: Option<Rule> = None;
        let mut wanted = None;
        let mut is_ended_wrongly = false;
        for word in words(decltype) {
            let (found, affinity) = match word.rsplit_once('_') {
                Some((name, affinity)) => match rule_word(name) {
                    Some(rule) => (Some(rule), affinity_word(affinity)),
                    None => continue,
                },
                None => (rule_word(word), affinity_word(word)),
            };
            is_ended_wrongly |= found.is_some() && word.contains('_') && affinity.is_none();
            if found.is_some() && rule.is_some() && found != rule {
                return Err(DeclareError::TwoRules(decltype.to_owned()));
            }
            rule = rule.or(found);
            wanted = wanted.or(affinity);
        }
        let Some(rule) = rule else { return Ok(None) };
        let affinity = Affinity::of_type(decltype);
        let is_meant = match wanted {
            Some(wanted) => wanted == affinity,
            // Numbers are numbers, and the text of an array or an object never looks like one.
            None => affinity == Affinity::Numeric && is_safe_alone(rule),
        };
        if is_meant && !is_ended_wrongly && fits(rule, affinity) {
            return Ok(Some(rule));
        }
        Err(unfit(rule, decltype))
    }

    /// What `sheaf_merge_rule(table, column, rule)` stores for a column of this declared type, or
    /// for the rows if the column is `*`.
    ///
    /// # Errors
    /// [`DeclareError`] if there is no such rule or policy, or the column's affinity is unfit.
    pub fn of_call(column: &str, decltype: &str, rule: &str) -> Result<Self, DeclareError> {
        let declaration = Self::of_stored(column, rule)?;
        match declaration.rule() {
            Some(rule) if !fits(rule, Affinity::of_type(decltype)) => Err(unfit(rule, decltype)),
            _ => Ok(declaration),
        }
    }

    /// Reads what is stored for a column, or for the rows if the column is `*`.
    ///
    /// # Errors
    /// [`DeclareError`] if there is no such rule or policy: a newer version may have stored it.
    pub fn of_stored(column: &str, rule: &str) -> Result<Self, DeclareError> {
        if column == "*" {
            let policy = RowPolicy::from_name(rule).map(Self::Rows);
            return policy.ok_or_else(|| DeclareError::UnknownPolicy(rule.to_owned()));
        }
        let found = Rule::from_name(rule).map(Self::Column);
        let found = found.or_else(|| Parents::of_rule(rule).map(Self::List));
        found.ok_or_else(|| DeclareError::UnknownRule(rule.to_owned()))
    }

    /// The rule of a column; `None` for a row policy.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::Column(rule) => Some(*rule),
            Self::List(_) => Some(Rule::List),
            Self::Rows(_) => None,
        }
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(rule) => write!(f, "{rule}"),
            Self::List(parents) => write!(f, "{parents}"),
            Self::Rows(policy) => write!(f, "{policy}"),
        }
    }
}

/// A declaration that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeclareError {
    /// No rule of this program has this name and version.
    UnknownRule(String),
    /// No row policy has this name.
    UnknownPolicy(String),
    /// A type that names more than one rule.
    TwoRules(String),
    /// The column's affinity would rewrite the rule's values, or what was meant is not clear.
    Affinity {
        /// The rule.
        rule: Rule,
        /// The declared type.
        decltype: String,
        /// What to declare in its place.
        write: String,
    },
}

impl fmt::Display for DeclareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRule(name) => {
                write!(f, "no merge rule is called `{name}`; there are ")?;
                Rule::ALL.iter().try_for_each(|rule| write!(f, "{rule}, "))?;
                f.write_str("list(COLUMN, ...), custom:NAME")
            }
            Self::UnknownPolicy(name) => {
                write!(f, "rows have `delete-wins` or `update-wins`, not `{name}`")
            }
            Self::TwoRules(decltype) => write!(f, "type `{decltype}` names two merge rules"),
            Self::Affinity { rule, decltype, write } => {
                let affinity = Affinity::of_type(decltype);
                write!(
                    f,
                    "merge rule {rule} does not go with type `{decltype}`, which has affinity \
                     {affinity}; declare the column {write}"
                )
            }
        }
    }
}

impl std::error::Error for DeclareError {}

fn unfit(rule: Rule, decltype: &str) -> DeclareError {
    let affinity = match rule {
        Rule::Counter | Rule::Max | Rule::Min => "INT",
        Rule::Mvr => "BLOB",
        _ => "TEXT",
    };
    let write = match rule {
        // The name of a function is not part of a type.
        Rule::Custom(_) => affinity.to_owned(),
        Rule::Text => format!("MERGE_{affinity}"),
        _ => format!("{}_{affinity}", rule.name().to_ascii_uppercase()),
    };
    DeclareError::Affinity { rule, decltype: decltype.to_owned(), write }
}

/// The words of a type, without lengths such as `(80)` and without quotes: SET is a word of SQL, and
/// SQLite keeps the quotes of a type of several words.
fn words(decltype: &str) -> impl Iterator<Item = &str> {
    let parts = decltype.split('(').enumerate();
    let outside = parts.map(|(i, part)| match part.split_once(')') {
        Some((_, rest)) if i > 0 => rest,
        _ if i > 0 => "",
        _ => part,
    });
    let words = outside.flat_map(str::split_whitespace);
    words.map(|word| word.trim_matches(['"', '\'', '`', '[', ']']))
}

/// The rule that a word in a type name means.
fn rule_word(word: &str) -> Option<Rule> {
    // The function and its name take `sheaf_merge_rule`; a version has no place in a type.
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphabetic());
    // TEXT alone is a type, not a wish to merge words.
    if ["MERGE", "MERGED"].iter().any(|merge| merge.eq_ignore_ascii_case(word)) {
        return Some(Rule::Text);
    }
    is_plain.then(|| Rule::from_name(word))?.filter(|rule| *rule != Rule::Text)
}

/// The affinity that a word in a type name is meant to give.
fn affinity_word(word: &str) -> Option<Affinity> {
    const WORDS: [(&[&str], Affinity); 5] = [
        (
            &["INT", "INTEGER", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "INT2", "INT8"],
            Affinity::Integer,
        ),
        (&["TEXT", "CLOB", "CHAR", "CHARACTER", "VARCHAR", "NCHAR", "NVARCHAR"], Affinity::Text),
        (&["BLOB"], Affinity::Blob),
        (&["REAL", "DOUBLE", "FLOAT"], Affinity::Real),
        // SQLite takes ANY for NUMERIC wherever a rule can be part of a type name.
        (&["NUMERIC", "NUM", "DECIMAL", "BOOLEAN", "DATE", "DATETIME", "ANY"], Affinity::Numeric),
    ];
    let is_word = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    WORDS.iter().find(|(words, _)| is_word(words)).map(|(_, affinity)| *affinity)
}

/// Whether the rule's values survive in a column of this affinity.
fn fits(rule: Rule, affinity: Affinity) -> bool {
    match rule {
        Rule::Counter => affinity != Affinity::Text,
        Rule::List | Rule::Text | Rule::Html => matches!(affinity, Affinity::Text | Affinity::Blob),
        Rule::Set | Rule::Json => !matches!(affinity, Affinity::Integer | Affinity::Real),
        Rule::Lww | Rule::Fww | Rule::Mvr | Rule::Keep | Rule::Max | Rule::Min => true,
        Rule::Custom(_) => true,
    }
}

/// Whether NUMERIC affinity, which a rule's bare name has, does its values no harm.
fn is_safe_alone(rule: Rule) -> bool {
    matches!(rule, Rule::Counter | Rule::Set | Rule::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_name_a_rule() {
        let check = |decltype, rule| assert_eq!(Declaration::of_type(decltype), Ok(Some(rule)));
        check("COUNTER_INT", Rule::Counter);
        check("counter_real", Rule::Counter);
        check("COUNTER", Rule::Counter);
        check("INTEGER COUNTER", Rule::Counter);
        check("COUNTER UNSIGNED BIGINT", Rule::Counter);
        check("COUNTER_ANY", Rule::Counter);
        check("FWW_TEXT", Rule::Fww);
        check("FWW_TEXT(80)", Rule::Fww);
        check("FWW VARCHAR (80) ", Rule::Fww);
        check("KEEP_INTEGER", Rule::Keep);
        check("KEEP DECIMAL(10, 2)", Rule::Keep);
        check("MAX_INT", Rule::Max);
        check("MIN_REAL", Rule::Min);
        check("MIN DOUBLE PRECISION", Rule::Min);
        check("LWW_BLOB", Rule::Lww);
        check("MVR_BLOB", Rule::Mvr);
        check("SET", Rule::Set);
        check("MERGE_TEXT", Rule::Text);
        check("TEXT MERGED", Rule::Text);
        check("HTML TEXT", Rule::Html);
        check("HTML_TEXT", Rule::Html);
        check("SET_TEXT", Rule::Set);
        check("TEXT \"SET\"", Rule::Set);
        check("TEXT [SET]", Rule::Set);
        check("MAP_TEXT", Rule::Json);
        check("json", Rule::Json);
        check("LIST_TEXT", Rule::List);
    }

    #[test]
    fn ordinary_types() {
        for decltype in [
            "",
            "INTEGER",
            "INT",
            "TEXT",
            "BLOB",
            "ANY",
            "DOUBLE PRECISION",
            "VARCHAR(255)",
            "DECIMAL(10,5)",
            "UNSIGNED BIG INT",
            "POINT",
            "CUSTOM_TEXT",
            "custom:best",
            "DATE_TIME",
            "LISTS_TEXT",
            "MY_MAX_INT",
            "COUNTER@1",
            "(",
            ")(",
            "VARCHAR(COUNTER)",
        ] {
            assert_eq!(Declaration::of_type(decltype), Ok(None), "{decltype}");
        }
    }

    #[test]
    fn an_affinity_left_to_chance_is_refused_with_what_to_write() {
        let check = |decltype: &str, write: &str| match Declaration::of_type(decltype) {
            Err(error @ DeclareError::Affinity { .. }) => {
                let text = error.to_string();
                assert!(text.ends_with(&format!("declare the column {write}")), "{text}");
                assert_eq!(Declaration::of_type(write).unwrap(), Some(rule_of(&error)));
            }
            other => panic!("{decltype}: {other:?}"),
        };
        check("MVR", "MVR_BLOB");
        check("MERGED", "MERGE_TEXT");
        check("MERGE_INT", "MERGE_TEXT");
        check("KEEP", "KEEP_TEXT");
        check("LIST", "LIST_TEXT");
        check("LIST_NUM", "LIST_TEXT");
        check("MAX_POINT", "MAX_INT");
        check("MIN_AGE", "MIN_INT");
        check("KEEP_PRICE DECIMAL", "KEEP_TEXT");
        // Letters that nobody meant: the POINT makes it an INTEGER, the CHARGE a text.
        check("SET POINT", "SET_TEXT");
        check("COUNTER CHARGE", "COUNTER_INT");
        check("KEEP_REAL POINT", "KEEP_TEXT");
        check("SET_INT", "SET_TEXT");
        check("COUNTER_TEXT", "COUNTER_INT");
        assert_eq!(
            Declaration::of_type("MVR").unwrap_err().to_string(),
            "merge rule mvr does not go with type `MVR`, which has affinity NUMERIC; \
             declare the column MVR_BLOB"
        );
    }

    fn rule_of(error: &DeclareError) -> Rule {
        match error {
            DeclareError::Affinity { rule, .. } => *rule,
            _ => panic!("{error}"),
        }
    }

    #[test]
    fn two_rules_are_one_too_many() {
        assert!(matches!(Declaration::of_type("SET LIST TEXT"), Err(DeclareError::TwoRules(_))));
        assert_eq!(Declaration::of_type("MAP JSON TEXT"), Ok(Some(Rule::Json)));
    }

    #[test]
    fn calls_store_names_and_check_affinities() {
        let check = |column, decltype, rule, expected: Result<&str, ()>| {
            let stored = Declaration::of_call(column, decltype, rule).map(|d| d.to_string());
            assert_eq!(stored.as_deref().map_err(|_| ()), expected, "{column} {decltype} {rule}");
        };
        check("votes", "INTEGER", "Counter", Ok("counter"));
        check("votes", "", "counter@1", Ok("counter"));
        check("votes", "INTEGER", "counter@2", Err(()));
        check("votes", "TEXT", "counter", Err(()));
        check("doc", "TEXT", "map", Ok("json"));
        check("doc", "INT", "json", Err(()));
        check("place", "NUMERIC", "list", Err(()));
        check("place", "NUMERIC", "list(a)", Err(()));
        check("place", "TEXT", "List(a,b)", Ok("list(a, b)"));
        check("place", "TEXT", "list()", Err(()));
        check("place", "TEXT", "set(a)", Err(()));
        check("title", "TEXT", "text", Ok("text"));
        check("title", "INT", "text", Err(()));
        check("price", "DECIMAL(8,2)", "mvr", Ok("mvr"));
        check("best", "ANY", "custom:Best", Ok("custom:best"));
        check("best", "ANY", "custom", Err(()));
        check("*", "", "delete wins", Ok("delete-wins"));
        check("*", "", "UPDATE_WINS", Ok("update-wins"));
        check("*", "", "counter", Err(()));
        check("votes", "INT", "update-wins", Err(()));
    }

    #[test]
    fn affinities_are_sqlites() {
        let check = |decltype, expected| assert_eq!(Affinity::of_type(decltype), expected);
        check("FLOATING POINT", Affinity::Integer);
        check("CHARINT", Affinity::Integer);
        check("STRING", Affinity::Numeric);
        check("nclob", Affinity::Text);
        check(" ", Affinity::Blob);
        check("BLOBREAL", Affinity::Blob);
        check("DOUBLE", Affinity::Real);
        check("ANY", Affinity::Numeric);
        check("HTML", Affinity::Numeric);
    }
}
