//! Secrets: made, changed, put right and removed, whatever the API server says meanwhile.
use super::{
    api::Answer,
    world::{BLOG, OFFER, SECOND, SOURCE, World, credentials, offer, workload},
};
use opportune_core::{discover::OfferId, intent::Intent};
use rstest::rstest;
use serde_json::json;
use tokio::time::sleep;

const LDAP: [(&str, &str); 1] = [("wants", "ldap")];

#[tokio::test(start_paused = true)]
async fn a_secret_is_made_for_a_workload_and_holds_what_is_offered() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    let secret = world.secret().unwrap();
    let name = secret.rsplit('/').next().unwrap();
    let asked = world.api.asked();
    assert_eq!(asked[..2], [format!("GET secrets/{name}"), "POST secrets".to_owned()], "{asked:?}");
    assert_eq!(world.counted("delivered"), 1);
    assert_eq!(world.events("web"), ["Delivered"]);
}

/// What another leader made of the same, a moment before.
fn of_another_leader() -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "servicebinding.io/ldap", "metadata": {
        "name": secret_name(), "namespace": "blog",
        "labels": {"app.kubernetes.io/managed-by": "opportune", "opportune.libre.sh/intent": "ldap"},
        "annotations": {"opportune.libre.sh/revision": "theirs"}}})
}

fn secret_name() -> String {
    let id = OfferId::from_key("ServiceOffer/directory/openldap").unwrap();
    opportune_core::deliver::secret_name(&Intent::parse("ldap").unwrap(), &id)
}

fn secret_path() -> String {
    format!("{BLOG}/secrets/{}", secret_name())
}

