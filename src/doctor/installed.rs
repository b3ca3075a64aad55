//! What has to be there before anything else: a server that is new enough, our resources, the guards around them.
use kube::Client;
use opportune_core::keys;
use serde_json::Value;

use super::{Finding, list, some, text};
use crate::cluster::look::{Kind, Look, read};

/// The oldest Kubernetes with matchConditions that are generally available.
const OLDEST: (u32, u32) = (1, 30);
const CRDS: Kind = Kind::of("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const POLICIES: Kind = Kind::of("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
const BINDINGS: Kind = Kind::of("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings");

/// Our resources, and what can't be done without them.
const RESOURCES: [(&str, &str); 3] = [
    ("serviceoffers", "offers can be declared by Services only"),
    ("injectionpolicies", "the platform team can't default, enforce or forbid anything"),
    ("appprofiles", "apps of your own can't be taught by a resource"),
];
/// The admission policies of the chart, and what they guard.
const GUARDS: [(&str, &str); 2] = [
    ("opportune-credentials", "who may edit a Service could offer a Secret that they may not read"),
    ("opportune-providers", "who may edit Namespaces could make one a provider for all others"),
];

/// What the server calls itself.
pub(super) async fn version(client: &Client) -> Look<Value> {
    read(client, "/version").await
}

pub(super) fn judge_version(look: &Look<Value>) -> Finding {
    let check = "server";
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let Some(version) = look.found() else {
        return Finding::blind(check, look).unwrap_or_else(|| {
            Finding::warn(check, "the server does not say its version", "is it Kubernetes?")
        });
    };
    let name = text(version, "/gitVersion");
    match (number(text(version, "/major")), number(text(version, "/minor"))) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Finding::ok(check, format!("Kubernetes {name}"))
        }
        (Some(_), Some(_)) => Finding::fail(
            check,
            format!("Kubernetes {name} is too old"),
            format!("upgrade to {}.{} or newer: our webhooks need matchConditions", OLDEST.0, OLDEST.1),
        ),
        _ => Finding::warn(check, format!("a version that can't be read: {name}"), "is it Kubernetes?"),
    }
}

/// Whether our resources are there, established and served in our version.
pub(super) async fn crds(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (plural, loss) in RESOURCES {
        let name = format!("{plural}.{}", keys::GROUP);
        let look = match CRDS.get(client, None, &name).await {
            // Which resources are served is told to everybody.
            Look::Forbidden(_) => served(client, plural).await,
            look => look,
        };
        findings.push(judge_crd(&name, loss, &look));
    }
    findings
}

/// The resource as a CustomResourceDefinition would show it, from what the API server tells everybody.
async fn served(client: &Client, plural: &str) -> Look<Value> {
    let group = read(client, &format!("/apis/{}", keys::API_VERSION)).await;
    let is_ours = |resource: &Value| text(resource, "/name") == plural;
    match group {
        Look::Found(group) if list(&group, "/resources").iter().any(is_ours) => {
            let version = keys::API_VERSION.rsplit('/').next().unwrap_or_default();
            Look::Found(serde_json::json!({
                "spec": {"versions": [{"name": version, "served": true}]},
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            }))
        }
        Look::Found(_) => Look::Missing,
        other => other,
    }
}

fn judge_crd(name: &str, loss: &str, look: &Look<Value>) -> Finding {
    let check = "crds";
    let Some(crd) = look.found() else {
        return Finding::blind(check, look).unwrap_or_else(|| {
            Finding::warn(
                check,
                format!("{name} is not installed: {loss}"),
                "apply them: `opportune crds | kubectl apply --server-side -f -` (the chart brings them, too)",
            )
        });
    };
    let version = keys::API_VERSION.rsplit('/').next().unwrap_or_default();
    let is_served =
        |v: &Value| text(v, "/name") == version && v.get("served").and_then(Value::as_bool) == Some(true);
    let is_true = |c: &Value| text(c, "/type") == "Established" && text(c, "/status") == "True";
    if !list(crd, "/spec/versions").iter().any(is_served) {
        let names: Vec<&str> = list(crd, "/spec/versions").iter().map(|v| text(v, "/name")).collect();
        return Finding::fail(
            check,
            format!("{name} does not serve {version}, only {}", some(names)),
            "install the CustomResourceDefinitions that belong to this version of opportune",
        );
    }
    if !list(crd, "/status/conditions").iter().any(is_true) {
        return Finding::fail(
            check,
            format!("{name} is not established"),
            format!("kubectl describe crd {name} says why"),
        );
    }
    Finding::ok(check, format!("{name} serves {version}"))
}

