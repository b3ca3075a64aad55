//! What clients do to a stored object: the three-way merge of `kubectl apply`, and the two kinds of rollout undo.
use serde_json::{Map, Value};

use crate::world::with;

/// By which field the entries of a list are told apart; none where the list is replaced whole.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "env" | "volumes" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        _ => None,
    }
}

/// The stored object after `kubectl apply` of `manifest`, where `last` was applied before.
pub fn apply(stored: &Value, last: &Value, manifest: &Value) -> Value {
    match (stored, manifest) {
        (Value::Object(stored), Value::Object(manifest)) => {
            Value::Object(apply_map(stored, last.as_object().unwrap_or(&Map::new()), manifest))
        }
        _ => manifest.clone(),
    }
}

fn apply_map(
    stored: &Map<String, Value>,
    last: &Map<String, Value>,
    manifest: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = stored.clone();
    merged.retain(|key, _| manifest.contains_key(key) || !last.contains_key(key));
    for (key, wanted) in manifest {
        let before = last.get(key).unwrap_or(&Value::Null);
        let value = match (merged.get(key), wanted, merge_key(key)) {
            (Some(Value::Array(stored)), Value::Array(wanted), Some(by)) => {
                Value::Array(apply_list(stored, before, wanted, by))
            }
            (Some(stored), wanted, _) => apply(stored, before, wanted),
            (None, wanted, _) => wanted.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

fn apply_list(stored: &[Value], last: &Value, wanted: &[Value], by: &str) -> Vec<Value> {
    let find = |list: &[Value], entry: &Value| list.iter().find(|other| other[by] == entry[by]).cloned();
    let last = last.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut merged: Vec<Value> = wanted
        .iter()
        .map(|entry| match find(stored, entry) {
            Some(known) => apply(&known, &find(last, entry).unwrap_or(Value::Null), entry),
            None => entry.clone(),
        })
        .collect();
    let others = stored.iter().filter(|e| find(wanted, e).is_none() && find(last, e).is_none());
    merged.extend(others.cloned());
    merged
}

/// The stored Deployment after an undo: the old template, and the annotations of the old ReplicaSet.
pub fn undo_deployment(stored: &Value, to: &Value) -> Value {
    let undone = with(stored.clone(), "/spec/template", to["spec"]["template"].clone());
    with(undone, "/metadata/annotations", to["metadata"]["annotations"].clone())
}

/// The stored StatefulSet after an undo: the old template only.
pub fn undo_stateful_set(stored: &Value, to: &Value) -> Value {
    with(stored.clone(), "/spec/template", to["spec"]["template"].clone())
}
