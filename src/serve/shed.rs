//! What is answered without a decision, while there is more to answer than time: allowed as it came, with a warning. What must
//! not be missed is not answered at all, so that the API server goes by the webhook's `failurePolicy` and refuses it.
//!
//! Hardly anything of the review is read: the time to read it is what is missing.
use memchr::memmem;
use opportune_core::keys;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::json;
use std::fmt;

/// What the person who applies it is told.
const WARNING: &str =
    "opportune: too busy to add anything; apply it again later, `opportune report` lists what was missed";
/// What a record has where data is to be lost, as it stands in a review: a text in a text.
const CLAIMS: &str = r#"\"claims\":{"#;
const TEMPLATE: &str = r#"\"template/"#;
/// A uid is 36 characters long.
const UID: usize = 128;

/// The answer; `None` where there is none to give. `requires` tells of a namespace whether it requires something of its workloads:
/// then a webhook that fails may have been called.
pub(super) fn answer(review: &[u8], requires: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    if must_not_be_missed(review) || text(review, "namespace").is_some_and(|namespace| requires(&namespace)) {
        return None;
    }
    let uid = text(review, "uid").filter(|uid| (1..=UID).contains(&uid.len()))?;
    let response = json!({"uid": uid, "allowed": true, "warnings": [WARNING]});
    let answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    serde_json::to_vec(&answer).ok()
}

/// Whether it may be one for which the webhooks that fail are called: as in their `matchConditions`, and rather too often.
fn must_not_be_missed(review: &[u8]) -> bool {
    [keys::REQUIRES, CLAIMS, TEMPLATE].iter().any(|mark| memmem::find(review, mark.as_bytes()).is_some())
}

/// A text of a review's request. The API server writes what is asked for here before the objects, and nothing is read beyond it.
fn text(review: &[u8], field: &str) -> Option<String> {
    let mut text = None;
    let seed = Sought { path: &["request", field], found: &mut text };
    // An error is how the reading ends.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(review));
    text
}

/// A text in nested maps; reading ends in an error when it is found.
struct Sought<'a> {
    path: &'a [&'a str],
    found: &'a mut Option<String>,
}

// === impl Sought ===

impl<'de> DeserializeSeed<'de> for Sought<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.is_empty() {
            true => deserializer.deserialize_str(self),
            false => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Sought<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionReview")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        *self.found = Some(text.to_owned());
        Err(E::custom("found"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            match self.path.split_first() {
                Some((first, path)) if **first == key => {
                    access.next_value_seed(Sought { path, found: &mut *self.found })?;
                }
                _ => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::workload;
    use rstest::rstest;
    use serde_json::Value;

    fn review(annotations: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "a-uid", "namespace": "blog", "operation": "CREATE",
            "object": {"metadata": {"annotations": annotations}}}})
    }

    fn answered(review: &Value) -> Option<Value> {
        answer(review.to_string().as_bytes(), &|_| false)
            .map(|answer| serde_json::from_slice(&answer).unwrap())
    }

    #[test]
    fn what_may_be_missed_is_allowed_with_a_warning() {
        let answer = answered(&review(json!({"opportune.libre.sh/wants": "ldap"}))).unwrap();
        assert_eq!(
            answer,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": "a-uid", "allowed": true, "warnings": [WARNING]}})
        );
        assert!(WARNING.chars().count() <= 120);
    }

    #[rstest]
    #[case::a_requirement(json!({"opportune.libre.sh/requires": "ldap"}))]
    #[case::a_claim(json!({"opportune.libre.sh/injected": r#"{"v":1,"claims":{"storage":"web"}}"#}))]
    #[case::a_claim_template(json!({"opportune.libre.sh/injected": r#"{"v":1,"added":{"template/data":"0a1b2c3d"}}"#}))]
    fn what_must_not_be_missed_is_not_answered(#[case] annotations: Value) {
        assert_eq!(answered(&review(annotations)), None);
    }

    #[test]
    fn the_conditions_of_the_webhooks_that_fail_are_the_same() {
        let webhooks = include_str!("../../manifests/chart/files/webhooks.yaml");
        let [claims, template] = [CLAIMS, TEMPLATE].map(|mark| format!("'{}'", mark.replace('\\', "")));
        let marks = format!("[{claims}, {template}].exists(volume");
        assert!(webhooks.contains(&marks), "{marks}");
        assert!(webhooks.contains(&format!("'{}' in a", keys::REQUIRES)));
        // Whatever else makes a webhook fail has to be told here, too.
        let conditions = webhooks.matches("- name: must-not-be-missed").count();
        assert_eq!(webhooks.matches("failurePolicy: Fail").count(), conditions);
        assert_eq!(workload::Kind::ALL.len(), 6, "of a new kind it has to be told what must not be missed");
    }

    #[rstest]
    #[case::nothing(b"")]
    #[case::no_review(b"[1]")]
    #[case::no_uid(br#"{"request":{"name":"a"}}"#)]
    #[case::an_empty_uid(br#"{"request":{"uid":""}}"#)]
    #[case::a_uid_that_is_none(br#"{"request":{"uid":{}}}"#)]
    #[case::a_uid_elsewhere(br#"{"uid":"a","request":{"object":{"uid":"b"}}}"#)]
    fn what_is_no_review_is_not_answered(#[case] review: &[u8]) {
        assert_eq!(answer(review, &|_| false), None);
    }

    #[test]
    fn nothing_is_read_beyond_the_namespace() {
        assert!(
            answer(
                br#"{"kind":"AdmissionReview","request":{"uid":"a-uid","namespace":"blog","object":{"#,
                &|_| false
            )
            .is_some()
        );
    }

    #[test]
    fn where_a_namespace_requires_something_nothing_is_missed() {
        let review = review(json!({})).to_string();
        assert!(answer(review.as_bytes(), &|namespace| namespace == "blog").is_none());
        assert!(answer(review.as_bytes(), &|namespace| namespace == "shop").is_some());
    }

    #[test]
    fn a_long_uid_is_not_repeated() {
        let long = json!({"request": {"uid": "u".repeat(UID + 1)}});
        assert_eq!(answered(&long), None);
    }
}
