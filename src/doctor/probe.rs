//! The way from the API server to us, tried: two Deployments that are created as dry runs, so that nothing is stored.
//!
//! One wishes what nobody can offer, and has to come back with our status. One requires it, and has to be refused by us.
use http::{Request, header};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use opportune_core::{admit::Options, keys, name::is_dns_label, workload};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

use super::{
    Finding, Subject, text,
    workloads::{self, NAMESPACES},
};
use crate::cluster::look::{Look, with_causes};

const CHECK: &str = "dry run";
/// An intent that nobody offers.
const INTENT: &str = "opportune-doctor";
/// Longer than the API server waits for a webhook.
const PATIENCE: Duration = Duration::from_secs(40);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1024 * 1024;

/// What came of one dry run.
#[derive(Debug, Clone, PartialEq)]
struct Trial {
    status: u16,
    /// The object, or a Status.
    answer: Value,
    /// What webhooks and the API server warned of.
    warnings: Vec<String>,
}

/// Finds a namespace, and tries both webhooks in it.
pub(super) async fn look(subject: &Subject<'_>, options: &Options) -> Vec<Finding> {
    if !options.kinds.has(workload::Kind::Deployment) {
        return vec![Finding::skip(
            CHECK,
            "not tried: it takes a Deployment, and `kinds` leaves Deployments out",
        )];
    }
    let client = &subject.cluster.client;
    let namespace = match subject.probe_namespace {
        Some(namespace) => Some(namespace.to_owned()),
        None => match NAMESPACES.list(client, None, "").await {
            Look::Found(namespaces) => workloads::on(&namespaces, options),
            other => return Finding::blind(CHECK, &other).into_iter().map(with_flag).collect(),
        },
    };
    let Some(namespace) = namespace.filter(|namespace| is_dns_label(namespace)) else {
        return vec![Finding::warn(
            CHECK,
            "not tried: injection is on in no namespace",
            format!("label one {}=enabled, or name one by --probe-namespace", keys::INJECT),
        )];
    };
    let required = attempt(client, &namespace, keys::REQUIRES).await;
    let wanted = attempt(client, &namespace, keys::WANTS).await;
    vec![judge_wanted(&namespace, &wanted, &required), judge_required(&namespace, &required)]
}

fn with_flag(finding: Finding) -> Finding {
    Finding {
        todo: Some("name a namespace where injection is on by --probe-namespace".to_owned()),
        ..finding
    }
}

async fn attempt(client: &Client, namespace: &str, key: &str) -> Result<Trial, String> {
    let path =
        format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All&fieldManager=opportune-doctor");
    let body = serde_json::to_vec(&deployment(namespace, key)).map_err(|error| error.to_string())?;
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Body::from(body));
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        let response = client.send(request).await.map_err(|error| with_causes(&error))?;
        let (status, warnings) = (response.status().as_u16(), warnings(response.headers()));
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let answer = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Trial { status, answer, warnings })
    };
    timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// A Deployment that strict policies let pass, with one wish.
fn deployment(namespace: &str, key: &str) -> Value {
    let labels = json!({"app.kubernetes.io/name": INTENT});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"generateName": "opportune-doctor-", "namespace": namespace, "labels": labels,
            "annotations": {key: INTENT}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65534,
                        "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "probe",
                        "image": "registry.invalid/opportune-doctor:0",
                        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"},
                            "limits": {"cpu": "1m", "memory": "1Mi"}},
                        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    })
}

/// The texts of `Warning: 299 - "text"`.
fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    let texts = values.filter_map(|value| Some(value.split_once('"')?.1.rsplit_once('"')?.0.to_owned()));
    texts.filter(|text| text.starts_with("opportune:")).collect()
}

fn judge_required(namespace: &str, trial: &Result<Trial, String>) -> Finding {
    let trial = match trial {
        Ok(trial) => trial,
        Err(reason) => return Finding::fail(CHECK, format!("requires: {reason}"), "try again"),
    };
    let message = text(&trial.answer, "/message");
    let is_denied_by_us = message.contains("opportune.libre.sh\" denied the request");
    match trial.status {
        200..=299 => Finding::fail(
            CHECK,
            format!("a Deployment in {namespace} that requires what nobody offers was let in{}", told(trial)),
            unpatched_todo(namespace),
        ),
        _ if is_denied_by_us => Finding::ok(
            CHECK,
            format!("a Deployment in {namespace} that requires what nobody offers is refused by us"),
        ),
        _ => judge_failure(namespace, "requires", trial),
    }
}

fn judge_wanted(namespace: &str, trial: &Result<Trial, String>, required: &Result<Trial, String>) -> Finding {
    let trial = match trial {
        Ok(trial) => trial,
        Err(reason) => return Finding::fail(CHECK, format!("wants: {reason}"), "try again"),
    };
    let status =
        trial.answer.pointer("/metadata/annotations").and_then(|map| map.get(keys::STATUS)?.as_str());
    match (trial.status, status) {
        (200..=299, Some(status)) => Finding::ok(
            CHECK,
            format!("a Deployment in {namespace} that wants something comes back with a status ({status})"),
        ),
        (200..=299, None) => {
            let failure =
                required.as_ref().ok().and_then(|trial| call_failure(text(&trial.answer, "/message")));
            let (why, todo) = match failure {
                Some(failure) => {
                    (format!("the API server can't call us: {failure}"), todo(failure).to_owned())
                }
                None => (format!("it came back as it was{}", told(trial)), unpatched_todo(namespace)),
            };
            Finding::fail(
                CHECK,
                format!("a Deployment in {namespace} that wants something is not injected: {why}"),
                todo,
            )
        }
        _ => judge_failure(namespace, "wants", trial),
    }
}

