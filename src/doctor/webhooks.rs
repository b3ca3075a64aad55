//! The webhook configuration: whether it is ours, and whether what it points at is there.
use kube::Client;
use opportune_core::{admit::Mode, keys, workload::Kinds};
use serde_json::Value;

use super::{Finding, counted, list, text};
use crate::{
    cluster::{
        CONFIGURATION, CONTROLLER_ACCOUNT,
        look::{Kind, Look},
    },
    register::{Reach, Registration, controller},
};

const CHECK: &str = "webhooks";
const SERVICES: Kind = Kind::of("", "v1", "services");
const SLICES: Kind = Kind::of("discovery.k8s.io", "v1", "endpointslices");
const AGAIN: &str = "install the chart again (helm upgrade), or run `opportune serve --register` again";
/// What breaks the contract where it differs; other differences are somebody's choice.
const VITAL: [&str; 5] =
    ["failurePolicy", "matchConditions", "rules", "matchPolicy", "admissionReviewVersions"];

/// Compares a configuration with the one that comes with this program.
pub(super) fn judge(configuration: &Look<Value>, namespace: &str) -> Vec<Finding> {
    let Some(configuration) = configuration.found() else {
        return vec![Finding::blind(CHECK, configuration).unwrap_or_else(|| {
            Finding::fail(
                CHECK,
                format!("there is no MutatingWebhookConfiguration {CONFIGURATION}: nothing is injected"),
                "install the chart, or run `opportune serve --register https://HOST:PORT`",
            )
        })];
    };
    let ours = service_account(namespace);
    // Another name is a finding of its own, below.
    let named = controller(configuration).unwrap_or_else(|| ours.clone());
    // Which kinds are on is the operator's choice, and stands nowhere else.
    let kinds = Reach::of(configuration).map(|reach| reach.kinds).unwrap_or_default();
    let (protected, bare) = (expected(true, &kinds, &named), expected(false, &kinds, &named));
    let is_bare =
        differences(configuration, &bare).is_empty() && !differences(configuration, &protected).is_empty();
    let mut findings = match is_bare {
        true => vec![Finding::ok(
            CHECK,
            "both webhooks are as they should be; storage is not protected while we are away",
        )],
        false => differences(configuration, &protected),
    };
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "both webhooks are as they should be"));
    }
    findings.push(judge_reach(configuration, namespace));
    if named != ours && text(configuration, "/webhooks/0/clientConfig/url").is_empty() {
        let what =
            format!("{named:?} may change our own annotations of workloads, and our controller may not");
        findings.push(Finding::fail(CHECK, what, AGAIN));
    }
    findings
}

/// As whom the chart's controller talks to the API server.
fn service_account(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{CONTROLLER_ACCOUNT}")
}

/// The webhooks that come with the program.
fn expected(protect_storage: bool, kinds: &Kinds, controller: &str) -> Vec<Value> {
    let (url, kinds) = ("https://localhost".to_owned(), kinds.clone());
    let registration =
        Registration { url, mode: Mode::OptIn, kinds, excluded_namespaces: Vec::new(), protect_storage };
    // A test keeps this from failing.
    registration.webhooks(None, controller).unwrap_or_default()
}

fn differences(configuration: &Value, expected: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for expected in expected {
        let name = text(expected, "/name");
        let Some(there) =
            list(configuration, "/webhooks").iter().find(|webhook| text(webhook, "/name") == name)
        else {
            findings.push(Finding::fail(CHECK, format!("the webhook {name} is missing"), AGAIN));
            continue;
        };
        let of_cluster = ["name", "clientConfig", "namespaceSelector"];
        let fields = expected.as_object().into_iter().flatten();
        for (field, value) in fields.filter(|(field, _)| !of_cluster.contains(&field.as_str())) {
            if is_same(there.get(field), value) {
                continue;
            }
            let what = format!("{name}: {field} is not what this version of opportune writes");
            findings.push(match VITAL.contains(&field.as_str()) {
                true => Finding::fail(CHECK, what, AGAIN),
                false => Finding::warn(CHECK, what, AGAIN),
            });
        }
        if there.get("objectSelector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty())
        {
            let what = format!("{name}: an objectSelector hides workloads from us");
            findings.push(Finding::warn(CHECK, what, AGAIN));
        }
    }
    findings
}

/// The same but for white space in expressions: who writes YAML folds lines differently.
fn is_same(there: Option<&Value>, expected: &Value) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match (there, expected) {
        (Some(Value::String(there)), Value::String(expected)) => words(there) == words(expected),
        (Some(Value::Array(there)), Value::Array(expected)) => {
            there.len() == expected.len() && there.iter().zip(expected).all(|(a, b)| is_same(Some(a), b))
        }
        (Some(Value::Object(there)), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| is_same(there.get(key), value))
        }
        (there, expected) => there == Some(expected),
    }
}

