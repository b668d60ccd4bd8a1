//! Lines in, statements and dot commands out.
//!
//! Invariant: every line belongs to exactly one of them, and a statement knows the line it began
//! on. It runs nothing.

use super::complete::{is_blank, is_complete};

/// What a line made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// Nothing to do: a blank line or a comment.
    Nothing,
    /// The statement goes on in the next line.
    More,
    /// A dot command, without the dot.
    Dot(String),
    /// Whole statements.
    Sql(Text),
}

/// SQL and the number of the line it began on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) sql: String,
    pub(super) line: usize,
}

/// Collects lines.
#[derive(Debug, Default)]
pub(super) struct Feed {
    sql: String,
    /// Lines taken so far.
    lines: usize,
    began: usize,
}

impl Feed {
    /// Takes a line, without its end.
    pub(super) fn push(&mut self, line: &str) -> Fed {
        self.lines += 1;
        let word = line.trim();
        if self.sql.is_empty() {
            if word.is_empty() || line.starts_with('#') {
                return Fed::Nothing;
            }
            if let Some(command) = word.strip_prefix('.') {
                return Fed::Dot(command.to_owned());
            }
            self.began = self.lines;
        } else if (word == "/" || word.eq_ignore_ascii_case("go"))
            && is_complete(&format!("{};", self.sql))
        {
            // As in the shells of other databases, a line of its own ends a statement.
            return Fed::Sql(self.take());
        }
        self.sql.push_str(line);
        self.sql.push('\n');
        if is_blank(&self.sql) {
            // A comment that is still open may have a statement behind it.
            let is_open = self.sql.contains("/*") && !is_complete(&format!("{};", self.sql));
            if !is_open {
                self.sql.clear();
                return Fed::Nothing;
            }
        } else if line.contains(';') && is_complete(&self.sql) {
            return Fed::Sql(self.take());
        }
        Fed::More
    }

    /// What is left when no line follows; `None` if that is nothing.
    pub(super) fn finish(&mut self) -> Option<Text> {
        let text = self.take();
        (!is_blank(&text.sql)).then_some(text)
    }

    /// Whether the next line begins something new.
    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    fn take(&mut self) -> Text {
        Text { sql: std::mem::take(&mut self.sql), line: self.began }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &str) -> (Vec<Fed>, Option<Text>) {
        let mut feed = Feed::default();
        let fed = text.lines().map(|line| feed.push(line)).collect();
        (fed, feed.finish())
    }

    fn sql(sql: &str, line: usize) -> Fed {
        Fed::Sql(Text { sql: sql.into(), line })
    }

    #[test]
    fn statements_span_lines() {
        let (fed, rest) = feed("\nselect 1,\n  2;\nselect 3; select 4;\nselect 5");
        assert_eq!(
            fed,
            [
                Fed::Nothing,
                Fed::More,
                sql("select 1,\n  2;\n", 2),
                sql("select 3; select 4;\n", 4),
                Fed::More,
            ]
        );
        assert_eq!(rest, Some(Text { sql: "select 5\n".into(), line: 5 }));
    }

    #[test]
    fn dot_commands_stand_between_statements_only() {
        let (fed, rest) = feed(".mode csv\nselect\n.5;\n  .quit  ");
        let dot = |text: &str| Fed::Dot(text.into());
        assert_eq!(fed, [dot("mode csv"), Fed::More, sql("select\n.5;\n", 2), dot("quit")]);
        assert_eq!(rest, None);
    }

    #[test]
    fn comments_are_skipped_but_not_what_follows_them() {
        let (fed, rest) = feed("-- a;\n# b\n/* c\n*/ select 1;\n/* d */");
        assert_eq!(
            fed,
            [Fed::Nothing, Fed::Nothing, Fed::More, sql("/* c\n*/ select 1;\n", 3), Fed::Nothing]
        );
        assert_eq!(rest, None);
    }

    #[test]
    fn go_and_slash_end_a_statement() {
        let (fed, rest) = feed("select 1\n/\nselect 2\nGO\nselect '\ngo\n';");
        assert_eq!(
            fed,
            [
                Fed::More,
                sql("select 1\n", 1),
                Fed::More,
                sql("select 2\n", 3),
                Fed::More,
                Fed::More,
                sql("select '\ngo\n';\n", 5),
            ]
        );
        assert_eq!(rest, None);
    }
}
