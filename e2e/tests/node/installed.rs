//! Opportune as people install it: its image, its chart, its certificates, and the API server that calls it through its Service.
use crate::{
    stage::{SYSTEM, Stage, text},
    trial::{trials, until},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

fn two_replicas_of_each_role_run_and_doctor_finds_nothing(stage: &Stage) -> Result<()> {
    let cluster = stage.opportune()?;
    for role in ["webhook", "controller"] {
        let role = cluster.get(SYSTEM, &format!("deployment/opportune-{role}"))?;
        ensure!(role["status"]["readyReplicas"] == 2, "{}", role["status"]);
    }
    cluster.namespace("probed", &["inject=enabled"])?;
    let doctor = cluster.plane.opportune_for(&cluster.plane.kubeconfig())?;
    // The webhook learns of the namespace in its own time.
    until("doctor finds nothing", Duration::from_secs(30), || {
        let printed = doctor.run(&["doctor", "--probe-namespace", "probed", "-o", "json"])?;
        let findings: Value = serde_json::from_str(&printed)?;
        let findings = findings.as_array().context("doctor gives no list")?;
        let is_well = |finding: &&Value| match (text(finding, "/check"), text(finding, "/result")) {
            (_, "ok") => true,
            // It says that it can't reach a Service from outside, and that this cluster may have no storage yet.
            ("certificate", "skip") | ("storage", "warn") => true,
            _ => false,
        };
        let bad: Vec<_> = findings.iter().filter(|finding| !is_well(finding)).collect();
        ensure!(findings.len() > 10 && bad.is_empty(), "doctor found: {bad:?}");
        Ok(Some(()))
    })
}

fn a_pod_finds_in_its_environment_what_the_cluster_offers(stage: &Stage) -> Result<()> {
    let cluster = stage.opportune()?;
    // The webhook sees an offer some milliseconds after it was made: who requires it tries again, as people do.
    until("the app is let in", Duration::from_secs(10), || {
        cluster.apply(include_str!("manifests/cache.yaml")).map(Some)
    })?;
    cluster.wait_for("shop", "deployment/shop")?;
    let printed = cluster.exec("shop", "deployment/shop", &["printenv", "CACHE_HOST", "CACHE_PORT", "CACHE_PASSWORD"])?;
    ensure!(printed.lines().eq(["cache.caches.svc", "6379", "sesame"]), "the app sees: {printed}");
    Ok(())
}

fn the_api_server_calls_it_through_its_service(stage: &Stage) -> Result<()> {
    let cluster = stage.opportune()?;
    let configuration = cluster.get(SYSTEM, "mutatingwebhookconfiguration/opportune")?;
    let webhooks = configuration["webhooks"].as_array().context("no webhooks")?;
    ensure!(webhooks.iter().all(|webhook| webhook["clientConfig"]["service"]["name"] == "opportune"));
    let mut calls = 0;
    for webhook in webhooks {
        calls += cluster.plane.webhook_calls(text(webhook, "/name"))?;
    }
    ensure!(calls > 0, "the API server has called no webhook of Opportune");
    Ok(())
}

trials![
    two_replicas_of_each_role_run_and_doctor_finds_nothing,
    a_pod_finds_in_its_environment_what_the_cluster_offers,
    the_api_server_calls_it_through_its_service,
];
