//! The rights of our ServiceAccounts: those that the code needs, each with the code that needs it, and some that they must not
//! have.
use futures_util::{StreamExt, stream};
use kube::Client;
use serde_json::{Value, json};

use super::{Finding, some};
use crate::{
    cluster::{
        CA_SECRET, CONFIGURATION, LEASE, POLICIES_CONFIGURATION,
        look::{Kind, Look, post},
    },
    watch::RESOURCES,
};

const CHECK: &str = "rights";
const ACCOUNTS: Kind = Kind::of("", "v1", "serviceaccounts");
const SECRETS: Kind = Kind::of("", "v1", "secrets");
/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// A right, and the code that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// Only the object of that name.
    name: &'static str,
    place: Place,
    code: &'static str,
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
    what: (&'static str, &'static str),
    verb: &'static str,
    name: &'static str,
    code: &'static str,
) -> Right {
    Right { group: what.0, resource: what.1, verb, name, place, code }
}

const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
const SECRET: (&str, &str) = ("", "secrets");
const CONFIGURATIONS: (&str, &str) = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations");

/// What a webhook replica needs besides reading what discovery reads.
const WEBHOOK: [Right; 8] = [
    right(
        Cluster,
        ("", "configmaps"),
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

/// What the controller needs.
const CONTROLLER: [Right; 13] = [
    right(OurNamespace, LEASES, "create", "", "src/control/election.rs: makes the Lease"),
    right(OurNamespace, LEASES, "get", LEASE, "src/control/election.rs: who leads"),
    right(OurNamespace, LEASES, "update", LEASE, "src/control/election.rs: renews it"),
    right(OurNamespaceIfManaged, SECRET, "create", "", "src/tls/keeper.rs: makes the authority"),
    right(OurNamespaceIfManaged, SECRET, "get", CA_SECRET, "src/tls/keeper.rs: reads the authority"),
    right(OurNamespaceIfManaged, SECRET, "list", CA_SECRET, "src/tls/keeper.rs: sees it change"),
    right(OurNamespaceIfManaged, SECRET, "watch", CA_SECRET, "src/tls/keeper.rs: sees it change"),
    right(OurNamespaceIfManaged, SECRET, "update", CA_SECRET, "src/tls/keeper.rs: renews the authority"),
    right(ClusterIfManaged, CONFIGURATIONS, "get", CONFIGURATION, "src/tls/keeper.rs: reads caBundle"),
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
        "get",
        POLICIES_CONFIGURATION,
        "src/tls/keeper.rs: reads caBundle",
    ),
    right(
        ClusterIfManaged,
        CONFIGURATIONS,
        "update",
        POLICIES_CONFIGURATION,
        "src/tls/keeper.rs: writes caBundle",
    ),
];

/// What neither may have: with any of these, whoever takes over a pod of ours has the cluster or its secrets.
const EXCESS: [Right; 7] = [
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
const WEBHOOK_EXCESS: [Right; 3] = [
    right(Cluster, SECRET, "get", "", "reads any Secret of the cluster"),
    right(Cluster, ("apps", "deployments"), "update", "", "the webhook writes nothing"),
    right(Cluster, SECRET, "create", "", "the webhook writes nothing"),
];

/// What discovery reads, as the webhook does.
fn discovery() -> impl Iterator<Item = Right> {
    RESOURCES.iter().flat_map(|resource| {
        let (plural, group) = resource.name.split_once('.').unwrap_or((resource.name, ""));
        let code = "src/watch: discovery";
        ["list", "watch"].map(|verb| right(Cluster, (group, plural), verb, "", code))
    })
}

/// Asks the API server what the ServiceAccounts may do.
pub(super) async fn look(client: &Client, namespace: &str, configuration: Option<&Value>) -> Vec<Finding> {
    let is_managed = is_managed(client, namespace, configuration).await;
    let webhook = discovery().chain(WEBHOOK).collect();
    let controller = CONTROLLER.to_vec();
    let excess = [EXCESS.as_slice(), &WEBHOOK_EXCESS].concat();
    let accounts =
        [("opportune-webhook", webhook, excess), ("opportune-controller", controller, EXCESS.to_vec())];
    let mut findings = Vec::new();
    for (account, needed, excess) in accounts {
        let there = ACCOUNTS.get(client, Some(namespace), account).await;
        if there == Look::Missing {
            let what = format!("{account}: no such ServiceAccount in {namespace}; rights not asked for");
            findings.push(Finding::skip(CHECK, what));
            continue;
        }
        let needed: Vec<Right> =
            needed.into_iter().filter(|right| is_managed || !right.is_for_managed()).collect();
        let answers = ask(client, namespace, account, &needed).await;
        findings.push(judge_needed(namespace, account, &needed, &answers));
        if answers.iter().all(|answer| answer.found().is_some()) {
            let answers = ask(client, namespace, account, &excess).await;
            findings.push(judge_excess(account, &excess, &answers));
        }
    }
    findings
}

/// Whether we make the certificates ourselves: where our authority is missing and yet somebody is trusted, others do. (Where
/// nobody is, a right may be what lacks.)
async fn is_managed(client: &Client, namespace: &str, configuration: Option<&Value>) -> bool {
    let is_missing = SECRETS.metadata(client, Some(namespace), CA_SECRET).await == Look::Missing;
    let trusts =
        configuration.is_some_and(|object| object.pointer("/webhooks/0/clientConfig/caBundle").is_some());
    !(is_missing && trusts)
}

async fn ask(client: &Client, namespace: &str, account: &str, rights: &[Right]) -> Vec<Look<bool>> {
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let questions = rights.iter().map(|right| right.question(namespace, account));
    let answers = stream::iter(questions).map(async |question| {
        let answer = post(client, path, &question).await;
        answer.map(|answer| answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true))
    });
    answers.buffered(AT_ONCE).collect().await
}

fn judge_needed(namespace: &str, account: &str, rights: &[Right], answers: &[Look<bool>]) -> Finding {
    if let Some(why) = answers.iter().find_map(Look::blocked) {
        let why = if why.starts_with("no right") {
            "no right to create subjectaccessreviews".to_owned()
        } else {
            why
        };
        let what = format!("{account}: can't look: {why}");
        return Finding::warn(CHECK, what, "ask somebody who may, or go on without this check");
    }
    let lacking: Vec<String> = chosen(rights, answers, false).map(|right| right.told(namespace)).collect();
    match lacking.is_empty() {
        true => Finding::ok(CHECK, format!("{account} has the {} rights that it needs", rights.len())),
        false => Finding::fail(
            CHECK,
            format!(
                "{account} lacks {} of {} rights: {}",
                lacking.len(),
                rights.len(),
                some(lacking.iter().map(String::as_str))
            ),
            "install the chart's roles and bindings again",
        ),
    }
}

fn judge_excess(account: &str, rights: &[Right], answers: &[Look<bool>]) -> Finding {
    let excess: Vec<String> =
        chosen(rights, answers, true).map(|right| format!("{} ({})", right.short(), right.code)).collect();
    match excess.is_empty() {
        true => {
            Finding::ok(CHECK, format!("{account} has none of {} rights that it must not have", rights.len()))
        }
        false => Finding::warn(
            CHECK,
            format!("{account} may do what it need not: {}", some(excess.iter().map(String::as_str))),
            "take away the roles that give it more than the chart does",
        ),
    }
}

fn chosen<'a>(
    rights: &'a [Right],
    answers: &'a [Look<bool>],
    allowed: bool,
) -> impl Iterator<Item = &'a Right> {
    let pairs = rights.iter().zip(answers);
    pairs.filter(move |(_, answer)| answer.found() == Some(&allowed)).map(|(right, _)| right)
}

