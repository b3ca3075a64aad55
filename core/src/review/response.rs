//! What is answered, but for the uid: the same question of another caller has the same response.
use base64_simd::STANDARD;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{API_VERSION, Answer, Facts, read::Review};
use crate::{
    admit::{AdmissionResult, Verdict},
    inject::{self, Operation},
    intent::Intent,
    workload::Kind,
};

/// What is answered to a review, whoever asks.
#[derive(Debug, Clone)]
pub struct Response {
    /// The serialised response behind its uid, up to the end of the review.
    rest: String,
    outcome: &'static str,
    reason: String,
    intents: Vec<(&'static str, &'static str)>,
}

/// The fields of a response behind its uid, but for the patch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "AuditAnnotations::is_empty")]
    audit_annotations: AuditAnnotations<'a>,
}

/// What became of each intent.
struct AuditAnnotations<'a>(&'a Verdict);

// === impl Response ===

impl Response {
    /// What is answered where nothing needs to be said.
    pub(super) fn allowed(result: &AdmissionResult) -> Self {
        Self::of(&Verdict { result: result.clone(), ..Verdict::default() })
    }

    pub(super) fn of(verdict: &Verdict) -> Self {
        let (outcome, reason) = match &verdict.result {
            AdmissionResult::Ignored => ("ignored", String::new()),
            AdmissionResult::Unchanged => ("unchanged", String::new()),
            AdmissionResult::Patched => ("patched", String::new()),
            AdmissionResult::Denied(reason) => ("denied", reason.clone()),
            AdmissionResult::FailedOpen(failure) => ("failed_open", failure.to_string()),
        };
        let denied = match &verdict.result {
            AdmissionResult::Denied(message) => Some(message),
            _ => None,
        };
        let has_patch = denied.is_none() && !verdict.patch.is_empty();
        let fields = Fields {
            allowed: denied.is_none(),
            status: denied.map(|message| json!({"code": 403, "reason": "Forbidden", "message": message})),
            patch_type: has_patch.then_some("JSONPatch"),
            warnings: &verdict.warnings,
            audit_annotations: AuditAnnotations(verdict),
        };
        // Values with string keys always serialise.
        let mut rest = serde_json::to_string(&fields).unwrap_or_default();
        // Its uid comes before.
        rest.drain(..rest.len().min(1));
        if has_patch {
            rest.pop();
            push_patch(&verdict.patch, &mut rest);
            rest.push('}');
        }
        // The end of the review.
        rest.push('}');
        let decisions = verdict.plan.iter().flat_map(|plan| &plan.decisions);
        Self {
            rest,
            outcome,
            reason: reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            intents: decisions.map(|(intent, d)| (intent.metric_label(), d.outcome.word())).collect(),
        }
    }

    /// About how many bytes it takes in memory.
    pub fn size(&self) -> usize {
        self.rest.len() + self.reason.len() + size_of_val(self.intents.as_slice())
    }

    /// The answer to one review.
    pub fn to(&self, review: &Review<'_>) -> Answer {
        let uid = serde_json::to_vec(&review.uid).unwrap_or_default();
        let head = format!(r#"{{"apiVersion":"{API_VERSION}","kind":"AdmissionReview","response":{{"uid":"#);
        let facts = Facts {
            uid: review.uid.clone().into_owned(),
            namespace: review.namespace.as_deref().unwrap_or_default().to_owned(),
            name: review.name.as_deref().unwrap_or_default().to_owned(),
            kind: review.kind.filter(|_| review.is_whole).map_or("other", Kind::name),
            operation: review.operation.word(),
            outcome: self.outcome,
            reason: self.reason.clone(),
            intents: self.intents.clone(),
        };
        Answer { body: [head.as_bytes(), &uid, b",", self.rest.as_bytes()].concat(), facts }
    }
}

/// Appends the field of a patch. In its base64 there is nothing to escape, so it is not looked through for that.
fn push_patch(patch: &[Operation], fields: &mut String) {
    let mut operations = Vec::with_capacity(8 * 1024);
    inject::write(patch, &mut operations);
    fields.reserve(operations.len().div_ceil(3) * 4 + 16);
    fields.push_str(r#","patch":""#);
    STANDARD.encode_append(operations, fields);
    fields.push('"');
}

// === impl AuditAnnotations ===

impl AuditAnnotations<'_> {
    fn decisions(&self) -> impl Iterator<Item = (&Intent, String)> {
        let decisions = self.0.plan.iter().flat_map(|plan| &plan.decisions);
        decisions.map(|(intent, decision)| (intent, decision.outcome.to_string()))
    }

    fn is_empty(&self) -> bool {
        self.0.plan.as_ref().is_none_or(|plan| plan.decisions.is_empty())
    }
}

impl Serialize for AuditAnnotations<'_> {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        let mut map = writer.serialize_map(None)?;
        for (intent, outcome) in self.decisions() {
            map.serialize_entry(intent.as_str(), &outcome)?;
        }
        map.end()
    }
}
