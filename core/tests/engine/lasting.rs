//! What has to last over the life of a workload: volumes, withdrawals, empty values, the user's own mounts.
use opportune_core::admit::Options;
use serde_json::{Value, json};

use crate::{merge::apply, world::*};

const IMAGE: &str = "/spec/template/spec/containers/0/image";
const MOUNTS: &str = "/spec/template/spec/containers/0/volumeMounts";
const VOLUMES: &str = "/spec/template/spec/volumes";

/// What the API server stores: it leaves an empty value of a variable out.
fn stored(mut object: Value) -> Value {
    let containers =
        object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut).unwrap();
    for entry in containers.iter_mut().filter_map(|c| c["env"].as_array_mut()).flatten() {
        if entry.get("value") == Some(&json!("")) {
            entry.as_object_mut().unwrap().remove("value");
        }
    }
    object
}

#[test]
fn an_empty_value_stays_ours_in_the_store() {
    let catalog = World::full().catalog();
    let plain = deployment("example.org/unknown:1");
    let object = asking(plain.clone(), &[("wants", "ldap"), ("env.ldap", "EMPTY=\nH=[[ldap.host]]")]);
    let first = stored(inject(&object, &catalog));
    let second =
        stored(update(&with(first.clone(), IMAGE, json!("example.org/unknown:2")), &first, &catalog));
    assert_eq!(status_of(&second, "ldap"), "directory/openldap");
    let back = update(&apply(&second, &object, &plain), &second, &catalog);
    assert!(variables(&back, "app", "EMPTY").is_empty());
}

#[test]
fn a_volume_stays_when_the_image_no_longer_matches_a_profile() {
    let catalog = World::full().catalog();
    let object = asking(deployment("wordpress:6"), &[("wants", "storage")]);
    let before = inject(&object, &catalog);
    assert_eq!(claims(&before).len(), 1);
    let after = update(&with(before.clone(), IMAGE, json!("registry.example.org/own:7")), &before, &catalog);
    assert_eq!(claims(&after), claims(&before));
    assert_eq!(status_of(&after, "storage"), "rook-cephfs");
}

fn block_at_data() -> (Value, Value) {
    let object =
        asking(deployment("example.org/unknown:1"), &[("wants", "storage"), ("storage", "/data=1Gi")]);
    let object = with(object, "/spec/strategy", json!({"type": "Recreate"}));
    let before = inject(&object, &World::empty().and(block_storage()).catalog());
    assert_eq!(claims(&before).len(), 1);
    (object, before)
}

#[test]
fn a_volume_stays_when_a_new_path_finds_no_storage() {
    let (_, before) = block_at_data();
    let more =
        asking(with(before.clone(), "/spec/replicas", json!(2)), &[("storage", "/data=1Gi /cache=1Gi")]);
    let after = update(&more, &before, &World::empty().and(block_storage()).catalog());
    assert_eq!(claims(&after), claims(&before));
    assert!(status_of(&after, "storage").contains("/cache"), "{}", status(&after));
}

#[test]
fn a_volume_stays_when_another_class_is_named_that_is_not_there() {
    let (_, before) = block_at_data();
    let more = asking(before.clone(), &[("storage", "/data=1Gi /cache=1Gi"), ("use.storage", "nope")]);
    let after = update(&more, &before, &World::empty().and(block_storage()).catalog());
    assert_eq!(claims(&after), claims(&before));
}

#[test]
fn a_volume_goes_when_the_workloads_own_list_leaves_it_out() {
    let (_, before) = block_at_data();
    let other = asking(before.clone(), &[("storage", "/cache=1Gi")]);
    let after = update(&other, &before, &World::empty().and(block_storage()).catalog());
    assert!(volume_at(&after, "/data").is_none() && volume_at(&after, "/cache").is_some());
}

#[test]
fn variables_of_two_intents_stand_in_the_order_of_their_references() {
    let catalog = World::full().catalog();
    let lines = "X=$(SMTP_HOST)-[[ldap.host]]";
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap, mail"), ("env.ldap", lines)]);
    let after = inject(&object, &catalog);
    let env = container(&after, "app")["env"].as_array().unwrap();
    let at = |name: &str| env.iter().position(|entry| entry["name"] == name).unwrap();
    assert!(at("SMTP_HOST") < at("X"));
    assert_eq!(inject(&after, &catalog), after);
}

