//! AdmissionReview bytes in, bytes out (`admission.k8s.io/v1`).
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    admit::{AdmissionResult, Failure, Options, Request, Verdict, admit, admit_uninjected},
    discover::Catalog,
    warning,
    workload::{Kind, text},
};

/// The only version that we speak; every supported Kubernetes does.
const API_VERSION: &str = "admission.k8s.io/v1";

/// The HTTP body to send back (status 200), and what to log and count about it.
#[derive(Debug)]
pub struct Answer {
    /// A serialised `admission.k8s.io/v1` AdmissionReview with a response.
    pub body: Vec<u8>,
    /// What happened, for logs and metrics.
    pub facts: Facts,
}

/// What happened to one review: closed labels for metrics, names for logs only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The request's uid.
    pub uid: String,
    /// Namespace of the workload (logs only).
    pub namespace: String,
    /// Name of the workload (logs only).
    pub name: String,
    /// A [kind](Kind), as Kubernetes writes it, or `other`.
    pub kind: &'static str,
    /// `CREATE`, `UPDATE` or `other`.
    pub operation: &'static str,
    /// `patched`, `unchanged`, `denied`, `failed_open` or `ignored`.
    pub outcome: &'static str,
    /// Why, in one printable line (logs only); empty where there is nothing to say.
    pub reason: String,
    /// One pair for each intent decided: its label (`ldap`, `mail`, `analytics`, `storage`, `custom`) and its result
    /// (`bound`, `kept`, `absent`, `incomplete`, `declined`, `forbidden`, `conflict`, `withdrawn`).
    pub intents: Vec<(&'static str, &'static str)>,
}

/// A body that is no review we can answer: the server replies 400 with this text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotAReview {
    /// What is wrong with the body, and what was expected, in one printable line.
    pub reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Received>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: Value,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

// === impl NotAReview ===

impl NotAReview {
    fn new(reason: impl Into<String>) -> Self {
        let reason: String = reason.into();
        Self { reason: reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect() }
    }
}

/// Answers one AdmissionReview.
///
/// # Errors
/// [`NotAReview`] when the bytes are not an `admission.k8s.io/v1` AdmissionReview with a request.
pub fn answer(body: &[u8], catalog: &Catalog, options: &Options) -> Result<Answer, NotAReview> {
    let request = read(body)?;
    let verdict = request.verdict(catalog, options);
    let facts = request.facts(&verdict);
    let response = request.response(&verdict);
    let review = json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response});
    // A value with string keys always serialises.
    Ok(Answer { body: serde_json::to_vec(&review).unwrap_or_default(), facts })
}

fn read(body: &[u8]) -> Result<Received, NotAReview> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| NotAReview::new(format!("the body is not an AdmissionReview: {error}")))?;
    if review.kind != "AdmissionReview" || review.api_version != API_VERSION {
        let (version, kind) = (review.api_version, review.kind);
        return Err(NotAReview::new(format!(
            "expected an AdmissionReview of {API_VERSION}, got kind `{kind}` of `{version}`"
        )));
    }
    let request = review.request.ok_or_else(|| NotAReview::new("the review has no request"))?;
    match request.uid.is_empty() {
        true => Err(NotAReview::new("the review's request has no uid")),
        false => Ok(request),
    }
}

// === impl Received ===

impl Received {
    /// The kind that we inject, where the request is about one itself and not about a subresource of it.
    fn kind(&self) -> Option<Kind> {
        let [group, version, name] = ["group", "version", "kind"].map(|field| text(&self.kind, field));
        let is_this = |kind: &Kind| kind.group() == group && version == "v1" && kind.name() == name;
        Kind::ALL.into_iter().find(is_this).filter(|_| self.is_whole())
    }

    fn is_whole(&self) -> bool {
        self.sub_resource.as_deref().is_none_or(str::is_empty)
    }

    fn verdict(&self, catalog: &Catalog, options: &Options) -> Verdict {
        let old = match self.operation.as_str() {
            "CREATE" => None,
            "UPDATE" => Some(&self.old_object),
            _ => return Verdict::default(),
        };
        let namespace =
            self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default");
        let Some(kind) = self.kind().filter(|kind| options.kinds.has(*kind)) else {
            return match self.is_whole() {
                true => admit_uninjected(&self.object, namespace, catalog, options),
                false => Verdict::default(),
            };
        };
        if Kind::of(&self.object) != Some(kind) {
            let failure =
                Failure { field: "request.object".into(), reason: format!("not a {}", kind.name()) };
            let warnings = vec![warning::line(&format!("not injected: {failure}"))];
            return Verdict { result: AdmissionResult::FailedOpen(failure), warnings, ..Verdict::default() };
        }
        admit(&Request { namespace, object: &self.object, old }, catalog, options)
    }

    fn facts(&self, verdict: &Verdict) -> Facts {
        let (outcome, reason) = match &verdict.result {
            AdmissionResult::Ignored => ("ignored", String::new()),
            AdmissionResult::Unchanged => ("unchanged", String::new()),
            AdmissionResult::Patched => ("patched", String::new()),
            AdmissionResult::Denied(reason) => ("denied", reason.clone()),
            AdmissionResult::FailedOpen(failure) => ("failed_open", failure.to_string()),
        };
        let decisions = verdict.plan.iter().flat_map(|plan| &plan.decisions);
        Facts {
            uid: self.uid.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            kind: self.kind().map_or("other", Kind::name),
            operation: match self.operation.as_str() {
                "CREATE" => "CREATE",
                "UPDATE" => "UPDATE",
                _ => "other",
            },
            outcome,
            reason: reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            intents: decisions.map(|(intent, d)| (intent.metric_label(), d.outcome.word())).collect(),
        }
    }

    fn response(&self, verdict: &Verdict) -> Value {
        let mut response = Map::new();
        response.insert("uid".into(), self.uid.as_str().into());
        response.insert("allowed".into(), Value::Bool(true));
        if let AdmissionResult::Denied(message) = &verdict.result {
            response.insert("allowed".into(), Value::Bool(false));
            response.insert("status".into(), json!({"code": 403, "reason": "Forbidden", "message": message}));
        } else if !verdict.patch.is_empty() {
            let patch = serde_json::to_vec(&verdict.patch).unwrap_or_default();
            response.insert("patchType".into(), "JSONPatch".into());
            response.insert("patch".into(), STANDARD.encode(patch).into());
        }
        if !verdict.warnings.is_empty() {
            response.insert("warnings".into(), verdict.warnings.clone().into());
        }
        let decisions = verdict.plan.iter().flat_map(|plan| &plan.decisions);
        let audit: Map<String, Value> = decisions
            .map(|(intent, decision)| (intent.to_string(), decision.outcome.to_string().into()))
            .collect();
        if !audit.is_empty() {
            response.insert("auditAnnotations".into(), Value::Object(audit));
        }
        Value::Object(response)
    }
}
