//! Any workload, any cluster, any JSON: what the properties are tried on.
use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::world::*;

fn variable() -> impl Strategy<Value = Value> {
    let names =
        ["LDAP_HOST", "LDAP_BIND_PASSWORD", "SMTP_HOST", "SMTP_URL", "SERVICE_BINDING_ROOT", "A", "PATH/~1"];
    let sources = vec![
        json!({"value": "mine"}),
        json!({"value": "$(A)$$"}),
        json!({}),
        json!({"value": ""}),
        json!({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        json!({"value": "x", "fieldOfTomorrow": {"a": [null]}}),
    ];
    (select(names.to_vec()), select(sources)).prop_map(|(name, source)| with(source, "/name", json!(name)))
}

/// A list with no two entries of one name, as the server would have it, or an odd form of nothing.
fn unique(
    strategy: impl Strategy<Value = Value> + 'static,
    by: &'static str,
) -> BoxedStrategy<Option<Value>> {
    let list = vec(strategy, 0..5).prop_map(move |list| {
        let mut seen = BTreeSet::new();
        Some(Value::Array(list.into_iter().filter(|e| seen.insert(e[by].to_string())).collect()))
    });
    prop_oneof![4 => list, 1 => Just(None), 1 => Just(Some(Value::Null)), 1 => Just(Some(json!([])))].boxed()
}

fn mount() -> impl Strategy<Value = Value> {
    let names = select(vec!["data", "tmp", "cfg"]);
    let paths = select(vec!["/data", "/tmp", "/data/sub", "/cache", "/bindings/ldap", "/var/lib/grafana"]);
    (names, paths, option::weighted(0.2, Just("sub"))).prop_map(|(name, path, sub)| match sub {
        Some(sub) => json!({"name": name, "mountPath": path, "subPath": sub}),
        None => json!({"name": name, "mountPath": path}),
    })
}

fn container_named(name: &'static str) -> impl Strategy<Value = Value> {
    let images = vec![
        "example.org/unknown:1",
        "grafana/grafana:11",
        "vaultwarden/server",
        "docker.io/bitnami/wordpress@sha256:0a",
        "registry:5000/mirror/gitea/gitea:1-rootless",
        "ghcr.io/mastodon/mastodon:v4",
        "",
    ];
    (select(images), unique(variable(), "name"), unique(mount(), "mountPath")).prop_map(
        move |(image, env, mounts)| {
            let mut object = json!({"name": name, "image": image, "newField": [1]});
            if let Some(env) = env {
                object = with(object, "/env", env);
            }
            if let Some(mounts) = mounts {
                object = with(object, "/volumeMounts", mounts);
            }
            object
        },
    )
}

fn annotations() -> impl Strategy<Value = Map<String, Value>> {
    let pairs = vec![
        ("wants", "ldap, mail, analytics, storage"),
        ("wants", "storage"),
        ("wants", "mail cache"),
        ("declines", "mail"),
        ("declines", "*"),
        ("files", "true"),
        ("profile", "none"),
        ("containers", "app"),
        ("storage", "/data=1Gi, /cache=2Gi"),
        ("storage", "/data/sub=1Gi"),
        ("use.ldap", "directory/openldap"),
        ("use.mail", "nobody"),
        ("env.ldap", "A=[[ldap.host]]\nU=[[ldap.uri]]/$(A)"),
        ("env.mail", "M=smtp://[[mail.username|uri]]@[[mail.host]]"),
        ("inject", "false"),
        ("retain", "false"),
        ("wants", "NOT/A/LABEL"),
        ("files", "perhaps"),
    ];
    vec(select(pairs), 0..6).prop_map(|pairs| {
        pairs.into_iter().map(|(key, value)| (format!("opportune.libre.sh/{key}"), json!(value))).collect()
    })
}

pub fn workload() -> impl Strategy<Value = Value> {
    let volumes = || {
        let sources = vec![
            json!({"emptyDir": {}}),
            json!({"emptyDir": {"medium": "Memory"}}),
            json!({"hostPath": {"path": "/x"}}),
        ];
        vec(select(sources), 3).prop_map(|sources| {
            let names = ["data", "tmp", "cfg"].into_iter();
            names.zip(sources).map(|(name, source)| with(source, "/name", json!(name))).collect::<Value>()
        })
    };
    let context = select(vec![None, Some(Value::Null), Some(json!({})), Some(json!({"fsGroup": 7, "x": 1}))]);
    (
        (select(vec!["Deployment", "StatefulSet"]), select(vec!["RollingUpdate", "Recreate"]), 0..3_u8),
        (container_named("app"), option::of(container_named("side")), option::of(container_named("setup"))),
        volumes(),
        context,
        annotations(),
        (annotations(), prop::bool::weighted(0.3)),
    )
        .prop_map(
            |((kind, strategy, replicas), (app, side, setup), volumes, context, on_pod, (own, has_own))| {
                let mut object = with(deployment("x"), "/kind", json!(kind));
                if kind == "Deployment" {
                    object = with(object, "/spec/strategy", json!({"type": strategy}));
                }
                object = with(object, "/spec/replicas", json!(replicas));
                let containers: Vec<_> = [Some(app), side].into_iter().flatten().collect();
                object = with(object, "/spec/template/spec/containers", json!(containers));
                if let Some(setup) = setup {
                    object = with(object, "/spec/template/spec/initContainers", json!([setup]));
                }
                object = with(object, "/spec/template/spec/volumes", volumes);
                if let Some(context) = context {
                    object = with(object, "/spec/template/spec/securityContext", context);
                }
                // No server keeps an empty map there: a test of its own stands for it.
                if has_own && !own.is_empty() {
                    object = with(object, "/metadata/annotations", Value::Object(own));
                }
                with(object, "/spec/template/metadata/annotations", Value::Object(on_pod))
            },
        )
}

pub fn world() -> impl Strategy<Value = World> {
    let objects = World::full().0;
    (vec(prop::bool::weighted(0.8), objects.len()), option::weighted(0.5, policies())).prop_map(
        move |(kept, policies)| {
            let kept = objects.iter().zip(kept).filter(|(_, k)| *k).map(|(o, _)| o.clone());
            World(kept.chain(policies.into_iter().flatten()).collect())
        },
    )
}

/// Policies that say anything but `overwrite`.
fn policies() -> impl Strategy<Value = Vec<Value>> {
    let specs = vec![
        "defaults: [ldap, mail]",
        "defaults: [storage, cache]",
        "enforce: [mail]",
        "{enforce: [ldap, analytics], priority: 2}",
        "{enforce: [storage], onAbsent: Deny}",
        "{forbid: [mail], priority: 1}",
        "forbid: [storage]",
        "{prefer: {ldap: directory/openldap, storage: rook-cephfs}, storage: {maxSize: 1500Mi}}",
        "{storage: {class: rook-ceph-block, defaultSize: 3Gi}, refresh: never}",
        "{namespaceSelector: {matchLabels: {a: b}}, enforce: [ldap]}",
    ];
    vec(select(specs), 0..4).prop_map(|specs| {
        let named = specs.into_iter().enumerate();
        named.map(|(number, spec)| policy(&format!("p{number}"), spec)).collect()
    })
}

pub fn any_json() -> impl Strategy<Value = Value> {
    let keys = select(vec![
        "metadata",
        "annotations",
        "spec",
        "template",
        "containers",
        "env",
        "name",
        "volumes",
        "value",
        "kind",
        "labels",
        "volumeMounts",
        "image",
        "volumeClaimTemplates",
        "opportune.libre.sh/wants",
        "opportune.libre.sh/injected",
        "v",
        "added",
        "securityContext",
        "initContainers",
        "mountPath",
        "emptyDir",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        select(vec![
            "ldap, storage",
            "Deployment",
            "/data",
            "{\"v\":1,\"added\":{\"ldap\":{\"env/app/X\":\"0\"}}}"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((keys.clone(), inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

/// A workload in which one place holds any JSON.
pub fn damaged() -> impl Strategy<Value = Value> {
    let places = vec![
        "/metadata",
        "/metadata/annotations",
        "/metadata/name",
        "/spec",
        "/spec/template",
        "/spec/template/metadata",
        "/spec/template/spec",
        "/spec/template/spec/containers",
        "/spec/template/spec/containers/0",
        "/spec/template/spec/containers/0/env",
        "/spec/template/spec/containers/0/volumeMounts",
        "/spec/template/spec/containers/0/name",
        "/spec/template/spec/volumes",
        "/spec/template/spec/securityContext",
        "/spec/volumeClaimTemplates",
        "/spec/replicas",
        "/spec/strategy",
        "/spec/template/spec/initContainers",
        INJECTED,
    ];
    let storing =
        || asking(deployment("grafana/grafana"), &[("wants", "ldap, mail, storage"), ("files", "true")]);
    let whole = any_json().prop_map(|mut any| {
        if let Some(map) = any.as_object_mut() {
            map.insert("apiVersion".into(), json!("apps/v1"));
            map.insert("kind".into(), json!("Deployment"));
        }
        any
    });
    let part = (select(places), any_json()).prop_map(move |(place, any)| with(storing(), place, any));
    prop_oneof![1 => whole, 4 => part]
}
