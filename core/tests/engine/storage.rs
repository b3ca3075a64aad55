//! Volumes (1.4 *Storage*): which, where, of which class, and what is left alone.
use opportune_core::admit::{DeliveryState, Options};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const MOUNTS: &str = "/spec/template/spec/containers/0/volumeMounts";
const VOLUMES: &str = "/spec/template/spec/volumes";
const CLAIM_AT: &str = "/persistentVolumeClaim/claimName";

pub fn keeping(paths: &str) -> Value {
    asking(deployment("example.org/unknown:1"), &[("wants", "storage"), ("storage", paths)])
}

pub fn mounted(object: Value, mounts: Value, volumes: Value) -> Value {
    with(with(object, MOUNTS, mounts), VOLUMES, volumes)
}

pub fn shared() -> World {
    World::empty().and(shared_storage())
}

fn block() -> World {
    World::empty().and(block_storage())
}

/// The claim that is mounted at a path of container `app`.
pub fn claim_at<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    volume_at(object, path)?.pointer(CLAIM_AT)?.as_str()
}

// === where ===

#[test]
fn without_a_wish_for_storage_no_path_gets_a_volume() {
    let object = asking(deployment("vaultwarden/server:1"), &[("wants", "mail"), ("storage", "/data=1Gi")]);
    let after = inject(&object, &World::full().catalog());
    assert!(claims(&after).is_empty());
}

#[test]
fn every_path_of_the_annotation_gets_a_claim_of_its_size() {
    let object = keeping("/var/www/html=10Gi, /cache=1Gi");
    let (after, verdict) = admitted(&object, None, &shared().catalog(), &Options::default());
    for (path, size) in [("/var/www/html", "10Gi"), ("/cache", "1Gi")] {
        let claim = claim_at(&after, path).expect(path);
        let made =
            verdict.delivery.objects("blog").into_iter().find(|o| o["metadata"]["name"] == claim).unwrap();
        assert_eq!(made["kind"], "PersistentVolumeClaim");
        assert_eq!(made["metadata"]["namespace"], "blog");
        assert_eq!(made["spec"]["resources"]["requests"]["storage"], size);
        assert_eq!(made["spec"]["storageClassName"], "rook-cephfs");
        assert_eq!(made["spec"]["accessModes"], json!(["ReadWriteMany"]));
    }
    assert_eq!(status_of(&after, "storage"), "rook-cephfs");
}

