//! Policies and defaults of namespaces with the chart: what the leader writes, what comes of it while it changes, and what people
//! are told.
use crate::{
    delivered::{PROMPT, READ, told, together},
    installed::Installed,
    offers::service,
    trial::trials,
    workload::{Kind, annotation, plain, text, variables, wishing},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::{cell::Cell, time::Duration};
use tokio::time::{Instant, sleep};

/// What is enforced everywhere here.
const HOST: &str = "openldap.platform.svc";

/// The chart, an administrator, and a directory and a mail server for all.
async fn start(values: &[&str]) -> Result<Installed> {
    let installed = Installed::start(&["platform"], values, 1).await?;
    for (name, intent, port, settings) in
        [("openldap", "ldap", 389, "base-dn: dc=example,dc=org"), ("smtp", "mail", 587, "from: noreply@example.org")]
    {
        installed.admin.create(&service("platform", name, intent, port, settings, None)).await?;
    }
    Ok(installed)
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy", "metadata": {"name": name}, "spec": spec})
}

fn named(namespace: &str) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}})
}

fn workload(namespace: &str, name: &str) -> Value {
    let mut manifest = plain(Kind::Deployment, name);
    manifest["metadata"]["namespace"] = namespace.into();
    manifest["spec"]["replicas"] = 0.into();
    manifest
}

fn has_directory(object: &Value) -> bool {
    variables(object, "LDAP_HOST").iter().any(|entry| text(entry, "/value") == HOST)
}

fn configuration(installed: &Installed) -> Result<Vec<Value>> {
    let arguments = ["get", "mutatingwebhookconfiguration", "opportune-policies", "-o", "json"];
    let configuration: Value = serde_json::from_str(&installed.plane.kubectl(&arguments)?)?;
    Ok(configuration["webhooks"].as_array().cloned().unwrap_or_default())
}

async fn has_webhooks(installed: &Installed, wanted: &[&str], limit: Duration) -> Result<()> {
    eventually(&format!("the webhooks are {wanted:?}"), limit, async || {
        let webhooks = configuration(installed)?;
        for webhook in &webhooks {
            ensure!(!text(webhook, "/clientConfig/caBundle").is_empty(), "a webhook without caBundle");
        }
        let names: Vec<String> = webhooks
            .iter()
            .map(|webhook| format!("{} {}", text(webhook, "/name"), text(webhook, "/failurePolicy")))
            .collect();
        ensure!(names == wanted, "they are {names:?}");
        Ok(Some(()))
    })
    .await
}

async fn policies_act_and_are_followed() -> Result<()> {
    let installed = start(&["rollouts=true"]).await?;
    let it = &installed;
    has_webhooks(it, &[], PROMPT).await?;
    the_webhooks_follow(it).await.context("the webhooks")?;
    together(vec![
        ("who stood there before", Box::pin(who_stood_there_before_is_told_or_rolled_out(it))),
        ("the status", Box::pin(the_status_counts_and_names_conflicts(it))),
        ("somebody's edit", Box::pin(an_edit_is_put_back(it))),
    ])
    .await?;
    // Alone: an API server that gets very many changes of a configuration at once may go by an older one for a while
    // (its cache of what it made of a configuration is filled after it was emptied).
    a_change_loses_no_request(it).await.context("a change under load")
}

async fn the_webhooks_follow(it: &Installed) -> Result<()> {
    let limits = json!({"namespaceSelector": named("nowhere"), "storage": {"maxSize": "1Gi"}});
    it.admin.create(&policy("aa-limits", limits)).await?;
    it.admin.create(&policy("aa", json!({"namespaceSelector": named("nowhere"), "defaults": ["ldap"]}))).await?;
    has_webhooks(it, &["aa.policies.opportune.libre.sh Ignore"], PROMPT).await?;
    let strict = json!({"spec": {"enforce": ["ldap"], "onAbsent": "Deny"}});
    it.admin.merge("InjectionPolicy", "", "aa", &strict).await?;
    let both = ["aa.policies.opportune.libre.sh Fail", "aa.others.opportune.libre.sh Fail"];
    has_webhooks(it, &both, PROMPT).await?;
    for name in ["aa", "aa-limits"] {
        it.admin.delete("InjectionPolicy", "", name).await?;
    }
    has_webhooks(it, &[], PROMPT).await
}

