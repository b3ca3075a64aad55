//! What a workload may ask for (1.2) and what becomes of it (1.3, 1.4): the grammar of the annotations and their effects.
use opportune_core::admit::{AdmissionResult, Mode, Options};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const ENV: &str = "/spec/template/spec/containers/0/env";

fn generic(annotations: &[(&str, &str)]) -> Value {
    asking(deployment("example.org/unknown:1"), annotations)
}

fn result(object: &Value, world: &World) -> AdmissionResult {
    admitted(object, None, &world.catalog(), &Options::default()).1.result
}

#[rstest]
#[case("ldap,mail")]
#[case("ldap, mail")]
#[case("ldap mail")]
#[case(" ldap\n\tmail , ldap,, ")]
#[case("mail,ldap")]
fn a_list_is_separated_by_commas_or_white_space_and_doubles_are_one(#[case] wants: &str) {
    let after = inject(&generic(&[("wants", wants)]), &World::full().catalog());
    assert_eq!(status(&after), "ldap=directory/openldap; mail=mail/mailu-front");
}

#[test]
fn the_workloads_own_annotation_is_the_fallback_key_by_key() {
    let object = asking_on_itself(
        generic(&[("wants", "mail")]),
        &[("wants", "ldap"), ("env.mail", "M=[[mail.host]]")],
    );
    let after = inject(&object, &World::full().catalog());
    assert_eq!(status(&after), "mail=mail/mailu-front");
    assert_eq!(literal(&after, "M"), Some("mailu-front.mail.svc"));
    assert_eq!(literal(&after, "SMTP_HOST"), None);
}

#[test]
fn a_requirement_is_met_or_the_workload_is_refused_with_the_reason() {
    let met = inject(&generic(&[("requires", "ldap")]), &World::full().catalog());
    assert_eq!(literal(&met, "LDAP_HOST"), Some("openldap.directory.svc"));
    let AdmissionResult::Denied(why) = result(&generic(&[("requires", "ldap")]), &World::empty()) else {
        panic!("not denied")
    };
    assert!(why.contains("ldap") && why.contains("no offer"), "{why}");
}

#[test]
fn a_requirement_is_ignored_where_injection_is_off() {
    for world in [
        World::empty().and(namespace("blog", "inject: disabled", "")),
        World::empty().and(namespace("blog", "", "")),
    ] {
        assert_eq!(result(&generic(&[("requires", "ldap")]), &world), AdmissionResult::Ignored);
    }
    let object = generic(&[("requires", "ldap"), ("inject", "false")]);
    assert!(!matches!(result(&object, &World::empty()), AdmissionResult::Denied(_)));
}

#[rstest]
#[case::named("mail")]
#[case::all("*")]
fn a_declined_intent_is_not_injected(#[case] declines: &str) {
    let after = inject(&generic(&[("wants", "mail"), ("declines", declines)]), &World::full().catalog());
    assert_eq!(after.pointer(ENV), None);
}

#[test]
fn only_the_named_offer_is_used() {
    let own = with(openldap(), "/metadata/namespace", json!("blog"));
    let world = World::full().and(with(own, "/metadata/name", json!("near")));
    let host = |name: &str| {
        let after = inject(&generic(&[("wants", "ldap"), ("use.ldap", name)]), &world.catalog());
        (literal(&after, "LDAP_HOST").map(str::to_owned), status_of(&after, "ldap").to_owned())
    };
    assert_eq!(host("near").0.as_deref(), Some("near.blog.svc"));
    assert_eq!(host("directory/openldap").0.as_deref(), Some("openldap.directory.svc"));
    assert_eq!(host("directory/nobody"), (None, "absent: no offer named directory/nobody".to_owned()));
}

#[rstest]
#[case::not_consumer("directory/openldap")]
#[case::not_there("directory/nothing")]
fn an_offer_that_is_not_for_it_and_one_that_does_not_exist_are_the_same(#[case] name: &str) {
    let service =
        with(openldap(), "/metadata/annotations/opportune.libre.sh~1consumers", json!("team=other"));
    let world = World::full().without("Service", "openldap").and(service);
    let (after, verdict) = admitted(
        &generic(&[("wants", "ldap"), ("use.ldap", name)]),
        None,
        &world.catalog(),
        &Options::default(),
    );
    assert_eq!(status_of(&after, "ldap"), format!("absent: no offer named {name}"));
    let warnings = verdict.warnings.join("\n").replace(name, "NAME");
    let mut other = World::empty();
    other.0.push(namespace("directory", "provider: 'true'", ""));
    let (_, elsewhere) = admitted(
        &generic(&[("wants", "ldap"), ("use.ldap", name)]),
        None,
        &other.catalog(),
        &Options::default(),
    );
    assert_eq!(warnings, elsewhere.warnings.join("\n").replace(name, "NAME"));
}

