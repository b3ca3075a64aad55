//! Kinds that make pods and are not injected: what a policy enforces can't be given to them, so a policy that refuses what goes
//! without refuses them. They are never changed.
use super::{AdmissionResult, Options, Verdict};
use crate::{
    decide::{Subject, Term, Terms, Wishes},
    discover::{Catalog, Labels},
    json::Json,
    warning,
    workload::{Kind, Kinds},
};

/// A kind that makes pods, or is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UninjectedKind {
    /// Its API group; empty for the core one.
    pub group: &'static str,
    /// Its resource, as in `kubectl get`.
    pub plural: &'static str,
    /// Whether its pods can't be changed once it is there.
    pub is_made_once: bool,
}

/// Never injected: a Deployment would make such a ReplicaSet anew for ever.
const NEVER: [UninjectedKind; 2] = [
    UninjectedKind { group: "apps", plural: "replicasets", is_made_once: false },
    UninjectedKind { group: "", plural: "replicationcontrollers", is_made_once: false },
];

/// The kinds that make pods and are not injected where `kinds` are.
pub fn uninjected_kinds(kinds: &Kinds) -> impl Iterator<Item = UninjectedKind> {
    let off = Kind::ALL.into_iter().filter(|kind| !kinds.has(*kind)).map(|kind| UninjectedKind {
        group: kind.group(),
        plural: kind.plural(),
        is_made_once: kind.is_made_once(),
    });
    NEVER.into_iter().chain(off)
}

/// What becomes of an object of a kind that is not injected, where the webhook of a policy was called for it: it is refused or
/// its owner warned, where something is enforced in its namespace.
pub fn admit_uninjected(object: &Json<'_>, namespace: &str, catalog: &Catalog, options: &Options) -> Verdict {
    if options.selection.policy().is_none() || options.is_excluded(namespace) {
        return Verdict::default();
    }
    let labels = Labels::new();
    let subject = Subject {
        namespace,
        labels: &labels,
        is_operators: true,
        is_on: false,
        inherits: false,
        policy: options.selection.policy(),
    };
    let terms = Terms::new(catalog, &subject, Wishes::default());
    let kind = object.get("kind").and_then(Json::as_str).unwrap_or("an object of this kind");
    let enforced = terms.intents.iter().filter(|(intent, _)| !catalog.is_provider(namespace, intent));
    let enforced = enforced.filter_map(|(intent, term): (_, &Term)| Some((intent, term.enforced()?)));
    let mut warnings = Vec::new();
    for (intent, enforced) in enforced {
        let can_not =
            format!("{intent}, which can't be given to a {kind} here: use a Deployment or StatefulSet");
        if let Some(policy) = &enforced.denied_by {
            let reason = format!("opportune: policy {policy} enforces {can_not}");
            return Verdict { result: AdmissionResult::Denied(reason), ..Verdict::default() };
        }
        warnings.push(warning::line(&format!("policy {} enforces {can_not}", enforced.policy)));
    }
    let result = match warnings.is_empty() {
        true => AdmissionResult::Ignored,
        false => AdmissionResult::Unchanged,
    };
    Verdict { result, warnings, ..Verdict::default() }
}
