//! What happens in a cluster's life: a directory comes later, its password changes, it goes away, and the power fails.
use crate::{
    browser::Browser,
    cache,
    stage::{Cluster, SOON, Stage, start_ceph, text},
    trial::{trials, until},
    wordpress::{self, ALICE, WEBMASTER},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::Authority;
use serde_json::json;
use std::time::{Duration, Instant};

/// Where a directory comes and goes.
const ALONE: &str = "alone";
const WORDPRESS: &str = "deployment/wordpress";
/// Its image, as the chart names it.
const OPPORTUNE: &str = concat!("ghcr.io/libresh/opportune:", env!("CARGO_PKG_VERSION"));

fn a_directory_that_is_installed_later_is_used_after_a_rollout_of_its_own(stage: &Stage) -> Result<()> {
    let cluster = stage.alone()?;
    let directory = include_str!("manifests/directory.yaml");
    cluster.provide(ALONE, "directory", directory, &Authority::new()?)?;
    cluster.wait_for(ALONE, "deployment/openldap")?;
    wait_for_status(cluster, "ldap=alone/openldap")?;
    cluster.wait_for(ALONE, WORDPRESS)?;
    ensure!(lets_in(cluster, ALICE, "Alice Liddell")?, "the directory's user is not let in");
    Ok(())
}

fn a_new_password_of_the_directory_reaches_the_app(stage: &Stage) -> Result<()> {
    let cluster = stage.alone()?;
    let before = template(cluster)?;
    let change = "printf 'dn: cn=reader,dc=example,dc=org\\nchangetype: modify\\nreplace: userPassword\\nuserPassword: rotated\\n' \
        | LDAPTLS_REQCERT=never ldapmodify -H ldaps://localhost -x -D cn=admin,dc=example,dc=org -w \"$ADMIN_PASSWORD\"";
    cluster.exec(ALONE, "deployment/openldap", &["bash", "-euc", change])?;
    ensure!(!lets_in(cluster, ALICE, "Alice Liddell")?, "the old password is still of use: nothing was rotated");
    let secret = json!({ "stringData": { "READER_PASSWORD": "rotated" } }).to_string();
    cluster.kubectl(&["patch", "secret", "openldap", "-n", ALONE, "--type=merge", "-p", &secret])?;
    until("the pods are made anew", SOON, || Ok(Some(()).filter(|()| template(cluster).is_ok_and(|now| now != before))))?;
    cluster.wait_for(ALONE, WORDPRESS)?;
    ensure!(lets_in(cluster, ALICE, "Alice Liddell")?, "the app does not have the new password");
    Ok(())
}

fn an_app_whose_directory_is_gone_keeps_running_and_starts_again(stage: &Stage) -> Result<()> {
    let cluster = stage.alone()?;
    cluster.kubectl(&["delete", "-n", ALONE, "deployment/openldap", "service/openldap"])?;
    ensure!(lets_in(cluster, WEBMASTER, "webmaster")?, "its local user is not let in");
    cluster.kubectl(&["rollout", "restart", "-n", ALONE, WORDPRESS])?;
    cluster.wait_for(ALONE, WORDPRESS)?;
    ensure!(lets_in(cluster, WEBMASTER, "webmaster")?, "after a restart, its local user is not let in");
    ensure!(!lets_in(cluster, ALICE, "Alice Liddell")?, "nobody can know this user");
    let status = wordpress::status(cluster, ALONE, WORDPRESS)?;
    ensure!(status.contains("ldap=kept"), "{status}");
    Ok(())
}

fn after_a_power_cut_all_comes_back_by_itself_even_if_opportune_is_last(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let start = Instant::now();
    cluster.node.cut_power()?;
    cluster.plane.stop();
    cluster.plane.start_again()?;
    start_ceph()?;
    // Where its image is missing, it can't start before all the others.
    cluster.node.start_again(&cluster.plane, OPPORTUNE)?;
    println!("the node is ready again after {:.1} s", start.elapsed().as_secs_f32());
    let (opportune, others): (Vec<_>, Vec<_>) = cluster
        .list("deployments,statefulsets", &["-A"])?
        .into_iter()
        .partition(|workload| text(workload, "/metadata/namespace") == "opportune-system");
    ensure!(opportune.len() == 2 && others.len() > 5, "{} and {} workloads", opportune.len(), others.len());
    let all_run = |namespace: &str| -> Result<Option<()>> {
        for pod in cluster.list("pods", &["-n", namespace])? {
            let conditions = pod.pointer("/status/conditions").and_then(|all| all.as_array().cloned());
            let is_ready = conditions.into_iter().flatten().any(|condition| {
                text(&condition, "/type") == "Ready" && text(&condition, "/status") == "True"
            });
            // Before the node told of them, pods look as they were when the power failed.
            let began = pod.pointer("/status/containerStatuses/0/restartCount").and_then(|count| count.as_u64());
            ensure!(is_ready && began > Some(0), "{} does not run", text(&pod, "/metadata/name"));
        }
        Ok(Some(()))
    };
    for workload in &others {
        let namespace = text(workload, "/metadata/namespace");
        until(&format!("the pods of {namespace} run without Opportune"), SOON, || all_run(namespace))?;
    }
    println!("all others run again after {:.1} s", start.elapsed().as_secs_f32());
    let ready = cluster.get("opportune-system", "deployment/opportune-webhook")?;
    ensure!(ready["status"]["readyReplicas"].is_null(), "Opportune was not last: {}", ready["status"]);

    // Nobody waits for the webhook: a new workload is let in as it is.
    let begun = Instant::now();
    cluster.kubectl(&["create", "deployment", "late", "-n", "blog", "--image=opportune.invalid/debian:1", "--replicas=0"])?;
    cluster.kubectl(&["annotate", "deployment", "late", "-n", "blog", "opportune.libre.sh/wants=ldap"])?;
    ensure!(begun.elapsed() < Duration::from_secs(15), "a write waited for {:?}", begun.elapsed());
    cluster.node.import(&cache("node/images")?, Some(OPPORTUNE))?;
    until("Opportune runs again", SOON, || all_run("opportune-system"))?;
    println!("Opportune runs again after {:.1} s", start.elapsed().as_secs_f32());
    until("the webhook decides again", SOON, || {
        cluster.kubectl(&["annotate", "deployment", "late", "-n", "blog", "--overwrite", "opportune.libre.sh/wants=mail"])?;
        let status = wordpress::status(cluster, "blog", "deployment/late")?;
        Ok(Some(()).filter(|()| status.contains("mail=mail/mail")))
    })?;
    let browser = wordpress::browser(cluster, "blog")?;
    wordpress::log_in(&browser, ALICE)?;
    ensure!(browser.text("#wp-admin-bar-my-account")?.contains("Alice Liddell"), "{}", browser.page());
    Ok(())
}

fn wait_for_status(cluster: &Cluster, wanted: &str) -> Result<()> {
    until(&format!("the status says {wanted}"), SOON, || {
        let status = wordpress::status(cluster, ALONE, WORDPRESS)?;
        ensure!(status.contains(wanted) && !status.contains("after the next rollout"), "it says {status}");
        Ok(Some(()))
    })
}

fn template(cluster: &Cluster) -> Result<String> {
    let workload = cluster.get(ALONE, WORDPRESS)?;
    Ok(workload.pointer("/spec/template").context("a Deployment without a template")?.to_string())
}

/// Whether this user is let in by the WordPress that stands alone, and greeted by this name.
fn lets_in(cluster: &Cluster, user: (&str, &str), name: &str) -> Result<bool> {
    let browser: Browser = wordpress::browser(cluster, ALONE)?;
    wordpress::log_in(&browser, user)?;
    let answer = browser.text("#login_error, #wp-admin-bar-my-account")?;
    Ok(answer.contains(name))
}

trials![
    a_directory_that_is_installed_later_is_used_after_a_rollout_of_its_own,
    a_new_password_of_the_directory_reaches_the_app,
    an_app_whose_directory_is_gone_keeps_running_and_starts_again,
    after_a_power_cut_all_comes_back_by_itself_even_if_opportune_is_last,
];
