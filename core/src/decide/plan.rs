//! The plan: what one workload gets, and for each intent why or why not.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{Asker, Enforced, Refresh};
use crate::{discover::Offer, intent::Intent};

/// The longest `status`, in characters.
pub(crate) const MAX_STATUS: usize = 4096;

/// What one workload gets.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The profile that is used, by name.
    pub profile: Option<String>,
    /// The containers that are injected, in the pod's order.
    pub containers: Vec<String>,
    /// One decision for each intent that was asked for.
    pub decisions: BTreeMap<Intent, Decision>,
    /// What stands and is not decided on here, as `status` said of it.
    pub untouched: BTreeMap<Intent, String>,
    /// The policies that act on the workload, higher priority first.
    pub policies: Vec<String>,
    /// What happens when an offer appears or changes later.
    pub refresh: Refresh,
    /// Who says so; nobody, where it is what always happens.
    pub refresh_by: Option<Asker>,
}

/// What became of one wish.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Who asked for it; where a policy enforces it and nobody else asked, that policy.
    pub asker: Asker,
    /// Whether the workload is refused without it.
    pub is_required: bool,
    /// By which policy it is enforced.
    pub enforced: Option<Enforced>,
    /// What became of it.
    pub outcome: Outcome,
    /// What the user had set already, and stays.
    pub skipped: Vec<Skipped>,
    /// What else a person should know, such as `first boot only`.
    pub notes: Vec<String>,
    /// How policies bear on it, for explanations.
    pub because: Vec<String>,
    /// Where what the user set stands in the way of what a policy enforces.
    pub is_evaded: bool,
    /// Whether its absence is held against nobody: its namespace is one that offers it to others.
    pub is_exempt: bool,
}

/// What became of one wish.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An offer is used.
    Bound(Arc<Offer>),
    /// What was injected earlier stays: its offer, and why nothing new was decided.
    Kept {
        /// The offer that was used, as `namespace/name`.
        offer: String,
        /// Why it is kept and not bound.
        reason: String,
    },
    /// There is nothing to use.
    Absent(Absence),
    /// There is an offer, but something that it needs is not known.
    Incomplete {
        /// The offer, as `namespace/name`.
        offer: String,
        /// What it lacks.
        reason: String,
    },
    /// The workload, or its Namespace, doesn't want it.
    Declined,
    /// The policy of that name forbids it.
    Forbidden(String),
    /// It was injected, could not be delivered, and was taken out.
    Withdrawn(String),
}

/// Why there is nothing to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// None that this workload may use; whether there are others is not told.
    #[error("no offer")]
    NoOffer,
    /// None of the name that was asked for.
    #[error("no offer named {0}")]
    NotNamed(String),
    /// A value would need an encoding that its template doesn't name.
    #[error("value can't be written safely ({0})")]
    Unsafe(String),
    /// Nobody is there to make the Secret or claim.
    #[error("delivery is away")]
    DeliveryAway,
    /// The app can't be configured from outside.
    #[error("{0}")]
    Unsupported(String),
    /// The app can't speak the offer's mode.
    #[error("{app} can't use {setting} {value}")]
    UnsupportedMode {
        /// The profile.
        app: String,
        /// The setting.
        setting: String,
        /// Its value.
        value: String,
    },
    /// Settings that the app can't do without.
    #[error("{app} needs {}, which {offer} does not have", .settings.join(", "))]
    Needs {
        /// The profile.
        app: String,
        /// The offer.
        offer: String,
        /// What is missing.
        settings: Vec<String>,
    },
    /// Local users could no longer log in.
    #[error("it would replace the app's own login; ask by `requires: {0}`")]
    ReplacesLogin(Intent),
    /// `$(NAME)` is not expanded in what comes from a Secret.
    #[error("{0} names $(...) beside a credential")]
    MixesReference(String),
    /// More than one workload can hold.
    #[error("too much to inject: fewer containers, or shorter templates")]
    TooMuch,
    /// The workload mounts something of its own wherever a volume was wished.
    #[error("the workload mounts {} itself", .0.join(", "))]
    Mounted(Vec<String>),
    /// Block storage can't be shared by pods of two generations.
    #[error("{0} is block storage: it needs {1}")]
    BlockNeedsRecreate(String, &'static str),
    /// Templates of a StatefulSet can't be added later.
    #[error("volumeClaimTemplates can't change after creation")]
    Immutable,
    /// Nobody said where the app keeps its data.
    #[error("no data path is known; set opportune.libre.sh/storage, for example /data=10Gi")]
    NoDataPath,
    /// The claim's name is made of the workload's.
    #[error("the workload has no name yet")]
    NoName,
}

/// Something of the user's that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The variable, path or template.
    pub what: String,
    /// Why.
    pub reason: String,
}

// === impl Absence ===

impl Absence {
    /// Whether it lies in the workload, and no offer could help.
    fn is_the_workloads_own(&self) -> bool {
        matches!(self, Self::Mounted(_) | Self::Immutable | Self::NoDataPath)
    }
}

// === impl Skipped ===

