//! Kinds of workloads besides Deployment and StatefulSet: where their pods are described, and what may change of them.
use std::collections::BTreeMap;

use opportune_core::{
    admit::{AdmissionResult, Options, look_again, template_hash, withdraw},
    intent::Intent,
    json::Json,
    review::answer,
    workload::{Kind, Kinds, Workload},
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{generate, world::*};

const FURTHER: [Kind; 4] = [Kind::DaemonSet, Kind::Job, Kind::CronJob, Kind::Pod];

fn all() -> Options {
    Options { kinds: Kinds::all(), ..Options::default() }
}

/// A workload of another kind with the pods of a Deployment. A Pod has one map of annotations for both.
fn housed(kind: Kind, deployment: &Value) -> Value {
    let template = deployment["spec"]["template"].clone();
    let mut metadata = deployment["metadata"].clone();
    let spec = match kind {
        Kind::CronJob => {
            json!({"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": template}}})
        }
        Kind::Pod => {
            for map in ["annotations", "labels"] {
                let both = [&metadata[map], &template["metadata"][map]].into_iter();
                let both: serde_json::Map<String, Value> = both
                    .filter_map(Value::as_object)
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                if !both.is_empty() {
                    metadata[map] = both.into();
                } else if let Some(metadata) = metadata.as_object_mut() {
                    metadata.remove(map);
                }
            }
            template["spec"].clone()
        }
        _ => json!({"template": template}),
    };
    json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "spec": spec})
}

fn wishing(kind: Kind, wishes: &[(&str, &str)]) -> Value {
    housed(kind, &asking(deployment("example.org/unknown:1"), wishes))
}

fn pods(object: &Value) -> Value {
    Workload::read(&Json::from(object)).unwrap().unwrap().pod_spec().unwrap().into()
}

fn injected(object: &Value, world: &World) -> Value {
    let (after, verdict) = admitted(object, None, &world.catalog(), &all());
    assert_eq!(verdict.result, AdmissionResult::Patched, "{:?}", verdict.warnings);
    after
}

fn changed(object: &Value, old: &Value) -> Value {
    admitted(object, Some(old), &World::full().catalog(), &all()).0
}

// === what is injected ===

#[rstest]
fn each_kind_is_injected_where_it_is_on(
    #[values(Kind::DaemonSet, Kind::Job, Kind::CronJob, Kind::Pod)] kind: Kind,
) {
    let object = wishing(kind, &[("wants", "ldap, mail"), ("files", "true")]);
    let after = injected(&object, &World::full());
    let names = |object: &Value| {
        let env = pods(object)["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        env.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let as_deployment = inject(
        &asking(deployment("example.org/unknown:1"), &[("wants", "ldap, mail"), ("files", "true")]),
        &World::full().catalog(),
    );
    assert!(names(&after).contains(&"LDAP_BIND_PASSWORD".to_owned()), "{after:#}");
    assert_eq!(names(&after), names(&as_deployment));
    assert!(status(&after).starts_with("ldap=directory/openldap; mail="), "{}", status(&after));
    assert_eq!(taken_out(&after), object);
    assert_eq!(admitted(&object, None, &World::full().catalog(), &Options::default()).0, object);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_pods_of_every_kind_are_those_of_a_deployment(object in generate::workload(), world in generate::world()) {
        // Volumes depend on the kind.
        let object = with(object, "/kind", json!("Deployment"));
        let catalog = world.and(shared_storage()).without("StorageClass", "rook-ceph-block").catalog();
        for kind in FURTHER {
            let housed = housed(kind, &object);
            let once = admitted(&housed, None, &catalog, &all()).0;
            let twice = admitted(&once, None, &catalog, &all()).0;
            prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
            prop_assert_eq!(taken_out(&once), housed);
            let straight = admitted(&object, None, &catalog, &all()).0;
            let env = |pods: &Value| {
                let lists = ["containers", "initContainers"].map(|list| pods[list].as_array().cloned());
                lists.into_iter().flatten().flatten().map(|container| container["env"].clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(env(&pods(&once)), env(&pods(&straight)));
            let updated = admitted(&once, Some(&once), &catalog, &all()).0;
            prop_assert_eq!(updated, once);
        }
    }
}

#[test]
fn what_a_kind_is_called_is_a_fact_for_logs_and_metrics() {
    for kind in Kind::ALL {
        let object = housed(kind, &asking(deployment("x"), &[("wants", "ldap")]));
        let review = |sub_resource: Option<&str>| {
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": "1", "operation": "CREATE", "namespace": "blog", "object": object, "subResource": sub_resource,
                "kind": {"group": kind.group(), "version": "v1", "kind": kind.name()}}})
        };
        let facts = |review: &Value, options: &Options| {
            answer(&serde_json::to_vec(review).unwrap(), &World::full().catalog(), options).unwrap().facts
        };
        let fact = facts(&review(None), &all());
        assert_eq!((fact.kind, fact.outcome), (kind.name(), "patched"));
        let expected = if Kinds::default().has(kind) { "patched" } else { "ignored" };
        assert_eq!(facts(&review(None), &Options::default()).outcome, expected);
        assert_eq!(facts(&review(Some("status")), &all()).outcome, "ignored");
    }
}

