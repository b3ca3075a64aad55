//! What leaves the cluster leaves the catalog, as if it had never been there.
use std::collections::HashSet;

use opportune_core::{
    admit::{AdmissionResult, CatalogState, Options, Request, Selection, admit},
    discover::{Catalog, Inventory},
    json::Json,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

fn openldap_pods() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "openldap", "namespace": "plain"},
        "spec": {"template": {"metadata": {"labels": {"app": "ldap"}},
            "spec": {"containers": [{"name": "ldap", "image": "docker.io/bitnami/openldap:2.6"}]}}}})
}

fn unmarked_openldap() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "openldap", "namespace": "plain"},
        "spec": {"selector": {"app": "ldap"}, "ports": [{"name": "ldap", "port": 1389}]}})
}

fn storage_class() -> Value {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "shared"},
        "provisioner": "rook-ceph.cephfs.csi.ceph.com"})
}

fn app_profile() -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "AppProfile", "metadata": {"name": "ours"},
        "spec": {"images": ["example.org/ours"], "env": {"mail": {"MX": "[[mail.host]]"}}}})
}

/// Everything that a catalog says, in an order of its own.
fn told(catalog: &Catalog) -> String {
    let offers: Vec<_> = catalog.offers().collect();
    let profiles: Vec<_> = catalog.profiles().iter().map(|profile| &profile.name).collect();
    let labels = ["blog", "stats", "directory"].map(|name| catalog.namespace_label(name));
    format!("{offers:#?} {profiles:?} {labels:?}")
}

#[rstest]
#[case::service(openldap())]
#[case::service_offer(matomo())]
#[case::storage_class(storage_class())]
#[case::app_profile(app_profile())]
#[case::namespace(namespace("blog", "inject: enabled", ""))]
#[case::workload(openldap_pods())]
fn what_is_removed_might_as_well_never_have_been(#[case] object: Value) {
    let others: Vec<Value> =
        [openldap(), matomo(), storage_class(), app_profile(), unmarked_openldap(), openldap_pods()]
            .into_iter()
            .filter(|other| *other != object)
            .collect();
    let mut without = inventory();
    let mut with = inventory();
    for other in &others {
        without.apply(other).unwrap();
        with.apply(other).unwrap();
    }
    let expected = told(&without.snapshot());
    with.apply(&object).unwrap();
    assert_ne!(told(&with.snapshot()), expected, "the object makes no difference: this test proves nothing");
    with.remove(&object).unwrap();
    assert_eq!(told(&with.snapshot()), expected);

    with.apply(&object).unwrap();
    let kind = object["kind"].as_str().unwrap();
    let still =
        others.iter().filter(|other| other["kind"] == kind).map(|other| Inventory::key(other).unwrap());
    with.retain(kind, &still.collect::<HashSet<_>>());
    assert_eq!(told(&with.snapshot()), expected, "a listing that does not show it");
}

#[test]
fn a_listing_of_one_kind_keeps_the_others() {
    let mut inventory = inventory();
    for object in [openldap(), matomo(), storage_class(), openldap_pods()] {
        inventory.apply(&object).unwrap();
    }
    let before = told(&inventory.snapshot());
    for kind in ["Deployment", "DaemonSet", "Pod", "ConfigMap", "AppProfile", "Rocket"] {
        inventory.retain(kind, &HashSet::new());
    }
    assert_eq!(told(&inventory.snapshot()), before);
}

#[test]
fn the_config_maps_that_recipes_look_for_are_known_by_name() {
    let mut inventory = inventory();
    inventory.apply(&openldap()).unwrap();
    assert!(inventory.sought_config_maps().is_empty(), "nothing is looked for beside a plain Service");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ldap", "namespace": "plain",
        "labels": {"app.kubernetes.io/name": "openldap-stack-ha", "app.kubernetes.io/component": "ldap",
            "helm.sh/chart": "openldap-stack-ha-4.3.3"}},
        "spec": {"ports": [{"name": "ldap-port", "port": 389}, {"name": "ssl-ldap-port", "port": 636}]}});
    inventory.apply(&service).unwrap();
    let sought: Vec<_> = inventory.sought_config_maps().into_iter().cloned().collect();
    assert_eq!(sought.len(), 1, "{sought:?}");
    assert_eq!(sought[0].0, "plain");
    inventory.remove(&service).unwrap();
    assert!(inventory.sought_config_maps().is_empty());
}

#[test]
fn a_cluster_that_was_not_read_yet_injects_nothing_and_says_so() {
    let object = asking(deployment("example.org/unknown:1"), &[("requires", "ldap")]);
    let options = Options { catalog: CatalogState::Unread, ..Options::default() };
    let verdict = admit(
        &Request { namespace: "blog", object: &Json::from(&object), old: None },
        &Catalog::default(),
        &options,
    );
    assert!(matches!(verdict.result, AdmissionResult::FailedOpen(_)), "{:?}", verdict.result);
    assert!(verdict.patch.is_empty());
    assert_eq!(
        verdict.warnings,
        ["opportune: not injected: the cluster: is still being read: apply it again in a moment"]
    );
}

#[test]
fn what_makes_no_difference_makes_no_new_catalog() {
    let mut inventory = inventory();
    let all = [
        openldap(),
        matomo(),
        storage_class(),
        unmarked_openldap(),
        openldap_pods(),
        namespace("blog", "", ""),
    ];
    for object in &all {
        inventory.apply(object).unwrap();
    }
    assert!(inventory.changed().is_some());
    for object in &all {
        let again = with(object.clone(), "/status", json!({"observedGeneration": 7}));
        inventory.apply(&again).unwrap();
        assert!(inventory.changed().is_none(), "{object}");
    }
    for object in [openldap(), matomo(), storage_class(), openldap_pods(), namespace("blog", "", "")] {
        inventory.remove(&object).unwrap();
        assert!(inventory.changed().is_some(), "{object}");
    }
}

#[test]
fn an_api_server_that_calls_knows_a_label_before_the_catalog_does() {
    let catalog = World::empty().and(namespace("blog", "", "")).catalog();
    let object = asking(deployment("example.org/unknown:1"), &[("requires", "ldap")]);
    let request = Request { namespace: "blog", object: &Json::from(&object), old: None };
    let result = |options: &Options| admit(&request, &catalog, options).result;
    assert_eq!(result(&Options::default()), AdmissionResult::Ignored);
    let called = Options { selection: Selection::Caller, ..Options::default() };
    assert!(matches!(result(&called), AdmissionResult::Denied(_)), "{:?}", result(&called));
    let excluded = Options { excluded_namespaces: vec!["blog".to_owned()], ..called };
    assert_eq!(result(&excluded), AdmissionResult::Ignored);
}