#[tokio::test(start_paused = true)]
async fn a_create_that_another_replica_won_goes_on_with_what_is_there() {
    let world = World::new();
    let _leader = world.led().await;
    world.api.meanwhile("blog/secrets", |api| drop(api.put(&secret_path(), of_another_leader())));
    world.create("web", &LDAP);
    sleep(SECOND).await;
    let (asked, name) = (world.api.asked(), secret_name());
    let get = format!("GET secrets/{name}");
    assert_eq!(
        asked[..4],
        [get.clone(), "POST secrets".into(), get, format!("PUT secrets/{name}")],
        "{asked:?}"
    );
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert_eq!((world.counted("delivered"), world.counted("updated")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_what_somebody_else_writes_in_between_is_lost() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.api.asked();
    world.api.meanwhile("secrets/opportune", |api| {
        api.edit(&secret_path(), |secret| secret["metadata"]["labels"]["team"] = json!("blue"));
    });
    world.api.put(SOURCE, credentials("changed"));
    sleep(35 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("changed"));
    let secret = world.api.get(&secret_path()).unwrap();
    assert_eq!(secret["metadata"]["labels"]["team"], "blue");
    let put = format!("PUT secrets/{}", secret_name());
    assert_eq!(world.api.written().iter().filter(|asked| **asked == put).count(), 2);
    assert_eq!(world.counted("updated"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_somebody_else_is_never_written() {
    let world = World::new();
    let foreign = world.api.put(
        &secret_path(),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": secret_name()}}),
    );
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(300 * SECOND).await;
    world.delete("web");
    sleep(60 * SECOND).await;
    assert_eq!(world.api.get(&secret_path()), Some(foreign));
    assert!(!world.api.written().iter().any(|asked| asked.contains("secrets")));
    assert_eq!((world.counted("conflict"), world.counted("withdrawn")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_or_deletes_is_put_right() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.api.edit(&secret_path(), |secret| secret["data"]["password"] = json!("bm8="));
    sleep(5 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    world.api.delete(&secret_path());
    sleep(5 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert_eq!((world.counted("repaired"), world.counted("delivered")), (1, 2));
    assert!(!world.events("web").contains(&"Changed".to_owned()), "its pods use what they used");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_deleted_between_reading_and_writing_is_made_anew() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.api.meanwhile("secrets/opportune", |api| api.delete(&secret_path()));
    world.create("worker", &LDAP);
    sleep(SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_nobody_names_stays_until_the_old_pods_are_gone() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.update("web", |web| {
        web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/declines"] = json!("ldap");
        web["status"]["updatedReplicas"] = json!(0);
    });
    world.api.asked();
    sleep(60 * SECOND).await;
    assert!(world.secret().is_some() && !world.api.written().iter().any(|asked| asked.contains("secrets")));
    world.api.edit(&workload("web"), |web| web["status"]["updatedReplicas"] = json!(1));
    world.api.meanwhile("secrets/opportune", |api| {
        api.edit(&secret_path(), |secret| secret["metadata"]["labels"]["team"] = json!("blue"));
    });
    sleep(10 * SECOND).await;
    assert_eq!(world.secret(), None);
    let name = secret_name();
    let deleted: Vec<_> = world.api.written().into_iter().filter(|asked| asked.contains("secrets")).collect();
    assert_eq!(deleted, vec![format!("DELETE secrets/{name}"); 2], "the first met another version");
    assert_eq!(world.counted("removed"), 1);
}

#[rstest]
#[case::being_deleted(false)]
#[case::gone(true)]
#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_is_left_in_peace(#[case] is_gone: bool) {
    let world = World::new();
    let _leader = world.led().await;
    match is_gone {
        true => world.api.delete(BLOG),
        false => {
            world.api.edit(BLOG, |blog| blog["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))
        }
    }
    world.create("web", &LDAP);
    sleep(600 * SECOND).await;
    let (posts, failed) = (world.api.written().len(), world.counted("failed"));
    assert!(posts <= 2, "{posts}");
    assert_eq!((failed, world.counted("withdrawn")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_loses_a_key_leaves_the_copy_whole() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    let mut half = credentials("changed");
    half["data"]["password"] = serde_json::json!("");
    world.api.put(SOURCE, half);
    sleep(120 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (0, 0));
    assert!(world.events("web").contains(&"Kept".to_owned()));
    world.api.put(SOURCE, credentials("changed"));
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("changed"));
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_gone_leaves_the_copy_and_one_that_comes_back_is_followed() {
    let world = World::new();
    let _leader = world.led().await;
    world.create("web", &LDAP);
    sleep(SECOND).await;
    world.forget(OFFER);
    world.api.put(SOURCE, credentials("changed"));
    sleep(120 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("hunter2"));
    assert!(world.events("web").contains(&"Kept".to_owned()));
    world.know(OFFER, offer("openldap"));
    sleep(60 * SECOND).await;
    assert_eq!(world.delivered("password").as_deref(), Some("changed"));
    assert_eq!(world.counted("withdrawn"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_profile_no_longer_makes_is_carried_on_and_is_no_trouble() {
    let world = World::new();
    let _leader = world.led().await;
    // A key that only the workload's mapping of that time makes.
    let mapped = [("wants", "ldap"), ("env.ldap", "PAIR=[[ldap.username|uri]]:[[ldap.password|uri]]")];
    world.create("web", &mapped);
    sleep(SECOND).await;
    // The annotation is changed while the webhook is away: the entry stays, and nobody knows how to make it.
    world.api.edit(&workload("web"), |web| {
        web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/env.ldap"] =
            json!("HOST=[[ldap.host]]");
    });
    for n in 0..60 {
        // Another catalog every few seconds.
        world.know(&OFFER.replace("openldap", "other"), offer(&format!("other-{n}")));
        sleep(2 * SECOND).await;
    }
    assert_eq!((world.counted("failed"), world.counted("withdrawn")), (0, 0));
}

#[rstest]
#[case::before(Answer::Silence)]
#[case::after(Answer::Lost)]
#[tokio::test(start_paused = true)]
async fn what_a_leader_leaves_half_done_the_next_one_completes(#[case] answer: Answer) {
    for request in ["POST", "PUT", "DELETE"] {
        let world = World::new();
        let leader = world.led().await;
        if request != "POST" {
            world.create("web", &LDAP);
            sleep(SECOND).await;
        }
        world.api.refuse(request, "blog/secrets", answer, 1);
        match request {
            "DELETE" => world.update("web", |web| {
                web["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/declines"] =
                    json!("ldap");
            }),
            _ => world.create("worker", &LDAP),
        }
        sleep(8 * SECOND).await;
        drop(leader);
        world.api.put(SOURCE, credentials("changed"));
        let _next = world.led().await;
        sleep(30 * SECOND).await;
        let owners = world.secret().map(|path| world.api.get(&path).unwrap());
        let owners = owners.map(|secret| secret["metadata"]["ownerReferences"].as_array().unwrap().len());
        match request {
            "POST" => {
                assert_eq!((owners, world.delivered("password").as_deref()), (Some(1), Some("changed")))
            }
            "PUT" => assert_eq!((owners, world.delivered("password").as_deref()), (Some(2), Some("changed"))),
            // Nobody knows any more who used it: it goes with the workload that owns it.
            _ => assert!(answer == Answer::Silence || owners.is_none()),
        }
    }
}
