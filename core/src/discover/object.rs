//! Reading Kubernetes objects as raw JSON.
use serde_json::Value;

use super::Labels;

/// The namespace of an object that names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// An object that can't be taken into the catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ObjectError {
    /// The field, and what is wrong with it.
    pub reason: String,
}

// === impl ObjectError ===

impl ObjectError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// `metadata.name`
pub(super) fn name(object: &Value) -> Result<String, ObjectError> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match crate::name::is_dns_subdomain(name) {
        true => Ok(name.to_owned()),
        false => Err(ObjectError::new(format!("metadata.name: `{}` is not a name", name.escape_debug()))),
    }
}

/// `metadata.namespace` (`default` where absent) and `metadata.name`
pub(super) fn namespaced_name(object: &Value) -> Result<(String, String), ObjectError> {
    let namespace = match object.pointer("/metadata/namespace") {
        None | Some(Value::Null) => DEFAULT_NAMESPACE,
        Some(Value::String(namespace)) => namespace,
        Some(_) => return Err(ObjectError::new("metadata.namespace: not a string: put it in quotes")),
    };
    match crate::name::is_dns_label(namespace) {
        true => Ok((namespace.to_owned(), name(object)?)),
        false => {
            let shown = namespace.escape_debug();
            Err(ObjectError::new(format!("metadata.namespace: `{shown}` is not a namespace")))
        }
    }
}

/// `metadata.labels` or `metadata.annotations`; entries that are no strings are left out.
pub(super) fn labels<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    strings(object.get("metadata").and_then(|metadata| metadata.get(field)))
}

/// A map of strings; entries that are no strings are left out.
pub(super) fn strings(map: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The same as labels.
pub(crate) fn string_map(map: Option<&Value>) -> Labels {
    strings(map).collect()
}
