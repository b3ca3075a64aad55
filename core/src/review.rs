//! AdmissionReview bytes in, bytes out.
use crate::{admit::Options, discover::Catalog};

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
    /// `Deployment`, `StatefulSet` or `other`.
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
#[derive(Debug, PartialEq, Eq)]
pub struct NotAReview {
    /// What is wrong with the body, and what was expected, in one printable line.
    pub reason: String,
}

/// Answers one AdmissionReview.
///
/// # Errors
/// [`NotAReview`] when the bytes are not an `admission.k8s.io/v1` AdmissionReview with a request.
pub fn answer(body: &[u8], catalog: &Catalog, options: &Options) -> Result<Answer, NotAReview> {
    let _ = (body, catalog, options);
    Err(NotAReview { reason: "not built yet".to_owned() })
}
