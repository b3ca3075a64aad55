//! Records of any text, and forged records on any object: what takes our additions out applies, and removes nothing that
//! the record does not describe.
#![no_main]
use std::collections::BTreeSet;

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use opportune_core::{admit::take_out, inject::record::Record};
use opportune_fuzz::{PREFIX, Writer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(record) = Record::read(text)
    {
        let again = Record::read(&record.write()).expect("what is written can be read");
        assert_eq!(again, record);
    }
    let _ = forged(&mut Unstructured::new(data));
});

/// A list in which we may have entries: where it stands, its place in slots, what an entry is called by.
type List = (String, String, &'static str);

fn forged(u: &mut Unstructured<'_>) -> Result<()> {
    let mut object = Writer::new(u).workload()?;
    let lists = lists(&object);
    let mut slots = Map::new();
    for (pointer, place, key) in &lists {
        for entry in entries(&object, pointer) {
            let slot = format!("{place}/{}", entry.get(*key).and_then(Value::as_str).unwrap_or_default());
            match u.int_in_range(0..=3)? {
                // Right, about a part of it, and wrong.
                0 => slots.insert(slot, hash(&entry).into()),
                1 => slots.insert(slot, hash(&part(u, &entry)?).into()),
                2 => slots.insert(slot, "00000000".into()),
                _ => None,
            };
        }
    }
    let known: BTreeSet<(String, String)> = slots
        .iter()
        .map(|(slot, hash)| (slot.clone(), hash.as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut record = json!({"v": 1, "wishes": "", "added": {"ldap": slots}});
    if u.ratio(1, 3)? {
        let name = Writer::new(u).name()?;
        record["replaced"] = json!({name: Writer::new(u).value(2)?});
    }
    if u.ratio(1, 2)? {
        let empty = u.choose(&[json!(null), json!([]), json!({})])?.clone();
        let slot = u.choose(&["env/app", "mount/app", "volume", "pod", "annotations", "template"])?;
        record["empty"] = json!({*slot: empty});
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Ok(()) };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    let Some(annotations) = annotations.as_object_mut() else { return Ok(()) };
    annotations.insert(format!("{PREFIX}injected"), record.to_string().into());
    let Ok(patch) = take_out(&object) else { return Ok(()) };
    let mut bare = object.clone();
    json_patch::patch(&mut bare, &patch).expect("what takes out applies");
    for (pointer, place, key) in &lists {
        let after = entries(&bare, pointer);
        for entry in entries(&object, pointer) {
            let slot = format!("{place}/{}", entry.get(*key).and_then(Value::as_str).unwrap_or_default());
            let is_described = parts(&entry).iter().any(|part| known.contains(&(slot.clone(), hash(part))));
            assert!(is_described || after.contains(&entry), "{slot} was removed: {entry}");
        }
        assert!(after.len() <= entries(&object, pointer).len(), "something was added to {place}");
    }
    let left = strip(&bare);
    assert_eq!(left, strip(&object), "something else was changed");
    Ok(())
}

fn lists(object: &Value) -> Vec<List> {
    let mut lists = vec![("/spec/template/spec/volumes".to_owned(), "volume".to_owned(), "name")];
    for list in ["containers", "initContainers"] {
        let pointer = format!("/spec/template/spec/{list}");
        for (index, container) in entries(object, &pointer).iter().enumerate() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            lists.push((format!("{pointer}/{index}/env"), format!("env/{name}"), "name"));
            lists.push((format!("{pointer}/{index}/volumeMounts"), format!("mount/{name}"), "mountPath"));
        }
    }
    lists
}

fn entries(object: &Value, pointer: &str) -> Vec<Value> {
    object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// An entry, and what is left of it without each of its fields: apply may have merged the rest into it.
fn parts(entry: &Value) -> Vec<Value> {
    let mut parts = vec![entry.clone()];
    for field in entry.as_object().into_iter().flat_map(Map::keys) {
        let mut part = entry.clone();
        part.as_object_mut().map(|map| map.remove(field));
        parts.push(part);
    }
    parts
}

fn part(u: &mut Unstructured<'_>, entry: &Value) -> Result<Value> {
    Ok(u.choose(&parts(entry))?.clone())
}

/// The object without everything that may be ours.
fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    for (pointer, _, _) in lists(&object) {
        if let Some((parent, field)) = pointer.rsplit_once('/')
            && let Some(map) = object.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            map.remove(field);
        }
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(&format!("{PREFIX}injected"));
        annotations.remove(&format!("{PREFIX}status"));
    }
    if object.pointer("/metadata/annotations").is_some_and(is_empty)
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("annotations");
    }
    object
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

/// The record's hash, written here a second time.
fn hash(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    let mut hasher = Sha256::new();
    hasher.update(text.len().to_le_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for value in list {
                canonical(value, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
