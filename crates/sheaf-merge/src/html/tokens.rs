//! The tokens of a document: tags and text.
//!
//! Source: the tokenizer of the HTML standard, as far as a stored document needs it. Character
//! references are those of `html5gum`; its tokenizer as a whole calls itself once for every quoted
//! attribute of a tag, and many of them end the stack. Invariant: total, linear, no recursion.
//! Leaves out comments and declarations, the escapes inside scripts, and what is wrong with a text.

use std::borrow::Cow;

use html5gum::{Token as Gum, Tokenizer};

use super::{
    attrs::Attrs,
    tags::{self, Kind},
};

/// One token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A start tag, its name in lower case, its id and its other attributes.
    Start(Cow<'a, str>, Option<String>, Attrs),
    /// An end tag.
    End(Cow<'a, str>),
    /// Text, with references resolved.
    Text(String),
}

/// Reads tokens.
pub(super) struct Tokens<'a> {
    rest: &'a str,
    /// The element whose content comes as it is written.
    raw: Option<String>,
}

/// Text as it is kept: line ends are line feeds, and there is no NUL.
pub(super) fn normal(text: &str) -> Cow<'_, str> {
    // Looking for one byte is several times faster than looking for one of two.
    if text.as_bytes().contains(&b'\r') || text.as_bytes().contains(&b'\0') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', ""))
    } else {
        Cow::Borrowed(text)
    }
}

impl<'a> Tokens<'a> {
    /// Reads a text that [`normal`] returned.
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, raw: None }
    }

    /// Takes what comes before the first sign that is wanted, which stays.
    fn take_until(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(wanted).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Takes what comes before the next tag.
    fn take_text(&mut self) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find('<').unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Leaves out what comes up to the first `>` before which `ends` is true, and it.
    fn skip_past(&mut self, ends: impl Fn(&str) -> bool) {
        let rest = self.rest;
        let found = rest.match_indices('>').find(|&(at, _)| rest.get(..at).is_some_and(&ends));
        self.rest = found.and_then(|(at, _)| rest.get(at + 1..)).unwrap_or_default();
    }

    /// The content of an element that holds no tags, up to its end tag.
    fn raw_text(&mut self, name: &str) -> Option<Token<'a>> {
        let ends = |at: usize| {
            let tail = self.rest.get(at + 2..)?;
            let (tag, behind) = tail.split_at_checked(name.len())?;
            let ended =
                behind.chars().next().is_none_or(|char| is_space(char) || "/>".contains(char));
            (tag.eq_ignore_ascii_case(name) && ended && name != "plaintext").then_some(at)
        };
        let end = self.rest.match_indices("</").find_map(|(at, _)| ends(at));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let gone = tags::kind(name) == Kind::Gone || name == "iframe" || text.is_empty();
        let text = if name == "textarea" { resolve(text) } else { text.to_owned() };
        (!gone).then_some(Token::Text(text))
    }

    /// What begins with `<`; `None` if it is no token.
    fn markup(&mut self) -> Option<Token<'a>> {
        if self.eat("<!--") {
            if !(self.eat(">") || self.eat("->")) {
                self.skip_past(|text| text.ends_with("--") || text.ends_with("--!"));
            }
            return None;
        }
        let mut after = self.rest.chars().skip(1);
        match (after.next(), after.next()) {
            (Some(first), _) if first.is_ascii_alphabetic() => self.tag(1),
            (Some('/'), Some(first)) if first.is_ascii_alphabetic() => self.tag(2),
            (Some('!' | '?'), _) | (Some('/'), Some(_)) => {
                self.skip_past(|_| true);
                None
            }
            _ => {
                self.eat("<");
                let text = self.take_text();
                Some(Token::Text(format!("<{}", resolve(text))))
            }
        }
    }

    /// A tag behind as many signs; one that does not end is none.
    fn tag(&mut self, skip: usize) -> Option<Token<'a>> {
        self.rest = self.rest.get(skip..).unwrap_or_default();
        let ends = |char| is_space(char) || matches!(char, '/' | '>');
        let name = lower(self.take_until(ends));
        let (mut id, mut attrs) = (None, Attrs::new());
        loop {
            self.take_until(|char| !is_space(char) && char != '/');
            if self.eat(">") {
                break;
            }
            let (name, value) = self.attribute()?;
            if name == "id" {
                id.get_or_insert_with(|| resolve_value(value));
            } else if tags::is_attribute(&name) {
                attrs.entry(name.into_owned()).or_insert_with(|| resolve_value(value));
            }
        }
        if skip == 2 {
            return Some(Token::End(name));
        }
        self.raw = is_raw(&name).then(|| name.clone().into_owned());
        Some(Token::Start(name, id, attrs))
    }

    /// `None` at the end of the text.
    fn attribute(&mut self) -> Option<(Cow<'a, str>, &'a str)> {
        let ends = |char| is_space(char) || matches!(char, '/' | '>' | '=');
        let start = self.rest;
        // A name may begin with the sign that would end it.
        self.eat("=");
        self.take_until(ends);
        let name = lower(start.get(..start.len() - self.rest.len())?);
        self.take_until(|char| !is_space(char));
        if self.rest.is_empty() {
            return None;
        }
        if !self.eat("=") {
            return Some((name, ""));
        }
        self.take_until(|char| !is_space(char));
        for quote in ["\"", "'"] {
            if self.eat(quote) {
                let (value, rest) = self.rest.split_once(quote).unwrap_or_default();
                // Without a closing quote the tag has no end.
                self.rest = rest;
                return Some((name, value));
            }
        }
        Some((name, self.take_until(|char| is_space(char) || char == '>')))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let token = if let Some(name) = self.raw.take() {
                self.raw_text(&name)
            } else if self.rest.is_empty() {
                return None;
            } else if self.rest.starts_with('<') {
                self.markup()
            } else {
                Some(Token::Text(resolve(self.take_text())))
            };
            if token.is_some() {
                return token;
            }
        }
    }
}

