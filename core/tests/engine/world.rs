//! A small cluster, a few manifests, and what the API server does around an admission.
use std::sync::{Arc, LazyLock};

use json_patch::patch;
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit, take_out},
    discover::{Catalog, Inventory, Recipes},
    inject::{profile::Profiles, standard},
    json::Json,
};
use serde_json::{Value, json};

pub const INJECTED: &str = "/metadata/annotations/opportune.libre.sh~1injected";
pub const STATUS: &str = "/metadata/annotations/opportune.libre.sh~1status";

pub const ENABLED: &str = "inject: enabled";

// === YAML and JSON ===

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The object with one value set at a pointer, its parents made where they are missing.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut at = &mut object;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        if at.is_null() && (token == "0" || token == "-") {
            *at = json!([]);
        }
        at = match at {
            Value::Array(list) => {
                let index = if token == "-" { list.len() } else { token.parse().unwrap() };
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap().entry(token).or_insert(Value::Null)
            }
        };
    }
    *at = value;
    object
}

/// The object without the value at a pointer.
pub fn without(mut object: Value, pointer: &str) -> Value {
    let (parent, token) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.shift_remove(&token.replace("~1", "/"));
        }
        Some(Value::Array(list)) => {
            token.parse().map(|at: usize| list.remove(at)).ok();
        }
        _ => {}
    }
    object
}

/// The workload with annotations on its pod template.
pub fn asking(mut object: Value, annotations: &[(&str, &str)]) -> Value {
    for (key, value) in annotations {
        object = with(
            object,
            &format!("/spec/template/metadata/annotations/opportune.libre.sh~1{key}"),
            json!(value),
        );
    }
    object
}

/// The workload with annotations on its own metadata.
pub fn asking_on_itself(mut object: Value, annotations: &[(&str, &str)]) -> Value {
    for (key, value) in annotations {
        object = with(object, &format!("/metadata/annotations/opportune.libre.sh~1{key}"), json!(value));
    }
    object
}

// === the cluster ===

/// A cluster's objects; a later one of the same name replaces an earlier one.
#[derive(Debug, Clone)]
pub struct World(pub Vec<Value>);

impl World {
    pub fn empty() -> Self {
        Self(vec![namespace("blog", ENABLED, "")])
    }

    /// A directory, a mail server, analytics and both kinds of Ceph storage, offered to everybody.
    pub fn full() -> Self {
        Self::empty()
            .and(namespace("directory", "provider: 'true'", ""))
            .and(namespace("mail", "provider: 'true'", ""))
            .and(namespace("stats", "provider: 'true'", ""))
            .and(openldap())
            .and(mailu())
            .and(matomo())
            .and(shared_storage())
            .and(block_storage())
    }

    pub fn and(mut self, object: Value) -> Self {
        self.0.push(object);
        self
    }

    pub fn without(mut self, kind: &str, name: &str) -> Self {
        self.0.retain(|object| object["kind"] != kind || object["metadata"]["name"] != name);
        self
    }

    pub fn catalog(&self) -> Catalog {
        let mut inventory = inventory();
        for object in &self.0 {
            inventory.apply(object).unwrap();
        }
        inventory.snapshot()
    }
}

/// An empty inventory that knows the built-in recipes and profiles.
pub fn inventory() -> Inventory {
    static BUILT_IN: LazyLock<(Arc<Recipes>, Profiles)> =
        LazyLock::new(|| (Arc::new(Recipes::built_in().unwrap()), Profiles::built_in().unwrap()));
    let (recipes, profiles) = &*BUILT_IN;
    Inventory::new(recipes.clone(), profiles.clone())
}

/// A Namespace; labels and annotations as YAML lines of our own keys, without their prefix.
pub fn namespace(name: &str, labels: &str, annotations: &str) -> Value {
    let keyed = |text: &str| {
        let map = if text.is_empty() { json!({}) } else { yaml(text) };
        let keys = map.as_object().unwrap().iter();
        keys.map(|(k, v)| (format!("opportune.libre.sh/{k}"), v.clone())).collect::<serde_json::Map<_, _>>()
    };
    let mut labels = keyed(labels);
    labels.insert("kubernetes.io/metadata.name".into(), json!(name));
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": keyed(annotations)}})
}

pub fn openldap() -> Value {
    yaml(
        "{apiVersion: v1, kind: Service, metadata: {name: openldap, namespace: directory,
          labels: {opportune.libre.sh/offers: ldap}, annotations: {
            opportune.libre.sh/settings: '{base-dn: \"dc=example,dc=org\", users-dn: \"ou=people,dc=example,dc=org\",
                uid-attribute: uid, mail-attribute: mail, user-object-class: inetOrgPerson}',
            opportune.libre.sh/credentials: reader, opportune.libre.sh/credentials-keys: 'username=BIND_DN, password=BIND_PW',
            opportune.libre.sh/consumers: '*'}},
          spec: {type: ClusterIP, selector: {app: openldap}, ports: [{name: ldap, port: 389}]}}",
    )
}

pub fn mailu() -> Value {
    yaml(
        "{apiVersion: v1, kind: Service, metadata: {name: mailu-front, namespace: mail,
          labels: {app.kubernetes.io/name: mailu, app.kubernetes.io/component: front, opportune.libre.sh/offers: mail},
          annotations: {opportune.libre.sh/settings: 'from: noreply@example.org',
            opportune.libre.sh/credentials: noreply-account, opportune.libre.sh/consumers: '*'}},
          spec: {selector: {app: mailu}, ports: [{name: smtpd, port: 587}, {name: imaps, port: 993}]}}",
    )
}