/// Which namespaces the webhooks are called for.
fn judge_reach(configuration: &Value, namespace: &str) -> Finding {
    let check = "namespaces";
    let selector = |webhook: &Value| webhook.get("namespaceSelector").cloned().unwrap_or_default();
    let mut selectors = list(configuration, "/webhooks").iter().map(selector);
    let first = selectors.next();
    if selectors.any(|other| Some(&other) != first.as_ref()) {
        let what = "the namespaceSelectors of the webhooks differ: some workloads reach only one of them";
        return Finding::fail(check, what, AGAIN);
    }
    let Some(reach) = Reach::of(configuration) else {
        return Finding::warn(
            check,
            "the namespaceSelector is not one that we write: where injection is on is not known",
            AGAIN,
        );
    };
    let is_excluded = |name: &str| reach.excluded_namespaces.iter().any(|excluded| excluded == name);
    if let Some(open) = [keys::KUBE_SYSTEM, namespace].into_iter().find(|name| !is_excluded(name)) {
        let what = format!(
            "namespace {open} is not excluded: a webhook that is down could keep it from starting again"
        );
        return Finding::fail(check, what, AGAIN);
    }
    let mode = match reach.mode {
        Mode::OptIn => format!("injection is on in namespaces labelled {}=enabled", keys::INJECT),
        Mode::ClusterWide => {
            format!("injection is on in all namespaces that are not labelled {}=disabled", keys::INJECT)
        }
    };
    Finding::ok(check, mode)
}

/// What the configuration points at: a Service with ready endpoints, or an address.
pub(super) async fn way(client: &Client, configuration: Option<&Value>) -> Vec<Finding> {
    let mut ways: Vec<&Value> = Vec::new();
    for webhook in configuration.map_or(&[][..], |object| list(object, "/webhooks")) {
        let Some(way) = webhook.get("clientConfig") else { continue };
        if !ways.iter().any(|known| target(known) == target(way)) {
            ways.push(way);
        }
    }
    let mut findings = Vec::new();
    for way in ways {
        findings.extend(match text(way, "/url") {
            "" => service(client, way).await,
            url => vec![Finding::ok("way", format!("the API server calls us at {url}"))],
        });
    }
    findings
}

fn target(way: &Value) -> (Option<&Value>, Option<&Value>) {
    (way.get("url"), way.get("service"))
}

async fn service(client: &Client, way: &Value) -> Vec<Finding> {
    let check = "way";
    let (namespace, name) = (text(way, "/service/namespace"), text(way, "/service/name"));
    let port = way.pointer("/service/port").and_then(Value::as_u64).unwrap_or(443);
    let service = SERVICES.get(client, Some(namespace), name).await;
    let Some(object) = service.found() else {
        return vec![Finding::blind(check, &service).unwrap_or_else(|| {
            Finding::fail(
                check,
                format!("the Service {namespace}/{name}, which the webhooks name, is missing"),
                AGAIN,
            )
        })];
    };
    let is_port = |there: &&Value| there.get("port").and_then(Value::as_u64) == Some(port);
    let Some(port_name) = list(object, "/spec/ports").iter().find(is_port).map(|there| text(there, "/name"))
    else {
        let what = format!("the Service {namespace}/{name} has no port {port}, which the webhooks name");
        return vec![Finding::fail(check, what, AGAIN)];
    };
    let query = format!("labelSelector=kubernetes.io%2Fservice-name%3D{name}");
    let slices = SLICES.list(client, Some(namespace), &query).await;
    vec![match slices.found() {
        None => Finding::blind(check, &slices)
            .unwrap_or_else(|| Finding::warn(check, "EndpointSlices are not served", "is it Kubernetes?")),
        Some(slices) => match ready(slices, port_name) {
            0 => Finding::fail(
                check,
                format!("no ready endpoint behind the Service {namespace}/{name}, port {port}"),
                format!("see why its pods are not ready: kubectl -n {namespace} get pods"),
            ),
            count => Finding::ok(
                check,
                format!(
                    "{} behind the Service {namespace}/{name}, port {port}",
                    counted(count, "ready endpoint", "ready endpoints")
                ),
            ),
        },
    }]
}

