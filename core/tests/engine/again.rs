//! A workload that stands, looked at again: what it points at, what came late, and what is taken back.
use std::collections::{BTreeMap, BTreeSet};

use json_patch::patch;
use opportune_core::{
    admit::{Again, Options, look_again, say, template_hash, try_again, withdraw},
    deliver::{Contents, SecretData},
    discover::Catalog,
    inject::PatchOperation,
    intent::Intent,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const REPLICAS: &str = "/spec/replicas";

fn intent(name: &str) -> Intent {
    Intent::parse(name).unwrap()
}

fn again(object: &Value, catalog: &Catalog) -> Again {
    look_again(object, "blog", catalog, &Options::default()).unwrap()
}

fn patched(object: &Value, operations: &[PatchOperation]) -> Value {
    let mut after = object.clone();
    patch(&mut after, operations).unwrap();
    after
}

fn wanting(intents: &str) -> Value {
    let object = asking(deployment("example.org/unknown:1"), &[("wants", intents), ("storage", "/data=1Gi")]);
    with(object, "/spec/template/spec/volumes", json!([{"name": "d", "emptyDir": {}}]))
}

fn with_data(object: Value) -> Value {
    with(
        object,
        "/spec/template/spec/containers/0/volumeMounts",
        json!([{"name": "d", "mountPath": "/data"}]),
    )
}

fn withdrawn(object: &Value, name: &str, reason: &str, catalog: &Catalog) -> Value {
    let reasons = BTreeMap::from([(intent(name), reason.to_owned())]);
    let operations = withdraw(object, "blog", catalog, &Options::default(), &reasons).unwrap();
    patched(object, &operations)
}

#[test]
fn what_a_workload_points_at_is_found_by_its_record() {
    let catalog = World::full().catalog();
    let object = inject(&with_data(wanting("ldap, mail, analytics, storage")), &catalog);
    let needs = again(&object, &catalog).needs;
    let secrets: Vec<_> = needs.secrets.values().collect();
    assert_eq!(secrets.iter().map(|need| need.intent.as_str()).collect::<Vec<_>>(), ["ldap", "mail"]);
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(secrets[0].keys, keys(&["bind-dn", "password"]));
    assert_eq!(secrets[1].keys, keys(&["password", "uri", "username"]));
    assert_eq!(needs.claims.keys().map(String::as_str).collect::<Vec<_>>(), claims(&object));
    assert!(needs.config_maps.is_empty());
    // Still so when the offers are gone, and where injection was switched off since.
    let later = World::empty().and(namespace("blog", "inject: disabled", "")).catalog();
    assert_eq!(again(&object, &later).needs, needs);
}

#[test]
fn files_of_a_profile_are_needed_with_what_they_hold() {
    let catalog = World::full().catalog();
    let plugin = inject(&asking(deployment("wordpress:6"), &[("wants", "mail")]), &catalog);
    let needs = again(&plugin, &catalog).needs;
    let contents: Vec<_> = needs.config_maps.values().map(|need| need.content.as_ref().unwrap()).collect();
    assert!(!contents.is_empty() && contents.iter().all(|content| content.text.contains("<?php")));
    let grafana = inject(&asking(deployment("grafana/grafana:11"), &[("wants", "ldap")]), &catalog);
    let needs = again(&grafana, &catalog).needs;
    let need = needs.secrets.values().next().unwrap();
    let file = need.keys.iter().next().unwrap();
    assert!(need.composed[file].contains("bind_password = [[ldap.password|toml]]"), "{need:?}");
    // Without the offer nobody knows what the file holds, and still that it is needed.
    let need = again(&grafana, &World::empty().catalog()).needs.secrets.into_values().next().unwrap();
    assert!(need.keys.contains(file) && need.composed.is_empty());
}

#[test]
fn what_the_user_took_over_is_not_needed() {
    let catalog = World::full().catalog();
    let object = inject(&asking(deployment("example.org/unknown:1"), &[("wants", "ldap")]), &catalog);
    let env = "/spec/template/spec/containers/0/env";
    let own: Vec<Value> = object
        .pointer(env)
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            if entry.get("valueFrom").is_some() {
                json!({"name": entry["name"], "value": "mine"})
            } else {
                entry.clone()
            }
        })
        .collect();
    assert!(again(&with(object, env, own.into()), &catalog).needs.is_empty());
}

#[test]
fn nothing_is_pending_where_nothing_changed() {
    let catalog = World::full().catalog();
    let object = inject(&with_data(wanting("ldap, mail, analytics, storage, cache")), &catalog);
    let again = again(&object, &catalog);
    assert_eq!((again.pending, again.status, again.cause), (BTreeSet::new(), None, None));
    assert_eq!(again.missed, BTreeSet::new());
}

