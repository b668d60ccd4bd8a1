//! One value as text, as sqlite3 converts it.
//!
//! Invariant: `real_text` equals SQLite's `printf('%!.15g', x)`. Where the digits that are cut off
//! are exactly or nearly a half, SQLite's own versions differ; here the exact value is rounded.

use std::borrow::Cow;

use rusqlite::types::ValueRef;

/// Significant digits of a real; SQLite's own conversion to text has as many.
const DIGITS: usize = 15;

/// The bytes that the shell prints for a value, `None` for NULL.
pub(super) fn bytes(value: ValueRef<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(Cow::Owned(number.to_string().into_bytes())),
        ValueRef::Real(number) => Some(Cow::Owned(real_text(number).into_bytes())),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Cow::Borrowed(until_zero(bytes))),
    }
}

/// The same as characters, for the modes that count them.
pub(super) fn chars(value: ValueRef<'_>) -> String {
    bytes(value).map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// A real with at most 15 significant digits and always a decimal point.
pub(super) fn real_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    if number == 0.0 {
        // Also for -0.0, as SQLite prints it.
        return "0.0".to_owned();
    }
    let scientific = format!("{:.*e}", DIGITS - 1, number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", place_point(digits, exponent))
}

/// Writes `d.ddd * 10^exponent` plainly, or with an exponent where C's `%g` does.
fn place_point(digits: &str, exponent: i32) -> String {
    let split = |at: usize| {
        let (whole, fraction) = digits.split_at_checked(at).unwrap_or((digits, ""));
        (whole.to_owned(), if fraction.is_empty() { "0".to_owned() } else { fraction.to_owned() })
    };
    match usize::try_from(exponent) {
        Ok(places) if places < DIGITS => {
            let (whole, fraction) = split(places + 1);
            format!("{whole:0<width$}.{fraction}", width = places + 1)
        }
        Err(_) if exponent >= -4 => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        _ => {
            let (whole, fraction) = split(1);
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{whole}.{fraction}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_written_as_sqlite_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333333"),
            (1e14, "100000000000000.0"),
            (1e15, "1.0e+15"),
            (999_999_999_999_999.9, "1.0e+15"),
            (123_456_789_012_345.6, "123456789012346.0"),
            (12_345_678_901_234_567.0, "1.23456789012346e+16"),
            (0.0001, "0.0001"),
            (0.00001, "1.0e-05"),
            (1.5e-7, "1.5e-07"),
            (1e20, "1.0e+20"),
            (1e100, "1.0e+100"),
            (5e-324, "4.94065645841247e-324"),
            (f64::MAX, "1.79769313486232e+308"),
            (1_234.567_890_123_456_7, "1234.56789012346"),
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (f64::INFINITY, "Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (number, text) in cases {
            assert_eq!(real_text(number), text);
        }
    }

    #[test]
    fn agrees_with_the_bundled_sqlite() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            // Up to 14 digits, so that there is nothing to round, at all sizes.
            let digits = (bits >> 20) % 10_u64.pow(u32::try_from(bits % 14).unwrap() + 1);
            let exponent = i64::try_from((bits >> 8) % 60).unwrap() - 40;
            let number: f64 = format!("-{digits}e{exponent}").parse().unwrap();
            let sql = "SELECT printf('%!.15g', ?1)";
            let text: String = db.query_row(sql, [number], |row| row.get(0)).unwrap();
            assert_eq!(real_text(number), text, "{number:e}");
        }
    }

    #[test]
    fn text_and_blobs_end_at_a_zero_byte() {
        assert_eq!(bytes(ValueRef::Blob(b"A\0B")).as_deref(), Some(&b"A"[..]));
        assert_eq!(bytes(ValueRef::Blob(b"\xff\xfe")).as_deref(), Some(&b"\xff\xfe"[..]));
        assert_eq!(bytes(ValueRef::Text(b"")).as_deref(), Some(&b""[..]));
        assert_eq!(bytes(ValueRef::Null), None);
    }
}
