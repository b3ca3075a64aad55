//! One golden for each profile: what a Deployment of that app gets where everything is offered, and what becomes of it
//! with other kinds of TLS and without an account.
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use json_patch::patch;
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit},
    discover::{Catalog, Inventory, Recipes},
    inject::{
        profile::{Profile, Profiles, Takes},
        standard,
    },
    json::Json,
};
use serde_json::{Value, json};

use crate::{order::example, schema::files, snapshots_of};

/// How the servers are reached.
#[derive(Clone, Copy)]
struct Servers {
    tls: &'static str,
    ldap: u16,
    mail: u16,
    has_account: bool,
}

const STARTTLS: Servers = Servers { tls: "starttls", ldap: 389, mail: 587, has_account: true };
const OTHERS: [(&str, Servers); 2] = [
    ("with implicit TLS", Servers { tls: "tls", ldap: 636, mail: 465, has_account: true }),
    ("without TLS and account", Servers { tls: "none", ldap: 389, mail: 25, has_account: false }),
];

fn offer(intent: &str, settings: Value, has_account: bool) -> Value {
    let mut offer = json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "ServiceOffer",
        "metadata": {"name": intent, "namespace": "shared"},
        "spec": {"intent": intent, "consumers": {"namespaceSelector": {}}, "settings": settings}});
    if has_account {
        offer["spec"]["credentials"] = json!({"secretRef": {"name": intent}});
    }
    offer
}

/// Everything that can be offered, with all its settings.
fn catalog(servers: Servers) -> Catalog {
    let class = |name: &str, provisioner: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner})
    };
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shared", "labels": {"opportune.libre.sh/provider": "true"}}}),
        offer(
            "ldap",
            json!({"host": "ldap.example.org", "port": servers.ldap, "tls": servers.tls, "provider": "openldap",
                "base-dn": "dc=example,dc=org", "users-dn": "ou=people,dc=example,dc=org",
                "groups-dn": "ou=groups,dc=example,dc=org", "uid-attribute": "uid", "mail-attribute": "mail",
                "name-attribute": "cn", "user-object-class": "inetOrgPerson",
                "group-object-class": "groupOfNames", "group-member-attribute": "member"}),
            servers.has_account,
        ),
        offer(
            "mail",
            json!({"host": "mail.example.org", "port": servers.mail, "tls": servers.tls,
                "from": "noreply@example.org", "from-name": "Example"}),
            servers.has_account,
        ),
        offer(
            "analytics",
            json!({"provider": "matomo", "url": "https://stats.example.org/", "site-id": 7,
                "endpoint": "https://stats.example.org/matomo.php",
                "script": "https://stats.example.org/matomo.js"}),
            servers.has_account,
        ),
        class("rook-cephfs", "rook-ceph.cephfs.csi.ceph.com"),
        class("rook-ceph-block", "rook-ceph.rbd.csi.ceph.com"),
    ];
    let mut inventory = Inventory::new(Arc::new(Recipes::built_in().unwrap()), Profiles::built_in().unwrap());
    for object in objects {
        inventory.apply(&object).unwrap();
    }
    inventory.snapshot()
}

/// A Deployment that wants everything, and requires what would replace its own login.
fn deployment(profile: &Profile) -> Value {
    let replaces = |intent: &&str| match profile.intents.get(*intent).map(|mapping| &mapping.takes) {
        Some(Takes::Mapped(mapped)) => mapped.replaces_login,
        _ => false,
    };
    let (required, mut wanted): (Vec<&str>, Vec<&str>) =
        ["ldap", "mail", "analytics"].into_iter().partition(replaces);
    wanted.push("storage");
    let image = example(profile.images().next().unwrap());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "blog"},
        "spec": {"template": {
            "metadata": {"labels": {"app": "app"}, "annotations": {
                "opportune.libre.sh/requires": required.join(","), "opportune.libre.sh/wants": wanted.join(",")}},
            "spec": {"containers": [{"name": "app", "image": image}]}}}})
}

