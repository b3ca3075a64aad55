//! Terms: what holds for one workload, of what it asks for itself, what its Namespace says for it, and what policies say of
//! both.
//!
//! A policy's defaults give way to the Namespace's, and these to the workload's own annotations, intent by intent: the
//! nearest that says anything of an intent decides. What a policy enforces or forbids, nobody can undo.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{Refresh, Wishes};
use crate::{
    api::{self, OnAbsent},
    discover::{Catalog, Labels, Policy},
    intent::Intent,
    name, size,
};

/// Who asked for something.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// The workload, by its own annotations.
    #[default]
    Workload,
    /// Its Namespace's annotations.
    Namespace,
    /// The policy of that name.
    Policy(String),
}

/// What holds for one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Who asked for it.
    pub asker: Asker,
    /// Whether the workload is refused without it.
    pub is_required: bool,
    /// What became of that.
    pub ruling: Ruling,
}

/// What becomes of a wish before any offer is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It is heeded.
    Granted,
    /// It is declined, nearer to the workload than it was asked for.
    Declined,
    /// The policy of that name forbids it.
    Forbidden(String),
    /// A policy enforces it.
    Enforced(Enforced),
}

/// An intent that a policy enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// The first policy that does.
    pub policy: String,
    /// The first policy that refuses a workload without it.
    pub denied_by: Option<String>,
}

/// An offer that a policy prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// The policy.
    pub policy: String,
    /// The offer, as `namespace/name`; a name alone is one of the workload's own namespace or of none.
    pub offer: String,
}

/// A size, and the policy that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySize {
    /// The policy.
    pub policy: String,
    /// The size, such as `10Gi`.
    pub size: String,
}

/// Of whom the terms are.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The workload's own labels.
    pub labels: &'a Labels,
    /// Whether another controller owns it, and it has no annotation of ours: operators compare what they made with what is
    /// there.
    pub is_operators: bool,
    /// Whether injection is on in its namespace.
    pub is_on: bool,
    /// Whether its Namespace's annotations are defaults.
    pub inherits: bool,
    /// A policy that is known to select its namespace, whatever the catalog knows of that.
    pub policy: Option<&'a str>,
}

/// What holds for one workload.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// What it asks for, with what it takes from its Namespace besides intents.
    pub wishes: Wishes,
    /// By intent: all that are asked for or enforced.
    pub intents: BTreeMap<Intent, Term>,
    /// The policies that act on it, higher priority first.
    pub policies: Vec<Arc<Policy>>,
    /// What happens when an offer appears or changes later.
    pub refresh: Refresh,
    /// Who says so; nobody, where it is what always happens.
    pub refresh_by: Option<Asker>,
    /// Whether it takes defaults from its Namespace.
    pub inherits: bool,
    /// The intents whose variables are those that the Namespace says.
    pub mapped_by_namespace: BTreeSet<Intent>,
    /// Whether preferences count for what is not enforced.
    is_on: bool,
}

// === impl Terms ===

impl Terms {
    /// What holds for a workload with these wishes.
    pub fn new(catalog: &Catalog, subject: &Subject<'_>, mut wishes: Wishes) -> Self {
        let inherits = subject.inherits
            && subject.is_on
            && !(subject.is_operators || wishes.disinherits || wishes.opted_out);
        let defaults = catalog.namespace_defaults(subject.namespace).filter(|_| inherits);
        let defaults = defaults.map(|defaults| &defaults.wishes);
        let policies = acting(catalog, subject);
        let own = wishes.refresh.map(|refresh| (refresh, Asker::Workload));
        let near = || Some((defaults?.refresh?, Asker::Namespace));
        let said = own.or_else(near).or_else(|| policies.iter().find_map(|policy| policy.refresh()));
        let (refresh, refresh_by) =
            said.map_or((Refresh::default(), None), |(refresh, asker)| (refresh, Some(asker)));
        let intents = Levels { subject, wishes: &wishes, defaults, policies: &policies }.resolve();
        let mut mapped_by_namespace = BTreeSet::new();
        for (intent, lines) in defaults.into_iter().flat_map(|defaults| &defaults.env) {
            if !wishes.env.contains_key(intent) {
                wishes.env.insert(intent.clone(), lines.clone());
                mapped_by_namespace.insert(intent.clone());
            }
        }
        let is_on = subject.is_on;
        Self { wishes, intents, policies, refresh, refresh_by, inherits, mapped_by_namespace, is_on }
    }

    /// Whether anything holds that the workload can't undo.
    pub fn has_enforced(&self) -> bool {
        self.intents.values().any(Term::is_enforced)
    }