pub fn matomo() -> Value {
    yaml(
        "{apiVersion: opportune.libre.sh/v1alpha1, kind: ServiceOffer, metadata: {name: matomo, namespace: stats},
          spec: {intent: analytics, provider: matomo, consumers: {namespaceSelector: {}},
            settings: {url: 'https://stats.example.org/', site-id: 7, endpoint: 'https://stats.example.org/matomo.php'}}}",
    )
}

pub fn storage_class(name: &str, provisioner: &str) -> Value {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "parameters": {"clusterID": "rook-ceph"}, "allowVolumeExpansion": true})
}

pub fn shared_storage() -> Value {
    storage_class("rook-cephfs", "rook-ceph.cephfs.csi.ceph.com")
}

pub fn block_storage() -> Value {
    storage_class("rook-ceph-block", "rook-ceph.rbd.csi.ceph.com")
}

/// A policy, its spec as YAML.
pub fn policy(name: &str, spec: &str) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy",
        "metadata": {"name": name}, "spec": yaml(spec)})
}

// === workloads ===

/// A Deployment with one container, as short as can be.
pub fn deployment(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "app", "namespace": "blog"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{"name": "app", "image": image}]}}}})
}

/// A StatefulSet with one container, as short as can be.
pub fn stateful_set(image: &str) -> Value {
    let set = with(deployment(image), "/kind", json!("StatefulSet"));
    with(set, "/spec/serviceName", json!("app"))
}

/// What the Bitnami WordPress chart renders, cut to what matters; some fields are newer than any library.
pub fn wordpress() -> Value {
    yaml(include_str!("manifests/wordpress.yaml"))
}

/// What the Gitea chart renders as a StatefulSet, cut to what matters.
pub fn gitea() -> Value {
    yaml(include_str!("manifests/gitea.yaml"))
}

// === admission ===

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("blog")
}

/// The verdict, and the object as it is after the patch.
pub fn admitted(
    object: &Value,
    old: Option<&Value>,
    catalog: &Catalog,
    options: &Options,
) -> (Value, Verdict) {
    let (new, old) = (Json::from(object), old.map(Json::from));
    let request = Request { namespace: namespace_of(object), object: &new, old: old.as_ref() };
    let verdict = admit(&request, catalog, options);
    let mut after = object.clone();
    // The operations go over the wire as JSON: what can't be read back was never sent.
    let wire = serde_json::to_string(&standard(&verdict.patch)).unwrap();
    patch(&mut after, &serde_json::from_str::<json_patch::Patch>(&wire).unwrap())
        .unwrap_or_else(|e| panic!("{e}: {wire} on {object:#}"));
    assert_eq!(verdict.patch.is_empty(), after == *object, "a patch that does nothing: {:?}", verdict.patch);
    for warning in &verdict.warnings {
        assert!(warning.chars().count() <= 120 && !warning.chars().any(char::is_control), "{warning:?}");
    }
    (after, verdict)
}

/// The object as it is stored after its creation.
pub fn inject(object: &Value, catalog: &Catalog) -> Value {
    let (after, verdict) = admitted(object, None, catalog, &Options::default());
    assert!(
        matches!(verdict.result, AdmissionResult::Patched | AdmissionResult::Unchanged),
        "{:?} {:?}",
        verdict.result,
        verdict.warnings
    );
    after
}

/// The object as it is stored after an update of `old`.
pub fn update(object: &Value, old: &Value, catalog: &Catalog) -> Value {
    admitted(object, Some(old), catalog, &Options::default()).0
}

/// The object with everything of ours taken out.
pub fn taken_out(object: &Value) -> Value {
    let mut after = object.clone();
    patch(&mut after, &take_out(object).unwrap()).unwrap();
    after
}

// === looking at results ===

pub fn status(object: &Value) -> &str {
    object.pointer(STATUS).and_then(Value::as_str).unwrap_or_default()
}

/// One intent's part of the status.
pub fn status_of<'a>(object: &'a Value, intent: &str) -> &'a str {
    let mut parts = status(object).split("; ");
    parts.find_map(|part| part.strip_prefix(intent)?.strip_prefix('=')).unwrap_or_default()
}

pub fn pod(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]
}

/// A container or init container by name.
pub fn container<'a>(object: &'a Value, name: &str) -> &'a Value {
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| pod(object)[list].as_array());
    lists.flatten().find(|container| container["name"] == name).unwrap()
}

/// All entries of a container's env of that name.
pub fn variables<'a>(object: &'a Value, in_container: &str, name: &str) -> Vec<&'a Value> {
    let list = container(object, in_container)["env"].as_array();
    list.into_iter().flatten().filter(|entry| entry["name"] == name).collect()
}

/// The literal value of the one variable of that name in container `app`.
pub fn literal<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let all = variables(object, "app", name);
    assert!(all.len() < 2, "{name} stands twice");
    all.first()?["value"].as_str()
}

/// All claims that the pod's volumes name.
pub fn claims(object: &Value) -> Vec<&str> {
    let volumes = pod(object)["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).collect()
}

/// The volume that is mounted at a path of container `app`.
pub fn volume_at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mounts = container(object, "app")["volumeMounts"].as_array()?;
    let mut at = mounts.iter().filter(|mount| mount["mountPath"] == path);
    let mount = at.next()?;
    assert!(at.next().is_none(), "two mounts at {path}");
    pod(object)["volumes"].as_array()?.iter().find(|volume| volume["name"] == mount["name"])
}
