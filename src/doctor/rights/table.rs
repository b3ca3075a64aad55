//! Which rights our ServiceAccounts need, each with the code that needs it, and which they must not have: what the chart's
//! rbac.yaml grants, as data.
use crate::{
    cluster::{CA_SECRET, CONFIGURATION, LEASE, POLICIES_CONFIGURATION},
    watch::{self, RESOURCES, further},
};
use opportune_core::workload::Kinds;
use serde_json::{Value, json};

/// A right, and the code that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// Only the object of that name.
    name: &'static str,
    place: Place,
    pub(super) code: &'static str,
}

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Cluster,
    OurNamespace,
    /// In our namespace, and only with certificates that we make ourselves.
    OurNamespaceIfManaged,
    /// In the cluster, and only with certificates that we make ourselves.
    ClusterIfManaged,
}

use Place::{Cluster, ClusterIfManaged, OurNamespace, OurNamespaceIfManaged};

const fn right(
    place: Place,
    what: Resource,
    verb: &'static str,
    name: &'static str,
    code: &'static str,
) -> Right {
    Right { group: what.0, resource: what.1, verb, name, place, code }
}

/// A group and a plural in it; after a slash, a subresource.
type Resource = (&'static str, &'static str);

const LEASES: Resource = ("coordination.k8s.io", "leases");
const SECRET: Resource = ("", "secrets");
const CONFIG_MAP: Resource = ("", "configmaps");
const CLAIM: Resource = ("", "persistentvolumeclaims");
const CONFIGURATIONS: Resource = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations");

/// What a webhook replica needs besides reading what discovery reads.
const WEBHOOK: [Right; 8] = [
    right(
        Cluster,
        CONFIG_MAP,
        "get",
        "",
        "src/watch/config_maps.rs: the ConfigMap beside a recognised service",
    ),
    right(OurNamespace, LEASES, "get", LEASE, "src/control/presence.rs: whether anybody delivers"),
    right(OurNamespaceIfManaged, SECRET, "get", CA_SECRET, "src/tls/store.rs: signs its own certificate"),
    right(OurNamespaceIfManaged, SECRET, "list", CA_SECRET, "src/tls/store.rs: sees a new authority"),
    right(OurNamespaceIfManaged, SECRET, "watch", CA_SECRET, "src/tls/store.rs: sees a new authority"),
    right(Cluster, CONFIGURATIONS, "get", CONFIGURATION, "src/tls/managed.rs: is ready once it is trusted"),
    right(ClusterIfManaged, CONFIGURATIONS, "list", CONFIGURATION, "src/tls/managed.rs: sees a new caBundle"),
    right(
        ClusterIfManaged,
        CONFIGURATIONS,
        "watch",
        CONFIGURATION,
        "src/tls/managed.rs: sees a new caBundle",
    ),
];

/// What the controller needs to lead, and to keep the certificates.
const CONTROLLER: [Right; 14] = [
    right(OurNamespace, LEASES, "create", "", "src/control/election.rs: makes the Lease"),
    right(OurNamespace, LEASES, "get", LEASE, "src/control/election.rs: who leads"),
    right(OurNamespace, LEASES, "update", LEASE, "src/control/election.rs: renews it"),
    right(OurNamespaceIfManaged, SECRET, "create", "", "src/tls/keeper.rs: makes the authority"),
    right(OurNamespaceIfManaged, SECRET, "get", CA_SECRET, "src/tls/keeper.rs: reads the authority"),
    right(OurNamespaceIfManaged, SECRET, "list", CA_SECRET, "src/tls/keeper.rs: sees it change"),
    right(OurNamespaceIfManaged, SECRET, "watch", CA_SECRET, "src/tls/keeper.rs: sees it change"),
    right(OurNamespaceIfManaged, SECRET, "update", CA_SECRET, "src/tls/keeper.rs: renews the authority"),
    right(
        Cluster,
        CONFIGURATIONS,
        "get",
        CONFIGURATION,
        "src/control/policies.rs: what the webhooks of policies take after",
    ),
    right(
        ClusterIfManaged,
        CONFIGURATIONS,
        "watch",
        CONFIGURATION,
        "src/tls/keeper.rs: sees caBundle change",
    ),
    right(ClusterIfManaged, CONFIGURATIONS, "update", CONFIGURATION, "src/tls/keeper.rs: writes caBundle"),
    right(
        ClusterIfManaged,
        CONFIGURATIONS,
        "watch",
        POLICIES_CONFIGURATION,
        "src/tls/keeper.rs: sees caBundle change",
    ),
    right(
        Cluster,
        CONFIGURATIONS,
        "get",
        POLICIES_CONFIGURATION,
        "src/control/policies.rs: the webhooks of policies",
    ),
    right(
        Cluster,
        CONFIGURATIONS,
        "update",
        POLICIES_CONFIGURATION,
        "src/control/policies.rs: writes the webhooks of policies",
    ),
];

