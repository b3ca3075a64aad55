//! What can't be delivered is taken back, once, and only what can't be.
use super::{
    api::Answer,
    world::{OFFER, SECOND, SOURCE, World, credentials, namespace, offer, workload},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::sleep;

const LDAP: [(&str, &str); 1] = [("wants", "ldap")];
const EVER: usize = usize::MAX;

#[rstest]
#[case::quota(Answer::Quota)]
#[case::no_right(Answer::Code(403))]
#[case::invalid(Answer::Code(422))]
#[tokio::test(start_paused = true)]
async fn a_definite_refusal_leads_to_one_withdrawal(#[case] answer: Answer) {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", answer, EVER);
    world.create("web", &LDAP);
    sleep(29 * SECOND).await;
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (1, 0));
    sleep(600 * SECOND).await;
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (1, 1));
    assert!(world.status("web", "ldap").starts_with("withdrawn: the Secret can't be made"));
    assert!(world.workload("web").pointer("/spec/template/spec/containers/0/env").is_none());
    assert_eq!(world.events("web"), ["Withdrawn"]);
    let patches = world.api.written().iter().filter(|asked| asked.starts_with("PATCH deploy")).count();
    assert_eq!(patches, 1);
}

#[rstest]
#[case(Answer::Code(401))]
#[case(Answer::Code(429))]
#[case(Answer::Code(500))]
#[case(Answer::Code(503))]
#[case(Answer::Proxy404)]
#[case(Answer::Silence)]
#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_ten_minutes_leads_to_none(#[case] answer: Answer) {
    let world = World::new();
    let _leader = world.led().await;
    world.create("old", &LDAP);
    sleep(SECOND).await;
    world.api.asked();
    world.api.refuse("", "", answer, EVER);
    world.create("web", &[("wants", "ldap, storage"), ("storage", "/data=1Gi")]);
    sleep(600 * SECOND).await;
    let asked = world.api.asked().len();
    assert!(asked < 2000, "{asked} requests in ten minutes");
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (0, 0));
    let owners = world.api.get(&world.secret().unwrap()).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_injection_is_off_by_now_nothing_else_is_taken_back() {
    let (world, _leader) = super::claims::world().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &[("wants", "ldap, storage"), ("storage", "/data=1Gi")]);
    let storage = world.status("web", "storage");
    sleep(5 * SECOND).await;
    world.know("/api/v1/namespaces/blog", namespace("blog", "inject", "disabled"));
    sleep(600 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 1);
    assert!(world.status("web", "ldap").starts_with("withdrawn: the Secret can't be made"));
    let template = world.workload("web")["spec"]["template"].to_string();
    assert!(!template.contains("secretKeyRef"), "{template}");
    assert!(template.contains("persistentVolumeClaim"), "{template}");
    assert_eq!(world.status("web", "storage"), storage);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_an_outage_says_nothing_after_it() {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &LDAP);
    sleep(5 * SECOND).await;
    world.api.refuse_nothing();
    world.api.refuse("", "blog/secrets", Answer::Code(500), EVER);
    sleep(300 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 0);
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert_eq!((world.counted("delivered"), world.counted("withdrawn")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_required_is_never_withdrawn() {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &[("requires", "ldap")]);
    sleep(600 * SECOND).await;
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (1, 0));
    assert_eq!(world.events("web"), ["Refused"]);
    assert_eq!(world.status("web", "ldap"), "directory/openldap");
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
}

#[rstest]
#[case::of_reading("GET", 403)]
#[case::of_writing("PUT", 422)]
#[tokio::test(start_paused = true)]
async fn a_refusal_takes_nothing_from_pods_that_have_what_they_need(#[case] method: &str, #[case] code: u16) {
    let world = World::new();
    let leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.api.refuse(method, "blog/secrets", Answer::Code(code), EVER);
    world.api.put(SOURCE, credentials("changed"));
    sleep(300 * SECOND).await;
    drop(leader);
    let _next = world.led().await;
    sleep(300 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 0);
    assert_eq!(world.status("web", "ldap"), "directory/openldap");
    world.api.refuse_nothing();
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("changed"));
}

#[tokio::test(start_paused = true)]
async fn two_offers_that_are_both_refused_do_not_take_turns() {
    let world = World::new();
    world.know(&OFFER.replace("openldap", "other"), offer("other"));
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &LDAP);
    sleep(600 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 2);
    assert!(world.status("web", "ldap").starts_with("withdrawn"));
}

