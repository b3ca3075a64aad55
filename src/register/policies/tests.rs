use super::*;
use opportune_core::{
    discover::Inventory,
    discover::Recipes,
    inject::profile::Profiles,
    workload::{Kind, Kinds},
};
use rstest::rstest;
use std::sync::Arc;

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": keys::API_VERSION, "kind": "InjectionPolicy", "metadata": {"name": name}, "spec": spec})
}

fn namespace(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations,
        "labels": {"opportune.libre.sh/inject": "enabled"}}})
}

fn catalog(objects: &[Value]) -> Catalog {
    let mut inventory = Inventory::new(Arc::new(Recipes::built_in().unwrap()), Profiles::built_in().unwrap());
    for object in objects {
        inventory.apply(object).unwrap();
    }
    inventory.snapshot()
}

fn options() -> Options {
    Options {
        excluded_namespaces: vec!["opportune-system".to_owned()],
        inheritance: Inheritance::FromNamespace,
        ..Options::default()
    }
}

fn model() -> Value {
    let service =
        json!({"name": "opportune", "namespace": "opportune-system", "path": "/mutate", "port": 443});
    json!({"webhooks": [{"name": "wants.opportune.libre.sh", "timeoutSeconds": 7,
        "clientConfig": {"service": service, "caBundle": "QUJD"},
        "matchConditions": [{"name": "is-not-our-own-note", "expression": "request.userInfo.username != 'us'"}]}]})
}

fn made(objects: &[Value], options: &Options) -> Vec<Value> {
    webhooks(&catalog(objects), options, &model()).unwrap()
}

fn names(webhooks: &[Value]) -> Vec<&str> {
    webhooks.iter().map(|webhook| webhook["name"].as_str().unwrap()).collect()
}

fn has_condition(webhook: &Value, name: &str) -> bool {
    webhook["matchConditions"].as_array().unwrap().iter().any(|condition| condition["name"] == name)
}

#[rstest]
#[case::defaults(json!({"defaults": ["ldap"]}), &["p.policies.opportune.libre.sh"])]
#[case::enforced(json!({"enforce": ["ldap"]}), &["p.policies.opportune.libre.sh", "p.others.opportune.libre.sh"])]
#[case::forbidden(json!({"forbid": ["ldap"]}), &["p.policies.opportune.libre.sh"])]
#[case::nothing_unasked(json!({"prefer": {"ldap": "a/b"}, "storage": {"maxSize": "1Gi"}, "overwrite": true}), &[])]
#[case::empty(json!({}), &[])]
fn a_policy_has_a_webhook_where_it_acts_unasked(#[case] spec: Value, #[case] expected: &[&str]) {
    assert_eq!(names(&made(&[policy("p", spec)], &options())), expected);
}

#[rstest]
#[case(json!({"enforce": ["ldap"], "onAbsent": "Deny"}), "Fail")]
#[case(json!({"enforce": ["ldap"]}), "Ignore")]
#[case(json!({"defaults": ["ldap"], "onAbsent": "Deny"}), "Ignore")]
fn only_what_must_not_be_missed_fails_closed(#[case] spec: Value, #[case] expected: &str) {
    for webhook in made(&[policy("p", spec)], &options()) {
        assert_eq!(webhook["failurePolicy"], expected);
    }
}

#[test]
fn a_webhook_of_a_policy_takes_after_that_of_annotations() {
    let all = made(&[policy("p", json!({"defaults": ["ldap"]}))], &options());
    let config = &all[0]["clientConfig"];
    assert_eq!(config["service"]["path"], "/mutate/policies/p");
    assert_eq!((&config["service"]["port"], &config["caBundle"]), (&json!(443), &json!("QUJD")));
    assert_eq!(all[0]["timeoutSeconds"], 7);
    assert!(has_condition(&all[0], "is-not-our-own-note"));
    let by_url = json!({"webhooks": [{"clientConfig": {"url": "https://192.0.2.7:8443/mutate"}}]});
    let all = webhooks(&catalog(&[policy("p", json!({"defaults": ["ldap"]}))]), &options(), &by_url).unwrap();
    assert_eq!(all[0]["clientConfig"], json!({"url": "https://192.0.2.7:8443/mutate/policies/p"}));
    assert_eq!(webhooks(&Catalog::default(), &options(), &json!({"webhooks": []})), None);
}

