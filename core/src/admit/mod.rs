//! Admission: one workload in; a patch, a plan, warnings, or a denial out.
mod again;
mod target;
mod uninjected;
mod versions;

use std::sync::Arc;

use serde_json::Value;

pub use self::again::{Again, is_later, later, look_again, say, template_hash, try_again, withdraw};
pub use self::uninjected::{UninjectedKind, admit_uninjected, uninjected_kinds};
use self::versions::Versions;
use crate::{
    api::OnAbsent,
    decide::Plan,
    deliver::Delivery,
    discover::{Catalog, NamespaceLabel, Policy},
    inject::{self, Operation, PatchOperation, owners::Owners},
    intent::Intent,
    json::Json,
    keys, warning,
    workload::{Kind, Kinds, Malformed, OWNERS, Workload, has_maker},
};

/// Where injection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Only in namespaces labelled `opportune.libre.sh/inject: enabled`.
    #[default]
    OptIn,
    /// In every namespace that is not labelled `opportune.libre.sh/inject: disabled`.
    ClusterWide,
}

/// What the operator of this replica decided.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where injection is on.
    pub mode: Mode,
    /// Which kinds of workloads are injected.
    pub kinds: Kinds,
    /// Namespaces that are never touched, besides `kube-system`.
    pub excluded_namespaces: Vec<String>,
    /// Whether somebody is there to make Secrets and claims.
    pub delivery: DeliveryState,
    /// Whether the cluster was read.
    pub catalog: CatalogState,
    /// Who knows where injection is on.
    pub selection: Selection,
    /// Whether workloads take defaults from their Namespace's annotations.
    pub inheritance: Inheritance,
}

/// Whether workloads take defaults from their Namespace's annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inheritance {
    /// They don't.
    #[default]
    Off,
    /// They do, unless they say `inherit: "false"`.
    FromNamespace,
}

/// Who knows, of a namespace that is not excluded, whether injection is on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// The catalog does: the Namespace's label and the mode decide.
    #[default]
    Catalog,
    /// Who calls does: an API server calls a webhook for the namespaces that it selects, and knows a new label before a watch
    /// tells of it.
    Caller,
    /// The webhook of this policy was called: the policy selects the namespace, whatever the catalog knows of that by now. Of
    /// injection by annotations, the catalog knows.
    Policy(String),
}

/// Whether the catalog tells what the cluster holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatalogState {
    /// It was read, and followed since.
    #[default]
    Read,
    /// It is being read: nothing can be decided by it yet.
    Unread,
}

/// Whether a controller is there to make what a patch points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryState {
    /// Somebody delivers (or we are offline, where it is taken as given).
    #[default]
    Present,
    /// Nobody renewed the Lease lately: nothing that needs delivery is newly injected.
    Away,
}

/// A workload that is created, or changed where `old` is given.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The workload's namespace.
    pub namespace: &'a str,
    /// The object.
    pub object: &'a Json<'a>,
    /// The object as the server holds it, on an update.
    pub old: Option<&'a Json<'a>>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// In one word, and why.
    pub result: AdmissionResult,
    /// RFC 6902 operations, in order.
    pub patch: Vec<Operation>,
    /// What was decided, where anything was.
    pub plan: Option<Plan>,
    /// Lines for the person who applied the object: printable, at most 120 characters each.
    pub warnings: Vec<String>,
    /// What a controller has to make.
    pub delivery: Delivery,
    /// Why the workload's own annotations count for nothing, where only what is enforced was decided.
    pub unread: Option<Failure>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdmissionResult {
    /// It is none of our business.
    #[default]
    Ignored,
    /// It is as it should be.
    Unchanged,
    /// It is changed by the patch.
    Patched,
    /// It is refused, and why.
    Denied(String),
    /// We could not do our work: it stays as it came (or as it was injected before), and why.
    FailedOpen(Failure),
}

