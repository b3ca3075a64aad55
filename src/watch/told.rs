//! An object as the API server tells it, but without what nobody here reads. Half of an object is `managedFields`: what is never
//! made of it need not be given back.
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told(pub(super) Value);

/// What is read of a map.
struct Part {
    /// Keys that are left out.
    without: &'static [&'static str],
    /// Of which value only a part is read.
    partly: Option<(&'static str, &'static Self)>,
}

static OBJECT: Part = Part { without: &[], partly: Some(("metadata", &METADATA)) };
static METADATA: Part = Part { without: &["managedFields"], partly: Some(("annotations", &ANNOTATIONS)) };
/// kubectl keeps the whole object in one of them.
static ANNOTATIONS: Part =
    Part { without: &["kubectl.kubernetes.io/last-applied-configuration"], partly: None };

// === impl Told ===

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OBJECT.deserialize(deserializer).map(Self)
    }
}

// === impl Part ===

impl<'de> DeserializeSeed<'de> for &Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if self.without.contains(&key.as_str()) {
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match self.partly {
                Some((name, part)) if name == key => access.next_value_seed(part)?,
                _ => access.next_value()?,
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::what_others_keep(
        r#"{"kind":"Service","metadata":{"name":"ldap","managedFields":[{"manager":"kubectl"}],"annotations":{"a":"b",
            "kubectl.kubernetes.io/last-applied-configuration":"{}"},"labels":{"managedFields":"yes"}},"spec":{"managedFields":1}}"#,
        json!({"kind": "Service", "metadata": {"name": "ldap", "annotations": {"a": "b"}, "labels": {"managedFields": "yes"}},
            "spec": {"managedFields": 1}})
    )]
    #[case::nothing_to_leave_out(r#"{"metadata":null,"status":{"ready":[true]}}"#, json!({"metadata": null, "status": {"ready": [true]}}))]
    #[case::an_empty_object("{}", json!({}))]
    fn an_object_is_read_without_what_nobody_reads(#[case] text: &str, #[case] read: Value) {
        assert_eq!(serde_json::from_str::<Told>(text).unwrap(), Told(read));
    }

    #[test]
    fn an_event_of_a_watch_is_read_so() {
        let line = r#"{"type":"ADDED","object":{"metadata":{"name":"a","managedFields":[]}}}"#;
        let event: kube::core::WatchEvent<Told> = serde_json::from_str(line).unwrap();
        let kube::core::WatchEvent::Added(Told(object)) = event else { panic!("{event:?}") };
        assert_eq!(object, json!({"metadata": {"name": "a"}}));
    }

    #[rstest]
    #[case("[]")]
    #[case(r#"{"metadata":"none"}"#)]
    fn what_is_no_object_is_an_error(#[case] text: &str) {
        assert!(serde_json::from_str::<Told>(text).is_err(), "{text}");
    }
}
