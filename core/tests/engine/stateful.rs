//! StatefulSets (1.4): their templates are added at CREATE and put back on every UPDATE.
use opportune_core::admit::Options;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    merge::{apply, undo_stateful_set},
    world::*,
};

const TEMPLATES: &str = "/spec/volumeClaimTemplates";
const IMAGE: &str = "/spec/template/spec/containers/0/image";

fn keeping(paths: &str) -> Value {
    asking(stateful_set("example.org/unknown:1"), &[("wants", "storage"), ("storage", paths)])
}

/// A template of the user's, as the server defaults it, with or without a class.
fn template(name: &str, class: Option<&str>) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "volumeMode": "Filesystem"});
    let template = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec,
        "status": {"phase": "Pending"}});
    match class {
        Some(class) => with(template, "/spec/storageClassName", json!(class)),
        None => template,
    }
}

fn with_template(object: Value, template: Value) -> Value {
    let object = with(object, TEMPLATES, json!([template]));
    let mount = json!([{"name": "own", "mountPath": "/own"}]);
    with(object, "/spec/template/spec/containers/0/volumeMounts", mount)
}

fn templates(object: &Value) -> &[Value] {
    object.pointer(TEMPLATES).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn mount_at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    container(object, "app")["volumeMounts"].as_array()?.iter().find(|mount| mount["mountPath"] == path)
}

#[rstest]
#[case::both(World::full(), "rook-ceph-block", "ReadWriteOnce")]
#[case::shared(World::empty().and(shared_storage()), "rook-cephfs", "ReadWriteMany")]
fn a_template_is_added_block_before_shared(#[case] world: World, #[case] class: &str, #[case] mode: &str) {
    let object = with(keeping("/data=3Gi"), "/spec/replicas", json!(3));
    let after = inject(&object, &world.catalog());
    let template = &templates(&after)[0];
    assert_eq!(template["spec"]["storageClassName"], class);
    assert_eq!(template["spec"]["accessModes"], json!([mode]));
    assert_eq!(template["spec"]["resources"]["requests"]["storage"], "3Gi");
    assert_eq!(mount_at(&after, "/data").unwrap()["name"], template["metadata"]["name"]);
    assert!(claims(&after).is_empty());
    assert_eq!(taken_out(&after), object);
}

#[test]
fn the_users_template_without_a_class_gets_one() {
    let object = with_template(keeping("/own=9Gi"), template("own", None));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(templates(&after), [template("own", Some("rook-ceph-block"))]);
    assert_eq!(taken_out(&after), object);
}

#[rstest]
#[case::named("standard")]
#[case::empty("")]
fn the_users_template_with_a_class_stays(#[case] class: &str) {
    let object = with_template(keeping("/own=9Gi"), template("own", Some(class)));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(templates(&after), [template("own", Some(class))]);
}

#[test]
fn the_users_shared_template_gets_no_block_class() {
    let own = with(template("own", None), "/spec/accessModes", json!(["ReadWriteMany"]));
    let after = inject(&with_template(keeping("/own=9Gi"), own), &World::full().catalog());
    // The contract names one class for all; a class that can't give the mode would leave the pod pending for ever.
    assert_ne!(templates(&after)[0]["spec"]["storageClassName"], "rook-ceph-block");
}

#[test]
fn the_users_template_and_an_added_one_stand_together() {
    let object = with_template(keeping("/data=3Gi"), template("own", None));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(templates(&after).len(), 2);
    assert_eq!(templates(&after)[0], template("own", Some("rook-ceph-block")));
    assert_eq!(taken_out(&after), object);
}

