//! Whether a text holds whole statements, or the next line belongs to it.
//!
//! Invariant: the answers are those of `sqlite3_complete()`: a semicolon ends a statement unless it
//! is in a string, a name, a comment, or the body of a trigger. It looks at no grammar beyond that,
//! and errors are left to the parser.

use std::{iter::Peekable, str::Chars};

/// Whether `sql` ends with the end of a statement.
pub(super) fn is_complete(sql: &str) -> bool {
    let mut state = State::Nothing;
    let mut rest = sql.chars().peekable();
    while let Some(first) = rest.next() {
        match token(first, &mut rest) {
            Some(token) => state = state.after(token),
            None => return false,
        }
    }
    state == State::Ended
}

/// Whether `sql` holds nothing but white space and comments.
pub(super) fn is_blank(sql: &str) -> bool {
    let mut rest = sql.chars().peekable();
    while let Some(first) = rest.next() {
        match token(first, &mut rest) {
            Some(Token::Space) => {}
            Some(_) => return false,
            // A comment without an end is still a comment; a string is not.
            None => return first == '/',
        }
    }
    true
}

/// What matters of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Semicolon,
    Space,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
    Other,
}

/// Where in a statement we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before any statement.
    Nothing,
    /// After the end of one.
    Ended,
    /// In a statement that the next semicolon ends.
    Plain,
    /// After a leading EXPLAIN.
    Explain,
    /// After a leading CREATE, perhaps TEMP.
    Create,
    /// In a CREATE TRIGGER.
    Trigger,
    /// After a semicolon in a trigger.
    TriggerStep,
    /// After `; END` in a trigger: the next semicolon ends it.
    TriggerEnd,
}

impl State {
    fn after(self, token: Token) -> Self {
        if token == Token::Space {
            return self;
        }
        match self {
            Self::Nothing | Self::Ended => match token {
                Token::Semicolon => Self::Ended,
                Token::Explain => Self::Explain,
                Token::Create => Self::Create,
                _ => Self::Plain,
            },
            Self::Explain => match token {
                Token::Semicolon => Self::Ended,
                Token::Create => Self::Create,
                // As in EXPLAIN QUERY PLAN CREATE ...: two more words may follow.
                Token::Other => Self::Explain,
                _ => Self::Plain,
            },
            Self::Create => match token {
                Token::Semicolon => Self::Ended,
                Token::Temp => Self::Create,
                Token::Trigger => Self::Trigger,
                _ => Self::Plain,
            },
            Self::Plain if token == Token::Semicolon => Self::Ended,
            Self::Plain => Self::Plain,
            Self::TriggerEnd if token == Token::Semicolon => Self::Ended,
            Self::TriggerStep if token == Token::End => Self::TriggerEnd,
            Self::Trigger | Self::TriggerStep | Self::TriggerEnd => {
                if token == Token::Semicolon {
                    Self::TriggerStep
                } else {
                    Self::Trigger
                }
            }
        }
    }
}

/// Reads the rest of a token; `None` if the text ends inside of it.
fn token(first: char, rest: &mut Peekable<Chars<'_>>) -> Option<Token> {
    match first {
        ';' => Some(Token::Semicolon),
        ' ' | '\t' | '\n' | '\r' | '\u{c}' => Some(Token::Space),
        '\'' | '"' | '`' => rest.any(|c| c == first).then_some(Token::Other),
        '[' => rest.any(|c| c == ']').then_some(Token::Other),
        '-' if rest.next_if_eq(&'-').is_some() => {
            // The end of the text ends this comment as well.
            rest.any(|c| c == '\n');
            Some(Token::Space)
        }
        '/' if rest.next_if_eq(&'*').is_some() => block_comment(rest),
        c if is_word(c) => Some(word(c, rest)),
        _ => Some(Token::Other),
    }
}

fn block_comment(rest: &mut Peekable<Chars<'_>>) -> Option<Token> {
    while rest.any(|c| c == '*') {
        while rest.next_if_eq(&'*').is_some() {}
        if rest.next_if_eq(&'/').is_some() {
            return Some(Token::Space);
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn word(first: char, rest: &mut Peekable<Chars<'_>>) -> Token {
    let mut word = String::from(first.to_ascii_lowercase());
    while let Some(c) = rest.next_if(|c| is_word(*c)) {
        word.push(c.to_ascii_lowercase());
    }
    match word.as_str() {
        "explain" => Token::Explain,
        "create" => Token::Create,
        "temp" | "temporary" => Token::Temp,
        "trigger" => Token::Trigger,
        "end" => Token::End,
        _ => Token::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_ends_a_statement() {
        for sql in [
            "select 1;",
            ";",
            "select 1; -- note",
            "select 1; /* note */ ",
            "select ';'; ",
            "select \"a;\", [b;], `c;`;",
            "select 'it''s';",
            "create table trigger_x(a);",
            "explain select 1;",
            "create temp trigger t after insert on x begin select 1; end;",
            "CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT 1; SELECT 'end'; END ;",
            "explain query plan create trigger t begin select 1; end;",
            "create temporary table t(a); select 1;",
            "select 1; /* a ** b */",
        ] {
            assert!(is_complete(sql), "{sql}");
        }
    }

    #[test]
    fn anything_else_goes_on() {
        for sql in [
            "",
            "  \n",
            "-- note;",
            "select 1",
            "select 1 -- ;",
            "select 1 /* ; ",
            "select 'a;",
            "select 1; select 2",
            "create trigger t after insert on x begin select 1;",
            "create trigger t after insert on x begin select 1; end",
            "create trigger t after insert on x begin select 1; end x;",
            "create trigger t after insert on x begin select 1; select end;",
        ] {
            assert!(!is_complete(sql), "{sql}");
        }
    }

    #[test]
    fn comments_are_blank() {
        for sql in ["", " \t\n", "-- x", "/* x */ -- y\n", "/* open"] {
            assert!(is_blank(sql), "{sql}");
        }
        for sql in [";", "x", "/* x */ y", "'open", "/"] {
            assert!(!is_blank(sql), "{sql}");
        }
    }
}