#[test]
fn a_mapping_skips_blank_lines_and_comments_and_stands_in_place_of_the_profiles() {
    let object = asking(
        deployment("grafana/grafana:11"),
        &[("wants", "mail"), ("env.mail", "\n# comment\n  \nMAIL_HOST=[[mail.host]]\nLITERAL=a=b\n")],
    );
    let after = inject(&object, &World::full().catalog());
    assert_eq!(literal(&after, "MAIL_HOST"), Some("mailu-front.mail.svc"));
    assert_eq!(literal(&after, "LITERAL"), Some("a=b"));
    assert!(variables(&after, "app", "GF_SMTP_HOST").is_empty());
}

#[rstest]
#[case("none", "SMTP_HOST")]
#[case("vaultwarden", "SMTP_HOST")]
#[case("gitea", "GITEA__mailer__SMTP_ADDR")]
fn a_named_profile_stands_in_place_of_the_one_found_by_image(#[case] profile: &str, #[case] name: &str) {
    let object = asking(deployment("grafana/grafana:11"), &[("wants", "mail"), ("profile", profile)]);
    let after = inject(&object, &World::full().catalog());
    assert!(literal(&after, name).is_some(), "{}", status(&after));
    assert!(variables(&after, "app", "GF_SMTP_HOST").is_empty());
}

#[test]
fn a_custom_intent_gives_names_of_its_own() {
    let offer = yaml(
        "{apiVersion: opportune.libre.sh/v1alpha1, kind: ServiceOffer, metadata: {name: redis, namespace: blog},
          spec: {intent: object-cache, settings: {host: redis.blog.svc, port: 6379}}}",
    );
    let after = inject(&generic(&[("wants", "object-cache")]), &World::empty().and(offer).catalog());
    assert_eq!(status(&after), "object-cache=blog/redis");
    assert_eq!(literal(&after, "OBJECT_CACHE_HOST"), Some("redis.blog.svc"));
    assert_eq!(literal(&after, "OBJECT_CACHE_PORT"), Some("6379"));
}

#[rstest]
#[case::opt_in_unlabelled(Mode::OptIn, "", false)]
#[case::opt_in_enabled(Mode::OptIn, "inject: enabled", true)]
#[case::opt_in_disabled(Mode::OptIn, "inject: disabled", false)]
#[case::wide_unlabelled(Mode::ClusterWide, "", true)]
#[case::wide_enabled(Mode::ClusterWide, "inject: enabled", true)]
#[case::wide_disabled(Mode::ClusterWide, "inject: disabled", false)]
#[case::opt_in_odd(Mode::OptIn, "inject: 'yes'", false)]
fn the_namespaces_label_decides_by_mode(#[case] mode: Mode, #[case] labels: &str, #[case] is_on: bool) {
    let world = World::full().and(namespace("blog", labels, ""));
    let options = Options { mode, ..Options::default() };
    let (after, _) = admitted(&generic(&[("wants", "ldap")]), None, &world.catalog(), &options);
    assert_eq!(literal(&after, "LDAP_HOST").is_some(), is_on);
}

#[test]
fn excluded_namespaces_and_kube_system_are_never_touched() {
    let options =
        Options { mode: Mode::ClusterWide, excluded_namespaces: vec!["blog".into()], ..Options::default() };
    let object = generic(&[("wants", "ldap")]);
    assert_eq!(admitted(&object, None, &World::full().catalog(), &options).0, object);
    let object = with(object, "/metadata/namespace", json!("kube-system"));
    let world = World::full().and(namespace("kube-system", "inject: enabled", ""));
    assert_eq!(admitted(&object, None, &world.catalog(), &Options::default()).0, object);
}

#[test]
fn an_unknown_namespace_counts_as_opted_in() {
    let object = with(generic(&[("wants", "ldap")]), "/metadata/namespace", json!("unheard-of"));
    assert!(literal(&inject(&object, &World::full().catalog()), "LDAP_HOST").is_some());
}

// === updates ===

fn newer(stored: &Value) -> Value {
    with(stored.clone(), "/spec/template/spec/containers/0/image", json!("example.org/unknown:2"))
}

fn near_directory() -> Value {
    with(with(openldap(), "/metadata/namespace", json!("blog")), "/metadata/name", json!("near"))
}

#[test]
fn an_offer_in_use_stays_in_use_though_a_better_one_came() {
    let stored = inject(&generic(&[("wants", "ldap")]), &World::full().catalog());
    let world = World::full().and(near_directory());
    let after = update(&newer(&stored), &stored, &world.catalog());
    assert_eq!(status_of(&after, "ldap"), "directory/openldap");
    let chosen = asking(newer(&stored), &[("use.ldap", "near")]);
    assert_eq!(status_of(&update(&chosen, &stored, &world.catalog()), "ldap"), "blog/near");
    let more = asking(newer(&stored), &[("wants", "ldap, mail")]);
    assert_eq!(status_of(&update(&more, &stored, &world.catalog()), "ldap"), "blog/near");
}

