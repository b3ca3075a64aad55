//! What comes late: offers after workloads, changes of offers, and the webhook after workloads that it missed.
use crate::{
    admin::Admin,
    delivered::{
        PASSWORD, READ, directory, has, hears, idle, namespace_with_directory, now, reader, restart, rollouts, says, served, together,
        told,
    },
    installed::Installed,
    trial::trials,
    workload::{Kind, annotation, text, variables},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// One workload of a namespace is rolled out at a time, after everybody was looked at.
const ROLLED_OUT: Duration = Duration::from_secs(45);
/// How long nothing more may happen.
const QUIET: Duration = Duration::from_secs(20);
/// How many workloads lack what their wishes would bring them.
const MISSED: &str = "opportune_workloads_missed";

fn deployment(namespace: &str, name: &str, wants: &str, refresh: &str) -> Value {
    idle(Kind::Deployment, namespace, name, &[("wants", wants), ("refresh", refresh)])
}

fn ldap_host(object: &Value) -> usize {
    variables(object, "LDAP_HOST").len()
}

/// An error unless a workload was rolled out so often, and told of a change so often.
async fn was(admin: &Admin, object: &Value, rolled_out: usize, told_of: usize) -> Result<()> {
    let (rolled, told) = (rollouts(admin, object).await?, told(admin, object).await?);
    let name = text(object, "/metadata/name");
    ensure!(rolled == rolled_out, "{name}: {rolled} rollouts, not {rolled_out}; told {told:?}");
    let changes = told.iter().filter(|(reason, _)| reason == "Changed").count();
    ensure!(changes == told_of, "{name}: told {told:?}, and not {told_of} times of a change");
    Ok(())
}

async fn rolled_out(admin: &Admin, object: &Value, times: usize) -> Result<()> {
    let what = format!("{} is rolled out {times} times", text(object, "/metadata/name"));
    eventually(&what, ROLLED_OUT, async || Ok((rollouts(admin, object).await? >= times).then_some(()))).await
}

async fn an_offer_that_comes_late_is_told_and_rolled_out_once(admin: &Admin) -> Result<()> {
    let namespace = "late";
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    let mut paused = deployment(namespace, "paused", "ldap", "rollout");
    paused["spec"]["paused"] = true.into();
    let notify = admin.create(&deployment(namespace, "notify", "ldap", "notify")).await?;
    let rollout = admin.create(&deployment(namespace, "rollout", "ldap", "rollout")).await?;
    let second = admin.create(&deployment(namespace, "second", "ldap", "rollout")).await?;
    let paused = admin.create(&paused).await?;
    let never = admin.create(&deployment(namespace, "never", "ldap", "never")).await?;
    let unconcerned = admin.create(&deployment(namespace, "unconcerned", "mail", "rollout")).await?;
    ensure!(annotation(&rollout, "status") == "ldap=absent: no offer", "{}", annotation(&rollout, "status"));

    admin.create(&reader(namespace, "reader", "s3cret")).await?;
    admin.create(&directory(namespace)).await?;
    println!("    a late arrival: {}", hears(admin, &notify, "Changed", READ).await?);
    for object in [&notify, &paused] {
        says(admin, object, "ldap=absent: late/openldap after the next rollout", READ).await?;
    }
    for object in [&rollout, &second] {
        let object = says(admin, object, "ldap=late/openldap", ROLLED_OUT).await?;
        has(admin, &object, PASSWORD, "s3cret", READ).await?;
        let cause = "/spec/template/metadata/annotations/opportune.libre.sh~1refreshed";
        ensure!(!text(&object, cause).is_empty(), "{}", object["spec"]["template"]["metadata"]);
    }
    // What brings nothing new is no cause.
    let priority = json!({"metadata": {"annotations": {"opportune.libre.sh/priority": "5"}}});
    admin.merge("Service", namespace, "openldap", &priority).await?;
    tokio::time::sleep(QUIET).await;
    for (object, rolled_out, told_of) in [(&rollout, 1, 0), (&second, 1, 0), (&notify, 0, 1), (&unconcerned, 0, 0)] {
        was(admin, object, rolled_out, told_of).await?;
    }
    hears(admin, &paused, "Changed", READ).await?;
    let after = now(admin, &paused).await?;
    ensure!(ldap_host(&after) == 0 && after["spec"] == paused["spec"], "it was changed: {}", after["spec"]);
    let after = now(admin, &never).await?;
    ensure!(annotation(&after, "status") == "ldap=absent: no offer", "{}", annotation(&after, "status"));
    was(admin, &never, 0, 0).await?;

    // Another setting is another cause, and the last one.
    let moved = json!({"metadata": {"annotations": {"opportune.libre.sh/settings": "base-dn: dc=example,dc=net"}}});
    admin.merge("Service", namespace, "openldap", &moved).await?;
    for object in [&rollout, &second] {
        rolled_out(admin, object, 2).await?;
        let base = now(admin, object).await?;
        let base = variables(&base, "LDAP_BASE_DN").first().map(|entry| text(entry, "/value").to_owned());
        ensure!(base.as_deref() == Some("dc=example,dc=net"), "{base:?}");
    }
    for object in [&notify, &paused] {
        eventually("it is told again", ROLLED_OUT, async || Ok(Some(was(admin, object, 0, 2).await?))).await?;
    }
    Ok(())
}

/// How often each workload was rolled out, and what it was told of.
async fn history(admin: &Admin) -> Result<BTreeMap<String, (usize, Vec<(String, String)>)>> {
    let mut history = BTreeMap::new();
    for object in admin.list("Deployment", "").await? {
        let name = format!("{}/{}", text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
        history.insert(name, (rollouts(admin, &object).await?, told(admin, &object).await?));
    }
    Ok(history)
}

/// A Deployment of another controller, which would undo what somebody else changes of it.
async fn owned(admin: &Admin, namespace: &str) -> Result<Value> {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": namespace}});
    let owner = admin.create(&owner).await?;
    let mut owned = deployment(namespace, "owned", "ldap", "rollout");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
        "controller": true,
    }]);
    Ok(owned)
}

