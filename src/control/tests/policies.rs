//! The webhooks of policies, their status, and workloads that ask for nothing themselves.
use super::{
    api::Answer,
    world::{SECOND, World, deployment, namespace, workload},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const POLICY: &str = "/apis/opportune.libre.sh/v1alpha1/injectionpolicies/base";

fn configuration(name: &str) -> String {
    format!("{CONFIGURATIONS}/{name}")
}

/// A cluster with both configurations, the one for annotations with its webhook.
fn installed() -> World {
    let world = World::new();
    let service =
        json!({"name": "opportune", "namespace": "opportune-system", "path": "/mutate", "port": 443});
    let webhook =
        json!({"name": "wants.opportune.libre.sh", "clientConfig": {"service": service, "caBundle": "QUJD"}});
    world
        .api
        .put(&configuration("opportune"), json!({"metadata": {"name": "opportune"}, "webhooks": [webhook]}));
    world.api.put(&configuration("opportune-policies"), json!({"metadata": {"name": "opportune-policies"}}));
    world
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy", "metadata": {"name": "base"}, "spec": spec})
}

fn webhooks(world: &World) -> Vec<String> {
    let configuration = world.api.get(&configuration("opportune-policies")).unwrap();
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    webhooks.map(|webhook| webhook["name"].as_str().unwrap().to_owned()).collect()
}

fn writes_of_webhooks(world: &World) -> usize {
    world.api.written().iter().filter(|asked| asked.contains("mutatingwebhookconfigurations")).count()
}

fn status(world: &World) -> Value {
    world.api.get(POLICY).unwrap()["status"].clone()
}

/// A Deployment that nobody decided on is made, or was there before anybody could.
fn stands(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut object = deployment(name, &[]);
    change(&mut object);
    world.api.put(&workload(name), object);
}

#[tokio::test(start_paused = true)]
async fn the_webhooks_follow_the_policies_and_are_written_once() {
    let world = installed();
    let _leader = world.led().await;
    assert_eq!((webhooks(&world), writes_of_webhooks(&world)), (vec![], 0));
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    sleep(SECOND).await;
    assert_eq!(webhooks(&world), ["base.policies.opportune.libre.sh"]);
    world.know(POLICY, policy(json!({"enforce": ["ldap"]})));
    sleep(SECOND).await;
    assert_eq!(webhooks(&world), ["base.policies.opportune.libre.sh", "base.others.opportune.libre.sh"]);
    assert_eq!(writes_of_webhooks(&world), 2);
    sleep(600 * SECOND).await;
    assert_eq!(writes_of_webhooks(&world), 0, "nothing changed");
    world.forget(POLICY);
    sleep(SECOND).await;
    assert!(webhooks(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_makes_of_the_webhooks_is_put_back() {
    let world = installed();
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    let _leader = world.led().await;
    world.api.edit(&configuration("opportune-policies"), |configuration| {
        configuration["webhooks"][0]["failurePolicy"] = json!("Fail");
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = json!("bmV3");
    });
    sleep(31 * SECOND).await;
    let configuration = world.api.get(&configuration("opportune-policies")).unwrap();
    let webhook = &configuration["webhooks"][0];
    assert_eq!(webhook["failurePolicy"], "Ignore");
    assert_eq!(webhook["clientConfig"]["caBundle"], "bmV3", "that is somebody else's to write");
}

#[rstest]
#[case(Answer::Code(409))]
#[case(Answer::Code(403))]
#[case(Answer::Code(500))]
#[case(Answer::Silence)]
#[case(Answer::Lost)]
#[tokio::test(start_paused = true)]
async fn the_webhooks_are_written_in_the_end(#[case] answer: Answer) {
    let world = installed();
    world.api.refuse("PUT", "mutatingwebhookconfigurations", answer, 3);
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    let _leader = world.lead();
    sleep(90 * SECOND).await;
    assert_eq!(webhooks(&world), ["base.policies.opportune.libre.sh"]);
}

#[tokio::test(start_paused = true)]
async fn the_webhooks_wait_for_those_that_they_take_after() {
    let world = World::new();
    world.api.put(&configuration("opportune-policies"), json!({"metadata": {"name": "opportune-policies"}}));
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    let _leader = world.led().await;
    assert!(webhooks(&world).is_empty());
    let model = json!({"metadata": {"name": "opportune"}, "webhooks": [{"clientConfig": {"url": "https://x/mutate"}}]});
    world.api.put(&configuration("opportune"), model);
    sleep(31 * SECOND).await;
    assert_eq!(webhooks(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_workloads_that_ask_for_nothing_too_and_is_written_when_it_changes() {
    let world = installed();
    stands(&world, "before", |_| {});
    world.know(POLICY, policy(json!({"enforce": ["ldap"]})));
    let _leader = world.led().await;
    let counts = |matched: usize, conforming: usize| json!({"matched": matched, "conforming": conforming, "lacking": matched - conforming, "conflicts": []});
    assert_eq!(status(&world), counts(1, 0));
    world.create("after", &[]);
    sleep(10 * SECOND).await;
    assert_eq!(status(&world), counts(2, 1));
    world.update("before", |object| object["spec"]["template"]["metadata"]["labels"]["new"] = json!("yes"));
    sleep(10 * SECOND).await;
    assert_eq!(status(&world), counts(2, 2));
    world.delete("after");
    sleep(10 * SECOND).await;
    assert_eq!(status(&world), counts(1, 1));
    world.api.written();
    sleep(600 * SECOND).await;
    let said = world.api.written().iter().filter(|asked| asked.contains("injectionpolicies")).count();
    assert_eq!(said, 0, "it says the same");
}

#[tokio::test(start_paused = true)]
async fn who_stood_there_before_a_policy_is_told_once() {
    let world = installed();
    stands(&world, "before", |_| {});
    stands(&world, "owned", |object| {
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "x/v1", "kind": "Op", "name": "op", "uid": "u", "controller": true}]);
    });
    let _leader = world.led().await;
    assert!(world.events("before").is_empty() && world.status("before", "ldap").is_empty());
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    sleep(30 * SECOND).await;
    assert_eq!(world.status("before", "ldap"), "absent: directory/openldap after the next rollout");
    assert_eq!(world.events("before"), ["Changed"]);
    assert!(world.events("owned").is_empty() && world.status("owned", "ldap").is_empty());
    sleep(600 * SECOND).await;
    assert_eq!(world.events("before"), ["Changed"]);
}

#[tokio::test(start_paused = true)]
async fn who_was_told_of_a_policy_that_is_gone_is_told_of_it_no_more() {
    let world = installed();
    stands(&world, "before", |_| {});
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    let _leader = world.led().await;
    world.create("after", &[]);
    sleep(30 * SECOND).await;
    assert_eq!(world.status("before", "ldap"), "absent: directory/openldap after the next rollout");
    world.forget(POLICY);
    sleep(30 * SECOND).await;
    assert_eq!(world.status("before", "ldap"), "");
    let gone = "directory/openldap (no longer asked for, taken out after the next rollout)";
    assert_eq!(world.status("after", "ldap"), gone);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_ends_while_it_is_read_is_not_counted() {
    let world = installed();
    stands(&world, "before", |_| {});
    world.know(POLICY, policy(json!({"enforce": ["ldap"]})));
    world.api.meanwhile("deployments/before", |api| api.delete(&workload("before")));
    let _leader = world.led().await;
    sleep(60 * SECOND).await;
    assert_eq!(status(&world)["matched"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_have_those_that_stood_there_before_rolled_out() {
    let world = installed();
    stands(&world, "before", |_| {});
    world.know(POLICY, policy(json!({"enforce": ["ldap"], "refresh": "rollout"})));
    let _leader = world.lead_with_rollouts();
    sleep(120 * SECOND).await;
    let template = &world.workload("before")["spec"]["template"];
    assert!(template["metadata"]["annotations"]["opportune.libre.sh/refreshed"].is_string(), "{template:#}");
    assert!(template["spec"].to_string().contains("LDAP_HOST"));
    assert_eq!(status(&world)["conforming"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_came_while_nobody_decided_is_found() {
    let world = installed();
    world.know(POLICY, policy(json!({"defaults": ["ldap"]})));
    let _leader = world.led().await;
    stands(&world, "late", |_| {});
    sleep(30 * SECOND).await;
    assert_eq!(world.status("late", "ldap"), "absent: directory/openldap after the next rollout");
    // Where nothing is asked of it, it is left alone.
    world.know("/api/v1/namespaces/blog", namespace("blog", "inject", "disabled"));
    stands(&world, "later", |_| {});
    sleep(30 * SECOND).await;
    assert!(world.events("later").is_empty() && world.status("later", "ldap").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_made_anew_has_a_status() {
    let world = installed();
    stands(&world, "before", |_| {});
    world.know(POLICY, policy(json!({"enforce": ["ldap"]})));
    let _leader = world.led().await;
    sleep(30 * SECOND).await;
    assert_eq!(status(&world)["matched"], 1);
    // kubectl replace --force: gone, and there again within a moment.
    world.forget(POLICY);
    sleep(SECOND / 3).await;
    world.know(POLICY, policy(json!({"enforce": ["ldap"]})));
    sleep(600 * SECOND).await;
    assert_eq!(status(&world)["matched"], 1);
}

#[tokio::test(start_paused = true)]
async fn no_webhook_for_a_service_is_written_before_there_is_an_authority() {
    let world = World::new();
    let service =
        json!({"name": "opportune", "namespace": "opportune-system", "path": "/mutate", "port": 443});
    world.api.put(&configuration("opportune"), json!({"metadata": {"name": "opportune"}, "webhooks": [{"name": "wants.opportune.libre.sh", "clientConfig": {"service": service}}]}));
    world.api.put(&configuration("opportune-policies"), json!({"metadata": {"name": "opportune-policies"}}));
    world.know(POLICY, policy(json!({"enforce": ["ldap"], "onAbsent": "Deny"})));
    let _leader = world.led().await;
    sleep(60 * SECOND).await;
    let made = world.api.get(&configuration("opportune-policies")).unwrap();
    for webhook in made["webhooks"].as_array().into_iter().flatten() {
        assert!(
            webhook["clientConfig"]["caBundle"].is_string(),
            "{} {} without caBundle",
            webhook["name"],
            webhook["failurePolicy"]
        );
    }
}
