//! AdmissionReview bytes in, bytes out (`admission.k8s.io/v1`).
mod glance;
mod read;
mod response;
mod spec;

use self::{read::Operation, spec::Rest};
pub use self::{read::Review, response::Response};
use crate::{
    admit::{AdmissionResult, Failure, Options, Request, Verdict, admit, admit_uninjected},
    discover::Catalog,
    warning,
    workload::Kind,
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

// === impl NotAReview ===

impl NotAReview {
    fn unreadable(error: impl std::fmt::Display) -> Self {
        Self::new(format!("the body is not an AdmissionReview: {error}"))
    }

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
    let review = Review::read(body)?;
    let response = match review.settled(catalog, options) {
        Some(response) => response,
        None => review.decide(catalog, options)?,
    };
    Ok(response.to(&review))
}

// === impl Review ===

impl Review<'_> {
    /// The response, where that can be told without a decision: nothing asks for anything, or nothing that matters has changed.
    pub fn settled(&self, catalog: &Catalog, options: &Options) -> Option<Response> {
        self.at_a_glance(catalog, options).map(|result| Response::allowed(&result))
    }

    /// Everything that a decision is made of, besides the catalog and the options: two reviews that have the same question have
    /// the same response. `policy` is the one whose webhook was called.
    pub fn question(&self, policy: Option<&str>) -> Vec<u8> {
        let mut question = Vec::new();
        let mut add = |part: Option<&str>| {
            // What is absent is not what is empty, and no part runs into the next.
            let length = part.map_or(0, |part| part.len() + 1);
            question.extend_from_slice(&length.to_le_bytes());
            question.extend_from_slice(part.unwrap_or_default().as_bytes());
        };
        add(policy);
        add(Some(self.operation.word()));
        add(self.kind.map(Kind::name).filter(|_| self.is_whole));
        add(self.is_whole.then_some(""));
        add(Some(self.namespace()));
        for object in [&self.object, &self.old] {
            object.texts().into_iter().for_each(&mut add);
        }
        question
    }

    /// Decides.
    ///
    /// # Errors
    /// [`NotAReview`] when one of its objects can't be read as JSON: it is nested too deeply, or holds what is no text.
    pub fn decide(&self, catalog: &Catalog, options: &Options) -> Result<Response, NotAReview> {
        Ok(Response::of(&self.verdict(catalog, options)?))
    }

    fn verdict(&self, catalog: &Catalog, options: &Options) -> Result<Verdict, NotAReview> {
        if self.operation == Operation::Other || !self.is_whole {
            return Ok(Verdict::default());
        }
        let namespace = self.namespace();
        let Some(kind) = self.kind.filter(|kind| options.kinds.has(*kind)) else {
            return Ok(admit_uninjected(&self.object.value()?, namespace, catalog, options));
        };
        let rest = match self.operation {
            Operation::Update => Rest::Raw,
            Operation::Create | Operation::Other => Rest::Dropped,
        };
        let object = self.object.workload(kind, rest)?;
        if Kind::of_json(&object) != Some(kind) {
            let failure =
                Failure { field: "request.object".into(), reason: format!("not a {}", kind.name()) };
            let warnings = vec![warning::line(&format!("not injected: {failure}"))];
            let result = AdmissionResult::FailedOpen(failure);
            return Ok(Verdict { result, warnings, ..Verdict::default() });
        }
        let old = match self.operation {
            Operation::Update => Some(self.old.workload(kind, rest)?),
            Operation::Create | Operation::Other => None,
        };
        Ok(admit(&Request { namespace, object: &object, old: old.as_ref() }, catalog, options))
    }
}
