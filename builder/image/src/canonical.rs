//! JSON whose bytes are the same for the same value: sorted keys, no white space.

use std::collections::BTreeMap;

use serde_json::Value;

/// Sorted by key at every level. Whether `serde_json` keeps insertion order is decided by a feature that any crate of a
/// binary may switch on, so it is not left to it.
#[must_use]
pub fn canonical_json(document: Value) -> String {
    sorted(document).to_string()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(table) => {
            let table: BTreeMap<String, Value> = table
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect();
            Value::Object(table.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