#[test]
fn what_was_withdrawn_is_not_tried_again_after_another_offer_or_a_bad_annotation() {
    let catalog = World::full().catalog();
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap")]);
    let bound = inject(&object, &catalog);
    let key = "/metadata/annotations/opportune.libre.sh~1injected";
    let mut record: Value = serde_json::from_str(bound.pointer(key).unwrap().as_str().unwrap()).unwrap();
    let ldap = opportune_core::intent::Intent::parse("ldap").unwrap();
    let print = catalog.candidates(&ldap, "blog").next().unwrap().fingerprint();
    record["withdrawn"] =
        json!({"ldap": {"offer": "Service/directory/openldap", "print": print, "reason": "no Secret"}});
    record["added"] = json!({});
    record["offers"] = json!({});
    let withdrawn = with(
        object.clone(),
        "/metadata/annotations",
        json!({"opportune.libre.sh/injected": record.to_string()}),
    );
    let next = |object: &Value, n: u8| with(object.clone(), IMAGE, json!(format!("example.org/unknown:{n}")));

    let again = update(&next(&withdrawn, 2), &withdrawn, &catalog);
    assert_eq!(status_of(&again, "ldap"), "withdrawn: no Secret");
    let other = yaml(
        "{apiVersion: opportune.libre.sh/v1alpha1, kind: ServiceOffer, metadata: {name: own, namespace: blog}, \
         spec: {intent: ldap, settings: {host: h, port: 389, base-dn: dc=x}}}",
    );
    let bound = update(&next(&again, 3), &again, &World::full().and(other).catalog());
    assert_eq!(status_of(&bound, "ldap"), "blog/own");
    let back = update(&next(&bound, 4), &bound, &catalog);
    assert_eq!(status_of(&back, "ldap"), "withdrawn: no Secret");

    let bad =
        admitted(&asking(next(&again, 5), &[("files", "yes")]), Some(&again), &catalog, &Options::default())
            .0;
    let mended = update(&next(&again, 6), &bad, &catalog);
    assert_eq!(status_of(&mended, "ldap"), "withdrawn: no Secret");
}

#[test]
fn two_offers_that_both_fail_do_not_take_turns() {
    let own = |name: &str| {
        yaml(&format!(
            "{{apiVersion: opportune.libre.sh/v1alpha1, kind: ServiceOffer, metadata: {{name: {name}, namespace: blog}}, \
             spec: {{intent: ldap, settings: {{host: h, port: 389, base-dn: dc=x}}, \
             credentials: {{secretRef: {{name: reader}}}}}}}}"
        ))
    };
    let catalog = World::empty().and(own("a")).and(own("b")).and(own("c")).catalog();
    let ldap = opportune_core::intent::Intent::parse("ldap").unwrap();
    let reasons = std::collections::BTreeMap::from([(ldap, "exceeded quota".to_owned())]);
    let mut object = inject(&asking(deployment("example.org/unknown:1"), &[("wants", "ldap")]), &catalog);
    let mut used = Vec::new();
    for _ in 0..4 {
        used.push(status_of(&object, "ldap").to_owned());
        let patch = opportune_core::admit::withdraw(&object, "blog", &catalog, &Options::default(), &reasons);
        json_patch::patch(&mut object, &patch.unwrap()).unwrap();
    }
    assert_eq!(used, ["blog/a", "blog/b", "blog/c", "withdrawn: exceeded quota"]);
    let next = update(&with(object.clone(), IMAGE, json!("example.org/unknown:2")), &object, &catalog);
    assert_eq!(status_of(&next, "ldap"), "withdrawn: exceeded quota");
}

#[test]
fn nothing_of_ours_is_left_in_a_mount_of_the_users() {
    let catalog = World::full().catalog();
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap"), ("files", "true")]);
    let before = inject(&object, &catalog);
    let path = "/bindings/ldap";
    assert_eq!(container(&before, "app")["volumeMounts"][0]["readOnly"], true);
    let manifest = with(object.clone(), MOUNTS, json!([{"name": "mine", "mountPath": path}]));
    let manifest = with(manifest, VOLUMES, json!([{"name": "mine", "emptyDir": {}}]));
    let after = update(&apply(&before, &object, &manifest), &before, &catalog);
    assert_eq!(container(&after, "app")["volumeMounts"], json!([{"name": "mine", "mountPath": path}]));
}

#[test]
fn nothing_is_mounted_below_a_read_only_mount() {
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap"), ("files", "true")]);
    let object = with(object, MOUNTS, json!([{"name": "mine", "mountPath": "/bindings"}]));
    let object = with(object, VOLUMES, json!([{"name": "mine", "secret": {"secretName": "mine"}}]));
    let after = inject(&object, &World::full().catalog());
    assert!(status_of(&after, "ldap").contains("below a read-only mount"), "{}", status(&after));
    assert!(volume_at(&after, "/bindings/ldap").is_none());
}

#[test]
fn mounts_of_templates_come_back_with_them_where_injection_is_off() {
    let object =
        asking(stateful_set("example.org/unknown:1"), &[("wants", "storage"), ("storage", "/data=1Gi")]);
    let before = inject(&object, &World::full().catalog());
    let off = World::full().without("Namespace", "blog").and(namespace("blog", "inject: disabled", ""));
    let after = update(&object, &before, &off.catalog());
    assert_eq!(container(&after, "app")["volumeMounts"], container(&before, "app")["volumeMounts"]);
}

#[test]
fn mounts_of_templates_follow_a_container_that_got_another_name() {
    let catalog = World::full().catalog();
    let object =
        asking(stateful_set("example.org/unknown:1"), &[("wants", "storage"), ("storage", "/data=1Gi")]);
    let before = inject(&object, &catalog);
    let renamed = with(object, "/spec/template/spec/containers/0/name", json!("web"));
    let after = update(&renamed, &before, &catalog);
    assert_eq!(container(&after, "web")["volumeMounts"], container(&before, "app")["volumeMounts"]);
}