// === impl Right ===

impl Right {
    fn is_for_managed(&self) -> bool {
        matches!(self.place, OurNamespaceIfManaged | ClusterIfManaged)
    }

    fn namespace<'a>(&self, ours: &'a str) -> &'a str {
        match self.place {
            OurNamespace | OurNamespaceIfManaged => ours,
            Cluster | ClusterIfManaged => "",
        }
    }

    fn question(&self, namespace: &str, account: &str) -> Value {
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{namespace}:{account}"),
                "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
                "resourceAttributes": {
                    "group": self.group,
                    "resource": self.resource,
                    "verb": self.verb,
                    "name": self.name,
                    "namespace": self.namespace(namespace),
                },
            },
        })
    }

    /// `verb resource name`
    fn short(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{} {}{dot}{} {}", self.verb, self.resource, self.group, self.name).trim_end().to_owned()
    }

    fn told(&self, namespace: &str) -> String {
        let place = match self.namespace(namespace) {
            "" => String::new(),
            namespace => format!(" in {namespace}"),
        };
        format!("{}{place} ({})", self.short(), self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    #[test]
    fn every_right_is_needed_by_code_that_exists() {
        for right in discovery().chain(WEBHOOK).chain(CONTROLLER) {
            let path = right.code.split(':').next().unwrap();
            assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
        }
    }

    #[test]
    fn what_lacks_and_what_is_too_much_is_named() {
        let rights = &CONTROLLER[..2];
        let finding = judge_needed("ours", "a", rights, &[Look::Found(true), Look::Found(false)]);
        assert_eq!(finding.result, Mark::Fail);
        assert!(
            finding.what.contains("get leases.coordination.k8s.io opportune in ours"),
            "{}",
            finding.what
        );
        let finding = judge_excess("a", &EXCESS[..1], &[Look::Found(true)]);
        assert!(finding.result == Mark::Warn && finding.what.contains("list secrets"), "{finding:?}");
        let finding = judge_needed("ours", "a", rights, &[Look::Forbidden(String::new()), Look::Found(true)]);
        assert!(finding.what.contains("no right to create subjectaccessreviews"), "{finding:?}");
    }
}
