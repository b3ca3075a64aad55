//! The same variables by *parse*, without and with conditions, by an in-tree policy and by Opportune, against nothing.
use super::{
    Extent,
    creates::{self, Kind, Times, added},
    hook::{self, Hook},
};
use anyhow::{Context, Result, ensure};
use kube::Client;
use opportune_e2e::{ControlPlane, Program, free_address};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ENV: &str = "/spec/template/spec/containers/0/env";
/// Nothing; *parse*; *parse* with a condition that is always met, and with those of Opportune's webhooks; a policy; Opportune.
const ARMS: [&str; 6] = ["none", "parse", "condition", "conditions", "policy", "opportune"];
/// How long the API server may take to act by a configuration.
const SOON: Duration = Duration::from_secs(30);

pub async fn run(cluster: &ControlPlane, extent: Extent) -> Result<()> {
    let client = cluster.client().await?;
    for arm in ARMS {
        cluster.kubectl(&["create", "namespace", arm])?;
    }
    cluster.kubectl(&["label", "namespace", "opportune", "opportune.libre.sh/inject=enabled"])?;
    let mut program = serve(cluster)?;
    let variables = variables(&client).await?;
    let names: Vec<&str> = variables.iter().filter_map(|entry| entry.get("name")?.as_str()).collect();
    eprintln!("{} variables: {}", names.len(), names.join(" "));
    let operations =
        variables.iter().map(|value| json!({"op": "add", "path": format!("{ENV}/-"), "value": value}));
    let patch: Option<Value> = Some(operations.collect());
    let met = json!([{"name": "met", "expression": "true"}]);
    let hooks = [("parse", vec![json!([])]), ("condition", vec![met]), ("conditions", registered(cluster)?)];
    let hooks = hooks.map(|(name, conditions)| Hook { name, patch: patch.clone(), conditions });
    hook::serve(cluster, &hooks).await?;
    cluster.apply(&policy(&variables)?.to_string())?;
    for arm in ["parse", "condition", "conditions", "policy"] {
        same(&client, arm, &variables).await?;
    }
    println!(
        "| creates | clients | registered | added p50 | added p99 | added p50 to *parse* | to the policy | added processor time of the API server |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for kind in [Kind::DryRun, Kind::Real] {
        for clients in [1, 8] {
            let rounds = creates::measure(cluster, &client, &ARMS, kind, clients, extent).await?;
            let of = |arm: &str| rounds.get(arm).map(Vec::as_slice).unwrap_or_default();
            let p50 = |arm: &str| added(of(arm), of("none"), |times: &Times| times.p50);
            for arm in ARMS.into_iter().skip(1) {
                println!(
                    "| {kind:?} | {clients} | {arm} | {:.2} ms | {:.2} ms | {:.2} | {:.2} | {:.2} ms |",
                    p50(arm),
                    added(of(arm), of("none"), |times| times.p99),
                    p50(arm) / p50("parse"),
                    p50(arm) / p50("policy"),
                    added(of(arm), of("none"), |times| times.cpu),
                );
            }
        }
    }
    program.terminate(Duration::from_secs(20))?;
    Ok(())
}

/// Opportune, with a directory for everybody.
pub fn serve(cluster: &ControlPlane) -> Result<Program> {
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "directory", "labels": {"opportune.libre.sh/provider": "true"}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "openldap", "namespace": "directory",
            "labels": {"opportune.libre.sh/offers": "ldap"},
            "annotations": {"opportune.libre.sh/settings": "base-dn: dc=example,dc=org"}},
            "spec": {"ports": [{"port": 389}]}}]});
    cluster.apply(&objects.to_string())?;
    let (listen, admin) = (free_address()?, free_address()?);
    let arguments = ["serve", "--register", &format!("https://{listen}"), "--settle", "0"];
    Program::against(cluster, &cluster.kubeconfig(), arguments)
        .arguments(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
        .start_ready(admin, SOON)
}

/// The conditions of each webhook that Opportune registered.
fn registered(cluster: &ControlPlane) -> Result<Vec<Value>> {
    let configuration =
        cluster.kubectl(&["get", "mutatingwebhookconfiguration", "opportune", "-o", "json"])?;
    let configuration: Value = serde_json::from_str(&configuration)?;
    let webhooks = configuration.get("webhooks").and_then(Value::as_array).context("no webhooks")?;
    webhooks
        .iter()
        .map(|webhook| Ok(webhook.get("matchConditions").context("no conditions")?.clone()))
        .collect()
}

fn env(object: &Value) -> Result<Vec<Value>> {
    Ok(object.pointer(ENV).and_then(Value::as_array).context("no env")?.clone())
}

/// What Opportune adds.
async fn variables(client: &Client) -> Result<Vec<Value>> {
    let before = env(&creates::seen(client, "none").await?)?;
    let begun = Instant::now();
    loop {
        let after = env(&creates::seen(client, "opportune").await?)?;
        let added: Vec<Value> = after.into_iter().filter(|entry| !before.contains(entry)).collect();
        if !added.is_empty() {
            return Ok(added);
        }
        ensure!(begun.elapsed() < SOON, "Opportune adds nothing");
    }
}

/// Waits until the others add the same.
async fn same(client: &Client, namespace: &str, variables: &[Value]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let seen = env(&creates::seen(client, namespace).await?)?;
        if seen.ends_with(variables) {
            return Ok(());
        }
        ensure!(begun.elapsed() < SOON, "{namespace} does not add the same: {seen:?}");
    }
}

/// The in-tree policy that adds them.
fn policy(variables: &[Value]) -> Result<Value> {
    let operations = variables.iter().map(|entry| {
        let text = |field: &str| {
            let text =
                entry.get(field).and_then(Value::as_str).context("a variable without a literal value")?;
            // A text of JSON is one of CEL.
            anyhow::Ok(json!(text).to_string())
        };
        let value = format!(
            "Object.spec.template.spec.containers.env{{name: {}, value: {}}}",
            text("name")?,
            text("value")?
        );
        Ok(format!("JSONPatch{{op: \"add\", path: \"{ENV}/-\", value: {value}}}"))
    });
    let expression = format!("[{}]", operations.collect::<Result<Vec<_>>>()?.join(", "));
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": "variables"},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"], "resources": ["deployments", "statefulsets"]}]},
                "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "variables"},
            "spec": {"policyName": "variables",
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "policy"}}}}}]}))
}
