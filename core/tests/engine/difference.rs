//! What changes from one catalog to the next, and whom it concerns.
use opportune_core::intent::Intent;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

fn ingress(host: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": "blog"},
        "spec": {"rules": [{"host": host, "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "app", "port": {"number": 80}}}}]}}]}})
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": "blog"},
        "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]}})
}

fn profile(variable: &str) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "AppProfile", "metadata": {"name": "own"},
        "spec": {"images": ["example.org/own"], "env": {"ldap": {variable: "[[ldap.host]]"}}}})
}

fn settings() -> Value {
    with(openldap(), "/metadata/annotations/opportune.libre.sh~1settings", json!("base-dn: dc=new"))
}

#[rstest]
#[case::nothing(World::full(), World::full(), &[])]
#[case::an_offer_came(World::full().without("Service", "openldap"), World::full(), &["blog ldap", "shop ldap"])]
#[case::an_offer_went(World::full(), World::full().without("Service", "mailu-front"), &["blog mail", "shop mail"])]
#[case::an_offer_changed(World::full(), World::full().and(settings()), &["blog ldap", "shop ldap"])]
#[case::a_namespace_provides_no_more(
    World::full(),
    World::full().and(namespace("directory", "x: y", "")),
    &["blog ldap", "shop ldap"]
)]
#[case::a_namespace_is_labelled(
    World::full(),
    World::full().and(namespace("shop", ENABLED, "")),
    &["shop ldap", "shop mail"]
)]
#[case::a_route_came(
    World::full().and(service()),
    World::full().and(service()).and(ingress("a.example.org")),
    &["blog ldap", "blog mail"]
)]
#[case::a_profile_changed(
    World::full().and(profile("A")),
    World::full().and(profile("B")),
    &["blog ldap", "blog mail", "shop ldap", "shop mail"]
)]
fn a_change_concerns_who_may_be_decided_on_otherwise(
    #[case] before: World,
    #[case] after: World,
    #[case] concerned: &[&str],
) {
    let difference = after.catalog().difference(&before.catalog());
    let all =
        ["blog", "shop"].into_iter().flat_map(|namespace| ["ldap", "mail"].map(|name| (namespace, name)));
    let found: Vec<String> = all
        .filter(|(namespace, name)| difference.concerns(namespace, [&Intent::parse(name).unwrap()]))
        .map(|(namespace, name)| format!("{namespace} {name}"))
        .collect();
    assert_eq!(found, concerned, "{difference:?}");
}
