//! A text under a cursor.
//!
//! Invariant: the cursor stands between two characters of the text. A text that is replaced from
//! elsewhere moves the cursor no further than what was put in or taken away before it.

/// Where a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
}

/// A text that is being edited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    /// Bytes before the cursor.
    at: usize,
}

impl Field {
    /// With the cursor at the end.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), at: text.len() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn before(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, char: char) {
        self.text.insert(self.at, char);
        self.at += char.len_utf8();
    }

    /// Takes away the character before the cursor; whether there was one.
    pub(crate) fn backspace(&mut self) -> bool {
        let gone = self.before().chars().next_back().map(|char| self.at - char.len_utf8());
        gone.is_some_and(|at| {
            self.text.remove(at);
            self.at = at;
            true
        })
    }

    /// Takes away the character behind the cursor; whether there was one.
    pub(crate) fn delete(&mut self) -> bool {
        let is_there = !self.after().is_empty();
        if is_there {
            self.text.remove(self.at);
        }
        is_there
    }

    pub(crate) fn go(&mut self, go: Go) {
        let line_begins = self.before().rfind('\n').map_or(0, |at| at + 1);
        let line_ends = self.at + self.after().find('\n').unwrap_or_else(|| self.after().len());
        let column = self.text.get(line_begins..self.at).unwrap_or_default().chars().count();
        self.at = match go {
            Go::Left => self.at - self.before().chars().next_back().map_or(0, char::len_utf8),
            Go::Right => self.at + self.after().chars().next().map_or(0, char::len_utf8),
            Go::Home => line_begins,
            Go::End => line_ends,
            Go::Up if line_begins == 0 => 0,
            Go::Up => {
                let above = self.text.get(..line_begins - 1).unwrap_or_default();
                self.in_line(above.rfind('\n').map_or(0, |at| at + 1), column)
            }
            Go::Down if line_ends == self.text.len() => line_ends,
            Go::Down => self.in_line(line_ends + 1, column),
        };
    }

    fn in_line(&self, begins: usize, column: usize) -> usize {
        let line = self.text.get(begins..).unwrap_or_default().split('\n').next();
        begins + line.unwrap_or_default().chars().take(column).map(char::len_utf8).sum::<usize>()
    }

    /// Shows another text: what others did to this one. A space just typed at the end of a line
    /// stays, because a paragraph's text does not hold it and the next word begins behind it.
    pub(crate) fn replace(&mut self, text: &str) {
        let is_end = |after: &str| after.is_empty() || after.starts_with('\n');
        let spaces = self.before().len() - self.before().trim_end_matches(' ').len();
        let gap = if is_end(self.after()) { spaces } else { 0 };
        let mut old = std::mem::replace(&mut self.text, text.to_owned());
        self.at -= gap;
        old.drain(self.at..self.at + gap);
        let bytes = |(a, _): (char, char)| a.len_utf8();
        let alike = |pair: &(char, char)| pair.0 == pair.1;
        let ahead: usize = old.chars().zip(text.chars()).take_while(alike).map(bytes).sum();
        let tails = (old.get(ahead..).unwrap_or_default(), text.get(ahead..).unwrap_or_default());
        let pairs = tails.0.chars().rev().zip(tails.1.chars().rev());
        let behind: usize = pairs.take_while(alike).map(bytes).sum();
        if self.at > ahead {
            self.at = text.len() - behind.min(old.len() - self.at);
        }
        if gap > 0 && self.after().starts_with(' ') {
            self.at += 1;
        } else if gap > 0 && self.at > 0 && is_end(self.after()) {
            self.insert(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &Field) -> String {
        format!("{}|{}", field.before(), field.after())
    }

    #[test]
    fn a_cursor_goes_by_characters_and_lines() {
        let mut field = Field::new("one\ntw\u{f6}o\nx");
        let mut go = |to: Go, expected: &str| {
            field.go(to);
            assert_eq!(shown(&field), expected, "{to:?}");
        };
        go(Go::Up, "one\nt|w\u{f6}o\nx");
        go(Go::End, "one\ntw\u{f6}o|\nx");
        go(Go::Left, "one\ntw\u{f6}|o\nx");
        go(Go::Up, "one|\ntw\u{f6}o\nx");
        go(Go::Down, "one\ntw\u{f6}|o\nx");
        go(Go::Down, "one\ntw\u{f6}o\nx|");
        go(Go::Right, "one\ntw\u{f6}o\nx|");
        assert!(field.backspace() && !field.delete());
        field.insert('y');
        assert_eq!(field.text(), "one\ntw\u{f6}o\ny");
    }

    #[test]
    fn a_cursor_stays_with_its_word() {
        for (old, new, expected) in [
            ("buy |milk", "please buy milk", "please buy |milk"),
            ("buy |milk", "buy milk and bread", "buy |milk and bread"),
            ("buy milk|", "buy oat milk", "buy oat milk|"),
            ("buy milk |", "buy milk", "buy milk |"),
            ("buy |", "buy it", "buy |it"),
            ("a |\nb", "a\nbc", "a |\nbc"),
            ("x|y", "", "|"),
            ("|", "new", "|new"),
        ] {
            let (before, after) = old.split_once('|').unwrap();
            let mut field = Field { text: format!("{before}{after}"), at: before.len() };
            field.replace(new);
            assert_eq!(shown(&field), expected, "{old} -> {new}");
        }
    }
}
