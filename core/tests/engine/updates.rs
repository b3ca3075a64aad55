//! Updates (1.4 *Taking out*, 1.2 `injected`): what users, clients and rollouts do to an injected workload.
use opportune_core::admit::{AdmissionResult, DeliveryState, Options};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    merge::{apply, undo_deployment, undo_stateful_set},
    world::*,
};

const ENV: &str = "/spec/template/spec/containers/0/env";

fn generic(annotations: &[(&str, &str)]) -> Value {
    asking(deployment("example.org/unknown:1"), annotations)
}

fn ldap() -> Value {
    generic(&[("wants", "ldap")])
}

fn with_env(object: Value, env: Value) -> Value {
    with(object, ENV, env)
}

/// The same object with a template that differs by an image tag.
fn with_image(object: &Value, image: &str) -> Value {
    with(object.clone(), "/spec/template/spec/containers/0/image", json!(image))
}

/// The object with one injected variable of container `app` changed.
fn edited(object: &Value, name: &str, entry: Option<Value>) -> Value {
    let mut object = object.clone();
    let list = object.pointer_mut(ENV).unwrap().as_array_mut().unwrap();
    let at = list.iter().position(|e| e["name"] == name).unwrap();
    match entry {
        Some(entry) => list[at] = entry,
        None => {
            list.remove(at);
        }
    }
    object
}

// === clients ===

#[test]
fn applying_the_manifest_again_changes_nothing() {
    let catalog = World::full().catalog();
    for manifest in [asking(wordpress(), &[("wants", "ldap,mail,analytics")]), ldap()] {
        let stored = inject(&manifest, &catalog);
        assert_eq!(update(&apply(&stored, &manifest, &manifest), &stored, &catalog), stored);
    }
}

#[test]
fn replacing_with_the_manifest_gives_the_injected_object_again() {
    let catalog = World::full().catalog();
    let manifest = asking(wordpress(), &[("wants", "ldap,mail,analytics")]);
    let stored = inject(&manifest, &catalog);
    assert_eq!(update(&manifest, &stored, &catalog), stored);
}

#[rstest]
#[case::scale("/spec/replicas", json!(5))]
#[case::label("/metadata/labels/tier", json!("front"))]
#[case::annotation("/metadata/annotations/deployment.kubernetes.io~1revision", json!("4"))]
#[case::paused("/spec/paused", json!(true))]
fn an_update_of_nothing_that_we_look_at_changes_nothing(#[case] pointer: &str, #[case] value: Value) {
    let stored = inject(&ldap(), &World::full().catalog());
    let object = with(stored.clone(), pointer, value);
    // Even where the offer is another one by now.
    let moved = World::full().without("Service", "openldap").catalog();
    assert_eq!(update(&object, &stored, &moved), object);
}

#[test]
fn an_offer_that_came_causes_no_surprise_rollout() {
    let stored = inject(&ldap(), &World::empty().catalog());
    let object = with(stored.clone(), "/spec/replicas", json!(2));
    assert_eq!(update(&object, &stored, &World::full().catalog()), object);
}

#[test]
fn a_changed_template_decides_anew() {
    let stored = inject(&ldap(), &World::empty().catalog());
    let after = update(&with_image(&stored, "example.org/unknown:2"), &stored, &World::full().catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"));
    assert_eq!(status_of(&after, "ldap"), "directory/openldap");
}

#[test]
fn a_changed_annotation_of_the_user_decides_anew() {
    let stored = inject(&asking_on_itself(deployment("x"), &[("wants", "ldap")]), &World::full().catalog());
    let object = asking_on_itself(stored.clone(), &[("wants", "mail")]);
    let after = update(&object, &stored, &World::full().catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), None);
    assert_eq!(literal(&after, "SMTP_HOST"), Some("mailu-front.mail.svc"));
}

#[test]
fn a_wish_taken_back_leaves_no_trace() {
    let stored = inject(&asking(wordpress(), &[("wants", "ldap, mail")]), &World::full().catalog());
    let object = without(stored.clone(), "/spec/template/metadata/annotations/opportune.libre.sh~1wants");
    assert_eq!(update(&object, &stored, &World::full().catalog()), wordpress());
}

