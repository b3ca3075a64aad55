//! An offer: something in the cluster that can satisfy one intent.
use std::{
    cmp::{Ordering, Reverse},
    fmt,
};

use super::{LabelSelector, Labels};
use crate::{
    intent::Intent,
    name,
    settings::{Fact, Problem, Settings},
};

/// The object that an offer was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId {
    /// The namespace; `None` for what is cluster-scoped.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The object's kind.
    pub source: Source,
}

/// The kinds of objects that offers are made from. A ServiceOffer comes before a Service of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Our own resource.
    ServiceOffer,
    /// A Service, marked or recognised.
    Service,
    /// A StorageClass.
    StorageClass,
}

/// How an offer came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Somebody said so: a label on a Service, or a ServiceOffer.
    Marked,
    /// A recipe recognised it.
    Recognised,
}

/// Which other namespaces may use an offer of a provider namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumers {
    /// None.
    OwnNamespace,
    /// Those that the selector selects.
    Selected(LabelSelector),
}

/// The Secret that holds an offer's credentials, in the offer's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsSecret {
    /// Its name.
    pub name: String,
}

/// How many of an offer's problems are told at once.
const MAX_PROBLEMS: usize = 5;

/// Something that can satisfy one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it can satisfy.
    pub intent: Intent,
    /// Where it comes from.
    pub id: OfferId,
    /// How it came to be.
    pub origin: Origin,
    /// The recipe that recognised the product, marked or not.
    pub recipe: Option<String>,
    /// How to supply what recognition can't know.
    pub hint: Option<String>,
    /// Higher comes first.
    pub priority: i64,
    /// Which other namespaces may use it, where its own is a provider namespace.
    pub consumers: Consumers,
    /// All that is known of it.
    pub settings: Settings,
    /// Where its credentials are.
    pub credentials: Option<CredentialsSecret>,
    /// What is wrong with what was said of it.
    pub problems: Vec<Problem>,
    /// It takes requests and never serves them (a mail catcher).
    pub is_trap: bool,
    /// The pods behind it, by their labels; empty where unknown.
    pub pods: Labels,
}

// === impl OfferId ===

impl OfferId {
    pub(super) fn namespaced(namespace: &str, name: &str, source: Source) -> Self {
        Self { namespace: Some(namespace.to_owned()), name: name.to_owned(), source }
    }

    pub(super) fn of_cluster(name: &str, source: Source) -> Self {
        Self { namespace: None, name: name.to_owned(), source }
    }

    /// Reads what [`OfferId::key`] wrote.
    pub fn from_key(key: &str) -> Option<Self> {
        let mut parts = key.splitn(3, '/');
        let (kind, first, second) = (parts.next()?, parts.next()?, parts.next());
        let source = match kind {
            "ServiceOffer" => Source::ServiceOffer,
            "Service" => Source::Service,
            "StorageClass" => Source::StorageClass,
            _ => return None,
        };
        let (namespace, name) = match second {
            Some(name) => (Some(first.to_owned()), name.to_owned()),
            None => (None, first.to_owned()),
        };
        Some(Self { namespace, name, source })
    }

    /// `Kind/namespace/name`, unique in a cluster.
    pub fn key(&self) -> String {
        format!("{}/{self}", self.source)
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

// === impl Source ===

impl Source {
    /// The kind, as objects name it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::ServiceOffer => "ServiceOffer",
            Self::Service => "Service",
            Self::StorageClass => "StorageClass",
        }
    }
}

// === impl Shown ===

/// An id in the order of its text, which is not that of its parts: `a-b/x` comes before `a/x`.
#[derive(PartialEq, Eq)]
struct Shown<'a>(&'a OfferId);

impl Shown<'_> {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let namespace = self.0.namespace.iter().flat_map(|namespace| namespace.bytes().chain([b'/']));
        namespace.chain(self.0.name.bytes())
    }
}

impl Ord for Shown<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.0.namespace == other.0.namespace {
            true => self.0.name.cmp(&other.0.name),
            false => self.bytes().cmp(other.bytes()),
        }
    }
}

impl PartialOrd for Shown<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// === impl Offer ===

impl Offer {
    /// What it still lacks to be used.
    pub fn lacks(&self) -> Vec<&'static str> {
        let bad = |name: &&str| !self.problems.iter().any(|problem| problem.setting == *name);
        self.settings.lacks(&self.intent).into_iter().filter(bad).collect()
    }

    /// Whether everything that its intent needs is known and nothing is wrong.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.settings.lacks(&self.intent).is_empty()
    }

    /// Why it can't be used: `lacks base-dn; port: expected a number`. Empty when it is complete.
    pub fn incompleteness(&self) -> String {
        let lacks = self.lacks();
        let lacking = (!lacks.is_empty()).then(|| format!("lacks {}", lacks.join(", ")));
        let more = self.problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0);
        let problems = self.problems.iter().take(MAX_PROBLEMS).map(Problem::to_string);
        let all = lacking.into_iter().chain(problems).chain(more.map(|more| format!("and {more} more")));
        all.collect::<Vec<_>>().join("; ")
    }

    /// Whether it is what `namespace` itself has.
    pub fn is_in(&self, namespace: &str) -> bool {
        self.id.namespace.as_deref() == Some(namespace)
    }

    /// Its place among the candidates of `namespace` (design 1.3): lower comes first.
    pub(super) fn rank(&self, namespace: &str) -> impl Ord + use<'_> {
        let is_own = self.is_in(namespace);
        let tier = match (&self.origin, is_own) {
            (Origin::Marked, true) => 0,
            (Origin::Marked, false) => 1,
            (Origin::Recognised, true) => 2,
            (Origin::Recognised, false) => 3,
        };
        (tier, Reverse(self.priority), Shown(&self.id), self.id.source)
    }

    /// Whether the pods with these labels in `namespace` are those behind it.
    pub fn is_served_by(&self, namespace: &str, pod_labels: &Labels) -> bool {
        self.is_in(namespace) && !self.pods.is_empty() && pod_labels.has_all(&self.pods)
    }

    /// Eight hexadecimal digits that change when anything that it hands out changes.
    pub fn fingerprint(&self) -> String {
        let mut parts =
            vec![self.id.key(), self.credentials.as_ref().map_or(String::new(), |c| c.name.clone())];
        for (name, fact) in self.settings.iter() {
            parts.push(name.to_owned());
            parts.push(match fact {
                Fact::Literal(value) => value.clone(),
                Fact::Credential(keys) => keys.join("\n"),
                Fact::Composed(template) => template.source().to_owned(),
            });
        }
        name::hex(&parts.iter().map(String::as_str).collect::<Vec<_>>(), 8)
    }

    /// The product behind it.
    pub fn provider(&self) -> Option<&str> {
        self.settings.literal("provider")
    }
}
