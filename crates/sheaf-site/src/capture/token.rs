//! A lexer for as much SQL as capture must understand: words, quoted names, punctuation.
//!
//! Invariant: comments and white space yield nothing; any text is consumed without a panic.
//! Leaves out numbers and operators as such: they come out as words or single punctuation.

/// One lexical element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A bare word: a keyword, a name or a number.
    Word(&'a str),
    /// Something in quotes or brackets, without them.
    Quoted(String),
    /// Any other byte.
    Punct(u8),
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// What it names, if it can be a name.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            Token::Quoted(name) => Some(name),
            Token::Punct(_) => None,
        }
    }
}

/// The elements of a statement, in order.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// The next element without taking it.
    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        self.clone().next()
    }

    /// Takes the next element if it is this keyword.
    pub(crate) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(keyword));
        if found {
            self.next();
        }
        found
    }

    /// Takes the next element if it is this byte.
    pub(crate) fn eat_punct(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(Token::Punct(byte));
        if found {
            self.next();
        }
        found
    }

    /// Takes a name.
    pub(crate) fn name(&mut self) -> Option<String> {
        self.next().and_then(|token| token.name().map(str::to_owned))
    }

    /// Takes `name` or `schema.name`.
    pub(crate) fn qualified(&mut self) -> Option<(Option<String>, String)> {
        let first = self.name()?;
        if self.eat_punct(b'.') {
            return Some((Some(first), self.name()?));
        }
        Some((None, first))
    }

    /// What is left, from the next element on.
    pub(crate) fn rest(&mut self) -> &'a str {
        self.skip_blank();
        self.sql.get(self.at..).unwrap_or("")
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) {
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                // A byte order mark, as some editors put it in front of a file.
                (Some(0xef), Some(0xbb)) if self.byte(2) == Some(0xbf) => self.at += 3,
                (Some(b'-'), Some(b'-')) => self.skip_past(2, "\n"),
                (Some(b'/'), Some(b'*')) => self.skip_past(2, "*/"),
                _ => return,
            }
        }
    }

    fn skip_past(&mut self, from: usize, end: &str) {
        let body = self.sql.get(self.at + from..).unwrap_or("");
        self.at = match body.find(end) {
            Some(found) => self.at + from + found + end.len(),
            None => self.sql.len(),
        };
    }

    fn quoted(&mut self, close: u8) -> Token<'a> {
        let mut text = Vec::new();
        self.at += 1;
        while let Some(byte) = self.byte(0) {
            self.at += 1;
            if byte == close {
                // A doubled quote stands for itself; brackets know no such escape.
                if close == b']' || self.byte(0) != Some(close) {
                    break;
                }
                self.at += 1;
            }
            text.push(byte);
        }
        Token::Quoted(String::from_utf8_lossy(&text).into_owned())
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.byte(0)?;
        match first {
            b'"' | b'\'' | b'`' => return Some(self.quoted(first)),
            b'[' => return Some(self.quoted(b']')),
            _ => {}
        }
        let start = self.at;
        while self.byte(0).is_some_and(is_word) {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
            return Some(Token::Punct(first));
        }
        self.sql.get(start..self.at).map(Token::Word)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_dots() {
        let sql = "-- x\n/* y */ ALTER table [a b].\"c\"\"d\" RENAME/**/TO `e`;'f''g'";
        let tokens: Vec<_> = Tokens::new(sql).collect();
        let quoted = |name: &str| Token::Quoted(name.to_owned());
        assert_eq!(
            tokens,
            vec![
                Token::Word("ALTER"),
                Token::Word("table"),
                quoted("a b"),
                Token::Punct(b'.'),
                quoted("c\"d"),
                Token::Word("RENAME"),
                Token::Word("TO"),
                quoted("e"),
                Token::Punct(b';'),
                quoted("f'g"),
            ]
        );
    }

    #[test]
    fn unfinished_text_ends_quietly() {
        for sql in ["", "--", "/*", "/* *", "'a", "[", "\"", "\u{e9}"] {
            assert!(Tokens::new(sql).count() <= 1, "{sql}");
        }
    }
}