#[test]
fn an_offer_named_without_its_namespace_stays_in_use() {
    let named = |place: &str| {
        yaml(&format!(
            "{{apiVersion: opportune.libre.sh/v1alpha1, kind: ServiceOffer, metadata: {{name: dir, namespace: {place}}}, \
             spec: {{intent: ldap, consumers: {{namespaceSelector: {{}}}}, settings: {{host: h, port: 389, base-dn: dc=x}}}}}}"
        ))
    };
    let world = World::empty().and(namespace("dirs", "provider: 'true'", "")).and(named("dirs"));
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap"), ("use.ldap", "dir")]);
    let before = inject(&object, &world.catalog());
    assert_eq!(status_of(&before, "ldap"), "dirs/dir");
    let next = with(before.clone(), IMAGE, json!("example.org/unknown:2"));
    let after = update(&next, &before, &world.and(named("blog")).catalog());
    assert_eq!(status_of(&after, "ldap"), "dirs/dir");
}

#[test]
fn templates_come_back_twice_where_injection_is_off() {
    let object =
        asking(stateful_set("example.org/unknown:1"), &[("wants", "storage"), ("storage", "/data=1Gi")]);
    let before = inject(&object, &World::full().catalog());
    let off =
        World::full().without("Namespace", "blog").and(namespace("blog", "inject: disabled", "")).catalog();
    let second = update(&with(object.clone(), IMAGE, json!("example.org/unknown:2")), &before, &off);
    let third = update(&with(object, IMAGE, json!("example.org/unknown:3")), &second, &off);
    assert_eq!(third["spec"]["volumeClaimTemplates"], before["spec"]["volumeClaimTemplates"]);
    assert_eq!(container(&third, "app")["volumeMounts"], container(&before, "app")["volumeMounts"]);
}

#[test]
fn a_group_that_the_user_sets_stays() {
    let catalog = World::full().catalog();
    let object = asking(stateful_set("grafana/grafana:11"), &[("wants", "storage")]);
    let before = inject(&object, &catalog);
    let group = "/spec/template/spec/securityContext";
    assert_eq!(before.pointer(group).unwrap()["fsGroup"], 472);
    let after = update(&with(object, group, json!({"fsGroup": 1000})), &before, &catalog);
    assert_eq!(after.pointer(group).unwrap()["fsGroup"], 1000);
}

#[test]
fn a_mount_that_the_user_writes_whole_stays_as_it_is() {
    let catalog = World::full().catalog();
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap"), ("files", "true")]);
    let before = inject(&object, &catalog);
    let mount = json!([{"name": "mine", "mountPath": "/bindings/ldap", "readOnly": true}]);
    let replaced = with(object, MOUNTS, mount.clone());
    let replaced = with(replaced, VOLUMES, json!([{"name": "mine", "secret": {"secretName": "mine"}}]));
    assert_eq!(container(&update(&replaced, &before, &catalog), "app")["volumeMounts"], mount);
}

#[test]
fn a_requirement_is_not_met_by_volumes_of_other_paths() {
    let object =
        asking(deployment("example.org/unknown:1"), &[("requires", "storage"), ("storage", "/a=1Gi")]);
    let before = inject(&object, &World::empty().and(shared_storage()).catalog());
    let other = asking(before.clone(), &[("storage", "/b=1Gi")]);
    let (_, verdict) = admitted(&other, Some(&before), &World::empty().catalog(), &Options::default());
    assert!(
        matches!(verdict.result, opportune_core::admit::AdmissionResult::Denied(_))
            || !verdict.delivery.claims.is_empty(),
        "{:?}",
        verdict.result
    );
}

#[test]
fn one_of_two_containers_that_gets_another_name_keeps_its_volume() {
    let catalog = World::full().catalog();
    let two = json!([{"name": "app", "image": "x"}, {"name": "worker", "image": "x"}]);
    let object = asking(stateful_set("x"), &[("wants", "storage"), ("storage", "/data=1Gi")]);
    let object = with(object, "/spec/template/spec/containers", two);
    let before = inject(&object, &catalog);
    let renamed = with(object, "/spec/template/spec/containers/0/name", json!("web"));
    let after = update(&renamed, &before, &catalog);
    assert_eq!(container(&after, "web")["volumeMounts"], container(&before, "app")["volumeMounts"]);
}

#[test]
fn a_record_that_would_not_fit_is_not_begun() {
    let lines: String = (0..500).map(|n| format!("VARIABLE_NUMBER_{n}=1\n")).collect();
    let containers: Vec<Value> = (0..20).map(|n| json!({"name": format!("c{n}"), "image": "x"})).collect();
    let object = asking(deployment("x"), &[("wants", "ldap"), ("env.ldap", &lines)]);
    let object = with(object, "/spec/template/spec/containers", json!(containers));
    let (after, _) = admitted(&object, None, &World::full().catalog(), &Options::default());
    assert_eq!(after, object);
}