/// What neither needs: whoever takes over a pod of ours must not have it for nothing.
pub(super) const EXCESS: [Right; 7] = [
    right(Cluster, SECRET, "list", "", "reads all Secrets of the cluster"),
    right(Cluster, SECRET, "watch", "", "reads all Secrets of the cluster"),
    right(Cluster, CONFIGURATIONS, "update", "", "could change every object through any webhook"),
    right(Cluster, CONFIGURATIONS, "create", "", "could change every object through a webhook of its own"),
    right(Cluster, ("", "pods"), "create", "", "could run as any ServiceAccount"),
    right(
        Cluster,
        ("rbac.authorization.k8s.io", "clusterroles"),
        "escalate",
        "",
        "could give itself any right",
    ),
    right(Cluster, ("", "users"), "impersonate", "", "could act as anybody"),
];
/// What a webhook replica may not have either: it writes nothing.
pub(super) const WEBHOOK_EXCESS: [Right; 4] = [
    right(Cluster, SECRET, "get", "", "reads any Secret of the cluster"),
    right(Cluster, ("apps", "deployments"), "update", "", "the webhook writes nothing"),
    right(Cluster, ("apps", "deployments"), "patch", "", "the webhook writes nothing"),
    right(Cluster, SECRET, "create", "", "the webhook writes nothing"),
];

/// What the controller may not have either.
pub(super) const CONTROLLER_EXCESS: [Right; 5] = [
    right(Cluster, CLAIM, "delete", "", "could take the data of an app away"),
    right(Cluster, SECRET, "deletecollection", "", "deletes its own copies, each by name"),
    right(Cluster, ("apps", "deployments"), "create", "", "delivers to workloads and makes none"),
    right(Cluster, ("apps", "deployments"), "delete", "", "delivers to workloads and takes none away"),
    right(Cluster, ("", "namespaces"), "update", "", "could make a namespace a provider"),
];

/// What delivery needs, in whatever namespace workloads and offers are.
const DELIVERY: [(Resource, &[&str], &str); 10] = [
    (SECRET, &["get"], "src/control/sources.rs: reads the Secret that an offer names"),
    (SECRET, &["create", "update", "delete"], "src/control/deliver.rs: keeps the copies for consumers"),
    (CONFIG_MAP, &["get"], "src/watch/config_maps.rs: the ConfigMap beside a recognised service"),
    (CONFIG_MAP, &["create", "update", "delete"], "src/control/deliver.rs: keeps the files of workloads"),
    (CLAIM, &["get", "create", "update"], "src/control/claims.rs: makes claims"),
    (("events.k8s.io", "events"), &["create"], "src/control/events.rs: says what happened to a workload"),
    (
        ("opportune.libre.sh", "serviceoffers/status"),
        &["patch"],
        "src/control/offers.rs: says who can use an offer",
    ),
    (
        ("opportune.libre.sh", "injectionpolicies/status"),
        &["patch"],
        "src/control/policies.rs: says how many workloads a policy acts on",
    ),
    (("networking.k8s.io", "ingresses"), &["list", "watch"], "src/watch: what leads to an app"),
    (("gateway.networking.k8s.io", "httproutes"), &["list", "watch"], "src/watch: what leads to an app"),
];

/// All that the controller needs for workloads of those kinds.
pub(super) fn controller(kinds: &Kinds) -> impl Iterator<Item = Right> {
    let delivery = DELIVERY
        .iter()
        .flat_map(|(what, verbs, code)| verbs.iter().map(|verb| right(Cluster, *what, verb, "", code)));
    let code = "src/control/refresh.rs: status, withdrawal, rollout";
    let patched = kinds.iter().map(|kind| right(Cluster, (kind.group(), kind.plural()), "patch", "", code));
    let code = "src/watch: what is delivered to";
    let watched = further(kinds).flat_map(move |resource| reading(resource, code));
    CONTROLLER.into_iter().chain(discovery()).chain(delivery).chain(patched).chain(watched)
}

/// All that the webhook needs.
pub(super) fn webhook() -> impl Iterator<Item = Right> {
    discovery().chain(WEBHOOK)
}

/// What discovery reads, in either.
fn discovery() -> impl Iterator<Item = Right> {
    RESOURCES.iter().flat_map(|resource| reading(resource, "src/watch: discovery"))
}

fn reading(resource: &'static watch::Resource, code: &'static str) -> [Right; 2] {
    let (plural, group) = resource.name.split_once('.').unwrap_or((resource.name, ""));
    ["list", "watch"].map(|verb| right(Cluster, (group, plural), verb, "", code))
}

// === impl Right ===

impl Right {
    /// Whether it is needed only with certificates that we make ourselves.
    pub(super) fn is_for_managed(&self) -> bool {
        matches!(self.place, OurNamespaceIfManaged | ClusterIfManaged)
    }

    fn namespace<'a>(&self, ours: &'a str) -> &'a str {
        match self.place {
            OurNamespace | OurNamespaceIfManaged => ours,
            Cluster | ClusterIfManaged => "",
        }
    }

    /// What is asked, as the API server reads it.
    pub(super) fn attributes(&self, ours: &str) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        json!({
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "verb": self.verb,
            "name": self.name,
            "namespace": self.namespace(ours),
        })
    }

    /// `verb resource name`
    pub(super) fn short(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{} {}{dot}{} {}", self.verb, self.resource, self.group, self.name).trim_end().to_owned()
    }

    /// The same with the place, and the code that needs it.
    pub(super) fn told(&self, namespace: &str) -> String {
        let place = match self.namespace(namespace) {
            "" => String::new(),
            namespace => format!(" in {namespace}"),
        };
        format!("{}{place} ({})", self.short(), self.code)
    }
}