#[test]
fn defaults_act_where_injection_is_on_and_what_is_enforced_everywhere() {
    let selector = json!({"matchLabels": {"team": "a"}});
    let of =
        |spec: Value, options: &Options| made(&[policy("p", spec)], options)[0]["namespaceSelector"].clone();
    let excluded = json!({"key": keys::NAMESPACE_NAME, "operator": "NotIn", "values": ["kube-system", "opportune-system"]});
    let spec = |what: &str| json!({what: ["ldap"], "namespaceSelector": selector});
    let on = json!({"key": keys::INJECT, "operator": "In", "values": ["enabled"]});
    let not_off = json!({"key": keys::INJECT, "operator": "NotIn", "values": ["disabled"]});
    let wide = Options { mode: Mode::ClusterWide, ..options() };
    for (what, options, expected) in [
        ("defaults", options(), json!([excluded, on])),
        ("defaults", wide.clone(), json!([excluded, not_off])),
        ("enforce", options(), json!([excluded])),
        ("forbid", wide, json!([excluded])),
    ] {
        let selector = of(spec(what), &options);
        assert_eq!(selector, json!({"matchLabels": {"team": "a"}, "matchExpressions": expected}));
    }
}

#[test]
fn the_kinds_that_are_not_injected_are_those_of_the_other_webhook() {
    let plurals = |webhook: &Value| -> Vec<String> {
        let rules = webhook["rules"].as_array().unwrap().iter();
        let mut all: Vec<String> = rules
            .flat_map(|rule| rule["resources"].as_array().unwrap())
            .map(|resource| resource.as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    };
    let never = ["replicasets", "replicationcontrollers"];
    for kinds in [Kinds::default(), Kinds::all()] {
        let options = Options { kinds: kinds.clone(), ..options() };
        let all = made(&[policy("p", json!({"enforce": ["ldap"]}))], &options);
        let mut on: Vec<&str> = kinds.iter().map(Kind::plural).collect();
        on.sort_unstable();
        assert_eq!(plurals(&all[0]), on);
        let mut others: Vec<&str> =
            Kind::ALL.into_iter().filter(|kind| !kinds.has(*kind)).map(Kind::plural).chain(never).collect();
        others.sort_unstable();
        assert_eq!(plurals(&all[1]), others);
    }
}

#[test]
fn namespaces_are_named_by_what_they_ask_for() {
    let wants = json!({"opportune.libre.sh/wants": "mail"});
    let requires = json!({"opportune.libre.sh/requires": "mail"});
    let objects = [
        namespace("b", wants.clone()),
        namespace("a", wants.clone()),
        namespace("c", requires),
        namespace("d", json!({})),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "off", "annotations": wants}}),
    ];
    let all = made(&objects, &options());
    assert_eq!(
        names(&all),
        ["defaults.namespaces.opportune.libre.sh", "requires.namespaces.opportune.libre.sh"]
    );
    let values = |webhook: &Value| webhook["namespaceSelector"]["matchExpressions"][0]["values"].clone();
    assert_eq!((values(&all[0]), values(&all[1])), (json!(["a", "b"]), json!(["c"])));
    assert_eq!((&all[0]["failurePolicy"], &all[1]["failurePolicy"]), (&json!("Ignore"), &json!("Fail")));
    assert_eq!(all[0]["clientConfig"], model()["webhooks"][0]["clientConfig"]);
    let off = Options { inheritance: Inheritance::Off, ..options() };
    assert!(made(&objects, &off).is_empty());
}

#[test]
fn names_are_short_enough_and_differ() {
    let long = |end: &str| format!("{}{end}", ["x".repeat(60).as_str(); 4].join("."));
    let spec = || json!({"defaults": ["ldap"]});
    let all = made(&[policy(&long("a"), spec()), policy(&long("b"), spec())], &options());
    let names = names(&all);
    assert!(names.iter().all(|name| name.len() <= 253) && names[0] != names[1], "{names:?}");
}

#[test]
fn a_bundle_that_somebody_else_wrote_stays_and_nothing_is_written_for_nothing() {
    let configuration = json!({"metadata": {"name": "opportune-policies", "resourceVersion": "7"}});
    let spec = || json!({"defaults": ["ldap"]});
    let first = written(&configuration, made(&[policy("p", spec())], &options())).unwrap();
    assert_eq!(first["metadata"], configuration["metadata"]);
    let mut rotated = first.clone();
    rotated["webhooks"][0]["clientConfig"]["caBundle"] = json!("bmV3");
    assert_eq!(written(&rotated, made(&[policy("p", spec())], &options())), None);
    let two = written(&rotated, made(&[policy("p", spec()), policy("q", spec())], &options())).unwrap();
    let bundle = |at: usize| two["webhooks"][at]["clientConfig"]["caBundle"].clone();
    assert_eq!((bundle(0), bundle(1)), (json!("bmV3"), json!("QUJD")));
    let none = written(&two, Vec::new()).unwrap();
    assert_eq!(none, configuration);
    assert_eq!(written(&configuration, Vec::new()), None);
}