// === what others make ===

#[rstest]
#[case::of_a_replica_set(Kind::Pod, json!({"kind": "ReplicaSet", "controller": true}), false)]
#[case::of_a_cron_job(Kind::Job, json!({"kind": "CronJob", "controller": true}), false)]
#[case::that_goes_with_something(Kind::Pod, json!({"kind": "ConfigMap"}), true)]
#[case::that_says_no(Kind::Job, json!({"kind": "CronJob", "controller": false}), true)]
#[case::of_an_operator(Kind::DaemonSet, json!({"kind": "Operator", "controller": true}), true)]
#[case::of_an_operator(Kind::CronJob, json!({"kind": "Operator", "controller": true}), true)]
fn a_job_or_pod_that_something_else_makes_is_left_alone(
    #[case] kind: Kind,
    #[case] owner: Value,
    #[case] is_injected: bool,
) {
    let object = with(wishing(kind, &[("requires", "ldap")]), "/metadata/ownerReferences", json!([owner]));
    let verdict = admitted(&object, None, &World::full().catalog(), &all()).1;
    assert_eq!(verdict.result == AdmissionResult::Patched, is_injected, "{:?}", verdict.result);
    // A requirement of its own is none, either.
    let verdict = admitted(&object, None, &World::empty().catalog(), &all()).1;
    assert_eq!(matches!(verdict.result, AdmissionResult::Denied(_)), is_injected);
}

// === updates ===

#[rstest]
fn what_is_made_once_never_changes_later(#[values(Kind::Job, Kind::Pod)] kind: Kind) {
    let stored = injected(&wishing(kind, &[("wants", "ldap")]), &World::full());
    let wants = match kind {
        Kind::Pod => "/metadata/annotations/opportune.libre.sh~1wants",
        _ => "/spec/template/metadata/annotations/opportune.libre.sh~1wants",
    };
    let others = with(stored.clone(), wants, json!("mail"));
    assert_eq!(changed(&others, &stored), others);
    assert_eq!(changed(&with(others.clone(), INJECTED, json!("{}")), &stored), others);
    assert_eq!(changed(&without(others.clone(), STATUS), &stored), others);
    let reasons = BTreeMap::from([(Intent::parse("ldap").unwrap(), "no Secret".to_owned())]);
    assert_eq!(withdraw(&stored, "blog", &World::full().catalog(), &all(), &reasons), Ok(Vec::new()));
}

#[rstest]
fn what_makes_pods_again_is_decided_anew(#[values(Kind::DaemonSet, Kind::CronJob)] kind: Kind) {
    let stored = injected(&wishing(kind, &[("wants", "ldap")]), &World::full());
    let after = changed(&wishing(kind, &[("wants", "mail")]), &stored);
    assert!(status(&after).starts_with("mail="), "{}", status(&after));
    let tampered = with(stored.clone(), INJECTED, json!("{}"));
    assert_eq!(changed(&tampered, &stored), stored);
}

#[rstest]
#[case(Kind::DaemonSet, "after the next rollout")]
#[case(Kind::CronJob, "after the next change of its template")]
#[case(Kind::Job, "at the next creation")]
#[case(Kind::Pod, "at the next creation")]
fn what_comes_late_is_told_with_when_it_is_used(#[case] kind: Kind, #[case] when: &str) {
    let stored = injected(&wishing(kind, &[("wants", "ldap")]), &World::empty());
    assert_eq!(status(&stored), "ldap=absent: no offer");
    let catalog = World::full().catalog();
    let again = look_again(&stored, "blog", &catalog, &all()).unwrap();
    assert_eq!(again.status.unwrap(), format!("ldap=absent: directory/openldap {when}"));
    let off = look_again(&stored, "blog", &catalog, &Options::default()).unwrap();
    assert_eq!((off.status, off.cause), (None, None));
}

#[test]
fn the_hash_of_a_pod_is_that_of_what_runs_in_it() {
    let pod = wishing(Kind::Pod, &[("wants", "ldap")]);
    let bound = with(pod.clone(), "/spec/nodeName", json!("node-1"));
    assert_eq!(template_hash(&pod), template_hash(&with(bound, "/metadata/resourceVersion", json!("7"))));
    assert_ne!(
        template_hash(&pod),
        template_hash(&with(pod.clone(), "/spec/containers/0/image", json!("y")))
    );
}

// === storage ===