/// Why a workload could not be decided on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Failure {
    /// The field of the object.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

// === impl Failure ===

impl Failure {
    fn annotation(key: &str, reason: impl Into<String>) -> Self {
        Self { field: format!("annotation {key}"), reason: reason.into() }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self { field: malformed.field, reason: malformed.reason.to_owned() }
    }
}

// === impl Options ===

impl Options {
    /// Whether injection is on in a namespace. One that the catalog does not hold counts as opted in: offline there is
    /// nothing to know about it, and a cluster's webhook is not called for others.
    pub fn is_on(&self, catalog: &Catalog, namespace: &str) -> bool {
        self.why_off(catalog, namespace).is_none()
    }

    /// Whether a namespace is never touched.
    pub fn is_excluded(&self, namespace: &str) -> bool {
        namespace == keys::KUBE_SYSTEM
            || self.excluded_namespaces.iter().any(|excluded| excluded == namespace)
    }

    /// Whether a policy enforces or forbids something in a namespace, whatever the namespace's label says.
    pub fn is_ruled(&self, catalog: &Catalog, namespace: &str) -> bool {
        !self.is_excluded(namespace)
            && self
                .policies(catalog, namespace)
                .any(|policy| !policy.spec.enforce.is_empty() || !policy.spec.forbid.is_empty())
    }

    fn policies<'a>(
        &'a self,
        catalog: &'a Catalog,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Policy>> {
        let told = self.selection.policy().and_then(|name| catalog.policy(name));
        catalog.policies_in(namespace).chain(told)
    }

    /// What becomes of a workload that can't be decided on: it is refused where a policy refuses what lacks something that it
    /// enforces, and else left as it is.
    fn undecided(
        &self,
        catalog: &Catalog,
        request: &Request<'_>,
        failure: Failure,
        patch: Vec<Operation>,
        warnings: Vec<String>,
    ) -> Verdict {
        let denies = |policy: &&Arc<Policy>| {
            policy.spec.on_absent == OnAbsent::Deny
                && policy.spec.enforce.iter().any(|intent| !catalog.is_provider(request.namespace, intent))
        };
        let denying = self.policies(catalog, request.namespace).find(denies);
        match denying.filter(|_| self.is_ruled(catalog, request.namespace)) {
            Some(policy) => {
                let intents: Vec<&str> = policy.spec.enforce.iter().map(Intent::as_str).collect();
                let (name, intents) = (&policy.name, intents.join(", "));
                let reason = format!("opportune: policy {name} enforces {intents}, and {failure}");
                Verdict { result: AdmissionResult::Denied(reason), ..Verdict::default() }
            }
            None => Verdict::failed(failure, patch, warnings),
        }
    }

    /// Why a workload is left alone wherever it is, and what to do about it; `None` where it is not, or is no workload.
    pub fn why_left_alone(&self, object: &Json<'_>) -> Option<&'static str> {
        let kind = Kind::of_json(object)?;
        if !self.kinds.has(kind) {
            return Some("this kind is not switched on (chart value `kinds`, option --kinds)");
        }
        // What the controllers of Kubernetes make never reaches the webhook of a policy; an owner that somebody else wrote is no
        // way around it.
        (self.selection.policy().is_none() && has_maker(kind, object.at(OWNERS)))
            .then_some("another object makes it: annotate the template of that one")
    }

    /// Why injection is off in a namespace, and what to do about it.
    pub fn why_off(&self, catalog: &Catalog, namespace: &str) -> Option<&'static str> {
        if self.is_excluded(namespace) {
            return Some("this namespace is excluded");
        }
        if self.selection == Selection::Caller {
            return None;
        }
        let called = self.selection.policy().and_then(|name| catalog.policy(name));
        if called.is_some_and(|policy| policy.acts_where_on()) {
            return None;
        }
        let label = match catalog.namespace_label(namespace) {
            // Of a namespace that is that new, the webhook for annotations was called, or not, by its label.
            NamespaceLabel::Unknown if self.selection.policy().is_some() => NamespaceLabel::Absent,
            label => label,
        };
        match (label, self.mode) {
            (NamespaceLabel::Unknown | NamespaceLabel::Enabled, _)
            | (NamespaceLabel::Absent, Mode::ClusterWide) => None,
            (NamespaceLabel::Absent, Mode::OptIn) => {
                Some("label its Namespace opportune.libre.sh/inject=enabled")
            }
            (NamespaceLabel::Disabled, _) => {
                Some("its Namespace is labelled opportune.libre.sh/inject=disabled")
            }
        }
    }
}

