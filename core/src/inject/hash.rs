//! Hashes of values: by them a record tells what it describes.
use crate::{
    json::{Json, write::write_string},
    name,
};

/// Eight hexadecimal digits of a value.
pub(crate) type Hash = String;

/// Eight hexadecimal digits of a value, whatever the order of its keys.
pub(crate) fn hash(value: &Json<'_>) -> Hash {
    let mut text = Vec::with_capacity(256);
    write_canonical(value, &mut text);
    name::hex(&[text], 8)
}

fn write_canonical(value: &Json<'_>, out: &mut Vec<u8>) {
    match value {
        Json::Object(object) => {
            let mut sorted: Vec<(&str, &Json<'_>)> = object.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (key, value) in sorted {
                write_string(key, out);
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
        scalar => scalar.write(out),
    }
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