    /// Leaves nothing but what is enforced, where the rest can't be read.
    pub fn only_enforced(&mut self) {
        self.intents.retain(|_, term| term.is_enforced());
    }

    /// The offers that policies prefer for an intent, the first that counts first.
    pub fn preferences(&self, intent: &Intent) -> Vec<Preference> {
        if !self.is_on && !self.intents.get(intent).is_some_and(Term::is_enforced) {
            return Vec::new();
        }
        let preferred = self.policies.iter().filter_map(|policy| {
            let offer = policy.preferred(intent)?.to_owned();
            Some(Preference { policy: policy.name.clone(), offer })
        });
        preferred.collect()
    }

    /// The policy by which an intent is forbidden, asked for or not.
    pub fn forbidding(&self, intent: &Intent) -> Option<&str> {
        let forbids = |policy: &&Arc<Policy>| policy.spec.forbid.contains(intent);
        self.policies.iter().find(forbids).map(|policy| policy.name.as_str())
    }

    /// How policies disagree about a forbidden intent, for an operator.
    pub(crate) fn overruled(&self, intent: &Intent, term: &Term) -> Vec<String> {
        let Ruling::Forbidden(forbidding) = &term.ruling else { return Vec::new() };
        let said = self.policies.iter().filter_map(|policy| {
            let (name, priority) = (&policy.name, policy.spec.priority);
            if name == forbidding {
                return Some(format!("policy {name} (priority {priority}) forbids it"));
            }
            let enforces = policy.spec.enforce.contains(intent);
            enforces.then(|| format!("policy {name} (priority {priority}) enforces it, and gives way"))
        });
        said.collect()
    }

    /// The policy by which a variable of the user's gives way for an intent.
    pub fn overwriting(&self, intent: &Intent) -> Option<&str> {
        self.policies.iter().find(|policy| policy.overwrites(intent)).map(|policy| policy.name.as_str())
    }

    /// The size of a volume where nobody nearer says one.
    pub fn default_size(&self) -> Option<PolicySize> {
        self.sizes(|storage| storage.default_size.as_ref()).next()
    }

    /// The largest size of a volume: the smallest that a policy allows.
    pub fn max_size(&self) -> Option<PolicySize> {
        let bytes = |size: &PolicySize| size::bytes(&size.size).unwrap_or(f64::INFINITY);
        self.sizes(|storage| storage.max_size.as_ref()).min_by(|a, b| bytes(a).total_cmp(&bytes(b)))
    }

    fn sizes(
        &self,
        of: impl Fn(&api::StorageDefaults) -> Option<&String>,
    ) -> impl Iterator<Item = PolicySize> {
        self.policies.iter().filter_map(move |policy| {
            let size = of(policy.spec.storage.as_ref()?)?.clone();
            Some(PolicySize { policy: policy.name.clone(), size })
        })
    }

    /// Eight hexadecimal digits that change with what is asked for, by whom, and what policies prefer of it.
    pub fn digest(&self) -> String {
        let wishes = self.wishes.digest();
        let mut others = Vec::new();
        for (intent, term) in &self.intents {
            let preferred = self.preferences(intent).into_iter().map(|preference| preference.offer);
            let preferred: Vec<String> = preferred.collect();
            if *term != Term::granted(Asker::Workload, term.is_required) || !preferred.is_empty() {
                others.push(format!("{intent} {} {}", term.essence(), preferred.join(" ")));
            }
        }
        if others.is_empty() {
            return wishes;
        }
        let parts: Vec<&str> = std::iter::once(&wishes).chain(&others).map(String::as_str).collect();
        name::hex(&parts, 8)
    }
}

/// The policies that act on a workload.
fn acting(catalog: &Catalog, subject: &Subject<'_>) -> Vec<Arc<Policy>> {
    let mut policies: Vec<_> = catalog.policies_in(subject.namespace).cloned().collect();
    let told = subject.policy.and_then(|name| catalog.policy(name));
    if let Some(told) = told.filter(|told| policies.iter().all(|policy| policy.name != told.name)) {
        policies.push(told.clone());
        policies.sort_by_cached_key(|policy| policy.place());
    }
    policies.retain(|policy| policy.selects_workload(subject.labels));
    policies
}

/// The three levels at which something can be asked for.
struct Levels<'a> {
    subject: &'a Subject<'a>,
    wishes: &'a Wishes,
    defaults: Option<&'a Wishes>,
    policies: &'a [Arc<Policy>],
}

// === impl Levels ===

