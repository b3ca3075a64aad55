//! Workloads that want something: what people write, and what has to become of it.
use anyhow::{Context, Result};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the workloads here keep their data.
pub const DATA: &str = "/data";
/// The variables that a workload gets when its cluster has all that it wants.
pub const VARIABLES: [&str; 17] = [
    "LDAP_HOST",
    "LDAP_PORT",
    "LDAP_URI",
    "LDAP_TLS",
    "LDAP_BASE_DN",
    "LDAP_BIND_DN",
    "LDAP_BIND_PASSWORD",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_TLS",
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "SMTP_FROM",
    "SMTP_URL",
    "ANALYTICS_PROVIDER",
    "ANALYTICS_URL",
    "ANALYTICS_SITE_ID",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Deployment,
    StatefulSet,
}

/// A workload with a variable of its own that wants everything, as its owner writes it.
pub fn manifest(kind: Kind, name: &str) -> Value {
    let mut manifest = plain(kind, name);
    manifest["spec"]["template"]["metadata"]["annotations"] = json!({
        "opportune.libre.sh/wants": "ldap, mail, analytics, storage",
        "opportune.libre.sh/storage": format!("{DATA}=1Gi"),
    });
    manifest
}

/// The same without any annotation.
pub fn plain(kind: Kind, name: &str) -> Value {
    let mut manifest = json!({
        "apiVersion": "apps/v1",
        "kind": format!("{kind:?}"),
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{
                        "name": "web",
                        "image": "example.invalid/web:1",
                        "env": [{"name": "OWN", "value": "mine"}],
                    }],
                },
            },
        },
    });
    if kind == Kind::StatefulSet {
        manifest["spec"]["serviceName"] = name.into();
    }
    manifest
}

/// What these annotations of the pod template make of it.
pub fn wishing(kind: Kind, name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut manifest = plain(kind, name);
    for (key, value) in annotations {
        manifest["spec"]["template"]["metadata"]["annotations"][format!("opportune.libre.sh/{key}")] =
            (*value).into();
    }
    manifest
}

/// The object as the API server holds it.
pub fn live(plane: &ControlPlane, namespace: &str, manifest: &Value) -> Result<Value> {
    let (kind, name) = (text(manifest, "/kind"), text(manifest, "/metadata/name"));
    let object = plane.kubectl(&["-n", namespace, "get", kind, name, "-o=json"])?;
    serde_json::from_str(&object).with_context(|| format!("reading {kind} {name}"))
}

/// A text in an object, empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Our annotation of this name on an object.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &format!("/metadata/annotations/opportune.libre.sh~1{key}"))
}

/// How often the API server saw the object's spec change.
pub fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The entries of its container that have this name: no more than one, if all is well.
pub fn variables<'a>(object: &'a Value, name: &str) -> Vec<&'a Value> {
    let env = list(object, "/spec/template/spec/containers/0/env");
    env.iter().filter(|entry| text(entry, "/name") == name).collect()
}

/// The volumes of its pods, or the templates of their claims, that are mounted where its data is.
pub fn data_volumes(object: &Value) -> Vec<&Value> {
    let mounts = list(object, "/spec/template/spec/containers/0/volumeMounts");
    let names: Vec<&str> = mounts
        .iter()
        .filter(|mount| text(mount, "/mountPath") == DATA)
        .map(|mount| text(mount, "/name"))
        .collect();
    let volumes = list(object, "/spec/template/spec/volumes");
    let volumes = volumes.iter().filter(|volume| names.contains(&text(volume, "/name")));
    let templates = list(object, "/spec/volumeClaimTemplates");
    volumes
        .chain(templates.iter().filter(|template| names.contains(&text(template, "/metadata/name"))))
        .collect()
}

/// What is doubled in an object, or held by one entry twice; `None` where nothing is.
pub fn doubled(object: &Value) -> Option<String> {
    let pod = "/spec/template/spec";
    let mut lists = vec![
        (format!("{pod}/volumes"), "/name"),
        ("/spec/volumeClaimTemplates".to_owned(), "/metadata/name"),
    ];
    for index in 0..list(object, &format!("{pod}/containers")).len() {
        lists.push((format!("{pod}/containers/{index}/env"), "/name"));
        lists.push((format!("{pod}/containers/{index}/volumeMounts"), "/mountPath"));
    }
    for (pointer, key) in lists {
        let mut seen = BTreeSet::new();
        for entry in list(object, &pointer) {
            if !seen.insert(text(entry, key)) {
                return Some(format!("{pointer} holds {} twice", text(entry, key)));
            }
        }
    }
    let volumes = list(object, &format!("{pod}/volumes"));
    volumes
        .iter()
        .find(|volume| volume.as_object().is_some_and(|fields| fields.len() != 2))
        .map(|volume| format!("not one source: {volume}"))
}

/// What is wrong with the injection of a workload that got all that [`manifest`] wants; `None` where nothing is.
pub fn fault(object: &Value) -> Option<String> {
    if let Some(doubled) = doubled(object) {
        return Some(doubled);
    }
    if let Some(missing) = VARIABLES.iter().find(|name| variables(object, name).len() != 1) {
        return Some(format!("{missing} is not there; status: {}", annotation(object, "status")));
    }
    if variables(object, "OWN") != [&json!({"name": "OWN", "value": "mine"})] {
        return Some("the user's variable is not as it was".to_owned());
    }
    let secret = "/valueFrom/secretKeyRef/name";
    if variables(object, "LDAP_BIND_PASSWORD").iter().any(|entry| text(entry, secret).is_empty()) {
        return Some("the password does not come from a Secret".to_owned());
    }
    if data_volumes(object).len() != 1 {
        return Some(format!("{DATA} has no volume; status: {}", annotation(object, "status")));
    }
    let record: Option<Value> = serde_json::from_str(annotation(object, "injected")).ok();
    if record.is_none_or(|record| record["v"] != 1) {
        return Some("there is no record".to_owned());
    }
    let status = annotation(object, "status");
    let lacks = |intent: &&&str| !status.split("; ").any(|part| part.starts_with(&format!("{intent}=")));
    ["ldap", "mail", "analytics", "storage"]
        .iter()
        .find(lacks)
        .map(|intent| format!("the status says nothing of {intent}: {status}"))
}
