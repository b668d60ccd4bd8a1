//! JSON texts as trees.
//!
//! Invariant: trees are equal if and only if their texts mean the same: the order of members,
//! white space, escapes and the spelling of numbers do not count. What is written keeps the order
//! of members and the spelling of numbers. Depth and size are bounded before anything recurses.
//! Leaves out what has no one meaning: objects that repeat a key, lone surrogates, JSON5.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use super::number::Number;
use crate::limits::{JSON_BYTES_MAX, JSON_DEPTH_MAX, JSON_VALUES_MAX};

/// One JSON value. The order, by which sets are written, is that of the variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Self>),
    Object(Object),
}

/// The members of an object by key.
pub(crate) type Object = BTreeMap<String, Member>;

/// A member's value, and where among the members it stands, which does not count in comparisons.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) place: usize,
    pub(crate) value: Json,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Member {}

impl PartialOrd for Member {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Member {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

impl Json {
    /// Reads a text. `None` if it is no JSON, beyond a limit, or has no one meaning.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() > JSON_BYTES_MAX {
            return None;
        }
        let mut reader = Reader { rest: text, values_left: JSON_VALUES_MAX };
        let json = reader.value(0)?;
        reader.peek().is_none().then_some(json)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(f, text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    item.write(f)?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(_, member)| member.place);
                f.write_str("{")?;
                for (i, (key, member)) in members.into_iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    f.write_str(":")?;
                    member.value.write(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Writes without white space. Depth was bounded when the tree was read.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).expect("BUG: any text is a JSON string"))
}

/// Reads a text from front to back by RFC 8259. Not serde's reader, because that turns numbers
/// into floats, or, with a feature that would change every crate of the workspace, does not.
struct Reader<'a> {
    rest: &'a str,
    values_left: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Json> {
        self.values_left = self.values_left.checked_sub(1)?;
        match self.peek()? {
            '"' => self.text().map(Json::Text),
            '[' if depth < JSON_DEPTH_MAX => self.array(depth + 1),
            '{' if depth < JSON_DEPTH_MAX => self.object(depth + 1),
            '-' | '0'..='9' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                Number::read(self.word(is_part)?).map(Json::Number)
            }
            _ => match self.word(|c| c.is_ascii_alphanumeric())? {
                "null" => Some(Json::Null),
                "true" => Some(Json::Bool(true)),
                "false" => Some(Json::Bool(false)),
                _ => None,
            },
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        let mut items = Vec::new();
        let mut is_more = !self.opens('[', ']')?;
        while is_more {
            items.push(self.value(depth)?);
            is_more = self.goes_on(']')?;
        }
        Some(Json::Array(items))
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        let mut members = Object::new();
        let mut is_more = !self.opens('{', '}')?;
        while is_more {
            let place = members.len();
            self.peek().filter(|next| *next == '"')?;
            let key = self.text()?;
            self.take(':').then_some(())?;
            let value = self.value(depth)?;
            if members.insert(key, Member { place, value }).is_some() {
                return None;
            }
            is_more = self.goes_on('}')?;
        }
        Some(Json::Object(members))
    }

    /// Takes the opening bracket; whether the closing one follows at once.
    fn opens(&mut self, open: char, close: char) -> Option<bool> {
        self.take(open).then(|| self.take(close))
    }

    /// Takes what stands behind an item; whether another one follows.
    fn goes_on(&mut self, close: char) -> Option<bool> {
        if self.take(',') { Some(true) } else { self.take(close).then_some(false) }
    }

    /// A string, from its opening to its closing quote.
    fn text(&mut self) -> Option<String> {
        let mut is_escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })?;
        let (text, rest) = self.rest.split_at_checked(end + 2)?;
        self.rest = rest;
        serde_json::from_str(text).ok()
    }

    /// A number or a name.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> Option<&str> {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word)
    }

    fn take(&mut self, char: char) -> bool {
        let is_next = self.peek() == Some(char);
        if is_next {
            self.rest = self.rest.get(char.len_utf8()..).unwrap_or_default();
        }
        is_next
    }

    /// The next character that is no white space.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.chars().next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let read = Json::read(text);
        assert_eq!(read.map(|json| json.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn texts_are_written_without_space_and_with_all_digits() {
        check(
            " {\"b\" : [ 1.50, -0, 1E400 ],\n\"a\":{ } , \"c\":null}",
            Some("{\"b\":[1.50,-0,1E400],\"a\":{},\"c\":null}"),
        );
        check("123456789012345678901234567890.5", Some("123456789012345678901234567890.5"));
        check("\"\\u0041\\/\\n\\u0000\"", Some("\"A/\\n\\u0000\""));
        check("true", Some("true"));
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{a:1}",
            "'a'",
            "01",
            "+1",
            "NaN",
            "1 2",
            "{\"a\":1,\"\\u0061\":2}",
            "\"\\ud800\"",
            "{\"\\udc00\":1}",
            "[1e99999999999999999999]",
            "\u{feff}1",
            "\u{a0}1",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{1:1}",
            "[1 2]",
            "[1",
            "[,]",
            "\"\n\"",
            "\"\\\"",
            "nul",
            "nullx",
            "-",
            "1.",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(JSON_DEPTH_MAX), Some(&nested(JSON_DEPTH_MAX)));
        check(&nested(JSON_DEPTH_MAX + 1), None);
        check(&nested(JSON_BYTES_MAX / 2), None);
        check(&"[".repeat(JSON_BYTES_MAX), None);
        check(&"{\"a\":".repeat(JSON_BYTES_MAX / 5), None);
        let many = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(Json::read(&many(JSON_VALUES_MAX - 1)).is_some());
        assert!(Json::read(&many(JSON_VALUES_MAX)).is_none());
        assert!(Json::read(&format!("\"{}\"", "x".repeat(JSON_BYTES_MAX))).is_none());
    }

    proptest! {
        /// Another reader is the oracle. It takes repeated keys, and no numbers beyond floats.
        #[test]
        fn texts_are_json_where_serde_says_so(
            parts in prop::collection::vec(prop::sample::select(&[
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"\\n\"", "\"\\x\"", "\"", "\\",
                "1", "0", "-", ".5", "e", "E+2", "null", "true", "false", " ", "\n", "\u{b}",
            ][..]), 0..9),
            nested in 0..3_usize,
        ) {
            let text = ["[", "{\"c\":", ""][nested].to_owned() + &parts.concat() + ["]", "}", ""][nested];
            let ours = Json::read(&text).map(|json| json.to_string());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let has_same_keys = ["\"a\"", "\"b\""].iter().any(|key| text.matches(key).count() > 1);
            match (&ours, &theirs) {
                (None, Ok(_)) => prop_assert!(has_same_keys, "{}", text),
                (Some(_), Err(error)) => prop_assert!(error.to_string().contains("range"), "{}", text),
                (Some(ours), Ok(theirs)) => {
                    let again: serde_json::Value = serde_json::from_str(ours).unwrap();
                    prop_assert_eq!(&again, theirs);
                }
                (None, Err(_)) => {}
            }
        }
    }

    #[test]
    fn equality_is_by_meaning() {
        let same = |a, b| assert_eq!(Json::read(a), Json::read(b), "{a} {b}");
        same("{\"a\":1,\"b\":[2.0]}", "{ \"b\":[2], \"\\u0061\":1.0 }");
        assert_ne!(Json::read("9007199254740992"), Json::read("9007199254740993"));
        assert_ne!(Json::read("[1,2]"), Json::read("[2,1]"));
        assert_ne!(Json::read("1"), Json::read("\"1\""));
    }
}
