//! What was delivered: the copies in a namespace, whose they are, what they hold, and what people are told.
use crate::{
    admin::Admin,
    installed::SYSTEM,
    offers::{secret, service},
    workload::{Kind, annotation, text, variables, wishing},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::{collections::BTreeSet, pin::Pin, time::Duration};

/// What happens at once, beside other work.
pub const PROMPT: Duration = Duration::from_secs(15);
/// What is looked at every 30 s.
pub const READ: Duration = Duration::from_secs(35);
/// What happens after 30 s of trying.
pub const GIVEN_UP: Duration = Duration::from_secs(60);

/// The variable that holds a directory's password.
pub const PASSWORD: &str = "LDAP_BIND_PASSWORD";

pub type Check<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Checks that share a control plane and wait for different things: beside each other, and all to their end.
pub async fn together(checks: Vec<(&str, Check<'_>)>) -> Result<()> {
    let named = checks
        .into_iter()
        .map(|(name, check)| async move { check.await.map_err(|e| format!("{name}: {e:#}")) });
    let failures: Vec<String> = join_all(named).await.into_iter().filter_map(Result::err).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// A workload without pods, which counts as rolled out at once.
pub fn idle(kind: Kind, namespace: &str, name: &str, wishes: &[(&str, &str)]) -> Value {
    let mut manifest = wishing(kind, name, wishes);
    manifest["metadata"]["namespace"] = namespace.into();
    manifest["spec"]["replicas"] = 0.into();
    manifest
}

/// The keys of a directory's reader.
pub fn reader(namespace: &str, name: &str, password: &str) -> Value {
    secret(namespace, name, json!({"bind-dn": "cn=reader,dc=example,dc=org", "password": password}))
}

/// A directory with a reader, and a namespace in which injection is on; both are one.
pub async fn namespace_with_directory(admin: &Admin, namespace: &str) -> Result<()> {
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    admin.create(&reader(namespace, "reader", "s3cret")).await?;
    admin.create(&directory(namespace)).await?;
    Ok(())
}

/// Lets the controller watch the Secrets of a namespace, as docs/install.md says: what changes there is seen at once.
pub async fn watched(admin: &Admin, namespace: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "opportune-provider", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "opportune-provider"},
        "subjects": [{"kind": "ServiceAccount", "name": "opportune-controller", "namespace": SYSTEM}],
    });
    admin.create(&binding).await?;
    Ok(())
}

/// A directory whose reader is in the Secret `reader`.
pub fn directory(namespace: &str) -> Value {
    service(namespace, "openldap", "ldap", 389, "base-dn: dc=example,dc=org", Some("reader"))
}

/// Makes a workload as soon as the webhook knows of what it wants: an offer that was just made may come a moment later.
pub async fn served(admin: &Admin, manifest: &Value) -> Result<Value> {
    eventually(&format!("{} gets what it wants", text(manifest, "/metadata/name")), PROMPT, async || {
        let object = admin.try_out(manifest).await?;
        let status = annotation(&object, "status");
        ensure!(!status.is_empty() && !status.contains("absent"), "it says {status}");
        Ok(Some(()))
    })
    .await?;
    admin.create(manifest).await
}

/// Puts another password into a Secret.
pub async fn change_password(admin: &Admin, namespace: &str, name: &str, password: &str) -> Result<()> {
    admin.merge("Secret", namespace, name, &json!({"stringData": {"password": password}})).await?;
    Ok(())
}

/// The Secret and the key that a variable comes from.
pub fn reference<'a>(object: &'a Value, variable: &str) -> Option<(&'a str, &'a str)> {
    let entry = variables(object, variable).first().copied()?;
    let (name, key) = ("/valueFrom/secretKeyRef/name", "/valueFrom/secretKeyRef/key");
    Some((text(entry, name), text(entry, key))).filter(|(name, _)| !name.is_empty())
}

/// What the kubelet would set a variable to that comes from a Secret; an error where its pod would have to wait.
pub async fn value(admin: &Admin, object: &Value, variable: &str) -> Result<String> {
    let (name, key) = reference(object, variable).with_context(|| {
        format!("{variable} comes from no Secret; status: {}", annotation(object, "status"))
    })?;
    let copy = admin.get("Secret", text(object, "/metadata/namespace"), name).await?;
    content(&copy, key).with_context(|| format!("{name} has no key {key}"))
}

