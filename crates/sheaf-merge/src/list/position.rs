//! Where an element of a list stands: a text that sorts between its neighbours.
//!
//! ```text
//! position   1 to 64 of 0-9 A-Z a-z, the last not 0; compared byte by byte, as SQLite does
//! ```
//!
//! Invariant: between any two different positions there is room; it is found without looking at
//! any third element. A new position is as short as can be. At an open end it is the one nearest
//! to its neighbour, so that a list that grows at one end uses up its digits slowly.

use std::fmt;

use crate::limits::POSITION_LEN_MAX;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE: usize = DIGITS.len();

/// Where an element of a list stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(String);

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPosition;

impl Position {
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`BadPosition`] if it is empty, longer than 64 characters, ends in `0`, or has another
    /// character than `0-9`, `A-Z` and `a-z`.
    pub fn parse(text: &str) -> Result<Self, BadPosition> {
        let is_position = text.len() <= POSITION_LEN_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().last().is_some_and(|last| last != b'0');
        is_position.then(|| Self(text.to_owned())).ok_or(BadPosition)
    }

    /// The stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A position behind `after` and before `before`; `None` stands for an end of the list.
    ///
    /// Without a result there is no room: the two are not in this order, or the position would be
    /// longer than 64 characters.
    #[must_use]
    pub fn between(after: Option<&Self>, before: Option<&Self>) -> Option<Self> {
        let digits = |position: Option<&Self>| {
            position.map_or_else(Vec::new, |position| position.0.bytes().map(digit).collect())
        };
        let (low, high) = (digits(after), before.map(|_| digits(before)));
        if high.as_ref().is_some_and(|high| *high <= low) {
            return None;
        }
        let toward = match (after, before) {
            (Some(_), None) => Toward::Low,
            (None, Some(_)) => Toward::High,
            _ => Toward::Middle,
        };
        let found = between(&low, high.as_deref(), toward);
        (found.len() <= POSITION_LEN_MAX).then(|| Self::of(&found))
    }

    /// `count` positions in their order, as far apart as their length allows.
    pub fn spread(count: usize) -> impl Iterator<Item = Self> {
        let mut len = 1_usize;
        let mut room = BASE;
        // Twice the room that is needed leaves a gap beside every element.
        while room / 2 <= count {
            len += 1;
            room = room.saturating_mul(BASE);
        }
        (1..=count).map(move |i| {
            let at = i as u128 * room as u128 / (count as u128 + 1);
            Self::of(&digits_of(at, len))
        })
    }

    /// The next text in byte order: no position, but a bound above this one.
    pub(super) fn bound_above(mut self) -> Self {
        self.0.push('\0');
        self
    }

    /// Zeros at the end say nothing.
    fn of(digits: &[usize]) -> Self {
        let text: String =
            digits.iter().filter_map(|digit| DIGITS.get(*digit)).copied().map(char::from).collect();
        Self(text.trim_end_matches('0').to_owned())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list position is 1 to 64 letters and digits that do not end in 0")
    }
}

impl std::error::Error for BadPosition {}

/// Which of several equally short positions is taken.
#[derive(Clone, Copy)]
enum Toward {
    Low,
    Middle,
    High,
}

impl Toward {
    /// A digit above `low` and below `high`, which has room for one.
    fn pick(self, low: usize, high: usize) -> usize {
        match self {
            Self::Low => low + 1,
            Self::Middle => low.midpoint(high),
            Self::High => high - 1,
        }
    }
}

/// The shortest fraction above `low` and below `high` (1 without one); `low < high`.
fn between(low: &[usize], high: Option<&[usize]>, toward: Toward) -> Vec<usize> {
    let mut found = Vec::new();
    let mut high = high;
    // One step per digit: beyond both ends there is room at once.
    for i in 0.. {
        let digit = low.get(i).copied().unwrap_or(0);
        let end = high.map_or(BASE, |high| high.get(i).copied().unwrap_or(0));
        if end > digit + 1 {
            found.push(toward.pick(digit, end));
            break;
        }
        if end == digit + 1 {
            if high.is_some_and(|high| high.len() > i + 1) {
                found.push(end);
                break;
            }
            // What begins with this digit is below `high`, however it goes on.
            high = None;
        }
        found.push(digit);
    }
    found
}

fn digit(byte: u8) -> usize {
    DIGITS.binary_search(&byte).expect("BUG: a position has only digits")
}

/// `number` with `len` digits.
fn digits_of(mut number: u128, len: usize) -> Vec<usize> {
    let mut digits = vec![0; len];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(number % BASE as u128).expect("BUG: a digit is below 62");
        number /= BASE as u128;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(after: &str, before: &str, expected: Option<&str>) {
        let parse = |text: &str| (!text.is_empty()).then(|| Position::parse(text).unwrap());
        let (after, before) = (parse(after), parse(before));
        let between = Position::between(after.as_ref(), before.as_ref());
        assert_eq!(between.as_ref().map(Position::as_str), expected, "{after:?} {before:?}");
    }

    #[test]
    fn positions_are_short() {
        check("", "", Some("V"));
        check("V", "", Some("W"));
        check("z", "", Some("z1"));
        check("", "V", Some("U"));
        check("", "1", Some("0z"));
        check("1", "3", Some("2"));
        check("1", "2", Some("1V"));
        check("1", "21", Some("2"));
        check("1z", "2", Some("1zV"));
        check("A", "A01", Some("A00V"));
        check("A", "A1", Some("A0V"));
        check("A", "A2", Some("A1"));
        check("V", "V", None);
        check("W", "V", None);
        check(&"z".repeat(POSITION_LEN_MAX), "", None);
    }

    #[test]
    fn a_list_that_grows_at_one_end_uses_its_digits_slowly() {
        let grow = |next: fn(Option<&Position>) -> Option<Position>| {
            let mut last = None;
            (0_u32..)
                .take_while(|_| {
                    last = next(last.as_ref());
                    last.is_some()
                })
                .count()
        };
        assert_eq!(grow(|last| Position::between(last, None)), 31 + 63 * 61);
        assert_eq!(grow(|last| Position::between(None, last)), 31 + 63 * 61);
    }

    #[test]
    fn spread_positions_are_ordered_and_leave_gaps() {
        for count in [0, 1, 2, 30, 31, 61, 62, 1_000, 5_000] {
            let spread: Vec<Position> = Position::spread(count).collect();
            assert_eq!(spread.len(), count);
            for pair in spread.windows(2) {
                let between = Position::between(Some(&pair[0]), Some(&pair[1])).unwrap();
                assert!(pair[0] < between && between < pair[1]);
            }
            assert!(spread.iter().all(|position| position.as_str().len() <= 3), "{count}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "0", "10", "a b", "-1", "\u{e9}", &"1".repeat(POSITION_LEN_MAX + 1)] {
            assert_eq!(Position::parse(text), Err(BadPosition), "{text}");
        }
    }
}
