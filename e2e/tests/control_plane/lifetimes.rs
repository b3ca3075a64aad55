//! How long what was delivered stays: as long as somebody uses it, whatever becomes of its offer, its source and itself.
use crate::{
    admin::Admin,
    delivered::{
        PASSWORD, PROMPT, READ, change_password, content, copies, directory, has, hears, idle, namespace_with_directory, now,
        owners, reader, reference, restart, says, served, together, watched,
    },
    installed::Installed,
    offers::{SHARED_CLASS, service, storage_class},
    trial::trials,
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::time::Duration;

/// What Kubernetes collects, beside other work.
const COLLECTED: Duration = Duration::from_secs(45);
/// How long a tenant's edit of a copy may stand.
const MENDED: Duration = Duration::from_secs(60);

fn wanting(namespace: &str, name: &str) -> Value {
    idle(Kind::Deployment, namespace, name, &[("wants", "ldap")])
}

/// Waits until an object is gone.
async fn gone(admin: &Admin, kind: &str, namespace: &str, name: &str) -> Result<()> {
    eventually(&format!("{kind} {namespace}/{name} is gone"), COLLECTED, async || {
        Ok(admin.find(kind, namespace, name).await?.is_none().then_some(()))
    })
    .await
}

/// The name of the copy that a workload uses, once it is there.
async fn copy_of(admin: &Admin, object: &Value) -> Result<String> {
    has(admin, object, PASSWORD, "s3cret", PROMPT).await?;
    Ok(reference(object, PASSWORD).context("not injected")?.0.to_owned())
}

async fn the_last_user_takes_the_copy_along(admin: &Admin) -> Result<()> {
    let namespace = "last-user";
    namespace_with_directory(admin, namespace).await?;
    let one = served(admin, &wanting(namespace, "one")).await?;
    let two = idle(Kind::StatefulSet, namespace, "two", &[("wants", "ldap")]);
    let two = served(admin, &two).await?;
    let copy = copy_of(admin, &one).await?;
    let shared = reference(&two, PASSWORD).is_some_and(|(name, _)| name == copy);
    ensure!(shared, "each has its own: {}", two["spec"]);
    let owned_by = async |wanted: &[&str]| {
        eventually(&format!("it is of {wanted:?}"), COLLECTED, async || {
            let copy = admin.get("Secret", namespace, &copy).await?;
            let owners = owners(&copy);
            ensure!(owners.iter().eq(wanted.iter()), "it is of {owners:?}");
            Ok(Some(text(&copy, "/metadata/uid").to_owned()))
        })
        .await
    };
    let both = owned_by(&["Deployment/one", "StatefulSet/two"]).await?;
    admin.delete("Deployment", namespace, "one").await?;
    ensure!(owned_by(&["StatefulSet/two"]).await? == both, "it is another one");
    admin.delete("StatefulSet", namespace, "two").await?;
    gone(admin, "Secret", namespace, &copy).await
}

async fn a_claim_stays_unless_it_was_given_up(admin: &Admin) -> Result<()> {
    let namespace = "claims";
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    let wishes = [("wants", "storage"), ("storage", "/data=1Gi")];
    let kept = idle(Kind::Deployment, namespace, "kept", &wishes);
    let given_up = [wishes.as_slice(), &[("retain", "false")]].concat();
    let given_up = idle(Kind::Deployment, namespace, "given-up", &given_up);
    let mut claims = Vec::new();
    for (manifest, owner) in [(&kept, None), (&given_up, Some("Deployment/given-up"))] {
        let object = served(admin, manifest).await?;
        let volume = "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName";
        let claim = text(&object, volume).to_owned();
        ensure!(!claim.is_empty(), "no claim; status: {}", annotation(&object, "status"));
        eventually("the claim is there", PROMPT, async || {
            let claim = admin.get("PersistentVolumeClaim", namespace, &claim).await?;
            ensure!(text(&claim, "/spec/resources/requests/storage") == "1Gi", "{}", claim["spec"]);
            ensure!(text(&claim, "/spec/storageClassName") == SHARED_CLASS, "{}", claim["spec"]);
            let owners = owners(&claim);
            ensure!(owners.iter().map(String::as_str).eq(owner), "it is of {owners:?}");
            Ok(Some(()))
        })
        .await?;
        claims.push(claim);
    }
    for name in ["kept", "given-up"] {
        admin.delete("Deployment", namespace, name).await?;
    }
    gone(admin, "PersistentVolumeClaim", namespace, &claims[1]).await?;
    let claim = admin.get("PersistentVolumeClaim", namespace, &claims[0]).await?;
    ensure!(claim.pointer("/metadata/deletionTimestamp").is_none(), "it goes as well");
    Ok(())
}

async fn a_namespace_goes_without_hanging(admin: &Admin) -> Result<()> {
    let namespace = "doomed";
    namespace_with_directory(admin, namespace).await?;
    let wishes = [("wants", "ldap, storage"), ("storage", "/data=1Gi"), ("retain", "false")];
    let web = served(admin, &idle(Kind::Deployment, namespace, "web", &wishes)).await?;
    copy_of(admin, &web).await?;
    // Grafana takes a directory by a file: by itself where it holds no password, else in the Secret.
    let settings = "base-dn: dc=example,dc=org\nuid-attribute: uid";
    admin.create(&service(namespace, "open", "ldap", 389, settings, None)).await?;
    let mut grafana = idle(Kind::StatefulSet, namespace, "grafana", &[("wants", "ldap"), ("use.ldap", "open")]);
    grafana["spec"]["template"]["spec"]["containers"][0]["image"] = "grafana/grafana:12".into();
    let grafana = served(admin, &grafana).await?;
    ensure!(annotation(&grafana, "status") == "ldap=doomed/open", "{}", annotation(&grafana, "status"));
    eventually("all of it is there", PROMPT, async || {
        let claims = admin.list("PersistentVolumeClaim", namespace).await?.len();
        let maps = admin.list("ConfigMap", namespace).await?;
        let maps: Vec<_> = maps.iter().filter(|map| owners(map).contains("StatefulSet/grafana")).collect();
        let file = maps.first().context("no file for Grafana")?["data"].to_string();
        ensure!(maps.len() == 1 && file.contains("open.doomed.svc"), "{file}");
        let copies = copies(admin, namespace).await?;
        ensure!(claims == 1 && copies.len() == 1, "{claims} claims, {} copies", copies.len());
        Ok(Some(()))
    })
    .await?;
    for kind in ["Deployment", "StatefulSet", "Secret", "ConfigMap", "PersistentVolumeClaim", "Service"] {
        for object in admin.list(kind, namespace).await? {
            let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            let foreign = finalizers.into_iter().flatten().find(|f| **f != "kubernetes.io/pvc-protection");
            ensure!(foreign.is_none(), "{kind} {} waits for {foreign:?}", text(&object, "/metadata/name"));
        }
    }
    admin.delete("Namespace", "", namespace).await?;
    gone(admin, "Namespace", "", namespace).await
}

async fn an_offer_that_is_gone_leaves_its_last_copy(admin: &Admin) -> Result<()> {
    let namespace = "offer-gone";
    namespace_with_directory(admin, namespace).await?;
    let web = served(admin, &wanting(namespace, "web")).await?;
    let copy = copy_of(admin, &web).await?;
    let before = admin.get("Secret", namespace, &copy).await?;
    admin.delete("Service", namespace, "openldap").await?;
    let after = says(admin, &web, "ldap=kept: ", READ).await?;
    ensure!(after["spec"] == web["spec"], "it rolled out");
    tokio::time::sleep(READ).await;
    ensure!(admin.get("Secret", namespace, &copy).await?["data"] == before["data"], "it has changed");
    // The next decision keeps it as well, and so does what is delivered.
    let after = restart(admin, &after).await?;
    ensure!(annotation(&after, "status").contains("ldap=kept: "), "{}", annotation(&after, "status"));
    has(admin, &after, PASSWORD, "s3cret", PROMPT).await
}

async fn a_source_that_is_gone_leaves_its_last_copy(admin: &Admin) -> Result<()> {
    let namespace = "source-gone";
    namespace_with_directory(admin, namespace).await?;
    watched(admin, namespace).await?;
    let web = served(admin, &wanting(namespace, "web")).await?;
    let copy = copy_of(admin, &web).await?;
    let before = now(admin, &web).await?;
    admin.delete("Secret", namespace, "reader").await?;
    println!("    of a source that is gone: {}", hears(admin, &web, "Kept", READ).await?);
    // What one workload has, another may lack.
    let wishes = [("wants", "ldap"), ("env.ldap", "LOGIN=[[ldap.bind-dn]]:[[ldap.password]]")];
    let composed = admin.create(&idle(Kind::Deployment, namespace, "composed", &wishes)).await?;
    ensure!(reference(&composed, "LOGIN").is_some(), "not injected: {}", annotation(&composed, "status"));
    // Not even after more than 30 s: its pods can start.
    tokio::time::sleep(READ).await;
    says(admin, &composed, "ldap=withdrawn: ", READ).await?;
    let after = now(admin, &web).await?;
    ensure!(after["spec"] == before["spec"], "{}", annotation(&after, "status"));
    let copy = admin.get("Secret", namespace, &copy).await?;
    ensure!(content(&copy, "password").as_deref() == Some("s3cret"), "it has changed");
    Ok(())
}

async fn a_consent_that_is_withdrawn_ends_the_copy(admin: &Admin) -> Result<()> {
    for namespace in ["trusted", "expelled"] {
        admin.namespace(namespace, &[("inject", "enabled")]).await?;
    }
    admin.create(&reader("people", "reader", "s3cret")).await?;
    admin.create(&directory("people")).await?;
    let trusted = served(admin, &wanting("trusted", "web")).await?;
    let expelled = served(admin, &wanting("expelled", "web")).await?;
    copy_of(admin, &trusted).await?;
    let copy = copy_of(admin, &expelled).await?;
    let only = json!({"opportune.libre.sh/consumers": "kubernetes.io/metadata.name=trusted"});
    admin.merge("Service", "people", "openldap", &json!({"metadata": {"annotations": only}})).await?;
    let told = says(admin, &expelled, "absent: no offer after the next rollout", READ).await?;
    ensure!(told["spec"] == expelled["spec"], "it rolled out");
    change_password(admin, "people", "reader", "changed").await?;
    has(admin, &trusted, PASSWORD, "changed", PROMPT).await?;
    tokio::time::sleep(PROMPT).await;
    let old = admin.get("Secret", "expelled", &copy).await?;
    ensure!(content(&old, "password").as_deref() == Some("s3cret"), "it follows without consent");
    let after = restart(admin, &told).await?;
    ensure!(!after["spec"].to_string().contains("LDAP_"), "{}", after["spec"]);
    gone(admin, "Secret", "expelled", &copy).await
}

async fn what_a_tenant_does_to_a_copy_is_put_right(admin: &Admin) -> Result<()> {
    let namespace = "tenant";
    namespace_with_directory(admin, namespace).await?;
    let web = served(admin, &wanting(namespace, "web")).await?;
    let copy = copy_of(admin, &web).await?;
    let before = admin.get("Secret", namespace, &copy).await?;
    let edit = json!({
        "stringData": {"password": "forged"},
        "immutable": true,
        "metadata": {"ownerReferences": null},
    });
    admin.merge("Secret", namespace, &copy, &edit).await?;
    has(admin, &web, PASSWORD, "s3cret", MENDED).await?;
    let after = admin.get("Secret", namespace, &copy).await?;
    ensure!(after["data"] == before["data"] && owners(&after) == owners(&before), "{after}");
    admin.delete("Secret", namespace, &copy).await?;
    has(admin, &web, PASSWORD, "s3cret", MENDED).await?;
    ensure!(now(admin, &web).await?["spec"] == web["spec"], "it rolled out");
    Ok(())
}

async fn copies_and_claims_stay_as_long_as_somebody_uses_them() -> Result<()> {
    let installed = Installed::start(&["people"], &["providerNamespaces={people}"], 1).await?;
    let admin = &installed.admin;
    admin.create(&storage_class(SHARED_CLASS, "rook-ceph.cephfs.csi.ceph.com")).await?;
    let checks = together(vec![
        ("the last user", Box::pin(the_last_user_takes_the_copy_along(admin))),
        ("claims", Box::pin(a_claim_stays_unless_it_was_given_up(admin))),
        ("a namespace", Box::pin(a_namespace_goes_without_hanging(admin))),
        ("an offer that is gone", Box::pin(an_offer_that_is_gone_leaves_its_last_copy(admin))),
        ("a source that is gone", Box::pin(a_source_that_is_gone_leaves_its_last_copy(admin))),
        ("a consent", Box::pin(a_consent_that_is_withdrawn_ends_the_copy(admin))),
        ("a tenant", Box::pin(what_a_tenant_does_to_a_copy_is_put_right(admin))),
    ]);
    checks.await.with_context(|| installed.complaints().unwrap_or_default())
}

trials![own copies_and_claims_stay_as_long_as_somebody_uses_them];
