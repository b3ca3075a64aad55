//! Workloads besides Deployments and StatefulSets: whose the Secrets are, and what can't be taken back.
use super::{
    api::Answer,
    world::{SECOND, World},
};
use opportune_core::workload::Kind;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

fn path(kind: Kind, name: &str) -> String {
    let root = if kind.group().is_empty() { "/api/v1" } else { &format!("/apis/{}/v1", kind.group()) };
    format!("{root}/namespaces/blog/{}/{name}", kind.plural())
}

/// A workload that wants a directory.
fn wishing(kind: Kind, name: &str) -> Value {
    let pods = json!({
        "metadata": {"annotations": {"opportune.libre.sh/wants": "ldap"}},
        "spec": {"containers": [{"name": "app", "image": "example.org/unknown:1"}]}});
    let mut object = match kind {
        Kind::Pod => pods,
        _ => kind.template().iter().rev().fold(pods, |inner, token| json!({*token: inner})),
    };
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name().into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = "blog".into();
    object
}

/// Kind and name of the owners of the delivered Secret, with their versions.
fn owners(world: &World) -> Vec<(String, String)> {
    let secret = world.secret().and_then(|path| world.api.get(&path));
    let owners = secret.map(|secret| secret["metadata"]["ownerReferences"].clone()).unwrap_or_default();
    let text = |owner: &Value, field: &str| owner[field].as_str().unwrap().to_owned();
    let owners = owners.as_array().cloned().unwrap_or_default();
    owners.iter().map(|owner| (text(owner, "apiVersion"), text(owner, "kind"))).collect()
}

fn create(world: &World, object: Value, kind: Kind, name: &str) {
    world.api.put(&path(kind, name), world.admitted(object, None));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_secret_belongs_to_the_workload_in_its_own_version(
    #[values(Kind::DaemonSet, Kind::Job, Kind::CronJob, Kind::Pod)] kind: Kind,
) {
    let world = World::new();
    let _leader = world.led().await;
    create(&world, wishing(kind, "x"), kind, "x");
    sleep(SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert_eq!(owners(&world), [(kind.api_version().to_owned(), kind.name().to_owned())]);
}

#[rstest]
#[case(Kind::Job, json!({"conditions": [{"type": "Complete", "status": "True"}]}), 1)]
#[case(Kind::Job, json!({"conditions": [{"type": "Failed", "status": "True"}]}), 1)]
#[case(Kind::Job, json!({"conditions": [{"type": "Suspended", "status": "True"}]}), 2)]
#[case(Kind::Job, json!({"conditions": [{"type": "Complete", "status": "False"}]}), 2)]
#[case(Kind::Pod, json!({"phase": "Succeeded"}), 1)]
#[case(Kind::Pod, json!({"phase": "Failed"}), 1)]
#[case(Kind::Pod, json!({"phase": "Running"}), 2)]
#[tokio::test(start_paused = true)]
async fn what_has_ended_needs_nothing_any_more(
    #[case] kind: Kind,
    #[case] status: Value,
    #[case] owning: usize,
) {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &[("wants", "ldap")]);
    create(&world, wishing(kind, "x"), kind, "x");
    sleep(SECOND).await;
    assert_eq!(owners(&world).len(), 2);
    let mut ended = world.api.get(&path(kind, "x")).unwrap();
    ended["status"] = status;
    world.api.put(&path(kind, "x"), ended);
    sleep(60 * SECOND).await;
    assert_eq!(owners(&world).len(), owning);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_another_workload_makes_is_delivered_to_by_that_one(#[values(Kind::Job, Kind::Pod)] kind: Kind) {
    let world = World::new();
    let _leader = world.led().await;
    let mut object = world.admitted(wishing(kind, "x"), None);
    object["metadata"]["ownerReferences"] = json!([{"kind": "CronJob", "name": "c", "controller": true}]);
    world.api.put(&path(kind, "x"), object);
    sleep(60 * SECOND).await;
    assert_eq!(world.secret(), None);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_can_not_change_is_told_once_and_waits(#[values(Kind::Job, Kind::Pod)] kind: Kind) {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, usize::MAX);
    create(&world, wishing(kind, "x"), kind, "x");
    let made = world.api.get(&path(kind, "x")).unwrap();
    sleep(600 * SECOND).await;
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (1, 0));
    assert_eq!(world.events("x"), ["Refused"]);
    assert_eq!(world.api.get(&path(kind, "x")).unwrap()["spec"], made["spec"]);
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_makes_pods_again_is_rid_of_what_can_not_be_delivered(
    #[values(Kind::DaemonSet, Kind::CronJob)] kind: Kind,
) {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, usize::MAX);
    create(&world, wishing(kind, "x"), kind, "x");
    sleep(600 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 1);
    assert!(!world.api.get(&path(kind, "x")).unwrap()["spec"].to_string().contains("LDAP_HOST"));
}
