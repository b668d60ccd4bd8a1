//! Values on their way between SQLite, JSON arguments and the op stream.
//!
//! Invariant: a value read from SQLite and bound again is stored as the same bytes; text that is
//! not UTF-8 is refused, never mended silently.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use sheaf_merge::Value;
use sheaf_volume::{Error, Result};

use crate::limits::QUOTED_CHARS_MAX;

/// Lends a [`Value`] to rusqlite as a statement parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bind<'a>(pub &'a Value);

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(as_ref(self.0)))
    }
}

/// The value as rusqlite passes it around.
#[must_use]
pub(crate) fn as_ref(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Null => ValueRef::Null,
        Value::Int(int) => ValueRef::Integer(*int),
        Value::Real(real) => ValueRef::Real(*real),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(blob) => ValueRef::Blob(blob),
    }
}

/// Copies a value out of SQLite.
///
/// # Errors
/// `Invalid` for text that is not UTF-8.
pub(crate) fn from_ref(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(error) => {
                return Err(Error::invalid(format!(
                    "text is not UTF-8 after {} bytes: store it as a blob",
                    error.valid_up_to()
                )));
            }
        },
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    })
}

/// A JSON argument as SQLite sees it: booleans become 0 and 1, arrays and objects their JSON
/// text, and `{"$hex": "00ff"}` a blob.
///
/// # Errors
/// `Invalid` for an integer beyond 64 bits with sign and for a malformed `$hex`.
pub(crate) fn from_json(json: &serde_json::Value) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Int(i64::from(*truth)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(real)) if !number.is_u64() => Value::Real(real),
            _ => {
                return Err(Error::invalid(format!("`{number}` does not fit in 64 bits")));
            }
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Object(map) if map.len() == 1 && map.contains_key("$hex") => {
            let hex = map.get("$hex").and_then(Json::as_str).and_then(decode_hex);
            Value::Blob(hex.ok_or_else(|| Error::invalid("`$hex` needs pairs of hex digits"))?)
        }
        Json::Array(_) | Json::Object(_) => Value::Text(json.to_string()),
    })
}

/// The arguments of a call, from a JSON object or null.
///
/// # Errors
/// `Invalid` for anything else, and as [`from_json`].
pub(crate) fn args_from_json(json: &serde_json::Value) -> Result<Vec<(String, Value)>> {
    match json {
        serde_json::Value::Null => Ok(Vec::new()),
        serde_json::Value::Object(map) => {
            map.iter().map(|(name, value)| Ok((name.clone(), from_json(value)?))).collect()
        }
        _ => Err(Error::invalid("the arguments of a mutator are a JSON object")),
    }
}

/// A short form for messages.
pub(crate) fn quote(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(int) => int.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => {
            let head: String = text.chars().take(QUOTED_CHARS_MAX).collect();
            let more = if head.len() < text.len() { "..." } else { "" };
            format!("'{}{more}'", head.replace(char::is_control, " "))
        }
        Value::Blob(blob) => {
            let head = blob.get(..QUOTED_CHARS_MAX / 2).unwrap_or(blob);
            let more = if head.len() < blob.len() { "..." } else { "" };
            format!("x'{}{more}'", encode_hex(head))
        }
    }
}

/// A key for messages: its values, joined by commas.
pub(crate) fn quote_key(key: &[Value]) -> String {
    key.iter().map(quote).collect::<Vec<_>>().join(",")
}

fn encode_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("BUG: writing to a string fails");
        hex
    })
}

pub(crate) fn decode_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_gives_back_what_was_bound() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        for value in [
            Value::Null,
            Value::Int(i64::MIN),
            Value::Real(0.1),
            Value::Text("a\0b".into()),
            Value::Blob(vec![0, 255]),
            Value::Blob(Vec::new()),
            Value::Text(String::new()),
        ] {
            let back = conn
                .query_row("SELECT ?1", [Bind(&value)], |row| Ok(from_ref(row.get_ref(0)?)))
                .unwrap();
            assert_eq!(back.unwrap(), value);
        }
    }

    #[test]
    fn broken_text_is_refused() {
        assert!(from_ref(ValueRef::Text(b"a\xff")).is_err());
    }

    #[test]
    fn json_arguments() {
        let json: serde_json::Value = serde_json::from_str(
            r#"{"a":null,"b":true,"c":-1,"d":1.5,"e":"x","f":[1],"g":{"$hex":"00Ff"}}"#,
        )
        .unwrap();
        let args = args_from_json(&json).unwrap();
        let values: Vec<Value> = args.into_iter().map(|(_, value)| value).collect();
        let expected = [
            Value::Null,
            Value::Int(1),
            Value::Int(-1),
            Value::Real(1.5),
            "x".into(),
            "[1]".into(),
            Value::Blob(vec![0, 255]),
        ];
        assert_eq!(values, expected);
        for bad in [r#"{"a":18446744073709551615}"#, r#"{"a":{"$hex":"0"}}"#, "[1]"] {
            assert!(args_from_json(&serde_json::from_str(bad).unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(crate::schema::quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote(&Value::Text("x".repeat(50))), format!("'{}...'", "x".repeat(40)));
    }
}
