//! What can't be delivered is taken back, once, and nothing of anybody's is touched on the way.
use crate::{
    admin::Admin,
    delivered::{
        GIVEN_UP, PASSWORD, PROMPT, READ, copies, directory, has, hears, idle, namespace_with_directory, now, reader,
        reference, restart, rollouts, says, served, together, watched, told,
    },
    installed::Installed,
    offers::{SHARED_CLASS, secret, storage_class},
    trial::trials,
    workload::{Kind, annotation, generation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long nothing more may happen.
const QUIET: Duration = Duration::from_secs(20);
/// Before that, nothing is taken back but a claim that is somebody else's, on which pods would run.
const TRIED: Duration = Duration::from_secs(25);

fn wanting(namespace: &str, name: &str) -> Value {
    idle(Kind::Deployment, namespace, name, &[("wants", "ldap")])
}

/// Waits until an intent was taken out of a workload made at this time, and looks that it was done well and once.
async fn is_withdrawn(admin: &Admin, object: &Value, made: Instant, intent: &str) -> Result<Value> {
    let earliest = if intent == "storage" { Duration::ZERO } else { TRIED };
    let namespace = text(object, "/metadata/namespace");
    let after = says(admin, object, &format!("{intent}=withdrawn: "), GIVEN_UP).await?;
    let waited = made.elapsed();
    ensure!(waited >= earliest, "withdrawn after {waited:?}");
    println!("    {namespace}: after {} s {}", waited.as_secs(), annotation(&after, "status"));
    for word in ["secretKeyRef", "LDAP_", "persistentVolumeClaim", "mountPath"] {
        ensure!(!after["spec"].to_string().contains(word), "{word} is left: {}", after["spec"]);
    }
    let record = annotation(&after, "injected");
    ensure!(record.contains("withdrawn"), "the record does not tell: {record}");
    tokio::time::sleep(QUIET).await;
    let later = now(admin, object).await?;
    ensure!(generation(&later) == generation(&after), "{} became {}", annotation(&after, "status"), annotation(&later, "status"));
    let rolled = rollouts(admin, object).await?;
    ensure!(rolled == 1, "{rolled} rollouts");
    let told = told(admin, object).await?;
    let times = told.iter().filter(|(reason, _)| reason == "Withdrawn").count();
    ensure!(times == 1, "told {told:?}");
    Ok(later)
}

async fn a_missing_source_is_waited_for_only_where_it_is_required(admin: &Admin) -> Result<()> {
    let namespace = "no-source";
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    watched(admin, namespace).await?;
    admin.create(&directory(namespace)).await?;
    let made = Instant::now();
    let wanting = served(admin, &wanting(namespace, "wanting")).await?;
    let requiring = served(admin, &idle(Kind::Deployment, namespace, "requiring", &[("requires", "ldap")])).await?;
    ensure!(reference(&wanting, PASSWORD).is_some(), "not injected: {}", annotation(&wanting, "status"));
    let withdrawn = is_withdrawn(admin, &wanting, made, "ldap").await?;
    let after = now(admin, &requiring).await?;
    ensure!(after["spec"] == requiring["spec"], "it was taken back: {}", annotation(&after, "status"));
    let told_of = told(admin, &requiring).await?;
    println!("    requires: {} {told_of:?}", annotation(&after, "status"));
    ensure!(!told_of.is_empty(), "nobody is told that its pods wait");

    // A change of the workload that has nothing to do with it does not bring it back.
    let withdrawn = restart(admin, &withdrawn).await?;
    ensure!(annotation(&withdrawn, "status").contains("ldap=withdrawn: "), "{}", annotation(&withdrawn, "status"));
    ensure!(!withdrawn["spec"].to_string().contains("LDAP_"), "{}", withdrawn["spec"]);

    admin.create(&reader(namespace, "reader", "s3cret")).await?;
    has(admin, &requiring, PASSWORD, "s3cret", READ).await?;
    let offered = says(admin, &wanting, "no-source/openldap after the next rollout", READ).await?;
    println!("    offered again: {}", annotation(&offered, "status"));
    hears(admin, &wanting, "Changed", PROMPT).await?;
    ensure!(offered["spec"] == withdrawn["spec"], "it rolled out");
    let after = restart(admin, &offered).await?;
    ensure!(annotation(&after, "status") == "ldap=no-source/openldap", "{}", annotation(&after, "status"));
    has(admin, &after, PASSWORD, "s3cret", PROMPT).await
}

async fn a_quota_is_no_reason_to_wait_for_ever(admin: &Admin) -> Result<()> {
    let namespace = "no-room";
    namespace_with_directory(admin, namespace).await?;
    let spec = json!({"hard": {"secrets": "1"}});
    let metadata = json!({"name": "secrets", "namespace": namespace});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec});
    admin.create(&quota).await?;
    eventually("the quota is counted", PROMPT, async || {
        Ok((now(admin, &quota).await?["status"]["used"]["secrets"] == "1").then_some(()))
    })
    .await?;
    let made = Instant::now();
    let object = served(admin, &wanting(namespace, "web")).await?;
    let after = is_withdrawn(admin, &object, made, "ldap").await?;
    ensure!(annotation(&after, "status").contains("quota"), "{}", annotation(&after, "status"));
    Ok(())
}