/// How many endpoints are ready and have that port.
fn ready(slices: &[Value], port_name: &str) -> usize {
    let has_port = |slice: &&Value| list(slice, "/ports").iter().any(|port| text(port, "/name") == port_name);
    let endpoints = slices.iter().filter(has_port).flat_map(|slice| list(slice, "/endpoints"));
    // Absent means ready.
    endpoints.filter(|e| e.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;
    use rstest::rstest;
    use serde_json::json;

    fn registered(protect_storage: bool) -> Value {
        registered_for(Kinds::default(), protect_storage)
    }

    fn registered_for(kinds: Kinds, protect_storage: bool) -> Value {
        let excluded_namespaces = vec!["ours".to_owned()];
        let url = "https://192.0.2.7".to_owned();
        let registration =
            Registration { url, mode: Mode::OptIn, kinds, excluded_namespaces, protect_storage };
        let mut webhooks = registration.webhooks(None, "o'brien").unwrap();
        for webhook in &mut webhooks {
            webhook["objectSelector"] = json!({});
        }
        json!({"webhooks": webhooks})
    }

    fn marks(configuration: Value) -> Vec<(Mark, String)> {
        judge(&Look::Found(configuration), "ours").into_iter().map(|f| (f.result, f.what)).collect()
    }

    #[rstest]
    fn what_we_register_is_right_however_its_lines_are_folded(#[values(true, false)] protect_storage: bool) {
        let mut configuration = registered(protect_storage);
        for index in [0, 3] {
            let expression = &mut configuration["webhooks"][0]["matchConditions"][index]["expression"];
            *expression = expression.as_str().unwrap().replace(' ', "\n  ").into();
        }
        let marks = marks(configuration);
        assert!(marks.iter().all(|(mark, _)| *mark == Mark::Ok), "{marks:?}");
        assert_eq!(marks[0].1.contains("not protected"), !protect_storage);
    }

    #[rstest]
    #[case("/webhooks/0/failurePolicy", json!("Fail"), Mark::Fail, "failurePolicy")]
    #[case("/webhooks/1/matchConditions/2/expression", json!("true"), Mark::Fail, "matchConditions")]
    #[case("/webhooks/1/matchConditions", json!([]), Mark::Fail, "matchConditions")]
    #[case("/webhooks/0/matchConditions/3/expression", json!("true"), Mark::Fail, "matchConditions")]
    #[case("/webhooks/0/timeoutSeconds", json!(30), Mark::Warn, "timeoutSeconds")]
    #[case("/webhooks/1/name", json!("other"), Mark::Fail, "requires.opportune.libre.sh is missing")]
    #[case("/webhooks/1/namespaceSelector", json!({}), Mark::Fail, "namespaceSelectors")]
    #[case("/webhooks/0/objectSelector", json!({"matchLabels": {"a": "b"}}), Mark::Warn, "hides")]
    fn what_is_edited_is_found(
        #[case] pointer: &str,
        #[case] value: Value,
        #[case] mark: Mark,
        #[case] says: &str,
    ) {
        let mut configuration = registered(true);
        *configuration.pointer_mut(pointer).unwrap() = value;
        let marks = marks(configuration);
        assert!(marks.iter().any(|(m, what)| *m == mark && what.contains(says)), "{marks:?}");
    }

    #[test]
    fn whatever_kinds_are_on_a_webhook_that_lacks_is_missed() {
        let mut configuration = registered_for(Kinds::all(), true);
        let of_all = marks(configuration.clone());
        assert!(of_all.iter().all(|(mark, _)| *mark == Mark::Ok), "{of_all:?}");
        configuration["webhooks"].as_array_mut().unwrap().pop();
        let marks = marks(configuration);
        let says = "requires.runs.opportune.libre.sh is missing";
        assert!(marks.iter().any(|(mark, what)| *mark == Mark::Fail && what.contains(says)), "{marks:?}");
    }

    #[test]
    fn behind_a_service_the_controller_is_the_one_of_the_chart() {
        let mut configuration = registered(true);
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"] = json!({"service": {"name": "opportune", "namespace": "ours"}});
        }
        let of_another = marks(configuration.clone());
        assert!(
            of_another.iter().any(|(mark, what)| *mark == Mark::Fail && what.contains("\"o'brien\"")),
            "{of_another:?}"
        );
        let other = r"o\\U00000027brien";
        let text = configuration.to_string();
        assert!(text.contains(other), "{text}");
        let configuration = text.replace(other, "system:serviceaccount:ours:opportune-controller");
        let of_ours = marks(serde_json::from_str(&configuration).unwrap());
        assert!(of_ours.iter().all(|(mark, _)| *mark == Mark::Ok), "{of_ours:?}");
    }

    #[test]
    fn our_own_namespace_has_to_be_excluded() {
        let findings = judge(&Look::Found(registered(true)), "elsewhere");
        assert!(
            findings.iter().any(|f| f.result == Mark::Fail && f.what.contains("elsewhere is not excluded"))
        );
    }

    #[test]
    fn an_endpoint_counts_where_it_is_ready_and_has_the_port() {
        let slices = [json!({"ports": [{"name": "https"}], "endpoints": [
            {"conditions": {"ready": true}}, {"conditions": {"ready": false}}, {"conditions": {}}]})];
        assert_eq!((ready(&slices, "https"), ready(&slices, "other")), (2, 0));
    }
}