#[test]
fn a_claims_name_is_made_of_workload_path_and_six_hex() {
    let after = inject(&keeping("/var/www/html=1Gi"), &shared().catalog());
    let name = claim_at(&after, "/var/www/html").unwrap();
    let hash = name.strip_prefix("app-var-www-html-").expect(name);
    assert!(hash.len() == 6 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
}

#[test]
fn long_and_similar_names_give_claims_of_63_characters_that_differ() {
    let catalog = shared().catalog();
    let object = with(keeping("/a/b=1Gi, /a-b=1Gi, /A/B=1Gi"), "/metadata/name", json!("n".repeat(63)));
    let after = inject(&object, &catalog);
    let mut names = claims(&after);
    assert_eq!(names.len(), 3);
    for name in &names {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(name.len() <= 63 && plain && !name.ends_with('-') && !name.starts_with('-'), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3);
    let volumes = pod(&after)["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|v| v["name"].as_str().unwrap().len() <= 63));
}

#[test]
fn an_empty_dir_at_exactly_that_path_is_replaced_in_place_under_its_own_name() {
    let volumes = json!([{"name": "first", "emptyDir": {}}, {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "last", "emptyDir": {}}]);
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let object = mounted(keeping("/data=1Gi"), mounts.clone(), volumes.clone());
    let after = inject(&object, &shared().catalog());
    assert_eq!(after.pointer(MOUNTS), Some(&mounts));
    assert_eq!(pod(&after)["volumes"].as_array().unwrap().len(), 3);
    let volume = &pod(&after)["volumes"][1];
    assert_eq!(volume["name"], "data");
    assert!(volume.get("emptyDir").is_none(), "{volume}");
    assert!(volume.pointer(CLAIM_AT).is_some());
    assert_eq!(taken_out(&after), object);
}

#[rstest]
#[case::trailing_slash_of_the_mount("/data/", "/data=1Gi")]
#[case::trailing_slash_of_the_wish("/data", "/data/=1Gi")]
fn a_trailing_slash_makes_no_other_path(#[case] mount: &str, #[case] wish: &str) {
    let object = mounted(
        keeping(wish),
        json!([{"name": "data", "mountPath": mount}]),
        json!([{"name": "data", "hostPath": {"path": "/srv"}}]),
    );
    let (after, _) = admitted(&object, None, &shared().catalog(), &Options::default());
    assert_eq!(after.pointer(MOUNTS), object.pointer(MOUNTS));
    assert!(claims(&after).is_empty());
}

#[rstest]
#[case::sub_path(json!([{"name": "data", "mountPath": "/data", "subPath": "x"}]), json!({"emptyDir": {}}))]
#[case::sub_path_expr(json!([{"name": "data", "mountPath": "/data", "subPathExpr": "$(POD)"}]), json!({"emptyDir": {}}))]
#[case::memory(json!([{"name": "data", "mountPath": "/data"}]), json!({"emptyDir": {"medium": "Memory"}}))]
#[case::two_paths(json!([{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/tmp"}]), json!({"emptyDir": {}}))]
#[case::host_path(json!([{"name": "data", "mountPath": "/data"}]), json!({"hostPath": {"path": "/srv"}}))]
#[case::claim(json!([{"name": "data", "mountPath": "/data"}]), json!({"persistentVolumeClaim": {"claimName": "mine"}}))]
#[case::config_map(json!([{"name": "data", "mountPath": "/data"}]), json!({"configMap": {"name": "mine"}}))]
#[case::ephemeral(json!([{"name": "data", "mountPath": "/data"}]), json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}))]
fn any_other_mount_of_the_user_at_that_path_stays(#[case] mounts: Value, #[case] source: Value) {
    let volume = with(source, "/name", json!("data"));
    let object = mounted(keeping("/data=1Gi, /other=1Gi"), mounts.clone(), json!([volume]));
    let after = inject(&object, &shared().catalog());
    let has = after.pointer(MOUNTS).unwrap().as_array().unwrap();
    assert_eq!(&has[..has.len() - 1], mounts.as_array().unwrap().as_slice());
    assert_eq!(pod(&after)["volumes"][0], volume);
    assert!(claim_at(&after, "/other").is_some());
    assert!(status_of(&after, "storage").contains("/data"), "{}", status(&after));
}

#[test]
fn an_empty_dir_that_another_container_mounts_elsewhere_stays() {
    let object = mounted(
        keeping("/data=1Gi"),
        json!([{"name": "data", "mountPath": "/data"}]),
        json!([{"name": "data", "emptyDir": {}}]),
    );
    for list in ["containers", "initContainers"] {
        let other = json!({"name": "other", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/elsewhere"}]});
        let at = if list == "containers" { "containers/1".to_owned() } else { format!("{list}/0") };
        let object = with(object.clone(), &format!("/spec/template/spec/{at}"), other);
        let after = inject(&object, &shared().catalog());
        assert_eq!(pod(&after)["volumes"][0], json!({"name": "data", "emptyDir": {}}), "{list}");
    }
}

#[test]
fn an_empty_dir_that_another_container_mounts_at_the_same_path_stays_too() {
    let object = mounted(
        keeping("/data=1Gi"),
        json!([{"name": "data", "mountPath": "/data"}]),
        json!([{"name": "data", "emptyDir": {}}]),
    );
    let other =
        json!({"name": "other", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let after = inject(&with(object, "/spec/template/spec/containers/1", other), &shared().catalog());
    // Mounted only at that path: whether a second container may share it is left open; nothing is mounted twice.
    assert_eq!(container(&after, "app")["volumeMounts"].as_array().unwrap().len(), 1);
    assert_eq!(container(&after, "other")["volumeMounts"].as_array().unwrap().len(), 1);
}

#[rstest]
#[case::above("/data", "/data/media")]
#[case::below("/data/media/thumbs", "/data/media")]
#[case::root("/", "/data")]
fn a_path_above_or_below_a_users_mount_is_skipped(#[case] users: &str, #[case] wish: &str) {
    let object = mounted(
        keeping(&format!("{wish}=1Gi")),
        json!([{"name": "mine", "mountPath": users}]),
        json!([{"name": "mine", "hostPath": {"path": "/srv"}}]),
    );
    let after = inject(&object, &shared().catalog());
    assert!(claims(&after).is_empty());
    assert!(status_of(&after, "storage").contains(wish), "{}", status(&after));
}

#[test]
fn a_path_that_only_begins_with_the_same_letters_is_no_neighbour() {
    let object = mounted(
        keeping("/data=1Gi"),
        json!([{"name": "mine", "mountPath": "/database"}]),
        json!([{"name": "mine", "hostPath": {"path": "/srv"}}]),
    );
    assert!(claim_at(&inject(&object, &shared().catalog()), "/data").is_some());
}

#[rstest]
#[case("data=1Gi")]
#[case("/=1Gi")]
#[case("/a/../etc=1Gi")]
#[case("/a/./b=1Gi")]
#[case("/..=1Gi")]
#[case("/a:b=1Gi")]
#[case("/data=-1Gi")]
#[case("/data=0")]
#[case("/data=1Gi, /data=2Gi")]
fn a_path_or_size_that_is_none_leaves_the_object_as_it_came(#[case] paths: &str) {
    let (after, verdict) = admitted(&keeping(paths), None, &shared().catalog(), &Options::default());
    assert!(claims(&after).is_empty(), "{after:#}");
    assert_eq!(after, keeping(paths));
    assert_eq!(verdict.warnings.len(), 1);
}

// === which ===

#[rstest]
#[case::shared_and_rolling(shared(), "RollingUpdate", 1, true)]
#[case::shared_and_many(shared(), "RollingUpdate", 3, true)]
#[case::shared_and_recreated_many(shared(), "Recreate", 3, true)]
#[case::block_and_recreated(block(), "Recreate", 1, true)]
#[case::block_and_rolling(block(), "RollingUpdate", 1, false)]
#[case::block_and_many(block(), "Recreate", 2, false)]
fn block_storage_only_with_one_replica_and_recreate(
    #[case] world: World,
    #[case] strategy: &str,
    #[case] replicas: u32,
    #[case] is_used: bool,
) {
    let object = with(keeping("/data=1Gi"), "/spec/strategy/type", json!(strategy));
    let after = inject(&with(object, "/spec/replicas", json!(replicas)), &world.catalog());
    assert_eq!(claim_at(&after, "/data").is_some(), is_used, "{}", status(&after));
    assert!(is_used || status_of(&after, "storage").contains("Recreate"), "{}", status(&after));
}

#[test]
fn without_replicas_and_strategy_the_defaults_count() {
    let object = without(keeping("/data=1Gi"), "/spec/replicas");
    assert!(claims(&inject(&object, &block().catalog())).is_empty());
    let object = with(object, "/spec/strategy/type", json!("Recreate"));
    assert_eq!(claims(&inject(&object, &block().catalog())).len(), 1);
}

#[test]
fn pods_that_can_overlap_share() {
    let after = inject(&keeping("/data=1Gi"), &World::full().catalog());
    assert_eq!(status_of(&after, "storage"), "rook-cephfs");
}

#[test]
fn the_mode_is_chosen_once() {
    let catalog = World::full().catalog();
    let stored = inject(&keeping("/data=1Gi"), &catalog);
    let object = with(stored.clone(), "/spec/strategy", json!({"type": "Recreate"}));
    let object = with(object, "/spec/template/spec/containers/0/image", json!("example.org/unknown:2"));
    let (after, verdict) = admitted(&object, Some(&stored), &catalog, &Options::default());
    assert_eq!(claims(&after), claims(&stored));
    let made = verdict.delivery.objects("blog");
    assert_eq!(made[0]["spec"]["storageClassName"], "rook-cephfs");
}

#[test]
fn storage_stays_when_its_class_goes_or_its_wish_is_taken_back() {
    let stored = inject(&keeping("/data=1Gi"), &shared().catalog());
    let object =
        with(stored.clone(), "/spec/template/spec/containers/0/image", json!("example.org/unknown:2"));
    let after = update(&object, &stored, &World::empty().catalog());
    assert_eq!(claims(&after), claims(&stored));
    assert!(status_of(&after, "storage").starts_with("kept"), "{}", status(&after));
}

#[test]
fn delivery_away_makes_no_new_claim_and_keeps_the_old() {
    let away = Options { delivery: DeliveryState::Away, ..Options::default() };
    let (after, _) = admitted(&keeping("/data=1Gi"), None, &shared().catalog(), &away);
    assert!(claims(&after).is_empty());
    assert_eq!(status_of(&after, "storage"), "absent: delivery is away");
    let stored = inject(&keeping("/data=1Gi"), &shared().catalog());
    let object =
        with(stored.clone(), "/spec/template/spec/containers/0/image", json!("example.org/unknown:2"));
    let (after, _) = admitted(&object, Some(&stored), &shared().catalog(), &away);
    assert_eq!(claims(&after), claims(&stored));
}

#[rstest]
#[case::rook("rook-ceph.cephfs.csi.ceph.com", true)]
#[case::plain("cephfs.csi.ceph.com", true)]
#[case::other_prefix("storage-1.rbd.csi.ceph.com", true)]
#[case::look_alike("evilcephfs.csi.ceph.com", false)]
#[case::other("ebs.csi.aws.com", false)]
fn a_class_is_known_by_its_provisioner(#[case] provisioner: &str, #[case] is_known: bool) {
    let world = World::empty().and(storage_class("ceph", provisioner));
    let after =
        inject(&with(keeping("/data=1Gi"), "/spec/strategy/type", json!("Recreate")), &world.catalog());
    assert_eq!(claims(&after).len() == 1, is_known, "{}", status(&after));
}

// === the pod's group ===

fn grafana() -> Value {
    asking(deployment("grafana/grafana:11"), &[("wants", "storage")])
}

#[test]
fn the_profiles_group_is_added_where_the_pod_sets_none() {
    let after = inject(&grafana(), &shared().catalog());
    let expected = json!({"fsGroup": 472, "fsGroupChangePolicy": "OnRootMismatch"});
    assert_eq!(pod(&after)["securityContext"], expected);
    assert_eq!(taken_out(&after), grafana());
}

#[test]
fn a_group_or_policy_of_the_user_stays() {
    let context = "/spec/template/spec/securityContext";
    let group = with(grafana(), context, json!({"fsGroup": 1}));
    let after = inject(&group, &shared().catalog());
    assert_eq!(pod(&after)["securityContext"]["fsGroup"], 1);
    let policy = with(grafana(), context, json!({"fsGroupChangePolicy": "Always", "runAsUser": 3}));
    let after = inject(&policy, &shared().catalog());
    let expected = json!({"fsGroupChangePolicy": "Always", "runAsUser": 3, "fsGroup": 472});
    assert_eq!(pod(&after)["securityContext"], expected);
    assert_eq!(taken_out(&after), policy);
}

#[test]
fn without_a_volume_of_ours_no_group_is_added() {
    let after = inject(&grafana(), &World::empty().catalog());
    assert_eq!(pod(&after).get("securityContext"), None);
}
