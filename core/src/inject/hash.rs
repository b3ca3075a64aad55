//! Hashes of values: by them a record tells what it describes.
use std::collections::BTreeMap;

use serde::Serialize;

use crate::{json::Json, name};

/// Eight hexadecimal digits of a value.
pub(super) type Hash = String;

/// The hashes of many values, of which some are the same: two containers of one image get the same variables.
#[derive(Default)]
pub(super) struct Hashes(BTreeMap<Vec<u8>, Hash>);

// === impl Hashes ===

impl Hashes {
    /// The hash of one of them.
    pub(super) fn of(&mut self, value: &Json<'_>) -> Hash {
        self.0.entry(canonical(value)).or_insert_with_key(|text| hash_of(text)).clone()
    }
}

/// Eight hexadecimal digits of a value, whatever the order of its keys.
pub(crate) fn hash(value: &Json<'_>) -> Hash {
    hash_of(&canonical(value))
}

fn hash_of(text: &[u8]) -> Hash {
    name::hex(&[text], 8)
}

/// The text of a value, whatever the order of its keys.
fn canonical(value: &Json<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Json<'_>, out: &mut Vec<u8>) {
    match value {
        Json::Object(object) => {
            let mut sorted: Vec<(&str, &Json<'_>)> = object.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (key, value) in sorted {
                write(key, out);
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Json::Array(list) => {
            out.push(b'[');
            for value in list {
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => write(scalar, out),
    }
}

fn write(scalar: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // Strings, numbers and words always serialise, and a Vec takes them all.
    let _ = serde_json::to_writer(out, scalar);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter() {
        assert_eq!(
            hash(&Json::from(&json!({"a": 1, "b": [2]}))),
            hash(&Json::from(&json!({"b": [2], "a": 1})))
        );
    }
}