async fn who_stood_there_before_is_told_or_rolled_out(it: &Installed) -> Result<()> {
    for (namespace, refresh) in [("before-told", "notify"), ("before-rolled", "rollout")] {
        it.admin.namespace(namespace, &[]).await?;
        let before = it.admin.create(&workload(namespace, "web")).await?;
        ensure!(!has_directory(&before) && annotation(&before, "status").is_empty());
        let spec = json!({"namespaceSelector": named(namespace), "enforce": ["ldap"], "refresh": refresh});
        it.admin.create(&policy(namespace, spec)).await?;
    }
    eventually("it is told", READ, async || {
        let object = it.admin.get("Deployment", "before-told", "web").await?;
        let status = annotation(&object, "status");
        ensure!(status == "ldap=absent: platform/openldap after the next rollout", "it says {status:?}");
        let told = told(&it.admin, &object).await?;
        ensure!(told.iter().filter(|(reason, _)| reason == "Changed").count() == 1, "{told:?}");
        Ok(Some(()))
    })
    .await?;
    eventually("it is rolled out", READ, async || {
        let object = it.admin.get("Deployment", "before-rolled", "web").await?;
        ensure!(has_directory(&object), "status: {}", annotation(&object, "status"));
        Ok(Some(()))
    })
    .await
}

/// Twenty workloads a second are made while policies come, change and go.
async fn a_change_loses_no_request(it: &Installed) -> Result<()> {
    it.admin.namespace("load", &[]).await?;
    let steady = json!({"namespaceSelector": named("load"), "enforce": ["ldap"], "onAbsent": "Deny"});
    it.admin.create(&policy("load", steady)).await?;
    eventually("the policy acts", PROMPT, async || {
        Ok(has_directory(&it.admin.try_out(&workload("load", "first")).await?).then_some(()))
    })
    .await?;
    let is_over = Cell::new(false);
    let changing = async {
        for round in 0..8 {
            let name = format!("load-{round}");
            let spec = json!({"namespaceSelector": named("load"), "enforce": ["mail"], "onAbsent": "Deny"});
            it.admin.create(&policy(&name, spec)).await?;
            sleep(Duration::from_millis(400)).await;
            let other = json!({"spec": {"onAbsent": "Warn", "defaults": ["mail"], "enforce": null}});
            it.admin.merge("InjectionPolicy", "", &name, &other).await?;
            sleep(Duration::from_millis(300)).await;
            it.admin.delete("InjectionPolicy", "", &name).await?;
            sleep(Duration::from_millis(200)).await;
        }
        is_over.set(true);
        anyhow::Ok(())
    };
    let writing = async {
        let (start, mut made) = (Instant::now(), 0_u32);
        while !is_over.get() {
            let object = it.admin.create(&workload("load", &format!("w-{made}"))).await?;
            if !has_directory(&object) {
                let names: Vec<String> =
                    configuration(it)?.iter().map(|webhook| text(webhook, "/name").to_owned()).collect();
                anyhow::bail!("w-{made} has no directory; webhooks: {names:?}; {object:#}");
            }
            made += 1;
            sleep((Duration::from_millis(50) * made).saturating_sub(start.elapsed())).await;
        }
        ensure!(made > 40, "only {made} were made");
        Ok(())
    };
    let (changed, written) = tokio::join!(changing, writing);
    changed.and(written)
}

async fn the_status_counts_and_names_conflicts(it: &Installed) -> Result<()> {
    it.admin.namespace("counted", &[]).await?;
    it.admin.create(&workload("counted", "before")).await?;
    let enforcing = json!({"namespaceSelector": named("counted"), "enforce": ["ldap", "mail"], "refresh": "never"});
    it.admin.create(&policy("counted", enforcing)).await?;
    let forbidding = json!({"namespaceSelector": named("counted"), "forbid": ["mail"], "priority": 1});
    it.admin.create(&policy("counted-not", forbidding)).await?;
    eventually("the policy acts", PROMPT, async || {
        Ok(has_directory(&it.admin.try_out(&workload("counted", "x")).await?).then_some(()))
    })
    .await?;
    it.admin.create(&workload("counted", "after")).await?;
    let conflict = "enforces mail, which policy counted-not forbids: that policy wins, in namespace counted";
    let wanted = json!({"matched": 2, "conforming": 1, "lacking": 1, "conflicts": [conflict]});
    eventually("the status is so", READ, async || {
        let status = it.admin.get("InjectionPolicy", "", "counted").await?["status"].clone();
        ensure!(status == wanted, "it is {status}");
        Ok(Some(()))
    })
    .await?;
    // What the platform's team looks at says the same.
    let opportune = it.plane.opportune_for(&it.plane.kubeconfig())?;
    let report: Value = serde_json::from_str(&opportune.run(&["report", "-n", "counted", "-o", "json"])?)?;
    let counts = json!({"matched": 2, "conforming": 1, "lacking": 1});
    ensure!(report["summary"]["policies"]["counted"] == counts, "{report:#}");
    let check = opportune.output(&["report", "-n", "counted", "--check"], "")?;
    ensure!(check.status.code() == Some(3), "{check:?}");
    Ok(())
}

