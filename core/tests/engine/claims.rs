//! Claims of Deployments through updates: both on one entry, replaced manifests, wishes taken back.
use serde_json::{Value, json};

use crate::{
    merge::apply,
    storage::{claim_at, keeping, mounted, shared},
    world::*,
};

const MOUNTS: &str = "/spec/template/spec/containers/0/volumeMounts";
const VOLUMES: &str = "/spec/template/spec/volumes";

fn replaced() -> (Value, Value) {
    let object = mounted(
        keeping("/data=1Gi"),
        json!([{"name": "data", "mountPath": "/data"}]),
        json!([{"name": "data", "emptyDir": {}}]),
    );
    let stored = inject(&object, &shared().catalog());
    (object, stored)
}

#[test]
fn the_users_empty_dir_beside_our_claim_is_cleaned_up() {
    let (manifest, stored) = replaced();
    let merged = apply(&stored, &manifest, &manifest);
    assert!(pod(&merged)["volumes"][0].get("emptyDir").is_some());
    assert_eq!(update(&merged, &stored, &shared().catalog()), stored);
}

#[test]
fn another_volume_of_the_user_beside_our_claim_drops_ours() {
    let (manifest, stored) = replaced();
    let user = json!([{"name": "data", "nfs": {"server": "nas", "path": "/srv"}}]);
    let merged = apply(&stored, &manifest, &with(manifest.clone(), VOLUMES, user.clone()));
    let after = update(&merged, &stored, &shared().catalog());
    assert_eq!(after.pointer(VOLUMES), Some(&user));
}

#[test]
fn the_users_empty_dir_beside_our_claim_comes_back_when_the_wish_goes() {
    let (manifest, stored) = replaced();
    let without_wish = without(manifest.clone(), "/spec/template/metadata/annotations");
    let merged = apply(&stored, &manifest, &without_wish);
    let after = update(&merged, &stored, &shared().catalog());
    let volume = &pod(&after)["volumes"][0];
    assert_eq!(volume.as_object().unwrap().len(), 2, "one name and one source: {volume}");
}

#[test]
fn replacing_with_the_manifest_keeps_the_claim() {
    let (manifest, stored) = replaced();
    assert_eq!(update(&manifest, &stored, &shared().catalog()), stored);
    // Even where its class is gone: an app must not start on an empty disk.
    let after = update(&manifest, &stored, &World::empty().catalog());
    assert_eq!(claims(&after), claims(&stored), "{}", status(&after));
}

#[test]
fn taking_out_brings_the_empty_dir_back_as_it_was() {
    let object = mounted(
        keeping("/data=1Gi"),
        json!([{"name": "data", "mountPath": "/data", "readOnly": false, "newField": 1}]),
        json!([{"name": "data", "emptyDir": {"sizeLimit": "5Gi"}}]),
    );
    assert_eq!(taken_out(&inject(&object, &shared().catalog())), object);
}

#[test]
fn a_read_only_mount_of_the_users_empty_dir_is_not_forgotten() {
    let mounts = json!([{"name": "data", "mountPath": "/data", "readOnly": true}]);
    let object = mounted(keeping("/data=1Gi"), mounts.clone(), json!([{"name": "data", "emptyDir": {}}]));
    assert_eq!(inject(&object, &shared().catalog()).pointer(MOUNTS), Some(&mounts));
}

#[test]
fn the_users_own_mount_at_the_path_of_our_volume_takes_its_place() {
    let manifest = keeping("/data=1Gi");
    let stored = inject(&manifest, &shared().catalog());
    let user = mounted(
        manifest.clone(),
        json!([{"name": "mine", "mountPath": "/data"}]),
        json!([{"name": "mine", "persistentVolumeClaim": {"claimName": "mine"}}]),
    );
    let after = update(&apply(&stored, &manifest, &user), &stored, &shared().catalog());
    assert_eq!(claim_at(&after, "/data"), Some("mine"));
    assert!(status_of(&after, "storage").contains("/data"), "{}", status(&after));
}

#[test]
fn a_wish_taken_back_leaves_all_of_the_volume_or_nothing() {
    let manifest = keeping("/data=1Gi");
    let stored = inject(&manifest, &shared().catalog());
    let bare = without(manifest.clone(), "/spec/template/metadata/annotations");
    let after = update(&apply(&stored, &manifest, &bare), &stored, &shared().catalog());
    // Whether "storage always stays" holds here too is left open by the contract.
    assert!(claims(&after) == claims(&stored) || without(after.clone(), STATUS) == bare, "{after:#}");
}

#[test]
fn a_name_that_is_not_known_yet_makes_no_claim() {
    let object = without(keeping("/data=1Gi"), "/metadata/name");
    let after = inject(&with(object, "/metadata/generateName", json!("app-")), &shared().catalog());
    assert!(claims(&after).is_empty());
    assert!(status_of(&after, "storage").starts_with("absent"), "{}", status(&after));
}