const ON_BLOCK: &str = "rook-ceph-block";

#[rstest]
#[case::pods_of_a_daemon_set_overlap(
    Kind::DaemonSet,
    "{}",
    "absent: rook-ceph-block is block storage: it needs one pod at a time, and this has one on each node"
)]
#[case::a_pod_is_alone(Kind::Pod, "{}", ON_BLOCK)]
#[case::a_replacement_begins_while_its_predecessor_ends(
    Kind::Job,
    "{podReplacementPolicy: TerminatingOrFailed}",
    "absent: rook-ceph-block is block storage: it needs parallelism 1 and podReplacementPolicy Failed"
)]
#[case::so_it_is_where_nothing_is_said(
    Kind::Job,
    "{}",
    "absent: rook-ceph-block is block storage: it needs parallelism 1 and podReplacementPolicy Failed"
)]
#[case::a_replacement_waits(Kind::Job, "{podReplacementPolicy: Failed, parallelism: 1}", ON_BLOCK)]
#[case::with_rules_for_failures_it_waits_too(Kind::Job, "{podFailurePolicy: {rules: []}}", ON_BLOCK)]
#[case::two_at_once(
    Kind::Job,
    "{podReplacementPolicy: Failed, parallelism: 2}",
    "absent: rook-ceph-block is block storage: it needs parallelism 1 and podReplacementPolicy Failed"
)]
#[case::runs_wait_for_each_other(
    Kind::CronJob,
    "{concurrencyPolicy: Forbid, jobTemplate: {spec: {podReplacementPolicy: Failed}}}",
    ON_BLOCK
)]
#[case::a_run_that_replaces_begins_while_the_other_ends(
    Kind::CronJob,
    "{concurrencyPolicy: Replace, jobTemplate: {spec: {podReplacementPolicy: Failed}}}",
    "absent: rook-ceph-block is block storage: it needs concurrencyPolicy Forbid, parallelism 1 and podReplacementPolicy Failed"
)]
#[case::runs_overlap_where_nothing_is_said(
    Kind::CronJob,
    "{jobTemplate: {spec: {podReplacementPolicy: Failed}}}",
    "absent: rook-ceph-block is block storage: it needs concurrencyPolicy Forbid, parallelism 1 and podReplacementPolicy Failed"
)]
#[case::pods_of_one_run_overlap(
    Kind::CronJob,
    "{concurrencyPolicy: Forbid}",
    "absent: rook-ceph-block is block storage: it needs concurrencyPolicy Forbid, parallelism 1 and podReplacementPolicy Failed"
)]
fn block_storage_is_for_what_runs_one_pod_at_a_time(
    #[case] kind: Kind,
    #[case] fields: &str,
    #[case] expected: &str,
) {
    let mut object = wishing(kind, &[("wants", "storage"), ("storage", "/data=1Gi")]);
    merge(&mut object["spec"], yaml(fields));
    let after = injected(&object, &World::empty().and(block_storage()));
    assert_eq!(status_of(&after, "storage"), expected);
    // Where storage can be shared, nobody is refused.
    let shared = injected(&object, &World::empty().and(shared_storage()));
    let pods = pods(&shared);
    let claim = pods["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str().unwrap();
    assert!(claim.starts_with("app-data-"), "{claim}");
    let needs =
        look_again(&shared, "blog", &World::empty().and(shared_storage()).catalog(), &all()).unwrap().needs;
    let made = needs.claims[claim].object("blog", claim);
    let label = format!("{}.app", kind.name().to_ascii_lowercase());
    assert_eq!(made["metadata"]["labels"]["opportune.libre.sh/workload"], label);
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[rstest]
fn what_has_no_name_yet_has_no_claim(#[values(Kind::Job, Kind::Pod)] kind: Kind) {
    let object = wishing(kind, &[("wants", "ldap, storage"), ("storage", "/data=1Gi")]);
    let object = with(without(object, "/metadata/name"), "/metadata/generateName", json!("app-"));
    let after = injected(&object, &World::full());
    assert_eq!(status_of(&after, "storage"), "absent: the workload has no name yet");
    assert_eq!(status_of(&after, "ldap"), "directory/openldap");
}

// === shape ===

#[rstest]
#[case(Kind::CronJob, "spec.jobTemplate.spec.template.spec: missing")]
#[case(Kind::Pod, "spec: missing")]
#[case(Kind::Job, "spec.template.spec: missing")]
fn what_has_no_pods_is_told_by_the_field_that_lacks(#[case] kind: Kind, #[case] reason: &str) {
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": "x"}});
    let verdict = admitted(&object, None, &World::full().catalog(), &all()).1;
    let AdmissionResult::FailedOpen(failure) = verdict.result else { panic!("{:?}", verdict.result) };
    assert_eq!(failure.to_string(), reason);
}