#[test]
fn an_offer_that_vanished_is_kept_as_it_stands_where_no_other_is_there() {
    let stored = inject(&generic(&[("requires", "ldap")]), &World::full().catalog());
    let world = World::full().without("Service", "openldap");
    let (after, verdict) = admitted(&newer(&stored), Some(&stored), &world.catalog(), &Options::default());
    assert!(!matches!(verdict.result, AdmissionResult::Denied(_)));
    assert_eq!(after.pointer(ENV), stored.pointer(ENV));
    assert!(status_of(&after, "ldap").starts_with("kept: "), "{}", status(&after));
    let other = world.and(near_directory());
    let third = with(after.clone(), "/spec/template/spec/containers/0/image", json!("example.org/unknown:3"));
    let after = update(&third, &after, &other.catalog());
    assert_eq!(status_of(&after, "ldap"), "blog/near");
}

#[test]
fn an_offer_that_became_incomplete_is_kept_too() {
    let stored = inject(&generic(&[("wants", "ldap")]), &World::full().catalog());
    let service = without(openldap(), "/metadata/annotations/opportune.libre.sh~1settings");
    let world = World::full().without("Service", "openldap").and(service);
    let after = update(&newer(&stored), &stored, &world.catalog());
    assert_eq!(after.pointer(ENV), stored.pointer(ENV));
    assert!(status_of(&after, "ldap").starts_with("kept: "), "{}", status(&after));
}

#[rstest]
#[case::consumers(with(openldap(), "/metadata/annotations/opportune.libre.sh~1consumers", json!("team=other")), namespace("directory", "provider: 'true'", ""))]
#[case::provider(openldap(), namespace("directory", "", ""))]
#[case::provides(openldap(), namespace("directory", "provider: 'true'", "provides: mail"))]
fn a_consent_that_was_withdrawn_is_not_kept(#[case] service: Value, #[case] provider: Value) {
    let stored = inject(&generic(&[("wants", "ldap")]), &World::full().catalog());
    let world = World::full().without("Service", "openldap").and(service).and(provider);
    let after = update(&newer(&stored), &stored, &world.catalog());
    assert_eq!(after.pointer(ENV), None, "{}", status(&after));
    assert_eq!(status_of(&after, "ldap"), "absent: no offer");
}

/// Everybody has the program, and may inject by a catalog of their own.
#[rstest]
#[case::on_an_update(false)]
#[case::beside_what_can_not_be_read(true)]
fn a_record_that_comes_with_a_request_does_not_tell_what_others_are_offered(#[case] is_slip: bool) {
    let elsewhere =
        with(openldap(), "/metadata/annotations/opportune.libre.sh~1consumers", json!("team=other"));
    let nowhere = World::full().without("Service", "openldap");
    let wishes = [("wants", "ldap"), ("use.ldap", "directory/openldap")];
    let forged = inject(&generic(&wishes), &World::full().catalog());
    let said = [nowhere.clone().and(elsewhere), nowhere].map(|world| {
        let catalog = world.catalog();
        if !is_slip {
            return status(&update(&newer(&forged), &inject(&generic(&wishes), &catalog), &catalog))
                .to_owned();
        }
        let slip = asking(forged.clone(), &[("wants", "ldap"), ("storage", "no path")]);
        let (made, verdict) = admitted(&slip, None, &catalog, &Options::default());
        assert!(matches!(verdict.result, AdmissionResult::FailedOpen(_)), "{:?}", verdict.result);
        assert_eq!(made.pointer(ENV), forged.pointer(ENV), "it stays as it came");
        let (again, _) = admitted(
            &asking(made.clone(), &[("storage", "none again")]),
            Some(&made),
            &catalog,
            &Options::default(),
        );
        let corrected =
            without(again.clone(), "/spec/template/metadata/annotations/opportune.libre.sh~1storage");
        status(&update(&corrected, &again, &catalog)).to_owned()
    });
    assert_eq!(said[0], said[1]);
    assert!(said[0].starts_with("ldap=absent"), "{}", said[0]);
}

#[test]
fn absences_share_one_warning_at_create_and_are_not_repeated() {
    let object = generic(&[("wants", "ldap, mail, analytics")]);
    let catalog = World::empty().catalog();
    let (stored, verdict) = admitted(&object, None, &catalog, &Options::default());
    assert_eq!(verdict.warnings.len(), 1, "{:?}", verdict.warnings);
    let (_, again) = admitted(&newer(&stored), Some(&stored), &catalog, &Options::default());
    assert_eq!(again.warnings.len(), 0, "{:?}", again.warnings);
}

#[test]
fn what_is_skipped_is_told_in_one_order_whatever_that_of_the_containers() {
    let catalog = World::full().catalog();
    let set = |name: &str, variable: &str| json!({"name": name, "image": "x", "env": [{"name": variable, "value": "mine"}]});
    let of = |containers: Value| {
        let object = asking(deployment("x"), &[("wants", "ldap")]);
        status(&inject(&with(object, "/spec/template/spec/containers", containers), &catalog)).to_owned()
    };
    let (one, two) = (set("a", "LDAP_PORT"), set("b", "LDAP_HOST"));
    let told = of(json!([one, two]));
    assert_eq!(told, "ldap=directory/openldap (set by the workload: LDAP_HOST, LDAP_PORT)");
    assert_eq!(of(json!([two, one])), told);
}