#[test]
fn nothing_is_added_to_the_templates_of_one_that_exists() {
    let plain = stateful_set("example.org/unknown:1");
    let (after, _) =
        admitted(&keeping("/data=3Gi"), Some(&plain), &World::full().catalog(), &Options::default());
    assert!(templates(&after).is_empty() && mount_at(&after, "/data").is_none());
    assert!(status_of(&after, "storage").starts_with("absent"), "{}", status(&after));
    let classless = with_template(stateful_set("example.org/unknown:1"), template("own", None));
    let asked = with_template(keeping("/own=1Gi"), template("own", None));
    let after = update(&asked, &classless, &World::full().catalog());
    assert_eq!(templates(&after), [template("own", None)]);
}

// === every UPDATE ===

/// A stored StatefulSet with an added template and an added class, and its manifest.
fn injected() -> (Value, Value) {
    let manifest = with_template(keeping("/data=3Gi"), template("own", None));
    let stored = inject(&manifest, &World::full().catalog());
    (manifest, stored)
}

#[rstest]
#[case::as_it_was(World::full())]
#[case::class_gone(World::empty())]
fn applying_the_manifest_again_puts_the_templates_back(#[case] world: World) {
    let (manifest, stored) = injected();
    for again in [apply(&stored, &manifest, &manifest), manifest.clone()] {
        let after = update(&again, &stored, &world.catalog());
        assert_eq!(templates(&after), templates(&stored));
        assert_eq!(mount_at(&after, "/data"), mount_at(&stored, "/data"));
    }
    let after = update(&apply(&stored, &manifest, &manifest), &stored, &World::full().catalog());
    assert_eq!(after, stored);
}

#[test]
fn an_update_of_the_image_puts_the_templates_back() {
    let (manifest, stored) = injected();
    let newer = with(manifest.clone(), IMAGE, json!("example.org/unknown:2"));
    for again in [apply(&stored, &manifest, &newer), newer.clone()] {
        let after = update(&again, &stored, &World::full().catalog());
        assert_eq!(templates(&after), templates(&stored));
        assert_eq!(mount_at(&after, "/data"), mount_at(&stored, "/data"));
        assert_eq!(after.pointer(IMAGE).unwrap(), "example.org/unknown:2");
    }
}

#[test]
fn an_update_that_we_do_not_look_at_puts_the_templates_back() {
    let (_, stored) = injected();
    let object = with(without(stored.clone(), TEMPLATES), "/spec/replicas", json!(2));
    let object = with(object, TEMPLATES, json!([template("own", None)]));
    let after = update(&object, &stored, &World::full().catalog());
    assert_eq!(templates(&after), templates(&stored));
}

#[rstest]
#[case::bad_annotation("files", "maybe")]
#[case::unknown_wish("wants", "Not_A_Label")]
fn a_bad_annotation_puts_the_templates_back(#[case] key: &str, #[case] value: &str) {
    let (manifest, stored) = injected();
    let again = asking(apply(&stored, &manifest, &manifest), &[(key, value)]);
    let after = update(&again, &stored, &World::full().catalog());
    assert_eq!(templates(&after), templates(&stored));
    assert_eq!(mount_at(&after, "/data"), mount_at(&stored, "/data"));
}

#[test]
fn inject_false_puts_the_templates_back() {
    let (manifest, stored) = injected();
    let again = asking(apply(&stored, &manifest, &manifest), &[("inject", "false")]);
    let after = update(&again, &stored, &World::full().catalog());
    assert_eq!(templates(&after), templates(&stored));
}

#[test]
fn a_template_that_the_user_changes_in_another_way_is_left_to_the_server() {
    let (_, stored) = injected();
    let own = with(template("own", None), "/spec/resources/requests/storage", json!("9Gi"));
    let object = with(stored.clone(), TEMPLATES, json!([own.clone()]));
    let object = with(object, IMAGE, json!("example.org/unknown:2"));
    let after = update(&object, &stored, &World::full().catalog());
    // The server refuses it and says why; we don't hide what the user asked for.
    let kept = templates(&after).iter().find(|t| t["metadata"]["name"] == "own").unwrap();
    assert_eq!(kept["spec"]["resources"], own["spec"]["resources"]);
}

