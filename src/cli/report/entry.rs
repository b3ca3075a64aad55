//! One workload in the report, and what became of each of its intents: facts in words from closed sets.
use opportune_core::{
    decide::{Asker, Decision, Outcome},
    intent::Intent,
    keys,
    workload::Kind,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// All results, in the order of the summary.
pub const RESULTS: [&str; 7] =
    ["bound", "kept", "absent", "incomplete", "declined", "forbidden", "withdrawn"];
/// The longest reason, in characters: status and record are text that anybody may have written.
const MAX_REASON: usize = 300;

/// One workload.
#[derive(Debug, Clone)]
pub struct Reported {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What became of each intent, by intent.
    pub entries: Vec<Entry>,
    /// Why nothing can be decided on it.
    pub problem: Option<String>,
    /// Whether nothing can be decided, and it has the annotation `requires`.
    pub is_in_doubt: bool,
    /// By policy that acts on it: what it lacks of what that enforces, or has of what it forbids, with the reason.
    pub conformance: BTreeMap<String, BTreeMap<Intent, String>>,
}

/// One intent of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The intent.
    pub intent: Intent,
    /// What became of it: one of [`RESULTS`].
    pub result: &'static str,
    /// The offer that is used, or that lacks something.
    pub offer: Option<String>,
    /// Whether the workload is refused without it.
    pub is_required: bool,
    /// Who asks for it; nobody, where it only holds it.
    pub origin: Option<Asker>,
    /// The policy that enforces it.
    pub enforced: Option<String>,
    /// Whether that is so now.
    pub state: State,
    /// Why, and what comes next; empty where there is nothing to say.
    pub reason: String,
}

/// Whether a result is how things are, and will stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is so, and a decision made now says the same.
    Current,
    /// It is so, and changes with the next rollout.
    Pending,
    /// It was asked for while the webhook was away or too busy.
    Missed,
    /// It would be so: the workload is a manifest, not one of a cluster.
    Planned,
    /// Injection is off in its namespace.
    Off,
    /// It is so; what a decision says now can't be told.
    Unknown,
}

// === impl State ===

impl State {
    /// All of them, in the order of the summary.
    pub const ALL: [Self; 6] =
        [Self::Current, Self::Pending, Self::Missed, Self::Planned, Self::Off, Self::Unknown];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Missed => "missed",
            Self::Planned => "planned",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Reported ===

impl Reported {
    /// A workload without entries.
    pub fn of(object: &Value, namespace: &str, kind: &'static str) -> Self {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            kind,
            name: name.to_owned(),
            entries: Vec::new(),
            problem: None,
            is_in_doubt: false,
            conformance: BTreeMap::new(),
        }
    }

    /// Notes that nothing can be decided on it.
    pub fn fail(&mut self, object: &Value, problem: &str) {
        let of_pods = Kind::of(object).map(Kind::pod_annotations_pointer).unwrap_or_default();
        let maps = ["/metadata/annotations", of_pods.as_str()];
        let mut maps = maps.iter().filter_map(|pointer| object.pointer(pointer));
        self.is_in_doubt = maps.any(|map| map.get(keys::REQUIRES).is_some());
        self.problem = Some(cut(problem));
    }

    /// Whether there is anything to say of it.
    pub fn is_concerned(&self) -> bool {
        !self.entries.is_empty() || self.problem.is_some() || !self.is_conforming()
    }

    /// Whether it is as all policies want it.
    pub fn is_conforming(&self) -> bool {
        self.conformance.values().all(BTreeMap::is_empty)
    }

    /// Its place in the report.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.namespace, self.kind, &self.name)
    }

    /// The requirements that are not satisfied, each with the reason.
    pub fn unsatisfied(&self) -> impl Iterator<Item = String> {
        let lacking = self.entries.iter().filter(|entry| entry.is_unsatisfied()).map(|entry| {
            let rest = if entry.reason.is_empty() { String::new() } else { format!(": {}", entry.reason) };
            format!("{} is required but {}{rest}", entry.intent, entry.result)
        });
        let doubt = self.problem.iter().filter(|_| self.is_in_doubt);
        let of_policies = self.conformance.iter().flat_map(|(policy, lacks)| {
            lacks.iter().map(move |(intent, reason)| {
                format!("does not conform to policy {policy}: {intent}: {reason}")
            })
        });
        lacking
            .chain(of_policies)
            .chain(doubt.map(|problem| format!("whether it has what it requires can't be told: {problem}")))
    }
}

// === impl Entry ===

impl Entry {
    /// What a decision says.
    pub fn decided(intent: &Intent, decision: &Decision, state: State) -> Self {
        let outcome = &decision.outcome;
        let offer = match outcome {
            Outcome::Bound(offer) => offer.id.to_string(),
            Outcome::Kept { offer, .. } | Outcome::Incomplete { offer, .. } => offer.clone(),
            Outcome::Absent(_) | Outcome::Declined | Outcome::Forbidden(_) | Outcome::Withdrawn(_) => {
                String::new()
            }
        };
        let why = match outcome {
            Outcome::Bound(_) | Outcome::Declined => String::new(),
            Outcome::Kept { reason, .. }
            | Outcome::Incomplete { reason, .. }
            | Outcome::Withdrawn(reason) => reason.clone(),
            Outcome::Absent(absence) => absence.to_string(),
            Outcome::Forbidden(policy) => format!("policy {policy}"),
        };
        let full = decision.to_string();
        let asides = full.strip_prefix(&outcome.to_string()).unwrap_or_default().trim();
        let asides = asides.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or_default();
        let parts = [why.as_str(), asides].into_iter().filter(|part| !part.is_empty());
        Self {
            intent: intent.clone(),
            result: outcome.word(),
            offer: Some(offer).filter(|offer| !offer.is_empty()),
            is_required: decision.is_required,
            origin: Some(decision.asker.clone()),
            enforced: decision.enforced.as_ref().map(|enforced| enforced.policy.clone()),
            state,
            reason: cut(&parts.collect::<Vec<_>>().join("; ")),
        }
    }

    /// Whether the workload must not run without it, and does. Where injection is off, `requires` is ignored.
    pub fn is_unsatisfied(&self) -> bool {
        self.is_required && self.state != State::Off && !matches!(self.result, "bound" | "kept")
    }
}

/// A text of bounded length.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