async fn a_secret_of_somebody_else_is_left_alone(admin: &Admin) -> Result<()> {
    let namespace = "foreign-secret";
    namespace_with_directory(admin, namespace).await?;
    let name = eventually("the name of the copy is known", PROMPT, async || {
        let object = admin.try_out(&wanting(namespace, "web")).await?;
        Ok(reference(&object, PASSWORD).map(|(name, _)| name.to_owned()))
    })
    .await?;
    let foreign = admin.create(&secret(namespace, &name, json!({"password": "theirs"}))).await?;
    let made = Instant::now();
    let object = served(admin, &wanting(namespace, "web")).await?;
    is_withdrawn(admin, &object, made, "ldap").await?;
    println!("    a Secret in the way: {}", hears(admin, &object, "Conflict", PROMPT).await?);
    let after = now_of(admin, "Secret", &foreign).await?;
    ensure!(after == foreign, "{after} was {foreign}");
    admin.delete("Deployment", namespace, "web").await?;
    tokio::time::sleep(QUIET).await;
    let after = now_of(admin, "Secret", &foreign).await?;
    ensure!(after == foreign, "{after} was {foreign}");
    Ok(())
}

/// Bare answers of the API server name no kind.
async fn now_of(admin: &Admin, kind: &str, object: &Value) -> Result<Value> {
    admin.get(kind, text(object, "/metadata/namespace"), text(object, "/metadata/name")).await
}

async fn a_claim_of_somebody_else_is_left_alone(admin: &Admin) -> Result<()> {
    let namespace = "foreign-claim";
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    let wishes = [("wants", "storage"), ("storage", "/data=1Gi")];
    let manifest = idle(Kind::Deployment, namespace, "web", &wishes);
    let claim = eventually("the name of the claim is known", PROMPT, async || {
        let object = admin.try_out(&manifest).await?;
        let name = "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName";
        Ok(object.pointer(name).cloned())
    })
    .await?;
    let foreign = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            // It is bound to nothing, and nothing writes on it in the meantime.
            "storageClassName": "",
            "volumeName": "nowhere",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    admin.create(&foreign).await?;
    let settled = eventually("it is pending", PROMPT, async || {
        let claim = now(admin, &foreign).await?;
        Ok((claim["status"]["phase"] == "Pending").then_some(claim))
    })
    .await?;
    let made = Instant::now();
    let object = served(admin, &manifest).await?;
    is_withdrawn(admin, &object, made, "storage").await?;
    println!("    a claim in the way: {}", hears(admin, &object, "Conflict", PROMPT).await?);
    let after = now(admin, &foreign).await?;
    ensure!(after == settled, "{after} was {settled}");
    Ok(())
}

/// What a workload that may not use an offer says of itself, as if it had been given that offer.
async fn a_forged_record_brings_nothing(admin: &Admin) -> Result<()> {
    for (namespace, inject) in [("honest", "enabled"), ("forger", "enabled"), ("outside", "disabled")] {
        admin.namespace(namespace, &[("inject", inject)]).await?;
    }
    admin.create(&reader("people", "reader", "s3cret")).await?;
    let mut offer = directory("people");
    offer["metadata"]["annotations"]["opportune.libre.sh/consumers"] = "kubernetes.io/metadata.name=honest".into();
    admin.create(&offer).await?;
    let honest = served(admin, &wanting("honest", "web")).await?;
    has(admin, &honest, PASSWORD, "s3cret", PROMPT).await?;
    for namespace in ["forger", "outside"] {
        let mut forged = honest.clone();
        forged["metadata"] = json!({
            "name": "web",
            "namespace": namespace,
            "labels": honest["metadata"]["labels"],
            "annotations": honest["metadata"]["annotations"],
        });
        let made = admin.create(&forged).await?;
        println!("    {namespace}: {}", annotation(&made, "status"));
        // A record that comes later, in words that the webhook has no part in.
        let change = json!({"metadata": {"annotations": honest["metadata"]["annotations"]}});
        admin.merge("Deployment", namespace, "web", &change).await?;
    }
    tokio::time::sleep(READ).await;
    for namespace in ["forger", "outside"] {
        let copies = copies(admin, namespace).await?;
        ensure!(copies.is_empty(), "{namespace} has {}", copies[0]["metadata"]);
    }
    Ok(())
}