/// The object as it is after admission.
fn injected(profile: &Profile, catalog: &Catalog) -> (Value, Verdict) {
    let object = deployment(profile);
    let request = Request { namespace: "blog", object: &Json::from(&object), old: None };
    let verdict = admit(&request, catalog, &Options::default());
    let mut after = object.clone();
    patch(&mut after, &standard(&verdict.patch)).unwrap();
    (after, verdict)
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Variables by name, as a person reads them.
fn variables(object: &Value) -> BTreeMap<String, String> {
    list(object, "/spec/template/spec/containers/0/env")
        .map(|entry| {
            let value = match entry.get("value").and_then(Value::as_str) {
                Some(value) => format!("= {value}"),
                None if entry.get("valueFrom").is_none() => "=".to_owned(),
                None => format!(
                    "from {}, key {}",
                    text(entry, "/valueFrom/secretKeyRef/name"),
                    text(entry, "/valueFrom/secretKeyRef/key")
                ),
            };
            (text(entry, "/name").to_owned(), value)
        })
        .collect()
}

fn status(object: &Value) -> String {
    text(object, "/metadata/annotations/opportune.libre.sh~1status").replace("; ", "\n  ")
}

fn volumes(object: &Value) -> String {
    let mut lines = String::new();
    for mount in list(object, "/spec/template/spec/containers/0/volumeMounts") {
        let name = text(mount, "/name");
        let volume = list(object, "/spec/template/spec/volumes").find(|v| v["name"] == name).unwrap();
        let source = match (volume.get("configMap"), volume.get("secret")) {
            (Some(source), _) => {
                format!("ConfigMap {}, key {}", text(source, "/name"), text(mount, "/subPath"))
            }
            (_, Some(source)) => {
                format!("Secret {}, key {}", text(source, "/secretName"), text(mount, "/subPath"))
            }
            _ => format!("claim {}", text(volume, "/persistentVolumeClaim/claimName")),
        };
        writeln!(lines, "  {} {name}: {source}", text(mount, "/mountPath")).unwrap();
    }
    if let Some(group) = object.pointer("/spec/template/spec/securityContext/fsGroup") {
        writeln!(lines, "  fsGroup {group}").unwrap();
    }
    lines
}

/// What the controller makes; a Secret's values are no part of it.
fn delivered(verdict: &Verdict) -> String {
    let mut lines = String::new();
    for (name, secret) in &verdict.delivery.secrets {
        writeln!(lines, "  Secret {name}").unwrap();
        for (key, template) in &secret.composed {
            writeln!(lines, "    {key}: {template:?}").unwrap();
        }
    }
    for (name, map) in &verdict.delivery.config_maps {
        writeln!(lines, "  ConfigMap {name}\n    {}:", map.key).unwrap();
        match map.text.lines().count() {
            0..=60 => lines.extend(map.text.lines().map(|line| format!("      {line}\n"))),
            // What comes with the profile is no golden of its own.
            _ => lines.push_str("      (a long file of the profile's)\n"),
        }
    }
    for (name, claim) in &verdict.delivery.claims {
        let volume = &claim.volume;
        writeln!(lines, "  claim {name}: {}, {}, {}", volume.class, volume.kind, volume.size).unwrap();
    }
    lines
}

fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{title}\n{body}") }
}

/// What is other than with STARTTLS and an account.
fn difference(object: &Value, usual: &Value) -> String {
    let (now, before) = (variables(object), variables(usual));
    let mut lines = String::new();
    let is_plain = |value: &str| !["636", "465", "25"].iter().any(|port| value == format!("= {port}"));
    for (name, value) in
        now.iter().filter(|(name, value)| before.get(*name) != Some(value) && is_plain(value))
    {
        writeln!(lines, "  {name} {value}").unwrap();
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        writeln!(lines, "  no {name}").unwrap();
    }
    if status(object) != status(usual) {
        let usual = status(usual);
        let other: Vec<_> = status(object)
            .lines()
            .map(str::trim)
            .filter(|line| !usual.contains(line))
            .map(str::to_owned)
            .collect();
        lines.extend(other.iter().map(|line| format!("  status: {line}\n")));
    }
    lines
}

fn golden(profile: &Profile, usual: &Catalog, others: &[(&str, Catalog)]) -> String {
    let (object, verdict) = injected(profile, usual);
    if let AdmissionResult::Denied(reason) = &verdict.result {
        // The others then show everything, not only what differs.
        let refused = format!("refused: {reason}\n");
        return others.iter().fold(refused, |golden, (title, catalog)| {
            golden + &section(title, &difference(&injected(profile, catalog).0, &object))
        });
    }
    assert_eq!(verdict.result, AdmissionResult::Patched, "{}: {:?}", profile.name, verdict.warnings);
    let mut env = String::new();
    for (name, value) in variables(&object) {
        writeln!(env, "  {name} {value}").unwrap();
    }
    let mut golden = format!("status\n  {}\n", status(&object));
    golden += &section("variables", &env);
    golden += &section("volumes", &volumes(&object));
    golden += &section("delivered", &delivered(&verdict));
    for (title, catalog) in others {
        let (other, verdict) = injected(profile, catalog);
        golden += &match &verdict.result {
            AdmissionResult::Denied(reason) => section(title, &format!("  refused: {reason}\n")),
            _ => section(title, &difference(&other, &object)),
        };
    }
    golden
}

#[test]
fn each_profile_does_what_its_golden_says() {
    let usual = catalog(STARTTLS);
    let others = OTHERS.map(|(title, servers)| (title, catalog(servers)));
    for profile in usual.profiles().iter() {
        insta::with_settings!({
            snapshot_path => "snapshots/profiles", prepend_module_to_snapshot => false, omit_expression => true,
            description => profile.app.as_str(),
        }, { insta::assert_snapshot!(profile.name.as_str(), golden(profile, &usual, &others)) });
    }
}

#[test]
fn every_profile_has_a_golden_and_every_golden_a_profile() {
    let profiles: Vec<_> = files("src/inject/profiles").into_iter().map(|(name, _)| name).collect();
    assert_eq!(snapshots_of("profiles"), profiles);
}