#[test]
fn an_offer_that_came_late_is_told_and_told_once() {
    let before = World::full().without("Service", "mailu-front").catalog();
    let object = inject(&wanting("ldap, mail"), &before);
    assert_eq!(status_of(&object, "mail"), "absent: no offer");
    let catalog = World::full().catalog();
    let late = again(&object, &catalog);
    assert_eq!(late.pending, BTreeSet::from([intent("mail")]));
    assert_eq!(late.missed, BTreeSet::new());
    let status = late.status.unwrap();
    assert_eq!(status, "ldap=directory/openldap; mail=absent: mail/mailu-front after the next rollout");
    let told = patched(&object, &say(&object, &status).unwrap());
    assert_eq!(without(told.clone(), STATUS), without(object.clone(), STATUS));
    let again_late = again(&told, &catalog);
    assert_eq!((again_late.status, &again_late.cause), (None, &late.cause));
    // The cause is what an update really gives.
    let touched =
        with(told.clone(), "/spec/template/metadata/annotations/opportune.libre.sh~1refreshed", json!("x"));
    assert_eq!(Some(template_hash(&update(&touched, &told, &catalog))), late.cause);
}

#[rstest]
#[case::created(None)]
#[case::applied_over_what_was_injected(Some("mail"))]
fn what_was_asked_for_while_nobody_answered_is_missed(#[case] first: Option<&str>) {
    let catalog = World::full().catalog();
    let object = match first {
        None => wanting("ldap"),
        Some(first) => asking(inject(&wanting(first), &catalog), &[("wants", "mail, ldap")]),
    };
    let missed = again(&object, &catalog);
    assert_eq!(missed.missed, BTreeSet::from([intent("ldap")]));
    let status = missed.status.unwrap();
    assert!(
        status.contains("ldap=absent: missed while the webhook was away, directory/openldap after"),
        "{status}"
    );
    let told = patched(&object, &say(&object, &status).unwrap());
    assert_eq!(again(&told, &catalog).missed, BTreeSet::from([intent("ldap")]), "until it is repaired");
    let repaired = update(&with(told.clone(), "/spec/template/spec/x", json!(1)), &told, &catalog);
    assert_eq!(again(&repaired, &catalog).missed, BTreeSet::new());
}

#[test]
fn where_injection_is_off_nothing_is_missed() {
    let catalog = World::full().and(namespace("blog", "inject: disabled", "")).catalog();
    let again = again(&wanting("ldap"), &catalog);
    assert_eq!((again.missed, again.pending, again.status), (BTreeSet::new(), BTreeSet::new(), None));
}

#[test]
fn a_changed_offer_and_one_that_is_taken_back_are_told_with_what_stands() {
    let object = inject(&wanting("ldap"), &World::full().catalog());
    let base = "/metadata/annotations/opportune.libre.sh~1settings";
    let moved = World::full().and(with(openldap(), base, json!("base-dn: dc=new"))).catalog();
    let status = again(&object, &moved).status.unwrap();
    assert_eq!(status, "ldap=directory/openldap (changed since, used after the next rollout)");
    let consumers = "/metadata/annotations/opportune.libre.sh~1consumers";
    let closed = World::full().and(with(openldap(), consumers, json!("team=x"))).catalog();
    let status = again(&object, &closed).status.unwrap();
    assert_eq!(status, "ldap=directory/openldap (absent: no offer after the next rollout)");
}

#[test]
fn scaling_changes_nothing() {
    let catalog = World::full().catalog();
    let object = inject(&wanting("ldap, mail"), &catalog);
    let scaled = again(&with(object.clone(), REPLICAS, json!(5)), &catalog);
    assert_eq!((scaled.pending, scaled.status), (BTreeSet::new(), None));
}

#[test]
fn what_is_withdrawn_is_out_and_the_webhook_agrees() {
    let catalog = World::full().catalog();
    let object = inject(&with_data(wanting("ldap, mail, storage")), &catalog);
    let after = withdrawn(&object, "ldap", "the credentials are not there", &catalog);
    assert_eq!(status_of(&after, "ldap"), "withdrawn: the credentials are not there");
    assert!(variables(&after, "app", "LDAP_HOST").is_empty());
    assert_eq!(status_of(&after, "mail"), "mail/mailu-front");
    assert_eq!(claims(&after), claims(&object));
    // Our own patch goes through admission, which changes nothing of it.
    assert_eq!(update(&after, &object, &catalog), after);
    let settled = again(&after, &catalog);
    assert_eq!((settled.pending, settled.status), (BTreeSet::new(), None));
    assert_eq!(settled.withdrawn.keys().collect::<Vec<_>>(), [&intent("ldap")]);
    // Once: a new template does not bring it back.
    let touched = update(&with(after.clone(), "/spec/template/spec/x", json!(1)), &after, &catalog);
    assert_eq!(status_of(&touched, "ldap"), "withdrawn: the credentials are not there");
}

#[test]
fn what_was_withdrawn_is_tried_again_when_somebody_says_so() {
    let catalog = World::full().catalog();
    let object = inject(&wanting("ldap"), &catalog);
    let after = withdrawn(&object, "ldap", "it can't be", &catalog);
    let operations = try_again(&after, &BTreeSet::from([intent("ldap")])).unwrap();
    let retried = patched(&after, &operations);
    assert_eq!(retried["spec"], after["spec"]);
    let late = again(&retried, &catalog);
    assert_eq!(late.pending, BTreeSet::from([intent("ldap")]));
    assert_eq!(late.missed, BTreeSet::new());
}