/// Workloads as they come while nobody looks at them: to be told, to be rolled out, and another controller's.
async fn miss(admin: &Admin) -> Result<[Value; 3]> {
    let namespace = "missed";
    namespace_with_directory(admin, namespace).await?;
    let notify = admin.create(&deployment(namespace, "notify", "ldap", "notify")).await?;
    let rollout = admin.create(&deployment(namespace, "rollout", "ldap", "rollout")).await?;
    let owned = admin.create(&owned(admin, namespace).await?).await?;
    for object in [&notify, &rollout, &owned] {
        ensure!(ldap_host(object) == 0 && annotation(object, "status").is_empty(), "it was not missed: {object}");
    }
    Ok([notify, rollout, owned])
}

/// Pods that can't start are not followed by more of them.
async fn one_rollout_of_a_namespace_follows_the_other(admin: &Admin) -> Result<()> {
    let namespace = "paced";
    namespace_with_directory(admin, namespace).await?;
    let mut workloads = Vec::new();
    for name in ["one", "two"] {
        let mut manifest = deployment(namespace, name, "ldap", "rollout");
        manifest["spec"]["replicas"] = 1.into();
        let object = served(admin, &manifest).await?;
        has(admin, &object, PASSWORD, "s3cret", READ).await?;
        workloads.push(object);
    }
    let moved = json!({"metadata": {"annotations": {"opportune.libre.sh/settings": "base-dn: dc=example,dc=net"}}});
    admin.merge("Service", namespace, "openldap", &moved).await?;
    let first = eventually("one is rolled out", ROLLED_OUT, async || {
        for (number, object) in workloads.iter().enumerate() {
            if rollouts(admin, object).await? > 0 {
                return Ok(Some(number));
            }
        }
        Ok(None)
    })
    .await?;
    tokio::time::sleep(QUIET).await;
    let (first, second) = (&workloads[first], &workloads[1 - first]);
    ensure!(rollouts(admin, second).await? == 0, "both are rolled out, and none has its pods");
    // Without a pod that it wants, it has all of them.
    admin.merge("Deployment", namespace, text(first, "/metadata/name"), &json!({"spec": {"replicas": 0}})).await?;
    rolled_out(admin, second, 1).await?;
    ensure!(rollouts(admin, first).await? == 1, "it is rolled out twice");
    Ok(())
}

async fn what_was_missed_is_found(installed: &Installed, missed: &[Value; 3]) -> Result<()> {
    let admin = &installed.admin;
    let [notify, rollout, owned] = missed;
    println!("    a missed one: {}", hears(admin, notify, "Changed", ROLLED_OUT).await?);
    hears(admin, owned, "Changed", ROLLED_OUT).await?;
    let after = says(admin, rollout, "ldap=missed/openldap", ROLLED_OUT).await?;
    has(admin, &after, PASSWORD, "s3cret", READ).await?;
    eventually("two are left", READ, async || {
        let figure = installed.figure(MISSED, &[]);
        ensure!(figure == 2.0, "{figure}");
        Ok(Some(()))
    })
    .await?;
    tokio::time::sleep(QUIET).await;
    ensure!(rollouts(admin, rollout).await? == 1, "{:?}", told(admin, rollout).await?);
    for object in [notify, owned] {
        let after = now(admin, object).await?;
        ensure!(after["spec"] == object["spec"], "{} was changed", text(object, "/metadata/name"));
        let told = told(admin, object).await?;
        ensure!(told.len() == 1, "{told:?}");
    }
    let after = restart(admin, &now(admin, notify).await?).await?;
    ensure!(annotation(&after, "status") == "ldap=missed/openldap", "{}", annotation(&after, "status"));
    eventually("one is left", READ, async || Ok((installed.figure(MISSED, &[]) == 1.0).then_some(()))).await
}

async fn workloads_get_what_came_after_them() -> Result<()> {
    let mut installed = Installed::start(&[], &["rollouts=true"], 1).await?;
    let admin = installed.admin.clone();
    installed.webhook.program.kill();
    let missed = miss(&admin).await?;
    eventually("three are missed", ROLLED_OUT, async || {
        let figure = installed.figure(MISSED, &[]);
        ensure!(figure == 3.0, "{figure}");
        Ok(Some(()))
    })
    .await?;
    installed.start_webhook()?;
    let checks = together(vec![
        ("a late offer", Box::pin(an_offer_that_comes_late_is_told_and_rolled_out_once(&admin))),
        ("pace", Box::pin(one_rollout_of_a_namespace_follows_the_other(&admin))),
        ("missed", Box::pin(what_was_missed_is_found(&installed, &missed))),
    ]);
    checks.await.with_context(|| installed.complaints().unwrap_or_default())?;

    // What was done is known to the cluster, and not done again by the next leader.
    let before = history(&admin).await?;
    for (name, times) in [("late/rollout", 2), ("late/second", 2), ("late/notify", 0), ("late/unconcerned", 0)] {
        ensure!(before[name].0 == times, "{name}: {:?}", before[name]);
    }
    installed.replace_controller()?;
    tokio::time::sleep(QUIET).await;
    let after = history(&admin).await?;
    let changed = after.iter().find(|(name, history)| before.get(*name) != Some(history));
    ensure!(changed.is_none(), "{changed:?}; before: {before:?}");
    Ok(())
}

trials![patient workloads_get_what_came_after_them];