/// Whether the chart's admission policies and their bindings are there.
pub(super) async fn policies(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, loss) in GUARDS {
        let (policy, binding) =
            (POLICIES.get(client, None, name).await, BINDINGS.get(client, None, name).await);
        findings.push(judge_guard(name, loss, &policy, &binding));
    }
    findings
}

fn judge_guard(name: &str, loss: &str, policy: &Look<Value>, binding: &Look<Value>) -> Finding {
    let check = "guards";
    let blind = [policy, binding].iter().find_map(|look| Finding::blind(check, look));
    let todo = "install the chart with admissionPolicies.enabled=true, or accept it knowingly";
    match (policy.found(), binding.found()) {
        (Some(_), Some(binding)) => {
            match list(binding, "/spec/validationActions").iter().any(|action| action == "Deny") {
                true => Finding::ok(check, format!("admission policy {name} is there and bound")),
                false => {
                    Finding::warn(check, format!("admission policy {name} denies nothing: {loss}"), todo)
                }
            }
        }
        _ if blind.is_some() => blind.unwrap_or_else(|| Finding::skip(check, name)),
        (Some(_), None) => {
            Finding::warn(check, format!("admission policy {name} is not bound: {loss}"), todo)
        }
        (None, _) => Finding::warn(check, format!("admission policy {name} is missing: {loss}"), todo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("1", "30", Mark::Ok)]
    #[case("1", "36+", Mark::Ok)]
    #[case("2", "0", Mark::Ok)]
    #[case("1", "29", Mark::Fail)]
    #[case("", "", Mark::Warn)]
    fn a_server_has_to_be_new_enough(#[case] major: &str, #[case] minor: &str, #[case] mark: Mark) {
        let look = Look::Found(json!({"major": major, "minor": minor, "gitVersion": "v?"}));
        assert_eq!(judge_version(&look).result, mark);
    }

    #[rstest]
    #[case(json!({"spec": {"versions": [{"name": "v1alpha1", "served": true}]},
        "status": {"conditions": [{"type": "Established", "status": "True"}]}}), Mark::Ok)]
    #[case(json!({"spec": {"versions": [{"name": "v1alpha1", "served": true}]}}), Mark::Fail)]
    #[case(json!({"spec": {"versions": [{"name": "v1alpha1", "served": false}]}}), Mark::Fail)]
    #[case(json!({}), Mark::Fail)]
    fn a_resource_has_to_be_served(#[case] crd: Value, #[case] mark: Mark) {
        assert_eq!(judge_crd("x", "y", &Look::Found(crd)).result, mark);
    }

    #[test]
    fn a_guard_that_is_not_bound_guards_nothing() {
        let there = Look::Found(json!({"spec": {"validationActions": ["Deny"]}}));
        let audit = Look::Found(json!({"spec": {"validationActions": ["Audit"]}}));
        let marks = [
            judge_guard("a", "b", &there, &there),
            judge_guard("a", "b", &there, &audit),
            judge_guard("a", "b", &there, &Look::Missing),
            judge_guard("a", "b", &Look::Missing, &Look::Missing),
            judge_guard("a", "b", &Look::Forbidden("get x".into()), &Look::Missing),
        ]
        .map(|finding| finding.result);
        assert_eq!(marks, [Mark::Ok, Mark::Warn, Mark::Warn, Mark::Warn, Mark::Warn]);
    }
}
