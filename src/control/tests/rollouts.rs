//! Rollouts: once for each cause, and never by two leaders or in a loop.
use super::{
    api::Answer,
    world::{OFFER, SECOND, SOURCE, World, credentials, offer, workload},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::sleep;

const ROLLOUT: [(&str, &str); 2] = [("wants", "ldap"), ("refresh", "rollout")];

/// How often workloads were changed for good since the last call.
fn changes(world: &World) -> usize {
    world
        .api
        .written()
        .iter()
        .filter(|asked| asked.starts_with("PATCH depl") && !asked.ends_with("dry"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn pods_are_made_anew_once_for_each_change() {
    let world = World::new();
    let _leader = world.lead_with_rollouts();
    world.create("web", &ROLLOUT);
    sleep(60 * SECOND).await;
    assert_eq!(changes(&world), 0);
    let mut moved = offer("openldap");
    moved["spec"]["settings"]["host"] = json!("elsewhere");
    world.know(OFFER, moved);
    sleep(120 * SECOND).await;
    let refreshed = |world: &World| {
        let template = &world.workload("web")["spec"]["template"];
        template["metadata"]["annotations"]["opportune.libre.sh/refreshed"].clone()
    };
    let first = refreshed(&world);
    assert!(first.is_string());
    // One writes its status, and one rolls it out; where they meet, that begins anew.
    assert!((2..=3).contains(&changes(&world)));
    world.api.put(SOURCE, credentials("changed"));
    sleep(120 * SECOND).await;
    assert_ne!(refreshed(&world), first);
    assert_eq!(changes(&world), 1);
    sleep(600 * SECOND).await;
    assert_eq!(changes(&world), 0);
    assert_eq!(world.events("web").iter().filter(|reason| *reason == "Refreshed").count(), 2);
}

#[rstest]
#[case(Answer::Code(409))]
#[case(Answer::Code(422))]
#[case(Answer::Code(429))]
#[case(Answer::Code(500))]
#[case(Answer::Silence)]
#[case(Answer::Lost)]
#[tokio::test(start_paused = true)]
async fn a_rollout_that_fails_is_no_reason_for_more_than_one(#[case] answer: Answer) {
    let world = World::new();
    let _leader = world.lead_with_rollouts();
    world.create("web", &ROLLOUT);
    sleep(60 * SECOND).await;
    world.api.refuse("PATCH", "deployments", answer, 2);
    world.api.put(SOURCE, credentials("changed"));
    sleep(120 * SECOND).await;
    let generations = world.events("web").iter().filter(|reason| *reason == "Refreshed").count();
    assert!(generations <= 1, "{:?}", world.events("web"));
    changes(&world);
    sleep(600 * SECOND).await;
    assert_eq!(changes(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_what_changed_meanwhile_is_begun_again() {
    let world = World::new();
    let _leader = world.lead_with_rollouts();
    world.create("web", &ROLLOUT);
    sleep(60 * SECOND).await;
    // What changed it was seen before the API server said so: no other event follows.
    world.api.refuse("PATCH", "deployments", Answer::Code(409), 2);
    world.api.put(SOURCE, credentials("changed"));
    sleep(60 * SECOND).await;
    assert_eq!(world.events("web").iter().filter(|reason| *reason == "Refreshed").count(), 1);
    changes(&world);
    sleep(600 * SECOND).await;
    assert_eq!(changes(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn two_leaders_for_a_while_do_no_harm() {
    let world = World::new();
    let leaders = [world.lead_with_rollouts(), world.lead_with_rollouts()];
    for name in ["a", "b", "c"] {
        world.create(name, &ROLLOUT);
    }
    world.create("d", &[("wants", "ldap")]);
    sleep(60 * SECOND).await;
    world.api.put(SOURCE, credentials("changed"));
    sleep(200 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("changed"));
    drop(leaders);
    let _next = world.led().await;
    sleep(60 * SECOND).await;
    assert_eq!(world.api.written(), Vec::<String>::new());
    assert_eq!(world.counted("withdrawn"), 0);
    world.api.edit(&workload("d"), |web| web["metadata"]["labels"] = json!({"team": "blue"}));
    sleep(60 * SECOND).await;
    assert_eq!(world.api.written(), Vec::<String>::new());
}