/// What a Secret holds under a key.
pub fn content(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret["data"].get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// Waits until a variable that comes from a Secret has this value.
pub async fn has(admin: &Admin, object: &Value, variable: &str, wanted: &str, limit: Duration) -> Result<()> {
    let what = format!("{variable} of {} is {wanted}", text(object, "/metadata/name"));
    eventually(&what, limit, async || {
        let value = value(admin, object, variable).await?;
        ensure!(value == wanted, "it is {value}");
        Ok(Some(()))
    })
    .await
}

/// The Secrets in a namespace that are ours by their names.
pub async fn copies(admin: &Admin, namespace: &str) -> Result<Vec<Value>> {
    let mut secrets = admin.list("Secret", namespace).await?;
    secrets.retain(|secret| text(secret, "/metadata/name").starts_with("opportune-"));
    Ok(secrets)
}

/// The names of an object's owners, as in `Deployment/web`.
pub fn owners(object: &Value) -> BTreeSet<String> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().map(|o| format!("{}/{}", text(o, "/kind"), text(o, "/name"))).collect()
}

/// What was said of an object by us, as reason and note; what was said twice is there twice. That all is well
/// is no news to anybody who waits for trouble.
pub async fn told(admin: &Admin, object: &Value) -> Result<Vec<(String, String)>> {
    let mut told = Vec::new();
    for event in admin.list("Event", text(object, "/metadata/namespace")).await? {
        let ours = text(&event, "/reportingController").contains("opportune");
        let news = !["Bound", "Delivered"].contains(&text(&event, "/reason"));
        if ours && news && text(&event, "/regarding/uid") == text(object, "/metadata/uid") {
            let times = event.pointer("/series/count").and_then(Value::as_u64).unwrap_or(1);
            for _ in 0..times {
                told.push((text(&event, "/reason").to_owned(), text(&event, "/note").to_owned()));
            }
        }
    }
    Ok(told)
}

/// Waits until this was said of an object.
pub async fn hears(admin: &Admin, object: &Value, reason: &str, limit: Duration) -> Result<String> {
    eventually(&format!("an Event {reason} of {}", text(object, "/metadata/name")), limit, async || {
        let told = told(admin, object).await?;
        let found = told.iter().find(|(said, _)| said == reason).map(|(_, note)| note.clone());
        ensure!(found.is_some(), "told: {told:?}");
        Ok(found)
    })
    .await
}

/// The object as it is now.
pub async fn now(admin: &Admin, object: &Value) -> Result<Value> {
    let (kind, namespace) = (text(object, "/kind"), text(object, "/metadata/namespace"));
    admin.get(kind, namespace, text(object, "/metadata/name")).await
}

/// Waits until an object's status has this in it.
pub async fn says(admin: &Admin, object: &Value, words: &str, limit: Duration) -> Result<Value> {
    eventually(&format!("{} says {words}", text(object, "/metadata/name")), limit, async || {
        let object = now(admin, object).await?;
        let status = annotation(&object, "status");
        ensure!(status.contains(words), "it says {status}");
        Ok(Some(object))
    })
    .await
}

/// How often a Deployment was rolled out since it was made. Its generation tells of annotations as well.
pub async fn rollouts(admin: &Admin, object: &Value) -> Result<usize> {
    let sets = admin.list("ReplicaSet", text(object, "/metadata/namespace")).await?;
    let owner = format!("Deployment/{}", text(object, "/metadata/name"));
    Ok(sets.iter().filter(|set| owners(set).contains(&owner)).count().saturating_sub(1))
}

/// Changes a workload's template as `kubectl rollout restart` does.
pub async fn restart(admin: &Admin, object: &Value) -> Result<Value> {
    let annotations = json!({"example.org/restarted": text(object, "/metadata/resourceVersion")});
    let change = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let (kind, namespace) = (text(object, "/kind"), text(object, "/metadata/namespace"));
    admin.merge(kind, namespace, text(object, "/metadata/name"), &change).await
}
