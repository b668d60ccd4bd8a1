//! Values as bytes: the typed form of docs/format.md, section 9.3.
//!
//! Invariant: every value but NaN reads back as it was, and has one form only. Bytes from outside
//! end in a reason, never in a panic. Leaves out values by reference.

use std::io::Write as _;

use super::Value;

impl Value {
    /// Appends the typed form. A NaN is written as NULL, as SQLite stores it.
    pub fn put_typed(&self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Int(int) => write!(out, "i{int}"),
            Self::Real(real) if !real.is_nan() => write!(out, "r{real:e}"),
            Self::Null | Self::Real(_) => out.write_all(b"n"),
            Self::Text(text) => out.write_all(b"t").and_then(|()| out.write_all(text.as_bytes())),
            Self::Blob(blob) => out.write_all(b"x").and_then(|()| out.write_all(blob)),
        };
        written.expect("BUG: writing to memory cannot fail");
    }

    /// Reads the typed form.
    ///
    /// # Errors
    /// What is wrong with anything else, a second spelling of a number included.
    pub fn from_typed(bytes: &[u8]) -> Result<Self, &'static str> {
        let (tag, rest) = bytes.split_first().ok_or("a value without a type")?;
        let text = || std::str::from_utf8(rest).map_err(|_| "text is not UTF-8");
        match tag {
            b'n' if rest.is_empty() => Ok(Self::Null),
            b'i' => match text()?.parse::<i64>() {
                Ok(int) if int.to_string() == text()? => Ok(Self::Int(int)),
                _ => Err("a decimal number"),
            },
            // Rust would also read `nan`, `infinity` and a plus sign.
            b'r' => match text()?.parse::<f64>() {
                Ok(real) if !real.is_nan() && format!("{real:e}") == text()? => {
                    Ok(Self::Real(real))
                }
                _ => Err("a real"),
            },
            b't' => Ok(Self::Text(text()?.to_owned())),
            b'x' => Ok(Self::Blob(rest.to_vec())),
            _ => Err("a value of unknown type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value, bytes: &[u8]) {
        let mut out = Vec::new();
        value.put_typed(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(Value::from_typed(bytes).as_ref(), Ok(value));
    }

    #[test]
    fn values_have_one_form() {
        check(&Value::Null, b"n");
        check(&Value::Int(i64::MIN), b"i-9223372036854775808");
        check(&Value::Real(1.5), b"r1.5e0");
        check(&Value::Real(-0.0), b"r-0e0");
        check(&Value::Real(f64::INFINITY), b"rinf");
        check(&Value::Text("\0x".into()), b"t\0x");
        check(&Value::Blob(vec![0xff]), b"x\xff");
        let mut out = Vec::new();
        Value::Real(f64::NAN).put_typed(&mut out);
        assert_eq!(out, b"n");
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"n0",
            b"i",
            b"i+1",
            b"i01",
            b"i-0",
            b"i9223372036854775808",
            b"r1.5",
            b"r1.50e0",
            b"rNaN",
            b"rinfinity",
            b"t\xff",
            b"q",
        ] {
            assert!(Value::from_typed(bytes).is_err(), "{bytes:?}");
        }
    }
}