async fn an_edit_is_put_back(it: &Installed) -> Result<()> {
    let spec = json!({"namespaceSelector": named("nowhere"), "defaults": ["ldap"], "priority": 1000});
    it.admin.create(&policy("edited", spec)).await?;
    let mine = |webhooks: Vec<Value>| -> Option<(usize, Value)> {
        let mut webhooks = webhooks.into_iter().enumerate();
        webhooks.find(|(_, webhook)| text(webhook, "/name").starts_with("edited."))
    };
    let (place, _) = eventually("it has its webhook", PROMPT, async || Ok(mine(configuration(it)?))).await?;
    // Others come and go beside it: one of the first priority stays the first.
    // No namespace of the others': whoever an API server calls a policy for is taken for one of its namespaces.
    let path = format!("/webhooks/{place}/namespaceSelector");
    let edit = json!([{"op": "replace", "path": path, "value": named("elsewhere")}]).to_string();
    let arguments = ["patch", "mutatingwebhookconfiguration", "opportune-policies", "--type=json", "-p", &edit];
    it.plane.kubectl(&arguments)?;
    eventually("the edit is put back", READ, async || {
        let (_, webhook) = mine(configuration(it)?).context("it has no webhook")?;
        let selector = &webhook["namespaceSelector"]["matchLabels"];
        Ok((*selector == named("nowhere")["matchLabels"]).then_some(()))
    })
    .await
}

async fn defaults_of_a_namespace_and_every_kind() -> Result<()> {
    let kinds = "kinds={deployments,statefulsets,daemonsets,jobs,cronjobs,pods}";
    let mut installed = start(&["namespaceDefaults=true", kinds]).await?;
    let it = &installed;
    let annotated = |name: &str, key: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
            "labels": {"opportune.libre.sh/inject": "enabled"}, "annotations": {format!("opportune.libre.sh/{key}"): value}}})
    };
    it.admin.create(&annotated("wanting", "wants", "ldap")).await?;
    it.admin.create(&annotated("requiring", "requires", "ldap")).await?;
    let both = ["defaults.namespaces.opportune.libre.sh Ignore", "requires.namespaces.opportune.libre.sh Fail"];
    has_webhooks(it, &both, PROMPT).await?;
    for namespace in ["wanting", "requiring"] {
        eventually("its default acts", PROMPT, async || {
            Ok(has_directory(&it.admin.try_out(&workload(namespace, "web")).await?).then_some(()))
        })
        .await?;
    }
    let alone = wishing(Kind::Deployment, "alone", &[("inherit", "false"), ("wants", "mail")]);
    let mut alone = alone;
    alone["metadata"]["namespace"] = "wanting".into();
    let object = it.admin.try_out(&alone).await?;
    ensure!(!has_directory(&object) && annotation(&object, "status") == "mail=platform/smtp", "{object:#}");

    // With every kind switched on, a strict policy refuses none of them, and what a Deployment makes goes on being made.
    it.admin.namespace("kinds", &[]).await?;
    let spec = json!({"namespaceSelector": named("kinds"), "enforce": ["ldap"], "onAbsent": "Deny"});
    it.admin.create(&policy("kinds", spec)).await?;
    eventually("the policy acts", PROMPT, async || {
        Ok(has_directory(&it.admin.try_out(&workload("kinds", "web")).await?).then_some(()))
    })
    .await?;
    let template = workload("kinds", "x")["spec"]["template"].clone();
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "set", "namespace": "kinds"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": "kinds"},
        "spec": {"template": once}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "kinds"}, "spec": once["spec"]});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [set, job, pod]});
    it.plane.apply(&list.to_string())?;
    for (kind, path) in [("daemonset/set", "{.spec.template.spec"), ("job/job", "{.spec.template.spec"), ("pod/pod", "{.spec")] {
        let path = format!("-o=jsonpath={path}.containers[0].env[*].name}}");
        let names = it.plane.kubectl(&["-n", "kinds", "get", kind, &path])?;
        ensure!(names.contains("LDAP_HOST"), "{kind} has {names}");
    }
    let mut running = workload("kinds", "running");
    running["spec"]["replicas"] = 1.into();
    it.admin.create(&running).await?;
    eventually("its pod is made", PROMPT, async || {
        let pods = it.plane.kubectl(&["-n", "kinds", "get", "pods", "-l", "app=running", "-o", "name"])?;
        Ok((!pods.is_empty()).then_some(()))
    })
    .await?;

    installed.webhook.program.kill();
    let it = &installed;
    ensure!(it.admin.create(&workload("wanting", "away")).await.is_ok(), "what is only wanted waits for nobody");
    let refused = it.admin.create(&workload("requiring", "away")).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("requires.namespaces.opportune.libre.sh")));
    Ok(())
}

trials![own policies_act_and_are_followed, own defaults_of_a_namespace_and_every_kind];
