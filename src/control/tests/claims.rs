//! Claims: made once, never taken from somebody else, and withdrawn only where nothing can be lost.
use super::{
    api::{Answer, Api},
    world::{BLOG, Leader, SECOND, World, workload},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

const STORAGE: [(&str, &str); 2] = [("wants", "storage"), ("storage", "/data=1Gi")];
const CLASS: &str = "/apis/storage.k8s.io/v1/storageclasses/rook-ceph-block";
const CLAIMS: &str = "blog/persistentvolumeclaims";
const EVER: usize = usize::MAX;

pub(super) async fn world() -> (World, Leader) {
    let world = World::new();
    world.know(
        CLASS,
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "rook-ceph-block"},
            "provisioner": "rook-ceph.rbd.csi.ceph.com", "parameters": {"clusterID": "rook-ceph"}}),
    );
    let leader = world.led().await;
    (world, leader)
}

fn claim(api: &Api) -> Option<Value> {
    api.get(api.paths(CLAIMS).first()?)
}

/// A workload whose pods wait for their volume.
fn create_waiting(world: &World, annotations: &[(&str, &str)]) {
    world.create("web", annotations);
    world.api.edit(&workload("web"), |web| web["status"]["availableReplicas"] = json!(0));
}

#[rstest]
#[case::conflict(Answer::Code(409), 1)]
#[case::too_many(Answer::Code(429), 3)]
#[case::broken(Answer::Code(500), 3)]
#[case::silent(Answer::Silence, 3)]
#[case::not_ready(Answer::Proxy404, 3)]
#[case::lost(Answer::Lost, 1)]
#[case::quota(Answer::Quota, 3)]
#[tokio::test(start_paused = true)]
async fn a_claim_is_made_in_the_end_and_once(#[case] answer: Answer, #[case] times: usize) {
    let (world, _leader) = world().await;
    world.api.refuse("POST", CLAIMS, answer, times);
    create_waiting(&world, &STORAGE);
    sleep(60 * SECOND).await;
    let claim = claim(&world.api).unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "rook-ceph-block");
    assert_eq!(world.counted("withdrawn"), 0);
    let posts = world.api.written().iter().filter(|asked| asked.starts_with("POST pers")).count();
    assert_eq!(posts, times + usize::from(answer != Answer::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_somebody_else_is_never_used() {
    let (world, _leader) = world().await;
    create_waiting(&world, &[("wants", "")]);
    let name =
        opportune_core::deliver::claim_name(opportune_core::workload::Kind::Deployment, "web", "/data");
    let path = format!("{BLOG}/persistentvolumeclaims/{name}");
    let foreign = world.api.put(&path, json!({"kind": "PersistentVolumeClaim", "metadata": {"name": name}}));
    world.delete("web");
    create_waiting(&world, &STORAGE);
    // At once, before a pod runs on it.
    sleep(SECOND).await;
    assert!(world.workload("web").pointer("/spec/template/spec/volumes").is_none());
    sleep(120 * SECOND).await;
    assert_eq!(world.api.get(&path), Some(foreign));
    assert_eq!((world.counted("conflict"), world.counted("withdrawn")), (1, 1));
    assert!(world.workload("web").pointer("/spec/template/spec/volumes").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_quota_takes_a_new_volume_out_again_and_never_one_beside_another_that_stands() {
    let (world, _leader) = world().await;
    create_waiting(&world, &STORAGE);
    sleep(5 * SECOND).await;
    world.api.refuse("POST", CLAIMS, Answer::Quota, EVER);
    world.update("web", |web| {
        web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/storage"] =
            json!("/data=1Gi /cache=1Gi");
    });
    sleep(300 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 0);
    let volumes = world.workload("web")["spec"]["template"]["spec"]["volumes"].as_array().unwrap().len();
    assert_eq!(volumes, 2, "an app is never put on an empty disk");
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!(world.api.paths(CLAIMS).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whether_a_claim_goes_with_its_workload_can_change_and_nothing_else() {
    let (world, _leader) = world().await;
    create_waiting(&world, &STORAGE);
    sleep(5 * SECOND).await;
    world.api.meanwhile("persistentvolumeclaims/", |api| {
        api.edit(&api.paths(CLAIMS)[0], |claim| {
            claim["spec"]["resources"]["requests"]["storage"] = json!("9Gi")
        });
    });
    world.update("web", |web| {
        web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/retain"] = json!("false");
    });
    sleep(30 * SECOND).await;
    let claim = claim(&world.api).unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "9Gi");
    assert_eq!(claim["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    world.delete("web");
    assert_eq!(world.api.paths(CLAIMS).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_somebody_deletes_is_made_anew() {
    let (world, _leader) = world().await;
    world.create("web", &STORAGE);
    sleep(5 * SECOND).await;
    world.api.delete(&world.api.paths(CLAIMS)[0]);
    world.api.edit(&workload("web"), |web| web["status"]["availableReplicas"] = json!(0));
    sleep(5 * SECOND).await;
    assert!(claim(&world.api).is_some());
}

#[tokio::test(start_paused = true)]
async fn claims_are_not_read_for_each_catalog() {
    let (world, _leader) = world().await;
    world.create("web", &STORAGE);
    sleep(5 * SECOND).await;
    world.api.asked();
    for n in 0..30 {
        let name = format!("other-{n}");
        world.know(&super::world::OFFER.replace("openldap", &name), super::world::offer(&name));
        sleep(3 * SECOND).await;
    }
    let reads = world.api.asked().iter().filter(|asked| asked.contains("persistentvolumeclaims")).count();
    assert!(reads <= 1, "{reads} reads");
}

#[tokio::test(start_paused = true)]
async fn more_replicas_than_a_volume_can_serve_are_told_by_event_and_status() {
    let (world, _leader) = world().await;
    create_waiting(&world, &STORAGE);
    sleep(60 * SECOND).await;
    assert_eq!(world.status("web", "storage"), "rook-ceph-block");
    assert!(!world.events("web").contains(&"Conflict".to_owned()));
    // A scaling never reaches the webhook.
    world.api.edit(&workload("web"), |web| web["spec"]["replicas"] = json!(3));
    sleep(60 * SECOND).await;
    assert!(world.events("web").contains(&"Conflict".to_owned()), "{:?}", world.events("web"));
    let status = world.status("web", "storage");
    assert_eq!(status, "rook-ceph-block (/data is block storage: one pod at a time)");
    assert_eq!((world.counted("withdrawn"), claim(&world.api).is_some()), (0, true));
}