impl Levels<'_> {
    fn resolve(&self) -> BTreeMap<Intent, Term> {
        let enforced = self.policies.iter().flat_map(|policy| &policy.spec.enforce);
        let mut intents: BTreeSet<&Intent> = enforced.collect();
        if self.subject.is_on && !self.wishes.opted_out {
            for wishes in std::iter::once(self.wishes).chain(self.defaults) {
                intents.extend(wishes.wants.iter().chain(&wishes.requires));
            }
            intents.extend(self.default_policies().flat_map(|policy| &policy.spec.defaults));
        }
        let terms = intents.into_iter().filter_map(|intent| Some((intent.clone(), self.term(intent)?)));
        terms.collect()
    }

    /// The policies whose defaults count here.
    fn default_policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter(|_| !self.subject.is_operators)
    }

    fn term(&self, intent: &Intent) -> Option<Term> {
        let asked = self.asked(intent);
        let enforcing = || self.policies.iter().filter(|policy| policy.spec.enforce.contains(intent));
        let forbidding = self.policies.iter().find(|policy| policy.spec.forbid.contains(intent));
        let enforced = enforcing().next();
        // Both come in the order of their priority.
        let forbidding = forbidding.filter(|forbidding| {
            enforced.is_none_or(|enforcing| enforcing.spec.priority <= forbidding.spec.priority)
        });
        let by = |policy: &Arc<Policy>| Term::granted(Asker::Policy(policy.name.clone()), false);
        match (forbidding, enforced) {
            (Some(forbidding), _) => {
                let term = asked.or_else(|| enforced.map(by))?;
                Some(Term { ruling: Ruling::Forbidden(forbidding.name.clone()), ..term })
            }
            (None, Some(policy)) => {
                let denying = enforcing().find(|policy| policy.spec.on_absent == OnAbsent::Deny);
                let enforced =
                    Enforced { policy: policy.name.clone(), denied_by: denying.map(|p| p.name.clone()) };
                let asked = asked.filter(|term| term.ruling != Ruling::Declined);
                let term = asked.unwrap_or_else(|| by(policy));
                Some(Term { ruling: Ruling::Enforced(enforced), ..term })
            }
            (None, None) => asked,
        }
    }

    /// What the nearest level that says anything of an intent says.
    fn asked(&self, intent: &Intent) -> Option<Term> {
        if !self.subject.is_on || self.wishes.opted_out {
            return None;
        }
        let levels = [(Asker::Workload, Some(self.wishes)), (Asker::Namespace, self.defaults)];
        for (asker, wishes) in levels {
            let Some(wishes) = wishes else { continue };
            let asks = wishes.asks(intent);
            if wishes.has_declined(intent) {
                let is_required = asks.unwrap_or(false);
                return Some(Term { asker, is_required, ruling: Ruling::Declined });
            }
            if let Some(is_required) = asks {
                return Some(Term::granted(asker, is_required));
            }
        }
        let policy = self.default_policies().find(|policy| policy.spec.defaults.contains(intent))?;
        Some(Term::granted(Asker::Policy(policy.name.clone()), false))
    }
}

// === impl Term ===

impl Term {
    fn granted(asker: Asker, is_required: bool) -> Self {
        Self { asker, is_required, ruling: Ruling::Granted }
    }

    /// Whether a policy enforces it.
    pub fn is_enforced(&self) -> bool {
        self.enforced().is_some()
    }

    /// By whom it is enforced.
    pub fn enforced(&self) -> Option<&Enforced> {
        match &self.ruling {
            Ruling::Enforced(enforced) => Some(enforced),
            Ruling::Granted | Ruling::Declined | Ruling::Forbidden(_) => None,
        }
    }

    /// What of it bears on the choice of an offer.
    fn essence(&self) -> &'static str {
        match (&self.ruling, &self.asker) {
            (Ruling::Enforced(_), _) => "enforced",
            (Ruling::Forbidden(_), _) => "forbidden",
            (Ruling::Declined, _) => "declined",
            (Ruling::Granted, Asker::Workload) => "own",
            (Ruling::Granted, Asker::Namespace) => "namespace",
            (Ruling::Granted, Asker::Policy(_)) => "default",
        }
    }
}

// === impl Asker ===

/// As in explanations and tables: `workload`, `namespace` or `policy NAME`.
impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload => f.write_str("workload"),
            Self::Namespace => f.write_str("namespace"),
            Self::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

// === impl Policy ===

impl Policy {
    fn refresh(&self) -> Option<(Refresh, Asker)> {
        let refresh = match self.spec.refresh? {
            api::Refresh::Never => Refresh::Never,
            api::Refresh::Notify => Refresh::Notify,
            api::Refresh::Rollout => Refresh::Rollout,
        };
        Some((refresh, Asker::Policy(self.name.clone())))
    }
}
