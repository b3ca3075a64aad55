//! Input that is meant to cost much, to forge a status, or to find out what other namespaces have.
use opportune_core::admit::{AdmissionResult, Options};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

fn mapping(lines: &str) -> Value {
    asking(deployment("example.org/unknown:1"), &[("wants", "ldap"), ("env.ldap", lines)])
}

fn failure(object: &Value) -> String {
    let (after, verdict) = admitted(object, None, &World::full().catalog(), &Options::default());
    assert_eq!(after, *object, "it stays as it came");
    match verdict.result {
        AdmissionResult::FailedOpen(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mapping_of_thousands_of_variables_is_refused() {
    let lines: String = (0..8_000).map(|n| format!("A{n}=$(A{})\n", n + 1)).collect();
    assert!(failure(&mapping(&lines)).contains("more than 500 variables"));
}

#[test]
fn a_chain_of_references_is_put_in_order() {
    let lines: String = (0..400).map(|n| format!("A{n:03}=$(A{:03})\n", n + 1)).collect();
    let after = inject(&mapping(&lines), &World::full().catalog());
    let env = container(&after, "app")["env"].as_array().unwrap();
    assert_eq!((&env[0]["name"], &env[399]["name"]), (&json!("A399"), &json!("A000")));
}

#[test]
fn brackets_without_end_are_plain_text() {
    let line = format!("A={}", "[".repeat(60_000));
    let after = inject(&mapping(&line), &World::full().catalog());
    assert_eq!(literal(&after, "A").map(str::len), Some(60_000));
}

#[test]
fn thousands_of_containers_are_refused() {
    let containers: Vec<Value> = (0..5_000).map(|n| json!({"name": format!("c{n}"), "image": "x"})).collect();
    let object = with(mapping("A=1"), "/spec/template/spec/containers", json!(containers));
    assert!(failure(&object).contains("more than 500 containers"));
}

#[test]
fn a_long_template_in_many_containers_is_too_much() {
    let containers: Vec<Value> = (0..100).map(|n| json!({"name": format!("c{n}"), "image": "x"})).collect();
    let object = with(
        mapping(&format!("A={}", "x".repeat(60_000))),
        "/spec/template/spec/containers",
        json!(containers),
    );
    let after = inject(&object, &World::full().catalog());
    assert!(status_of(&after, "ldap").starts_with("absent: too much to inject"), "{}", status(&after));
}

fn marked_with(settings: &str) -> World {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dir", "namespace": "blog",
        "labels": {"opportune.libre.sh/offers": "ldap"}, "annotations": {"opportune.libre.sh/settings": settings}},
        "spec": {"ports": [{"port": 389}]}});
    World::empty().and(service)
}

#[test]
fn what_a_provider_writes_forges_no_part_of_a_status() {
    let after = inject(&mapping("A=1"), &marked_with("\"x; mail=directory/evil\\nzz\": []").catalog());
    assert!(!status(&after).contains("; mail=") && !status(&after).contains('\n'), "{}", status(&after));
    let selector = "a; mail=directory/evil";
    let world = marked_with("port: 1");
    let service =
        with(world_service(&world), "/metadata/annotations/opportune.libre.sh~1consumers", json!(selector));
    let after = inject(&mapping("A=1"), &World::empty().and(service).catalog());
    assert!(!status(&after).contains("; mail="), "{}", status(&after));
}

fn world_service(_: &World) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dir", "namespace": "blog",
        "labels": {"opportune.libre.sh/offers": "ldap"}, "annotations": {}}, "spec": {"ports": [{"port": 389}]}})
}

#[test]
fn what_a_provider_writes_does_not_swell_a_status() {
    let settings: String = (0..20_000).map(|n| format!("a{n}: []\n")).collect();
    let after = inject(&mapping("A=1"), &marked_with(&settings).catalog());
    assert!(status(&after).len() < 1_000, "{} bytes", status(&after).len());
}

#[test]
fn a_forged_record_does_not_tell_whether_an_offer_exists() {
    let secret = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dir", "namespace": "secretns",
        "labels": {"opportune.libre.sh/offers": "ldap"},
        "annotations": {"opportune.libre.sh/settings": "base-dn: dc=x"}}, "spec": {"ports": [{"port": 389}]}});
    let forged = inject(&mapping("A=[[ldap.host]]"), &World::full().catalog());
    let key = "/metadata/annotations/opportune.libre.sh~1injected";
    let record = forged
        .pointer(key)
        .unwrap()
        .as_str()
        .unwrap()
        .replace("Service/directory/openldap", "Service/secretns/dir");
    let forged = with(forged, key, json!(record));
    let [there, not_there] = [World::empty().and(secret), World::empty()]
        .map(|w| status(&inject(&forged, &w.catalog())).to_owned());
    assert_eq!(there, not_there);
    assert_eq!(there, "ldap=absent: no offer");
}

#[rstest]
#[case("uri: redis://u:hunter2@r:6379")]
#[case("host: h\nurl: 'https://u:hunter2@r/'")]
fn an_address_with_a_password_never_reaches_a_workload(#[case] settings: &str) {
    let service =
        with(world_service(&World::empty()), "/metadata/labels/opportune.libre.sh~1offers", json!("cache"));
    let service = with(service, "/metadata/annotations/opportune.libre.sh~1settings", json!(settings));
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "cache")]);
    let after = inject(&object, &World::empty().and(service).catalog());
    assert!(status_of(&after, "cache").starts_with("incomplete: blog/dir"), "{}", status(&after));
    assert!(!after.to_string().contains("hunter2"));
}

#[test]
fn a_service_with_a_bad_name_of_a_secret_is_not_shown_to_everybody() {
    let credentials = "/metadata/annotations/opportune.libre.sh~1credentials";
    let service = with(world_service(&World::empty()), credentials, json!("Not A Name"));
    let service = with(service, "/metadata/namespace", json!("directory"));
    let world = World::empty().and(namespace("directory", "provider: 'true'", "")).and(service);
    assert_eq!(status(&inject(&mapping("A=1"), &world.catalog())), "ldap=absent: no offer");
}
