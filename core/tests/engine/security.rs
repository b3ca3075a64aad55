//! What nobody can get by words: the Security section of what goes wrong in this class of software.
use opportune_core::admit::Options;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const ENV: &str = "/spec/template/spec/containers/0/env";

fn generic(annotations: &[(&str, &str)]) -> Value {
    asking(deployment("example.org/unknown:1"), annotations)
}

fn relay(annotations: &[(&str, &str)]) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "relay", "namespace": "blog",
        "labels": {"opportune.libre.sh/offers": "mail"},
        "annotations": {"opportune.libre.sh/settings": "from: a@example.org"}}, "spec": {"ports": [{"port": 25}]}});
    for (key, value) in annotations {
        service = with(service, &format!("/metadata/annotations/opportune.libre.sh~1{key}"), json!(value));
    }
    service
}

/// The status of `mail`, and all Secrets that would be made.
fn mail(service: Value) -> (Value, String) {
    let world = World::empty().and(service);
    let (after, verdict) =
        admitted(&generic(&[("wants", "mail")]), None, &world.catalog(), &Options::default());
    (after, format!("{:?}", verdict.delivery.secrets))
}

#[rstest]
#[case("other/secret")]
#[case("../secret")]
#[case("UPPER")]
#[case("a b")]
fn an_offer_names_no_secret_of_another_namespace(#[case] name: &str) {
    let (after, _) = mail(relay(&[("credentials", name)]));
    assert!(!after.to_string().contains("secretKeyRef"), "{}", status(&after));
}

#[rstest]
#[case("password=../x")]
#[case("password=a/b")]
#[case("=x")]
#[case("password")]
fn a_key_of_a_secret_is_a_key(#[case] keys: &str) {
    let (after, secrets) = mail(relay(&[("credentials", "s"), ("credentials-keys", keys)]));
    assert!(!secrets.contains("../") && !secrets.contains("a/b"), "{secrets}");
    assert_ne!(status_of(&after, "mail"), "");
}

#[test]
fn a_password_among_the_settings_stands_in_no_pod_template() {
    let settings = "{from: a@example.org, username: user, password: hunter2}";
    let (after, secrets) = mail(relay(&[("settings", settings)]));
    assert!(!after.to_string().contains("hunter2"), "{after:#}");
    assert!(!secrets.contains("hunter2"), "{secrets}");
}

#[test]
fn without_credentials_an_address_is_a_literal() {
    let (after, secrets) = mail(relay(&[]));
    assert_eq!(literal(&after, "SMTP_URL"), Some("smtp://relay.blog.svc:25"));
    assert_eq!(secrets, "{}");
}

#[test]
fn a_forged_record_chooses_neither_class_nor_size() {
    let object = generic(&[("wants", "storage"), ("storage", "/data=1Gi")]);
    let stored = inject(&object, &World::full().catalog());
    let record = stored.pointer(INJECTED).unwrap().as_str().unwrap();
    let forged = record.replace("rook-cephfs", "expensive").replace("1Gi", "999Ti");
    assert_ne!(forged, record);
    for object in [with(object, INJECTED, json!(forged)), with(stored, INJECTED, json!(forged))] {
        let (after, verdict) = admitted(&object, None, &World::full().catalog(), &Options::default());
        assert_eq!(status_of(&after, "storage"), "rook-cephfs");
        for claim in verdict.delivery.objects("blog") {
            assert_eq!(claim["spec"]["storageClassName"], "rook-cephfs");
            assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
        }
    }
}

#[test]
fn a_copied_record_asks_for_no_secret_of_an_offer_that_is_not_for_it() {
    let stored = inject(&generic(&[("wants", "ldap, mail")]), &World::full().catalog());
    let mut world = World::full();
    for (service, name) in [(openldap(), "openldap"), (mailu(), "mailu-front")] {
        let nobody =
            with(service, "/metadata/annotations/opportune.libre.sh~1consumers", json!("team=other"));
        world = world.without("Service", name).and(nobody);
    }
    let (after, verdict) = admitted(&stored, None, &world.catalog(), &Options::default());
    assert!(verdict.delivery.secrets.is_empty(), "{:?}", verdict.delivery);
    assert_eq!(after.pointer(ENV), None, "{}", status(&after));
}

#[test]
fn a_copied_record_that_keeps_does_not_satisfy_a_requirement_at_creation() {
    // *Kept* is for what a workload has: `oldObject` serves for it, and there is none.
    let stored = inject(&generic(&[("requires", "ldap")]), &World::full().catalog());
    let (_, verdict) = admitted(&stored, None, &World::empty().catalog(), &Options::default());
    assert!(verdict.delivery.secrets.is_empty(), "{:?}", verdict.delivery);
}

#[rstest]
#[case("env.ldap", "PATH_TO=[[mail.password]]")]
#[case("env.ldap", "X=[[storage.class]][[ldap.host")]
#[case("env.ldap", "X=[[ldap.password|sh ell]]")]
#[case("env.ldap", "A-B C=x")]
#[case("env.LDAP", "X=1")]
#[case("use.ldap", "a/b/c")]
#[case("use.ldap", "../../secrets")]
#[case("use.ldap", "*")]
#[case("wants", "*")]
#[case("wants", "ldap;mail")]
#[case("profile", "../etc/passwd")]
fn a_grammar_is_closed(#[case] key: &str, #[case] value: &str) {
    let object = asking(generic(&[("wants", "ldap")]), &[(key, value)]);
    let (after, verdict) = admitted(&object, None, &World::full().catalog(), &Options::default());
    let untouched = after.pointer(ENV).is_none();
    assert!(untouched && !verdict.warnings.is_empty(), "{:?} {after:#}", verdict.result);
}

#[rstest]
#[case::reads_nothing("env.ldap", "X=$(DB_PASSWORD)[[ldap.host]]")]
#[case::dollars("env.ldap", "X=$$(A)$[[ldap.port]]")]
fn a_users_own_template_may_name_the_users_own_variables(#[case] key: &str, #[case] value: &str) {
    let object = asking(generic(&[("wants", "ldap")]), &[(key, value)]);
    let after = inject(&object, &World::full().catalog());
    let template = value.strip_prefix("X=").unwrap();
    let expected =
        template.replace("$[[ldap.port]]", "$$389").replace("[[ldap.host]]", "openldap.directory.svc");
    assert_eq!(literal(&after, "X"), Some(expected.as_str()));
}