#[tokio::test(start_paused = true)]
async fn what_was_withdrawn_comes_back_when_its_credentials_change_and_not_before() {
    let world = World::new();
    world.api.delete(SOURCE);
    let _leader = world.led().await;
    // More than may be changed at once.
    let names: Vec<String> = (0..120).map(|n| format!("web-{n}")).collect();
    names.iter().for_each(|name| world.create(name, &LDAP));
    sleep(120 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 120);
    sleep(600 * SECOND).await;
    assert!(names.iter().all(|name| world.status(name, "ldap").starts_with("withdrawn")));
    world.api.put(SOURCE, credentials("there"));
    sleep(120 * SECOND).await;
    let waiting = "absent: directory/openldap after the next rollout";
    let told = names.iter().filter(|name| world.status(name, "ldap") == waiting).count();
    assert_eq!(told, 120);
    assert_eq!(world.counted("withdrawn"), 120);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_the_credentials_of_an_offer_that_is_not_for_them() {
    let world = World::new();
    world.api.delete(SOURCE);
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(120 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 1);
    let mut own = offer("openldap");
    own["spec"]["consumers"] = json!({});
    world.know(OFFER, own);
    sleep(120 * SECOND).await;
    let before = world.workload("web");
    for password in ["there", "another"] {
        world.api.put(SOURCE, credentials(password));
        sleep(120 * SECOND).await;
    }
    assert_eq!(world.workload("web"), before);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_first_read_is_no_change_of_it() {
    let world = World::new();
    let leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &LDAP);
    sleep(60 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 1);
    drop(leader);
    // The next leader needs some time to read it.
    world.api.refuse("GET", "directory/secrets", Answer::Code(500), 5);
    let _next = world.led().await;
    sleep(60 * SECOND).await;
    assert!(world.status("web", "ldap").starts_with("withdrawn"), "{}", world.status("web", "ldap"));
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_was_changed_meanwhile_is_not_withdrawn_for_the_other() {
    let world = World::new();
    world.know(&OFFER.replace("openldap", "other"), offer("other"));
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &LDAP);
    sleep(29 * SECOND).await;
    world.api.refuse_nothing();
    world.update("web", |web| {
        web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/use.ldap"] =
            json!("directory/other");
    });
    sleep(120 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 0);
    assert_eq!(world.status("web", "ldap"), "directory/other");
    world.api.delete(&workload("web"));
    sleep(60 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_meanwhile_does_not_put_a_withdrawal_off() {
    let world = World::new();
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &LDAP);
    for number in 0..6 {
        sleep(4 * SECOND).await;
        let name = format!("other-{number}");
        world.know(&format!("/api/v1/namespaces/{name}"), namespace(&name, "inject", "enabled"));
    }
    assert_eq!(world.counted("withdrawn"), 0);
    sleep(10 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_last_copy_is_no_use_to_who_needs_more_than_it_holds() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.api.delete(SOURCE);
    sleep(60 * SECOND).await;
    world.create("late", &[("wants", "ldap"), ("env.ldap", "LOGIN=[[ldap.bind-dn]]:[[ldap.password]]")]);
    sleep(300 * SECOND).await;
    assert_eq!(
        world.status("late", "ldap"),
        "withdrawn: the credentials of directory/openldap are not there"
    );
    assert_eq!(world.status("web", "ldap"), "directory/openldap");
    assert_eq!(world.counted("withdrawn"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_failed_before_another_is_tried_again_when_its_credentials_change() {
    let world = World::new();
    let mut other = offer("other");
    other["spec"]["credentials"]["secretRef"]["name"] = json!("another");
    world.know(&OFFER.replace("openldap", "other"), other);
    world.api.delete(SOURCE);
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(300 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 2);
    world.api.put(SOURCE, credentials("there"));
    sleep(60 * SECOND).await;
    assert_eq!(world.status("web", "ldap"), "absent: directory/openldap after the next rollout");
}

#[tokio::test(start_paused = true)]
async fn new_credentials_of_one_intent_are_no_reason_to_try_another_again() {
    let world = World::new();
    let mut mail = offer("postfix");
    mail["spec"] = json!({"intent": "mail", "consumers": {"namespaceSelector": {}},
        "settings": {"host": "postfix", "port": 587, "tls": "starttls", "from": "a@example.org"},
        "credentials": {"secretRef": {"name": "mailer"}}});
    world.know(&OFFER.replace("openldap", "postfix"), mail);
    let mailer = SOURCE.replace("reader", "mailer");
    world.api.put(&mailer, credentials("first"));
    let _leader = world.led().await;
    world.api.refuse("POST", "blog/secrets", Answer::Quota, EVER);
    world.create("web", &[("wants", "ldap, mail")]);
    sleep(120 * SECOND).await;
    assert_eq!(world.counted("withdrawn"), 2);
    world.api.put(&mailer, credentials("second"));
    sleep(60 * SECOND).await;
    assert_eq!(world.status("web", "mail"), "absent: directory/postfix after the next rollout");
    assert!(world.status("web", "ldap").starts_with("withdrawn"), "{}", world.status("web", "ldap"));
}
