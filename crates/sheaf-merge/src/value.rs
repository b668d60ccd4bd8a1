//! The value of one cell, and the two comparisons merging needs.
//!
//! Invariant: equality is identity of representation (SQLite's `IS` without its numeric
//! affinity): NULL equals NULL, integer 1 differs from real 1.0, reals compare by bits. The
//! order is SQLite's: NULL, numbers, text, blobs. Leaves out collations.

mod typed;

use std::cmp::Ordering;

/// One SQLite value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Whether both are the same value in the same representation.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }

    /// SQLite's order of values under the BINARY collation.
    #[must_use]
    pub fn sqlite_order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Int(a), Self::Real(b)) => int_with_real(*a, *b),
            (Self::Real(a), Self::Int(b)) => int_with_real(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => self.class().cmp(&other.class()),
        }
    }

    fn class(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Int(_) | Self::Real(_) => 1,
            Self::Text(_) => 2,
            Self::Blob(_) => 3,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

impl Eq for Value {}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

/// Compares exactly: converting the integer to a float would make neighbours above 2^53 equal.
fn int_with_real(int: i64, real: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() {
        return if real.is_sign_negative() { Ordering::Greater } else { Ordering::Less };
    }
    if real >= TWO_63 {
        return Ordering::Less;
    }
    if real < -TWO_63 {
        return Ordering::Greater;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = real.trunc() as i64;
    int.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&real.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_stricter_than_numeric_equality() {
        assert!(Value::Null.same(&Value::Null));
        assert!(!Value::Int(1).same(&Value::Real(1.0)));
        assert!(!Value::Real(0.0).same(&Value::Real(-0.0)));
        assert!(Value::Real(f64::NAN).same(&Value::Real(f64::NAN)));
        assert!(!Value::Text("a".into()).same(&Value::Blob(b"a".to_vec())));
    }

    #[test]
    fn order_is_sqlites() {
        let sorted = [
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Real(-0.5),
            Value::Int(0),
            Value::Real(0.5),
            Value::Int(9_007_199_254_740_992),
            Value::Int(9_007_199_254_740_993),
            Value::Int(i64::MAX),
            Value::Real(9_223_372_036_854_775_808.0),
            Value::Text(String::new()),
            Value::Text("a".into()),
            Value::Blob(Vec::new()),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.sqlite_order(b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }
}