fn judge_failure(namespace: &str, which: &str, trial: &Trial) -> Finding {
    let message = text(&trial.answer, "/message");
    if let Some(failure) = call_failure(message) {
        let what = format!("the API server can't call us for a Deployment that {which}: {failure}");
        return Finding::fail(CHECK, what, todo(failure));
    }
    let short: String = message.chars().take(300).collect();
    match trial.status {
        403 if message.contains("cannot create") => Finding::warn(
            CHECK,
            format!("can't look: no right to create deployments.apps in namespace {namespace}"),
            "ask somebody who may, or name another namespace by --probe-namespace",
        ),
        404 => Finding::warn(
            CHECK,
            format!("not tried: there is no namespace {namespace}"),
            "name one where injection is on by --probe-namespace",
        ),
        status => Finding::warn(
            CHECK,
            format!("somebody else refused the trial in {namespace} ({status}): {short}"),
            "name another namespace by --probe-namespace",
        ),
    }
}

/// What we said ourselves.
fn told(trial: &Trial) -> String {
    trial.warnings.first().map(|warning| format!(" ({warning})")).unwrap_or_default()
}

fn unpatched_todo(namespace: &str) -> String {
    format!(
        "the API server did not call us: is injection on in {namespace}, and is the configuration above ours? An API server takes \
         a few seconds to see a new configuration"
    )
}

/// Why the API server could not call one of our webhooks, in its own words.
fn call_failure(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("failed calling webhook \"")?;
    let (name, rest) = rest.split_once("\": ")?;
    name.ends_with(keys::GROUP).then_some(rest)
}

fn todo(failure: &str) -> &'static str {
    let failure = failure.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| failure.contains(word));
    if has(&["x509", "certificate"]) {
        "caBundle does not trust what is served: see the certificates above, and that a controller leads"
    } else if has(&["no endpoints", "service \"", "not found"]) {
        "no webhook is ready behind the Service: see the pods above"
    } else if has(&["connection refused", "connection reset", "eof"]) {
        "nothing answers there: see that a webhook runs and listens on that port"
    } else if has(&["timeout", "deadline", "no route", "unreachable"]) {
        "something is between the API server and us: NetworkPolicies, and on private control planes the firewall for that port"
    } else if has(&["no such host"]) {
        "the API server can't resolve that name: register an address that it can reach"
    } else {
        "read the webhook's log"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;
    use rstest::rstest;

    fn trial(status: u16, answer: Value) -> Result<Trial, String> {
        Ok(Trial { status, answer, warnings: Vec::new() })
    }

    fn refused(message: &str) -> Result<Trial, String> {
        trial(500, json!({"kind": "Status", "message": message}))
    }

    const DENIED: &str = "admission webhook \"requires.opportune.libre.sh\" denied the request: opportune: opportune-doctor \
                          is required but absent: no offer";
    const BROKEN: &str = "Internal error occurred: failed calling webhook \"requires.opportune.libre.sh\": failed to call \
                          webhook: Post \"https://a/mutate\": tls: failed to verify certificate: x509: unknown authority";
    const FOREIGN: &str = "failed calling webhook \"other.example.com\": x509: unknown authority";

    #[rstest]
    #[case(refused(DENIED), Mark::Ok, "refused by us")]
    #[case(refused(BROKEN), Mark::Fail, "x509")]
    #[case(refused(FOREIGN), Mark::Warn, "somebody else")]
    #[case(trial(201, json!({})), Mark::Fail, "was let in")]
    #[case(trial(403, json!({"message": "User \"a\" cannot create resource"})), Mark::Warn, "no right to create")]
    #[case(Err("no answer".into()), Mark::Fail, "no answer")]
    fn a_requirement_proves_the_webhook_that_fails_closed(
        #[case] trial: Result<Trial, String>,
        #[case] mark: Mark,
        #[case] says: &str,
    ) {
        let finding = judge_required("blog", &trial);
        assert!(finding.result == mark && finding.what.contains(says), "{finding:?}");
    }

    #[test]
    fn a_wish_that_changes_nothing_is_explained_by_the_requirement() {
        let finding = judge_wanted("blog", &trial(201, json!({})), &refused(BROKEN));
        assert_eq!(finding.result, Mark::Fail);
        assert!(finding.what.contains("unknown authority") && finding.todo.unwrap().contains("caBundle"));
        let patched = trial(201, json!({"metadata": {"annotations": {keys::STATUS: "x=absent: no offer"}}}));
        assert_eq!(judge_wanted("blog", &patched, &refused(DENIED)).result, Mark::Ok);
    }

    #[test]
    fn only_our_own_warnings_are_repeated() {
        let mut headers = http::HeaderMap::new();
        for text in ["299 - \"opportune: not injected\"", "299 - \"other\"", "odd"] {
            headers.append(header::WARNING, text.parse().unwrap());
        }
        assert_eq!(warnings(&headers), ["opportune: not injected"]);
    }
}
