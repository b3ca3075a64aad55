//! ConfigMaps with an app's configuration file: immutable, named by what they hold.
use super::{
    api::Answer,
    world::{SECOND, World},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::sleep;

const MAPS: &str = "blog/configmaps";

fn create(world: &World) {
    world.create_of("web", "wordpress:6", &[("wants", "ldap")]);
}

#[rstest]
#[case(Answer::Code(409), 1)]
#[case(Answer::Code(429), 3)]
#[case(Answer::Code(500), 3)]
#[case(Answer::Silence, 3)]
#[case(Answer::Lost, 1)]
#[case(Answer::Quota, 3)]
#[tokio::test(start_paused = true)]
async fn a_file_is_delivered_in_the_end(#[case] answer: Answer, #[case] times: usize) {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", MAPS, answer, times);
    create(&world);
    sleep(60 * SECOND).await;
    assert_eq!(world.api.paths(MAPS).len(), 1);
    assert_eq!(world.counted("withdrawn"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_with_another_content_is_replaced() {
    let world = World::new();
    let _leader = world.led().await;
    create(&world);
    sleep(5 * SECOND).await;
    let path = world.api.paths(MAPS).remove(0);
    let made = world.api.get(&path).unwrap();
    world.api.edit(&path, |map| map["data"] = json!({"other": "x"}));
    sleep(10 * SECOND).await;
    assert_eq!(world.api.get(&path).unwrap()["data"], made["data"]);
    assert_eq!(world.counted("repaired"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_a_finalizer_holds_is_not_deleted_over_and_over() {
    let world = World::new();
    let _leader = world.led().await;
    create(&world);
    sleep(5 * SECOND).await;
    let path = world.api.paths(MAPS).remove(0);
    world.api.asked();
    world.api.edit(&path, |map| {
        map["data"] = json!({"other": "x"});
        map["metadata"]["finalizers"] = json!(["example.org/mine"]);
    });
    sleep(20 * SECOND).await;
    let asked = world.api.asked();
    assert!(asked.len() < 30, "{} requests in twenty seconds", asked.len());
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("DELETE")).count(), 1);
    assert_eq!((world.counted("repaired"), world.counted("conflict")), (1, 1));
    world.api.delete(&path);
    sleep(40 * SECOND).await;
    assert!(world.api.get(&path).is_some());
}
