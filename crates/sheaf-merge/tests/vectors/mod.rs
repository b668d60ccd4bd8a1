//! Written vectors whose fields are all text.

use std::collections::BTreeMap;

/// Reads a file of them.
pub(crate) fn read(json: &str) -> Vec<BTreeMap<String, String>> {
    let vectors: serde_json::Value = serde_json::from_str(json).expect("the vectors are JSON");
    let field = |(name, value): (&String, &serde_json::Value)| {
        (name.clone(), value.as_str().expect("a vector's fields are text").to_owned())
    };
    let vector = |vector: &serde_json::Value| {
        vector.as_object().expect("a vector is an object").iter().map(field).collect()
    };
    vectors.as_array().expect("vectors are a list").iter().map(vector).collect()
}