/// A name in lower case, as nearly all are written.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn is_space(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\x0c' | ' ')
}

fn is_raw(name: &str) -> bool {
    tags::kind(name) == Kind::Gone || matches!(name, "iframe" | "plaintext" | "textarea" | "xmp")
}

/// Text with its character references resolved.
fn resolve(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let text = text.replace('<', "&lt;");
    let strings = Tokenizer::new(&text).filter_map(|token| match token {
        Ok(Gum::String(string)) => Some(string.value.0),
        _ => None,
    });
    let bytes = strings.collect::<Vec<_>>().concat();
    normal(&String::from_utf8_lossy(&bytes)).into_owned()
}

/// The value of an attribute, in which fewer references count.
fn resolve_value(value: &str) -> String {
    if !value.contains('&') {
        return value.to_owned();
    }
    let tag = format!("<a a=\"{}\">", value.replace('"', "&quot;"));
    let value = Tokenizer::new(&tag).find_map(|token| match token {
        Ok(Gum::StartTag(tag)) => tag.attributes.into_values().next(),
        _ => None,
    });
    let bytes = value.map(|value| value.value.0).unwrap_or_default();
    normal(&String::from_utf8_lossy(&bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let parts = Tokens::new(text).map(|token| match token {
            Token::Start(name, None, attrs) => format!("[{name} {attrs:?}]"),
            Token::Start(name, Some(id), attrs) => format!("[{name}#{id} {attrs:?}]"),
            Token::End(name) => format!("[/{name}]"),
            Token::Text(text) => text,
        });
        parts.collect()
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        for (text, expected) in [
            ("a<B>c</b >d", "a[b {}]c[/b]d"),
            (
                "<p A=1 b='2' c=\"3\" a=4 d/>",
                "[p {\"a\": \"1\", \"b\": \"2\", \"c\": \"3\", \"d\": \"\"}]",
            ),
            ("<p ID=1 b id='2'>", "[p#1 {\"b\": \"\"}]"),
            ("<a b=c/d e>", "[a {\"b\": \"c/d\", \"e\": \"\"}]"),
            ("1 < 2 && 3 <4 </ 5", "1 < 2 && 3 <4 "),
            ("a<!-- <b> --!>b<!-->c<!--->d<!x>e<?y>f</ z>g</>h", "abcdefgh"),
            ("&amp;lt; &notit; &#65;&#x42 &#0;&nope;", "&lt; \u{ac}it; AB \u{fffd}&nope;"),
            ("<a b='&copy=1&copy;\"'>", "[a {\"b\": \"&copy=1\u{a9}\\\"\"}]"),
            ("<script>a<b></c></scripts></SCRIPT >d", "[script {}][/script]d"),
            (
                "<textarea>a<b>&lt;</textarea>c",
                "[textarea {}]a<b>&lt;[/textarea]c".replace("&lt;", "<").as_str(),
            ),
            ("x<p a=\"y>z", "x"),
            ("x<p a=1 b", "x"),
            ("x<p", "x"),
            ("x</", "x</"),
            ("x<!--y", "x"),
            ("<plaintext>a</plaintext>", "[plaintext {}]a</plaintext>"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
