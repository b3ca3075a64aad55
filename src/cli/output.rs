//! Objects as YAML, JSON and unified diffs.
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::{Failure, style};

/// One object as YAML, without a document marker.
///
/// # Errors
/// When the object can't be written, which no JSON value is known to cause.
pub fn yaml(object: &Value) -> Result<String, Failure> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX, min_fold_chars: usize::MAX };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, object, options)
        .map_err(|error| Failure::input(format!("an object can't be written as YAML: {error}")))?;
    Ok(text)
}

/// Objects as a stream of YAML documents.
///
/// # Errors
/// As [`yaml`].
pub fn yaml_stream(objects: &[Value]) -> Result<String, Failure> {
    let documents: Result<Vec<String>, Failure> = objects.iter().map(yaml).collect();
    Ok(documents?.join("---\n"))
}

/// Objects as one `v1` List.
pub fn json_list(objects: Vec<Value>) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    format!("{list:#}\n")
}

/// A unified diff of two objects as YAML; empty where they are the same.
///
/// # Errors
/// As [`yaml`].
pub fn diff(name: &str, before: &Value, after: &Value) -> Result<String, Failure> {
    let is_new = before.is_null();
    let before = if is_new { String::new() } else { yaml(before)? };
    let after = yaml(after)?;
    if before == after {
        return Ok(String::new());
    }
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let mut out = style::paint(
        style::HEAD,
        &format!("--- {}\n+++ b/{name}", if is_new { "/dev/null".to_owned() } else { format!("a/{name}") }),
    ) + "\n";
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        out += &(style::paint(style::PLACE, &hunk.header().to_string()) + "\n");
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            out += &match change.tag() {
                ChangeTag::Delete => style::paint(style::BAD, &format!("-{line}")),
                ChangeTag::Insert => style::paint(style::GOOD, &format!("+{line}")),
                ChangeTag::Equal => format!(" {line}"),
            };
            out.push('\n');
        }
    }
    Ok(out)
}
