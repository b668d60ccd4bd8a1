//! Just enough reading of SQL text: where statements end, and what their words are.
//!
//! Invariant: quotes and comments are skipped exactly as SQLite's own tokenizer does, so a word
//! inside a string is never taken for a keyword nor a semicolon inside one for an end. Leaves
//! out grammar.

/// One token of SQL text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// Its text, quotes included.
    pub(crate) text: &'a str,
    /// Where it starts.
    pub(crate) at: usize,
}

impl Token<'_> {
    pub(crate) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    /// The name it stands for, without its quotes.
    pub(crate) fn name(&self) -> String {
        let inner = |close: char| {
            let inner = self.text.get(1..self.text.len().saturating_sub(1)).unwrap_or_default();
            inner.replace(&format!("{close}{close}"), &close.to_string())
        };
        match self.text.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => inner(quote),
            Some('[') => inner(']'),
            _ => self.text.to_owned(),
        }
    }
}

/// The tokens of a text; white space and comments are left out.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let (len, is_token) = token(rest);
        if is_token {
            tokens.push(Token { text: rest.get(..len).unwrap_or(rest), at });
        }
        at += len;
    }
    tokens
}

/// The length of what the text starts with, and whether it is a token.
fn token(rest: &str) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let until = |end: &str, from: usize| {
        rest.get(from..).and_then(|r| r.find(end)).map_or(rest.len(), |i| from + i + end.len())
    };
    let Some(first) = rest.chars().next() else {
        return (0, false);
    };
    match first {
        c if c.is_ascii_whitespace() || c == '\x0b' => (1, false),
        // A byte order mark is white space where a token would begin, and part of one elsewhere.
        '\u{feff}' => (first.len_utf8(), false),
        '-' if bytes.starts_with(b"--") => (until("\n", 2), false),
        '/' if bytes.starts_with(b"/*") => (until("*/", 2), false),
        quote @ ('"' | '\'' | '`') => (quoted(rest, quote), true),
        '[' => (until("]", 1), true),
        c if is_word(c) => (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true),
        c => (c.len_utf8(), true),
    }
}

/// As SQLite has it: letters, digits, underscore, dollar and everything beyond ASCII.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            continue;
        }
        if chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    rest.len()
}

/// The statements of a script without triggers, empty ones left out.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = None;
    for token in tokens(sql) {
        if token.text == ";" {
            if let Some(from) = start.take() {
                statements.extend(sql.get(from..token.at));
            }
        } else if start.is_none() {
            start = Some(token.at);
        }
    }
    if let Some(from) = start {
        statements.extend(sql.get(from..));
    }
    statements
}

/// The text with its white space, comments and final semicolon normalised: two texts that SQLite
/// reads as the same tokens come out equal.
pub(crate) fn normalise(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut tokens = tokens(sql);
    while tokens.last().is_some_and(|token| token.text == ";") {
        tokens.pop();
    }
    for token in tokens {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(token.text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_quotes() {
        let sql = "INSERT INTO a VALUES(';''', \";\") ; -- one; two\n;/* ; */UPDATE [a;] SET x=`;`";
        let expected = ["INSERT INTO a VALUES(';''', \";\") ", "UPDATE [a;] SET x=`;`"];
        assert_eq!(statements(sql), expected);
        assert!(statements(" ; -- nothing").is_empty());
        assert_eq!(statements("SELECT 'open"), ["SELECT 'open"]);
    }

    #[test]
    fn names_lose_their_quotes() {
        let names: Vec<String> =
            tokens("a \"b\"\"c\" [d e] `f` 'g'").iter().map(Token::name).collect();
        assert_eq!(names, ["a", "b\"c", "d e", "f", "g"]);
    }

    #[test]
    fn layout_does_not_matter() {
        let same = |a, b| assert_eq!(normalise(a), normalise(b));
        same("CREATE TABLE x(a,b);", "CREATE  TABLE x ( a , -- first\n b )");
        assert_ne!(normalise("x 'a  b'"), normalise("x 'a b'"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_covered(sql in ".{0,60}") {
            for token in tokens(&sql) {
                assert_eq!(sql.get(token.at..token.at + token.text.len()), Some(token.text));
                drop(token.name());
            }
            drop((statements(&sql), normalise(&sql)));
        }
    }
}
