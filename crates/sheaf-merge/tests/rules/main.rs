//! The written vectors and the laws of the rules that look into a cell, or beside it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod converge;
mod documents;
mod lists;
mod mvr;
mod orders;

use proptest::prelude::ProptestConfig;
use sheaf_merge::Value;

/// How often a law is tried; `SHEAF_TEST_LONG=1` asks for the long form, as often as
/// said here.
fn cases(long: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if is_long() { long } else { 256 })
}

fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

/// A value of the vectors.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Number(number) => Value::Int(number.as_i64().unwrap()),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Value::Text(json.to_string()),
        other @ serde_json::Value::Bool(_) => panic!("no such vector value: {other}"),
    }
}
