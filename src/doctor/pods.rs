//! Our pods, as their status tells.
use kube::Client;
use serde_json::Value;

use super::{Finding, list, some, text};
use crate::cluster::look::{Kind, Look};

const CHECK: &str = "pods";
const DEPLOYMENTS: Kind = Kind::of("apps", "v1", "deployments");
const PODS: Kind = Kind::of("", "v1", "pods");
/// The Deployments of the chart.
const OURS: [&str; 2] = ["opportune-webhook", "opportune-controller"];

/// Looks at our Deployments, and at the pods of those that are not ready.
pub(super) async fn look(client: &Client, namespace: &str, is_called_by_url: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in OURS {
        let deployment = DEPLOYMENTS.get(client, Some(namespace), name).await;
        findings.push(match &deployment {
            Look::Found(deployment) if is_ready(deployment) => Finding::ok(
                CHECK,
                format!("{name}: {} of {} replicas are ready", ready(deployment), wanted(deployment)),
            ),
            Look::Found(deployment) => unready(client, namespace, name, deployment).await,
            Look::Missing if is_called_by_url => Finding::skip(
                CHECK,
                format!("{name}: no such Deployment in {namespace}; the webhook runs outside the cluster"),
            ),
            Look::Missing => Finding::fail(
                CHECK,
                format!("{name}: no such Deployment in {namespace}"),
                "install the chart, or name the namespace by -n",
            ),
            look => Finding::blind(CHECK, look).unwrap_or_else(|| Finding::skip(CHECK, name)),
        });
    }
    findings
}

fn wanted(deployment: &Value) -> u64 {
    deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

fn ready(deployment: &Value) -> u64 {
    deployment.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or(0)
}

fn is_ready(deployment: &Value) -> bool {
    ready(deployment) >= wanted(deployment) && wanted(deployment) > 0
}

async fn unready(client: &Client, namespace: &str, name: &str, deployment: &Value) -> Finding {
    let labels = deployment.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{}%3D{}", key.replace('/', "%2F"), value.as_str()?)))
        .collect();
    let pods = PODS.list(client, Some(namespace), &format!("labelSelector={}", pairs.join("%2C"))).await;
    let reasons: Vec<String> = match &pods {
        Look::Found(pods) => pods.iter().filter_map(reason).collect(),
        other => other.blocked().into_iter().collect(),
    };
    let why = match reasons.is_empty() {
        true => String::new(),
        false => format!(": {}", some(reasons.iter().map(String::as_str))),
    };
    let what = format!("{name}: {} of {} replicas are ready{why}", ready(deployment), wanted(deployment));
    let todo = format!(
        "kubectl -n {namespace} describe deployment {name}, and the pods' logs; /readyz on port 9090 says what lacks"
    );
    match ready(deployment) {
        0 => Finding::fail(CHECK, what, todo),
        _ => Finding::warn(CHECK, what, todo),
    }
}

/// Why a pod is not ready.
fn reason(pod: &Value) -> Option<String> {
    let containers = list(pod, "/status/containerStatuses").iter();
    let waiting = containers
        .map(|container| {
            (text(container, "/state/waiting/reason"), text(container, "/state/waiting/message"))
        })
        .find(|(reason, _)| !reason.is_empty());
    let conditions = list(pod, "/status/conditions").iter();
    let condition = conditions
        .filter(|condition| text(condition, "/status") == "False")
        .map(|condition| (text(condition, "/reason"), text(condition, "/message")))
        .find(|(reason, _)| !reason.is_empty());
    let (reason, message) = waiting.or(condition)?;
    let message: String = message.chars().take(160).collect();
    Some(format!("{} ({reason}) {message}", text(pod, "/metadata/name")).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_says_why_it_is_not_ready() {
        let pod = json!({"metadata": {"name": "a"}, "status": {
            "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}});
        assert_eq!(reason(&pod).unwrap(), "a (ImagePullBackOff) no such image");
        assert_eq!(reason(&json!({"status": {"conditions": [{"status": "True", "reason": "x"}]}})), None);
    }

    #[test]
    fn a_deployment_of_no_replicas_serves_nobody() {
        assert!(!is_ready(&json!({"spec": {"replicas": 0}})));
        assert!(is_ready(&json!({"spec": {}, "status": {"readyReplicas": 1}})));
    }
}