// === both on one entry ===

#[test]
fn the_users_value_from_beside_our_value_drops_ours() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user =
        json!({"name": "LDAP_HOST", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "host"}}});
    let merged = apply(&stored, &ldap(), &with_env(ldap(), json!([user])));
    assert_eq!(variables(&merged, "app", "LDAP_HOST")[0]["value"], "openldap.directory.svc");
    let after = update(&merged, &stored, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&user]);
    assert!(status_of(&after, "ldap").contains("LDAP_HOST"));
    assert_eq!(literal(&after, "LDAP_PORT"), Some("389"));
}

#[test]
fn the_users_value_beside_our_value_from_drops_ours() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user = json!({"name": "LDAP_BIND_PASSWORD", "value": "$(MINE)"});
    let merged = apply(&stored, &ldap(), &with_env(ldap(), json!([user])));
    assert!(variables(&merged, "app", "LDAP_BIND_PASSWORD")[0].get("valueFrom").is_some());
    let after = update(&merged, &stored, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_BIND_PASSWORD"), [&user]);
}

#[test]
fn the_users_reference_beside_our_reference_drops_ours() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user = json!({"name": "LDAP_BIND_PASSWORD", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "pw"}}});
    let merged = apply(&stored, &ldap(), &with_env(ldap(), json!([user])));
    let after = update(&merged, &stored, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_BIND_PASSWORD"), [&user]);
}

#[test]
fn both_on_one_entry_is_cleaned_up_even_when_the_wish_is_taken_back() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user =
        json!([{"name": "LDAP_HOST", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "host"}}}]);
    let manifest = with_env(deployment("example.org/unknown:1"), user.clone());
    let after = update(&apply(&stored, &ldap(), &manifest), &stored, &catalog);
    assert_eq!(after.pointer(ENV), Some(&user));
}

#[test]
fn a_variable_that_the_user_takes_over_with_our_value_and_gives_back_does_no_harm() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let manifest = with_env(ldap(), json!([{"name": "LDAP_HOST", "value": "openldap.directory.svc"}]));
    let owned = update(&apply(&stored, &ldap(), &manifest), &stored, &catalog);
    assert_eq!(literal(&owned, "LDAP_HOST"), Some("openldap.directory.svc"));
    let back = update(&apply(&owned, &manifest, &ldap()), &owned, &catalog);
    assert_eq!(literal(&back, "LDAP_HOST"), Some("openldap.directory.svc"));
}

// === edits ===

#[test]
fn an_injected_variable_that_the_user_edits_becomes_the_users() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user = json!({"name": "LDAP_HOST", "value": "mine"});
    let after = update(&edited(&stored, "LDAP_HOST", Some(user.clone())), &stored, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&user]);
    assert!(status_of(&after, "ldap").contains("LDAP_HOST"), "{}", status(&after));
    assert_eq!(taken_out(&after).pointer(ENV), Some(&json!([user])));
}

#[test]
fn an_injected_variable_that_the_user_removes_comes_back() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let after = update(&edited(&stored, "LDAP_HOST", None), &stored, &catalog);
    assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"));
}

#[test]
fn an_injected_variable_that_becomes_a_reference_stays_one() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let user = json!({"name": "LDAP_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}});
    let after = update(&edited(&stored, "LDAP_HOST", Some(user.clone())), &stored, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&user]);
}

#[test]
fn a_container_that_is_added_later_is_injected_and_one_that_goes_leaves_the_rest() {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let two = with(stored.clone(), "/spec/template/spec/containers/1", json!({"name": "side", "image": "x"}));
    let two = update(&two, &stored, &catalog);
    assert_eq!(variables(&two, "side", "LDAP_HOST").len(), 1);
    let one = update(&without(two.clone(), "/spec/template/spec/containers/1"), &two, &catalog);
    // The record goes on to know the contents of the container that went, for an undo.
    assert_eq!(without(one, INJECTED), without(stored, INJECTED));
}

// === our own annotations ===