// === impl Selection ===

impl Selection {
    /// The policy whose webhook was called.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Policy(name) => Some(name),
            Self::Catalog | Self::Caller => None,
        }
    }
}

/// Decides on one workload.
///
/// ```
/// use opportune_core::{admit::{AdmissionResult, Options, Request, admit}, discover::Catalog, json::Json};
/// let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap"});
/// let object = Json::from(&object);
/// let request = Request { namespace: "blog", object: &object, old: None };
/// let verdict = admit(&request, &Catalog::default(), &Options::default());
/// assert_eq!(verdict.result, AdmissionResult::Ignored);
/// ```
pub fn admit(request: &Request<'_>, catalog: &Catalog, options: &Options) -> Verdict {
    if Kind::of_json(request.object).is_none() || options.why_left_alone(request.object).is_some() {
        return Verdict::default();
    }
    let is_ruled = options.is_ruled(catalog, request.namespace);
    let is_ours = is_ruled || options.is_on(catalog, request.namespace);
    let mut warnings = Vec::new();
    let versions = match Versions::read(request, &mut warnings) {
        Ok(versions) => versions,
        Err(_) if !is_ours => return Verdict::default(),
        Err(failure) => return options.undecided(catalog, request, failure, Vec::new(), warnings),
    };
    if !is_ours {
        return versions.left_alone();
    }
    if versions.is_same() {
        return Verdict::of(versions.restored(), warnings);
    }
    let decided = match options.catalog {
        CatalogState::Read => versions.decide(request, catalog, options),
        CatalogState::Unread => Err(Failure {
            field: "the cluster".into(),
            reason: "is still being read: apply it again in a moment".into(),
        }),
    };
    let mut verdict = decided.unwrap_or_else(|failure| {
        let patch = versions.as_before(request).unwrap_or_else(|| versions.doubted());
        options.undecided(catalog, request, failure, patch, Vec::new())
    });
    verdict.warnings.splice(0..0, warnings);
    verdict
}

/// The operations that take everything of ours out of an object; none where it has no record.
///
/// # Errors
/// [`Failure`] where the object or its record can't be read.
pub fn take_out(object: &Value) -> Result<Vec<PatchOperation>, Failure> {
    let object = Json::from(object);
    let Some(workload) = Workload::read(&object)? else { return Ok(Vec::new()) };
    let record = versions::record(&workload)
        .map_err(|error| Failure::annotation(keys::INJECTED, error.to_string()))?;
    let owners = Owners::of(&workload, record.as_ref(), None);
    Ok(inject::standard(&versions::taken_out(&workload, record.as_ref(), &owners, true)))
}

// === impl Verdict ===

impl Verdict {
    fn of(patch: Vec<Operation>, warnings: Vec<String>) -> Self {
        let result = if patch.is_empty() { AdmissionResult::Unchanged } else { AdmissionResult::Patched };
        Self { result, patch, warnings, ..Self::default() }
    }

    fn failed(failure: Failure, patch: Vec<Operation>, mut warnings: Vec<String>) -> Self {
        warnings.push(warning::line(&format!("not injected: {failure}")));
        Self { result: AdmissionResult::FailedOpen(failure), patch, warnings, ..Self::default() }
    }
}