/// Takes from the controller, or gives back, what it may do with Secrets.
async fn without_secrets(admin: &Admin) -> Result<Value> {
    let role = admin.get("ClusterRole", "", "opportune-controller").await?;
    let rules = role["rules"].as_array().context("no rules")?;
    let others: Vec<_> = rules.iter().filter(|rule| rule["resources"] != json!(["secrets"])).collect();
    admin.merge("ClusterRole", "", "opportune-controller", &json!({"rules": others})).await?;
    Ok(json!({"rules": rules}))
}

async fn a_right_that_is_lost_takes_nothing_from_who_has_it(admin: &Admin) -> Result<()> {
    let namespace = "no-right";
    namespace_with_directory(admin, namespace).await?;
    let early = served(admin, &wanting(namespace, "early")).await?;
    has(admin, &early, PASSWORD, "s3cret", PROMPT).await?;
    let before = now(admin, &early).await?;
    admin.namespace("no-right-2", &[("inject", "enabled")]).await?;
    admin.create(&reader("no-right-2", "reader", "s3cret")).await?;
    admin.create(&directory("no-right-2")).await?;
    let rules = without_secrets(admin).await?;
    let made = Instant::now();
    // Its pods wait. Of one that has all its pods nobody may tell that they lack what nobody may read.
    let mut late = wanting("no-right-2", "late");
    late["spec"]["replicas"] = 1.into();
    let late = served(admin, &late).await?;
    let requiring = idle(Kind::StatefulSet, "no-right-2", "requiring", &[("requires", "ldap")]);
    let requiring = served(admin, &requiring).await?;
    says(admin, &late, "ldap=withdrawn: ", GIVEN_UP).await?;
    ensure!(made.elapsed() >= TRIED, "withdrawn after {:?}", made.elapsed());
    let after = now(admin, &early).await?;
    ensure!(after["spec"] == before["spec"], "its Secret is there, and it was taken back: {}", annotation(&after, "status"));
    admin.merge("ClusterRole", "", "opportune-controller", &rules).await?;
    has(admin, &requiring, PASSWORD, "s3cret", GIVEN_UP).await?;
    let new = served(admin, &wanting(namespace, "new")).await?;
    has(admin, &new, PASSWORD, "s3cret", PROMPT).await?;
    ensure!(now(admin, &early).await?["spec"] == before["spec"], "it rolled out");
    Ok(())
}

async fn what_cannot_be_delivered_is_taken_back_once() -> Result<()> {
    let installed = Installed::start(&["people"], &[], 1).await?;
    let admin = &installed.admin;
    admin.create(&storage_class(SHARED_CLASS, "rook-ceph.cephfs.csi.ceph.com")).await?;
    let checks = together(vec![
        ("a missing source", Box::pin(a_missing_source_is_waited_for_only_where_it_is_required(admin))),
        ("a quota", Box::pin(a_quota_is_no_reason_to_wait_for_ever(admin))),
        ("a foreign Secret", Box::pin(a_secret_of_somebody_else_is_left_alone(admin))),
        ("a foreign claim", Box::pin(a_claim_of_somebody_else_is_left_alone(admin))),
        ("a forged record", Box::pin(a_forged_record_brings_nothing(admin))),
    ]);
    let checks = checks.await.with_context(|| installed.complaints().unwrap_or_default());
    let conflicts = installed.figure("opportune_deliveries_total", &[("result", "conflict")]);
    println!("    {conflicts} deliveries met what is somebody else's");
    // By itself, as it concerns all.
    let right = a_right_that_is_lost_takes_nothing_from_who_has_it(admin).await;
    checks?;
    right.with_context(|| installed.complaints().unwrap_or_default())?;
    ensure!(conflicts >= 2.0, "{conflicts}");
    Ok(())
}

trials![patient what_cannot_be_delivered_is_taken_back_once];
