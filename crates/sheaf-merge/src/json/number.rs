//! Numbers of JSON, exactly.
//!
//! Invariant: two numbers are equal if and only if their decimal values are, whatever their size
//! and spelling; the spelling is kept and written back. No number becomes a float on the way, so
//! none loses digits. Leaves out exponents beyond 64 bits, which are refused.

use std::{cmp::Ordering, fmt};

/// One number: its decimal value, and how it was spelled.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    value: Decimal,
    spelled: String,
}

impl Number {
    /// Reads a number by JSON's grammar. `None` too for an exponent that is out of range.
    pub(crate) fn read(spelled: &str) -> Option<Self> {
        Some(Self { value: Decimal::read(spelled)?, spelled: spelled.to_owned() })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

/// `0.DIGITS * 10^exponent`, digits without zeros at either end; zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    exponent: i64,
    digits: String,
}

impl Decimal {
    fn read(spelled: &str) -> Option<Self> {
        let (is_negative, rest) = match spelled.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, spelled),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (rest, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let unsigned = power.map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
        let is_grammatical = is_digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(is_digits)
            && unsigned.is_none_or(is_digits);
        if !is_grammatical {
            return None;
        }
        let all = [whole, fraction.unwrap_or_default()].concat();
        let digits = all.trim_start_matches('0');
        let zeros = all.len() - digits.len();
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { is_negative: false, exponent: 0, digits: String::new() });
        }
        let exponent = power
            .unwrap_or("0")
            .parse::<i64>()
            .ok()?
            .checked_add(i64::try_from(whole.len()).ok()?)?
            .checked_sub(i64::try_from(zeros).ok()?)?;
        Some(Self { is_negative, exponent, digits: digits.to_owned() })
    }

    /// -1, 0 or 1.
    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Digits are a fraction without zeros at the end, so text order is their order.
        let magnitude =
            self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        self.sign().cmp(&other.sign()).then(if self.is_negative {
            magnitude.reverse()
        } else {
            magnitude
        })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(spelled: &str) -> Number {
        Number::read(spelled).unwrap()
    }

    #[test]
    fn one_value_has_many_spellings() {
        for same in [
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000"][..],
            &["0", "-0", "0.0", "0e99999999999999999999", "-0.00e-5"],
            &["-120", "-1.2e2", "-0.12E3"],
        ] {
            for (a, b) in same.iter().zip(&same[1..]) {
                assert_eq!(number(a), number(b));
            }
            assert_eq!(number(same[1]).to_string(), same[1]);
        }
    }

    #[test]
    fn order_is_numeric_and_exact() {
        let sorted = [
            "-1e400",
            "-2",
            "-1.5",
            "-1e-400",
            "0",
            "1e-400",
            "0.5",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0000000000000000001",
            "1e400",
            "1.1e400",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(number(a).cmp(&number(b)), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn other_spellings_are_no_numbers() {
        for text in
            ["", "-", "01", "-01", "1.", ".1", "1e", "1e+", "+1", "1e1.0", "--1", "1-", "0x1"]
        {
            assert!(Number::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn absurd_exponents_are_refused() {
        assert!(Number::read("1e99999999999999999999").is_none());
        assert!(Number::read("10e9223372036854775807").is_none());
        assert!(Number::read("0.01e-9223372036854775808").is_none());
    }
}