#[test]
fn storage_that_never_was_gives_its_place_back() {
    let catalog = World::empty().and(shared_storage()).catalog();
    let object = inject(&with_data(wanting("storage")), &catalog);
    assert_eq!(claims(&object).len(), 1);
    let after = withdrawn(&object, "storage", "exceeded quota", &catalog);
    assert_eq!(volume_at(&after, "/data"), Some(&json!({"name": "d", "emptyDir": {}})));
    assert_eq!(status_of(&after, "storage"), "withdrawn: exceeded quota");
    assert_eq!(update(&after, &object, &catalog), after);
    // Another class is another offer, and its claim stays from then on.
    let more =
        World::empty().and(shared_storage()).and(storage_class("other", "rook-ceph.cephfs.csi.ceph.com"));
    let touched = update(&with(after.clone(), "/spec/template/spec/x", json!(1)), &after, &more.catalog());
    assert_eq!(status_of(&touched, "storage"), "other");
    let later = update(&with(touched.clone(), "/spec/template/spec/x", json!(2)), &touched, &catalog);
    assert_eq!(claims(&later), claims(&touched));
}

#[test]
fn the_next_candidate_takes_the_place_of_what_is_withdrawn() {
    let second = with(openldap(), "/metadata/name", json!("second"));
    let catalog = World::full().and(second).catalog();
    let object = inject(&wanting("ldap"), &catalog);
    assert_eq!(status_of(&object, "ldap"), "directory/openldap");
    let after = withdrawn(&object, "ldap", "it can't be", &catalog);
    assert_eq!(status_of(&after, "ldap"), "directory/second");
    assert_eq!(update(&after, &object, &catalog), after);
}

#[test]
fn a_secret_that_workloads_share_tells_their_names_apart() {
    let catalog = World::full().catalog();
    let named = |name: &str| {
        let template = "FROM=[[app.name]]:[[mail.password|uri]]";
        let object =
            asking(deployment("example.org/unknown:1"), &[("wants", "mail"), ("env.mail", template)]);
        inject(&with(object, "/metadata/name", json!(name)), &catalog)
    };
    let needs = [named("one"), named("two")].map(|object| again(&object, &catalog).needs.secrets);
    let composed = needs.map(|secrets| secrets.into_values().next().unwrap().composed);
    assert_eq!(composed[0].values().collect::<Vec<_>>(), ["one:[[mail.password|uri]]"]);
    assert_ne!(composed[0].keys().next(), composed[1].keys().next());
}

// === what a Secret holds ===

fn contents(source: &[(&str, &str)], composed: &[(&str, &str)]) -> Contents {
    let catalog = World::full().catalog();
    let offer = catalog.offers().find(|offer| offer.intent == intent("mail")).unwrap();
    let source: SecretData = source.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
    let composed = composed.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Contents::of(offer, &source, &composed)
}

#[test]
fn a_secret_holds_the_canonical_settings_and_what_is_composed() {
    let held = contents(
        &[("username", "me@example.org"), ("password", "p@:/ %ü\n"), ("root-password", "never")],
        &[("X.1", "user=[[mail.username|shell]]"), ("X.2", "[[mail.password|uri]]@[[mail.host]]")],
    );
    let of = |key: &str| held.data.get(key).map(String::as_str);
    assert_eq!(of("password"), Some("p@:/ %ü"), "without the line break at its end");
    let host = of("host").unwrap();
    assert_eq!(
        of("uri"),
        Some(format!("smtp://me%40example.org:p%40%3A%2F%20%25%C3%BC@{host}:587").as_str())
    );
    assert_eq!(of("X.1"), Some("user='me@example.org'"));
    assert_eq!(of("X.2"), Some(format!("p%40%3A%2F%20%25%C3%BC@{host}").as_str()));
    assert_eq!(
        (of("type"), of("from"), of("root-password")),
        (Some("mail"), Some("noreply@example.org"), None)
    );
    assert!(held.missing.is_empty());
    let printed = format!("{held:?}");
    assert!(!printed.contains("p@:") && printed.contains("password"), "{printed}");
}

#[rstest]
#[case::no_key(&[("username", "u")], "password", "its Secret has no key password")]
#[case::what_is_made_of_it(&[("username", "u")], "uri", "its Secret has no key password")]
#[case::empty(&[("username", "u"), ("password", "\n")], "password", "key password of its Secret is empty")]
#[case::two_lines(&[("username", "u"), ("password", "a\nb")], "password", "key password of its Secret has control characters")]
#[case::unsafe_without_an_encoding(&[("username", "u"), ("password", "a'b")], "X", "value can't be written safely (password)")]
fn what_is_missing_says_why_and_repeats_no_value(
    #[case] source: &[(&str, &str)],
    #[case] key: &str,
    #[case] reason: &str,
) {
    let held = contents(source, &[("X", "p=[[mail.password]]")]);
    assert_eq!(held.data.get(key), None);
    assert_eq!(held.missing[key].to_string(), reason);
}