#[rstest]
#[case::injected_removed(INJECTED, None)]
#[case::injected_forged(INJECTED, Some(r#"{"v":1}"#))]
#[case::injected_unreadable(INJECTED, Some("nonsense"))]
#[case::injected_empty(INJECTED, Some(""))]
#[case::status_removed(STATUS, None)]
#[case::status_forged(STATUS, Some("ldap=all/good"))]
fn who_changes_only_our_annotations_gets_them_back(#[case] pointer: &str, #[case] value: Option<&str>) {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let object = match value {
        Some(value) => with(stored.clone(), pointer, json!(value)),
        None => without(stored.clone(), pointer),
    };
    assert_eq!(update(&object, &stored, &catalog), stored);
}

#[test]
fn who_forges_our_annotations_on_a_workload_that_never_had_them_loses_them() {
    let object = with(deployment("x"), INJECTED, json!(r#"{"v":1}"#));
    assert_eq!(update(&object, &deployment("x"), &World::full().catalog()), without_ours(&object));
}

fn without_ours(object: &Value) -> Value {
    let object = without(object.clone(), INJECTED);
    let left = object.pointer("/metadata/annotations").and_then(Value::as_object);
    if left.is_some_and(serde_json::Map::is_empty) {
        without(object, "/metadata/annotations")
    } else {
        object
    }
}

#[test]
fn a_forged_record_removes_nothing_of_the_users() {
    let catalog = World::full().catalog();
    let injected = inject(&ldap(), &catalog);
    // The record of one workload on another that has variables of the same names.
    let env = json!([{"name": "LDAP_HOST", "value": "mine"}, {"name": "LDAP_PORT", "value": "1"}]);
    let object = with_env(deployment("example.org/unknown:1"), env.clone());
    let forged = with(object, INJECTED, injected.pointer(INJECTED).unwrap().clone());
    assert_eq!(taken_out(&forged).pointer(ENV), Some(&env));
    let asked = asking(forged, &[("wants", "mail")]);
    let after = inject(&asked, &catalog);
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&env[0]]);
    assert_eq!(variables(&after, "app", "LDAP_PORT"), [&env[1]]);
}

#[rstest]
#[case::text("nonsense")]
#[case::other_version(r#"{"v":99,"added":{}}"#)]
#[case::wrong_types(r#"{"v":1,"added":[1,2],"offers":7}"#)]
#[case::truncated(r#"{"v":1,"wishes":"1ff5"#)]
fn an_unreadable_record_is_absent_with_a_warning(#[case] record: &str) {
    let catalog = World::full().catalog();
    let object = with(ldap(), INJECTED, json!(record));
    let (after, verdict) = admitted(&object, None, &catalog, &Options::default());
    assert_eq!(without(after, INJECTED), without(inject(&ldap(), &catalog), INJECTED));
    assert!(!verdict.warnings.is_empty());
    assert_eq!(verdict.result, AdmissionResult::Patched);
}

#[test]
fn the_record_holds_no_more_than_8_kib_and_no_value() {
    let mut manifest = ldap();
    for n in 0..40 {
        let container = json!({"name": format!("side-{n}"), "image": "x"});
        manifest = with(manifest, &format!("/spec/template/spec/containers/{}", n + 1), container);
    }
    let after = inject(&asking(manifest, &[("wants", "ldap, mail, analytics")]), &World::full().catalog());
    let record = after.pointer(INJECTED).unwrap().as_str().unwrap();
    for value in ["openldap.directory.svc", "noreply@example.org", "dc=example"] {
        assert!(!record.contains(value), "{record}");
    }
    assert_eq!(taken_out(&after).pointer("/spec/template/spec/containers/40/env"), None);
}

// === undo ===

/// A directory whose host tells its generation.
fn generation(n: usize) -> World {
    let settings = json!(format!("{{host: ldap-{n}.example.org, base-dn: 'dc=example'}}"));
    let service = with(openldap(), "/metadata/annotations/opportune.libre.sh~1settings", settings);
    World::full().without("Service", "openldap").and(service)
}

/// What is stored after `count` updates, each with another image and another host of the offer; the first is the creation.
fn history(manifest: &Value, count: usize) -> Vec<Value> {
    let mut stored: Vec<Value> = vec![inject(manifest, &generation(0).catalog())];
    for n in 1..count {
        let last = stored.last().unwrap();
        let object = with_image(last, &format!("example.org/unknown:{n}"));
        stored.push(update(&object, last, &generation(n).catalog()));
    }
    stored
}