impl Skipped {
    pub(crate) fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

// === impl Outcome ===

impl Outcome {
    /// The word of metrics and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bound(_) => "bound",
            Self::Kept { .. } => "kept",
            Self::Absent(_) => "absent",
            Self::Incomplete { .. } => "incomplete",
            Self::Declined => "declined",
            Self::Forbidden(_) => "forbidden",
            Self::Withdrawn(_) => "withdrawn",
        }
    }

    /// Whether a requirement is met.
    pub fn is_satisfied(&self) -> bool {
        matches!(self, Self::Bound(_) | Self::Kept { .. })
    }
}

/// As in the annotation `status`, after the intent and `=`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(offer) => write!(f, "{}", offer.id),
            Self::Kept { reason, .. } => write!(f, "kept: {}", flat(reason)),
            Self::Absent(reason) => write!(f, "absent: {}", flat(&reason.to_string())),
            Self::Incomplete { offer, reason } => write!(f, "incomplete: {offer} {}", flat(reason)),
            Self::Declined => f.write_str("declined"),
            Self::Forbidden(policy) => write!(f, "forbidden: policy {policy}"),
            Self::Withdrawn(reason) => write!(f, "withdrawn: {}", flat(reason)),
        }
    }
}

/// One line of at most 300 characters, in which nothing looks like the next intent: reasons may repeat what a provider
/// wrote.
fn flat(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .map(|c| if c == ';' { ',' } else { c })
        .collect()
}

// === impl Decision ===

impl Decision {
    pub(crate) fn new(is_required: bool, outcome: Outcome) -> Self {
        Self {
            asker: Asker::Workload,
            is_required,
            enforced: None,
            outcome,
            skipped: Vec::new(),
            notes: Vec::new(),
            because: Vec::new(),
            is_evaded: false,
            is_exempt: false,
        }
    }

    /// Why a workload is refused for it, where it is.
    pub fn refusal(&self, intent: &Intent) -> Option<String> {
        if self.is_required && !self.outcome.is_satisfied() {
            return Some(format!("{intent} is required but {}", self.outcome));
        }
        let policy = self.enforced.as_ref()?.denied_by.as_ref()?;
        let is_bound = matches!(self.outcome, Outcome::Bound(_));
        (!is_bound && !self.is_excused())
            .then(|| format!("policy {policy} enforces {intent}, which is {}", self.outcome))
    }

    /// Whether what is absent is nobody's to mend: no offer could, or whoever it is offers it to others.
    fn is_excused(&self) -> bool {
        self.is_exempt || matches!(&self.outcome, Outcome::Absent(absence) if absence.is_the_workloads_own())
    }

    /// Why the workload will lack what a policy enforces, once the plan is carried out; `None` where it has it.
    pub fn lack(&self) -> Option<String> {
        if !self.outcome.is_satisfied() {
            return (!self.is_excused()).then(|| self.outcome.to_string());
        }
        let skipped: BTreeSet<&str> = self.skipped.iter().map(|skipped| skipped.what.as_str()).collect();
        let names = skipped.into_iter().collect::<Vec<_>>().join(", ");
        let reason =
            flat(&format!("the workload sets {names} itself (a policy's `overwrite` makes that give way)"));
        self.is_evaded.then_some(reason)
    }

    /// Who made it so, where that is not the workload itself.
    fn origin(&self) -> Option<String> {
        if let Some(enforced) = &self.enforced {
            return Some(format!("enforced by policy {}", enforced.policy));
        }
        match (&self.asker, &self.outcome) {
            (Asker::Workload, _) | (_, Outcome::Forbidden(_)) => None,
            (Asker::Namespace, _) => Some("by the namespace's default".to_owned()),
            (Asker::Policy(name), _) => Some(format!("by default of policy {name}")),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.outcome)?;
        let mut asides: Vec<String> = self.origin().into_iter().chain(self.notes.iter().cloned()).collect();
        // By name: the order of a pod's containers says nothing.
        let mut by_reason: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for skipped in &self.skipped {
            by_reason.entry(&skipped.reason).or_default().insert(&skipped.what);
        }
        let told = by_reason.iter().map(|(reason, what)| {
            let what: Vec<&str> = what.iter().copied().collect();
            flat(&format!("{reason}: {}", what.join(", ")))
        });
        asides.extend(told);
        match asides.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", asides.join(", ")),
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Why the workload is refused, for each intent that is required or enforced and can't be satisfied.
    pub fn refusals(&self) -> impl Iterator<Item = String> {
        self.decisions.iter().filter_map(|(intent, decision)| decision.refusal(intent))
    }

    /// The annotation `status`: `ldap=directory/openldap; mail=absent: no offer`.
    pub fn status(&self) -> String {
        let mut parts: BTreeMap<&Intent, String> = BTreeMap::new();
        parts.extend(self.untouched.iter().map(|(intent, said)| (intent, format!("{intent}={said}"))));
        parts.extend(self.decisions.iter().map(|(intent, decided)| (intent, format!("{intent}={decided}"))));
        let parts: Vec<String> = parts.into_values().collect();
        let status = parts.join("; ");
        match status.len() <= MAX_STATUS {
            true => status,
            false => status.chars().take(MAX_STATUS).collect(),
        }
    }
}
