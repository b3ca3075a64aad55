//! `opportune report` of a live cluster: what workloads have, what they missed, and what a reader with few rights sees.
use crate::{
    trial::{Cluster, trials},
    webhook,
    workload::{Kind, annotation, live, wishing},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{Tool, eventually};
use serde_json::{Value, json};

const INJECT: &str = "opportune.libre.sh/inject";

async fn what_workloads_have_and_have_missed_is_reported(cluster: Cluster) -> Result<()> {
    let services = &webhook::shared(&cluster).await?.services;
    let namespace = cluster.namespace("report")?;
    let here = |manifest: &Value| -> Result<String> {
        cluster.kubectl_for(&cluster.kubeconfig())?.feed(&["-n", &namespace, "apply", "-f", "-"], &manifest.to_string())
    };
    let opportune = cluster.opportune_for(&cluster.kubeconfig())?;
    let late = wishing(Kind::Deployment, "late", &[("wants", "ldap")]);
    let needy = wishing(Kind::Deployment, "needy", &[("requires", "mail")]);
    here(&late)?;
    here(&needy)?;
    let off = report(&opportune, &namespace)?;
    let advice = format!("label its Namespace {INJECT}=enabled");
    ensure!(off["workloads"][0]["intents"][0] == entry("ldap", "absent", None, "off", &advice), "{off:#}");
    ensure!(check(&opportune, &namespace)? == 0, "where injection is off, nothing is required");

    cluster.kubectl(&["label", "namespace", &namespace, &format!("{INJECT}=enabled")])?;
    eventually("the new label is seen", webhook::SOON, async || {
        Ok(annotation(&live(&cluster, &namespace, &late)?, "status").contains("missed").then_some(()))
    })
    .await?;
    here(&wishing(Kind::StatefulSet, "web", &[("wants", "ldap, nothing-of-this-kind")]))?;
    let said = report(&opportune, &namespace)?;
    let missed = "asked for while the webhook was away or too busy; after the next rollout:";
    let workloads = &said["workloads"];
    let first = &workloads[0]["intents"][0];
    ensure!(workloads[0]["name"] == "late" && first["state"] == "missed", "{said:#}");
    ensure!(first["reason"] == format!("{missed} {services}/openldap"), "{said:#}");
    ensure!(workloads[1]["name"] == "needy" && workloads[1]["intents"][0]["required"] == true, "{said:#}");
    let offer = format!("{services}/openldap");
    ensure!(
        workloads[2]["kind"] == "StatefulSet"
            && workloads[2]["intents"][0] == entry("ldap", "bound", Some(&offer), "current", "")
            && workloads[2]["intents"][1] == entry("nothing-of-this-kind", "absent", None, "current", "no offer"),
        "{said:#}"
    );
    ensure!(check(&opportune, &namespace)? == 3, "what requires mail runs without it");
    cluster.kubectl(&["-n", &namespace, "rollout", "restart", "deployment/needy", "deployment/late"])?;
    ensure!(check(&opportune, &namespace)? == 0, "a rollout repairs it");

    let everywhere: Value = serde_json::from_str(&opportune.run(&["report", "-o", "json"])?)?;
    let names = everywhere["workloads"].as_array().context("no workloads")?;
    ensure!(names.iter().filter(|workload| workload["namespace"] == *namespace.name()).count() == 3);
    Ok(())
}

async fn a_reader_of_one_namespace_sees_what_stands_there_and_what_is_unknown(cluster: Cluster) -> Result<()> {
    let services = &webhook::shared(&cluster).await?.services;
    let namespace = webhook::namespace(&cluster, "report")?;
    for (name, intent) in [("web", "ldap"), ("other", "nothing-of-this-kind")] {
        let manifest = wishing(Kind::Deployment, name, &[("wants", intent)]).to_string();
        let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
        kubectl.feed(&["-n", &namespace, "apply", "-f", "-"], &manifest)?;
    }
    cluster.kubectl(&["-n", &namespace, "create", "serviceaccount", "dev"])?;
    let reader = cluster.opportune_for(&cluster.service_account_kubeconfig(&namespace, "dev")?)?;
    let said = reader.refused(&["report", "-n", &namespace], "")?;
    ensure!(said.contains("you have no right to list deployments.apps or statefulsets.apps"), "{said}");

    let user = format!("--serviceaccount={namespace}:dev");
    cluster.kubectl(&["-n", &namespace, "create", "role", "dev", "--verb=list", "--resource=deployments.apps"])?;
    cluster.kubectl(&["-n", &namespace, "create", "rolebinding", "dev", "--role=dev", &user])?;
    let output = eventually("the right is there", webhook::SOON, async || {
        let output = reader.output(&["report", "-n", &namespace, "-o", "json"], "")?;
        Ok(output.status.success().then_some(output))
    })
    .await?;
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["deployments.apps: you have no right to list it in the whole cluster: only namespace", "statefulsets.apps: "] {
        ensure!(told.contains(part), "no {part:?} in\n{told}");
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["summary"]["partial"] == true, "{said:#}");
    let workloads = &said["workloads"];
    ensure!(
        workloads[0]["intents"][0] == entry("nothing-of-this-kind", "absent", None, "current", "no offer"),
        "{said:#}"
    );
    let web = &workloads[1]["intents"][0];
    ensure!(
        web["result"] == "bound" && web["state"] == "unknown" && web["offer"] == format!("{services}/openldap"),
        "{said:#}"
    );
    Ok(())
}

fn entry(intent: &str, result: &str, offer: Option<&str>, state: &str, reason: &str) -> Value {
    json!({"intent": intent, "result": result, "offer": offer, "required": false, "origin": "workload", "enforced": null, "state": state, "reason": reason})
}

fn report(opportune: &Tool, namespace: &str) -> Result<Value> {
    Ok(serde_json::from_str(&opportune.run(&["report", "-n", namespace, "-o", "json"])?)?)
}

/// The exit code of a check.
fn check(opportune: &Tool, namespace: &str) -> Result<i32> {
    let output = opportune.output(&["report", "-n", namespace, "--check"], "")?;
    ensure!(!output.stdout.is_empty(), "nothing was printed");
    output.status.code().context("it was killed")
}

trials![
    shared what_workloads_have_and_have_missed_is_reported,
    shared a_reader_of_one_namespace_sees_what_stands_there_and_what_is_unknown,
];