#[test]
fn a_wish_taken_back_leaves_the_templates_and_says_so() {
    let (manifest, stored) = injected();
    let bare = without(manifest.clone(), "/spec/template/metadata/annotations");
    for again in [apply(&stored, &manifest, &bare), bare.clone()] {
        let after = update(&again, &stored, &World::full().catalog());
        assert_eq!(templates(&after), templates(&stored));
        assert_eq!(mount_at(&after, "/data"), mount_at(&stored, "/data"));
        assert_eq!(status_of(&after, "storage"), "kept: immutable");
    }
}

#[test]
fn an_undo_keeps_the_templates_and_their_mounts() {
    let (_, stored) = injected();
    let newer = with(stored.clone(), IMAGE, json!("example.org/unknown:2"));
    let newer = update(&newer, &stored, &World::full().catalog());
    let after = update(&undo_stateful_set(&newer, &stored), &newer, &World::full().catalog());
    assert_eq!(templates(&after), templates(&stored));
    assert_eq!(without(after, INJECTED), without(stored, INJECTED));
}

#[test]
fn an_empty_dir_of_a_stateful_set_gives_way_to_a_template() {
    let object =
        with(keeping("/data=1Gi"), "/spec/template/spec/volumes", json!([{"name": "data", "emptyDir": {}}]));
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let object = with(object, "/spec/template/spec/containers/0/volumeMounts", mounts.clone());
    let after = inject(&object, &World::full().catalog());
    assert!(claims(&after).is_empty());
    // A StatefulSet's controller puts a template's claim in place of a volume of the same name.
    if let Some(template) = templates(&after).first() {
        assert_eq!(mount_at(&after, "/data").unwrap()["name"], template["metadata"]["name"]);
    }
    assert_eq!(taken_out(&after), object);
    let stored = after;
    let again = update(&apply(&stored, &object, &object), &stored, &World::full().catalog());
    assert_eq!(again, stored);
}

#[test]
fn a_class_that_the_user_wrote_as_null_comes_back_as_null() {
    let null = with(template("own", None), "/spec/storageClassName", Value::Null);
    let object = with_template(keeping("/own=9Gi"), null);
    let after = inject(&object, &World::full().catalog());
    assert_eq!(templates(&after)[0]["spec"]["storageClassName"], "rook-ceph-block");
    assert_eq!(taken_out(&after), object);
}

#[test]
fn templates_are_put_back_where_injection_was_switched_off_meanwhile() {
    let object = keeping("/data=3Gi");
    let stored = inject(&object, &World::full().catalog());
    let off = World::full().without("Namespace", "blog").and(namespace("blog", "inject: disabled", ""));
    let after = update(&object, &stored, &off.catalog());
    assert_eq!(templates(&after), templates(&stored));
}

#[test]
fn a_mount_that_an_update_without_us_dropped_comes_back() {
    let catalog = World::full().catalog();
    let users = keeping("/data=3Gi");
    let injected = inject(&users, &catalog);
    // While we were away, the user's own template was written over the injected one.
    let lost = with(injected.clone(), "/spec/template", users["spec"]["template"].clone());
    assert!(mount_at(&lost, "/data").is_none());

    let next = with(lost.clone(), IMAGE, json!("example.org/unknown:2"));
    let healed = update(&next, &lost, &catalog);
    assert_eq!(mount_at(&healed, "/data"), mount_at(&injected, "/data"));

    // An update in between, by which the record forgot the mount, makes no difference.
    let forgot = with(lost.clone(), "/spec/replicas", json!(2));
    let forgot = with(update(&forgot, &lost, &catalog), "/spec/template", users["spec"]["template"].clone());
    let next = with(forgot.clone(), IMAGE, json!("example.org/unknown:3"));
    assert_eq!(mount_at(&update(&next, &forgot, &catalog), "/data"), mount_at(&injected, "/data"));
}
