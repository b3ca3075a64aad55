//! The status of ServiceOffers, and Events: they are told, and nothing depends on it.
use super::{
    api::Answer,
    world::{OFFER, SECOND, SOURCE, World, credentials, offer},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

const LDAP: [(&str, &str); 1] = [("wants", "ldap")];
const EVER: usize = usize::MAX;

fn status(world: &World) -> (Value, Value) {
    let offer = world.api.get(OFFER).unwrap();
    (offer["status"]["conditions"][0]["reason"].clone(), offer["status"]["consumers"].clone())
}

#[rstest]
#[case(Answer::Code(403))]
#[case(Answer::Code(409))]
#[case(Answer::Code(422))]
#[case(Answer::Code(429))]
#[case(Answer::Code(500))]
#[case(Answer::Silence)]
#[case(Answer::Lost)]
#[tokio::test(start_paused = true)]
async fn a_status_is_written_in_the_end_and_is_no_delivery(#[case] answer: Answer) {
    let world = World::new();
    world.api.refuse("PATCH", "serviceoffers", answer, 3);
    let _leader = world.lead();
    world.create("web", &LDAP);
    sleep(60 * SECOND).await;
    assert_eq!(status(&world), (json!("Complete"), json!(1)));
    assert_eq!((world.counted("delivered"), world.counted("failed")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_for_ever_is_tried_rarely() {
    let world = World::new();
    world.api.refuse("PATCH", "serviceoffers", Answer::Code(403), EVER);
    let _leader = world.lead();
    sleep(600 * SECOND).await;
    let patches = world.api.written().len();
    assert!(patches < 30, "{patches}");
}

#[tokio::test(start_paused = true)]
async fn consumers_are_counted_with_and_without_credentials() {
    let world = World::new();
    let mut open = offer("openldap");
    open["spec"].as_object_mut().unwrap().shift_remove("credentials");
    world.know(OFFER, open);
    let _leader = world.led().await;
    assert_eq!(status(&world), (json!("Complete"), json!(0)));
    world.create("web", &LDAP);
    world.create("worker", &LDAP);
    sleep(5 * SECOND).await;
    assert_eq!(status(&world), (json!("Complete"), json!(2)));
    world.delete("web");
    sleep(5 * SECOND).await;
    assert_eq!(status(&world), (json!("Complete"), json!(1)));
    world.api.asked();
    sleep(600 * SECOND).await;
    assert_eq!(world.api.written(), Vec::<String>::new(), "what is said is not said again");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_an_offer_is_no_consumer_of_it_whatever_a_record_says() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(5 * SECOND).await;
    assert_eq!(status(&world), (json!("Complete"), json!(1)));
    let mut own = offer("openldap");
    own["spec"]["consumers"] = json!({});
    world.know(OFFER, own);
    sleep(10 * SECOND).await;
    assert_eq!(status(&world), (json!("Complete"), json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_status_says_what_is_wrong_with_the_credentials() {
    let world = World::new();
    let _leader = world.led().await;
    world.api.delete(SOURCE);
    sleep(35 * SECOND).await;
    assert_eq!(status(&world).0, "CredentialsMissing");
    world.api.put(SOURCE, credentials("there"));
    sleep(35 * SECOND).await;
    assert_eq!(status(&world).0, "Complete");
}

#[rstest]
#[case(Answer::Code(403))]
#[case(Answer::Code(404))]
#[case(Answer::Code(409))]
#[case(Answer::Code(422))]
#[case(Answer::Terminating)]
#[case(Answer::Code(500))]
#[case(Answer::Silence)]
#[tokio::test(start_paused = true)]
async fn events_that_are_refused_hold_nothing_up(#[case] answer: Answer) {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "/events", answer, EVER);
    world.create("web", &LDAP);
    sleep(5 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    sleep(300 * SECOND).await;
    assert_eq!((world.counted("delivered"), world.counted("failed")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_not_written_is_written_when_it_is_said_again() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(5 * SECOND).await;
    world.api.refuse("POST", "/events", Answer::Code(500), EVER);
    world.forget(OFFER);
    sleep(120 * SECOND).await;
    world.api.refuse_nothing();
    sleep(120 * SECOND).await;
    assert!(world.events("web").contains(&"Kept".to_owned()), "{:?}", world.events("web"));
}