#[rstest]
#[case::last(1)]
#[case::second(2)]
#[case::third(3)]
#[case::fourth(4)]
fn the_undo_of_a_stateful_set_brings_no_stale_entry_back(#[case] back: usize) {
    let manifest = with(ldap(), "/kind", json!("StatefulSet"));
    let stored = history(&manifest, 6);
    let now = stored.last().unwrap();
    let undone = undo_stateful_set(now, &stored[5 - back]);
    let after = update(&undone, now, &generation(5).catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("ldap-5.example.org"), "{}", status(&after));
    assert_eq!(taken_out(&after).pointer(ENV), None);
}

#[test]
fn what_comes_back_from_before_the_last_five_contents_is_the_users() {
    let manifest = with(ldap(), "/kind", json!("StatefulSet"));
    let stored = history(&manifest, 9);
    let now = stored.last().unwrap();
    let after = update(&undo_stateful_set(now, &stored[0]), now, &generation(8).catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("ldap-0.example.org"));
    assert_eq!(taken_out(&after).pointer(ENV).unwrap()[0]["value"], "ldap-0.example.org");
}

#[rstest]
fn the_undo_of_a_deployment_brings_no_stale_entry_back(#[values(1, 2, 4, 7)] back: usize) {
    let stored = history(&ldap(), 9);
    let now = stored.last().unwrap();
    let undone = undo_deployment(now, &stored[8 - back]);
    let after = update(&undone, now, &generation(8).catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("ldap-8.example.org"), "{}", status(&after));
    assert_eq!(taken_out(&after).pointer(ENV), None);
}

#[test]
fn the_undo_to_a_template_from_before_the_wish_takes_all_out() {
    let plain = deployment("example.org/unknown:1");
    let stored = inject(&ldap(), &World::full().catalog());
    let undone = undo_deployment(&stored, &plain);
    let after = update(&without(undone, "/metadata/annotations"), &stored, &World::full().catalog());
    assert_eq!(after, plain);
}

// === failing open ===

#[rstest]
#[case("wants", "ldap, Not_A_Label")]
#[case("use.ldap", "a/b/c")]
#[case("containers", "nobody")]
#[case("env.ldap", "1BAD NAME=x")]
#[case("profile", "no-such-profile")]
#[case("storage", "/data=lots")]
#[case("retain", "maybe")]
#[case("files", "yes please")]
#[case("refresh", "hourly")]
fn a_bad_annotation_leaves_an_injected_workload_as_injected_before(#[case] key: &str, #[case] value: &str) {
    let catalog = World::full().catalog();
    let stored = inject(&ldap(), &catalog);
    let bad = asking(with_image(&ldap(), "example.org/unknown:2"), &[(key, value)]);
    for object in [asking(with_image(&stored, "example.org/unknown:2"), &[(key, value)]), bad.clone()] {
        let (after, verdict) = admitted(&object, Some(&stored), &catalog, &Options::default());
        assert!(matches!(verdict.result, AdmissionResult::FailedOpen(_)), "{:?}", verdict.result);
        assert_eq!(verdict.warnings.len(), 1, "{:?}", verdict.warnings);
        assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"), "{after:#}");
        assert_eq!(after.pointer(INJECTED), stored.pointer(INJECTED));
    }
    let (after, verdict) = admitted(&bad, None, &catalog, &Options::default());
    assert_eq!((&after, verdict.warnings.len()), (&bad, 1));
}

#[test]
fn what_a_workload_has_stays_while_delivery_is_away() {
    let catalog = World::full().catalog();
    let away = Options { delivery: DeliveryState::Away, ..Options::default() };
    let stored = inject(&ldap(), &catalog);
    let object = with_image(&stored, "example.org/unknown:2");
    let (after, _) = admitted(&object, Some(&stored), &catalog, &away);
    assert_eq!(after.pointer(ENV), stored.pointer(ENV));
    let (fresh, _) = admitted(&ldap(), None, &catalog, &away);
    assert_eq!(status_of(&fresh, "ldap"), "absent: delivery is away");
    assert_eq!(fresh.pointer(ENV), None);
}
