//! Which offers there are, who may use them, and in which order they are taken (1.3).
use std::sync::Arc;

use opportune_core::{
    discover::{Inventory, Recipes, Taken},
    inject::profile::Profiles,
    intent::Intent,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

/// A directory that somebody marked; annotations without their prefix.
fn marked(place: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": place,
        "labels": {"opportune.libre.sh/offers": "ldap"},
        "annotations": {"opportune.libre.sh/settings": "base-dn: 'dc=example,dc=org'"}},
        "spec": {"ports": [{"name": "ldap", "port": 389}]}});
    for (key, value) in annotations {
        service = with(service, &format!("/metadata/annotations/opportune.libre.sh~1{key}"), json!(value));
    }
    service
}

fn offered(place: &str, name: &str, spec: &str) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": place}, "spec": yaml(spec)})
}

fn provider(name: &str) -> Value {
    namespace(name, "provider: 'true'", "")
}

/// What the workload of namespace `blog` gets for `ldap`.
fn taken_with(world: &World, more: &[(&str, &str)]) -> String {
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap")]);
    status_of(&inject(&asking(object, more), &world.catalog()), "ldap").to_owned()
}

fn taken(world: &World) -> String {
    taken_with(world, &[])
}

// === who may use what ===

#[rstest]
#[case::own_namespace("blog", "", &[], true)]
#[case::own_namespace_with_credentials("blog", "", &[("credentials", "s")], true)]
#[case::own_namespace_whatever_consumers_say("blog", "", &[("consumers", "team=other")], true)]
#[case::no_provider("directory", "", &[("consumers", "*")], false)]
#[case::provider_is_not_true("directory", "provider: 'yes'", &[("consumers", "*")], false)]
#[case::public("directory", "provider: 'true'", &[], true)]
#[case::credentials_without_consumers("directory", "provider: 'true'", &[("credentials", "s")], false)]
#[case::credentials_for_all("directory", "provider: 'true'", &[("credentials", "s"), ("consumers", "*")], true)]
#[case::empty_consumers("directory", "provider: 'true'", &[("consumers", "")], false)]
#[case::empty_consumers_with_credentials("directory", "provider: 'true'", &[("credentials", "s"), ("consumers", "")], false)]
#[case::selected("directory", "provider: 'true'", &[("consumers", "kubernetes.io/metadata.name=blog")], true)]
#[case::selected_in("directory", "provider: 'true'", &[("consumers", "kubernetes.io/metadata.name in (blog, shop)")], true)]
#[case::selected_by_existence("directory", "provider: 'true'", &[("consumers", "opportune.libre.sh/inject")], true)]
#[case::selected_by_absence("directory", "provider: 'true'", &[("consumers", "!opportune.libre.sh/provider")], true)]
#[case::not_selected("directory", "provider: 'true'", &[("consumers", "kubernetes.io/metadata.name=shop")], false)]
#[case::not_in("directory", "provider: 'true'", &[("consumers", "kubernetes.io/metadata.name notin (blog)")], false)]
#[case::unreadable("directory", "provider: 'true'", &[("consumers", "a in (")], false)]
fn who_may_use_a_marked_service(
    #[case] place: &str,
    #[case] labels: &str,
    #[case] annotations: &[(&str, &str)],
    #[case] may: bool,
) {
    let mut world = World::empty();
    if place != "blog" {
        world = world.and(namespace(place, labels, ""));
    }
    let got = taken(&world.and(marked(place, "dir", annotations)));
    // An empty selector publishes to nobody (kubernetes-reflector 186: to everybody).
    assert_eq!(got, if may { format!("{place}/dir") } else { "absent: no offer".into() });
}

#[rstest]
#[case::absent("{intent: ldap, settings: {host: h, base-dn: dc}}", false)]
#[case::no_selector("{intent: ldap, consumers: {}, settings: {host: h, base-dn: dc}}", false)]
#[case::everybody(
    "{intent: ldap, consumers: {namespaceSelector: {}}, settings: {host: h, port: 389, base-dn: dc}}",
    true
)]
#[case::by_name(
    "{intent: ldap, consumers: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blog}}}, settings: {host: h, port: 389, base-dn: dc}}",
    true
)]
#[case::by_expression(
    "{intent: ldap, consumers: {namespaceSelector: {matchExpressions: [{key: x, operator: DoesNotExist}]}}, settings: {host: h, port: 389, base-dn: dc}}",
    true
)]
#[case::others(
    "{intent: ldap, consumers: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}, settings: {host: h, port: 389, base-dn: dc}}",
    false
)]
fn who_may_use_a_service_offer(#[case] spec: &str, #[case] may: bool) {
    let got = taken(&World::empty().and(provider("directory")).and(offered("directory", "dir", spec)));
    assert_eq!(got, if may { "directory/dir" } else { "absent: no offer" });
}

#[rstest]
#[case("ldap, mail", true)]
#[case("mail ldap", true)]
#[case("mail", false)]
#[case("", false)]
#[case("LDAP", false)]
fn provides_narrows_to_these_intents(#[case] provides: &str, #[case] may: bool) {
    let place = namespace("directory", "provider: 'true'", &format!("provides: '{provides}'"));
    let got = taken(&World::empty().and(place).and(marked("directory", "dir", &[])));
    assert_eq!(got == "directory/dir", may, "{got}");
}

#[test]
fn forged_labels_of_a_tenant_reach_nobody_else() {
    let tenant = with(
        namespace("tenant", ENABLED, "provides: ldap"),
        "/metadata/annotations/opportune.libre.sh~1provider",
        json!("true"),
    );
    let evil = marked("tenant", "dir", &[("consumers", "*"), ("priority", "1000000")]);
    let evil = with(evil, "/metadata/labels/opportune.libre.sh~1provider", json!("true"));
    let world = World::full().and(tenant).and(evil);
    assert_eq!(taken(&world), "directory/openldap");
    assert_eq!(taken_with(&world, &[("use.ldap", "tenant/dir")]), "absent: no offer named tenant/dir");
}

#[test]
fn an_offer_never_serves_the_workload_behind_it() {
    let selector = with(marked("blog", "dir", &[]), "/spec/selector", json!({"app": "app"}));
    assert_eq!(taken(&World::empty().and(selector)), "absent: no offer");
    let other = with(marked("blog", "dir", &[]), "/spec/selector", json!({"app": "slapd"}));
    assert_eq!(taken(&World::empty().and(other)), "blog/dir");
}

// === in which order ===

/// A recipe whose service needs no words of a person, as no built-in one of a directory does.
const RECIPE: &str = "
name: tiny-ldap
title: Tiny directory
intent: ldap
provider: tiny
match:
  labels: [{app: tiny-ldap}]
  port-numbers: [389]
ports: [{name: ldap, number: 389, tls: none}]
settings: {base-dn: dc=tiny}
confidence: verified
sources: [here]
";

/// A directory that the recipe recognises, and that nobody marked.
fn recognised(place: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": place, "labels": {"app": "tiny-ldap"}},
        "spec": {"ports": [{"name": "ldap", "port": 389}]}})
}

/// A workload that wants `ldap`, injected where the recipe is known.
fn injected_where_recognised(world: &World, annotations: &[(&str, &str)]) -> Value {
    let recipes = Recipes::read([("tiny-ldap.yaml", RECIPE)]).unwrap();
    let mut inventory = Inventory::new(Arc::new(recipes), Profiles::built_in().unwrap());
    for object in &world.0 {
        inventory.apply(object).unwrap();
    }
    let object = asking(deployment("example.org/unknown:1"), &[("wants", "ldap")]);
    inject(&asking(object, annotations), &inventory.snapshot())
}

#[test]
fn every_tier_comes_before_the_next() {
    let world = World::empty().and(provider("directory"));
    let tiers = [
        (recognised("directory", "far"), "directory/far"),
        (recognised("blog", "near"), "blog/near"),
        (marked("directory", "marked", &[]), "directory/marked"),
        (marked("blog", "marked", &[]), "blog/marked"),
    ];
    let mut world = world;
    for (service, expected) in tiers {
        world = world.and(service);
        let after = injected_where_recognised(&world, &[]);
        assert_eq!(status_of(&after, "ldap"), expected);
    }
    let named = injected_where_recognised(&world, &[("use.ldap", "directory/far")]);
    assert_eq!(status_of(&named, "ldap"), "directory/far");
}

#[test]
fn a_priority_counts_within_its_tier_only() {
    let world =
        World::empty().and(provider("directory")).and(marked("directory", "dir", &[("priority", "99")]));
    let world = world.and(marked("blog", "a", &[])).and(marked("blog", "b", &[("priority", "-1")]));
    assert_eq!(taken(&world), "blog/a");
    assert_eq!(taken(&world.and(marked("blog", "c", &[("priority", "1")]))), "blog/c");
}

#[rstest]
#[case(&["b", "a", "c"], "blog/a")]
#[case(&["a10", "a9"], "blog/a10")]
#[case(&["a-b", "a"], "blog/a")]
fn names_are_taken_in_byte_order(#[case] names: &[&str], #[case] first: &str) {
    let world = names.iter().fold(World::empty(), |world, name| world.and(marked("blog", name, &[])));
    assert_eq!(taken(&world), first);
}

#[test]
fn namespaces_are_taken_in_byte_order() {
    let world = ["b", "a-b", "a"]
        .iter()
        .fold(World::empty(), |world, place| world.and(provider(place)).and(marked(place, "dir", &[])));
    // The whole of `namespace/name` is compared: `-` comes before `/`.
    assert_eq!(taken(&world), "a-b/dir");
}

#[test]
fn a_service_offer_counts_as_marked() {
    let world = World::empty().and(recognised("blog", "a"));
    let offer = offered("blog", "z", "{intent: ldap, settings: {host: h, port: 636, base-dn: dc}}");
    assert_eq!(status_of(&injected_where_recognised(&world.and(offer), &[]), "ldap"), "blog/z");
}

// === complete or not ===

#[rstest]
#[case::no_base("{host: h, port: 389}", "base-dn")]
#[case::control_character("{base-dn: \"dc=a\\nb\"}", "base-dn")]
#[case::not_a_scalar("{base-dn: [dc]}", "base-dn")]
#[case::not_a_map("[a, b]", "settings")]
#[case::not_yaml("{base-dn: 'dc", "settings")]
fn an_incomplete_offer_is_never_used_and_says_what_it_lacks(#[case] settings: &str, #[case] lacks: &str) {
    let service = marked("blog", "dir", &[("settings", settings)]);
    let world = World::empty().and(service);
    let got = taken(&world);
    assert!(!got.starts_with("blog/dir") && !got.is_empty(), "{got}");
    let offer_is =
        world.catalog().offers().map(|o| (o.is_complete(), o.incompleteness())).collect::<Vec<_>>();
    assert!(matches!(&offer_is[..], [(false, why)] if why.contains(lacks)), "{offer_is:?}");
    assert_eq!(taken(&world.and(marked("blog", "other", &[]))), "blog/other");
}

#[rstest]
#[case::just_fits(4096, true)]
#[case::too_long(4097, false)]
fn a_setting_has_at_most_4_kib(#[case] length: usize, #[case] fits: bool) {
    let service = marked("blog", "dir", &[("settings", &format!("base-dn: '{}'", "x".repeat(length)))]);
    assert_eq!(taken(&World::empty().and(service)) == "blog/dir", fits);
}

#[rstest]
#[case(636, "tls")]
#[case(389, "none")]
#[case(3890, "none")]
fn tls_defaults_by_port(#[case] port: u16, #[case] tls: &str) {
    let offer =
        offered("blog", "z", &format!("{{intent: ldap, settings: {{host: h, port: {port}, base-dn: dc}}}}"));
    let object = asking(deployment("x"), &[("wants", "ldap")]);
    let after = inject(&object, &World::empty().and(offer).catalog());
    assert_eq!(literal(&after, "LDAP_TLS"), Some(tls));
    let scheme = if tls == "tls" { "ldaps" } else { "ldap" };
    assert_eq!(literal(&after, "LDAP_URI"), Some(format!("{scheme}://h:{port}").as_str()));
}

#[test]
fn recognition_alone_hands_out_no_credential() {
    let after = injected_where_recognised(&World::empty().and(recognised("blog", "a")), &[]);
    assert!(literal(&after, "LDAP_HOST").is_some());
    assert!(!after.to_string().contains("secretKeyRef"));
}

#[test]
fn an_external_names_target_is_the_host_as_it_is() {
    let service = with(
        marked("blog", "dir", &[]),
        "/spec",
        json!({"type": "ExternalName", "externalName": "ldap.example.net"}),
    );
    let service = with(
        service,
        "/metadata/annotations/opportune.libre.sh~1settings",
        json!("{port: 636, base-dn: dc}"),
    );
    let after =
        inject(&asking(deployment("x"), &[("wants", "ldap")]), &World::empty().and(service).catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("ldap.example.net"), "{}", status(&after));
}

#[rstest]
fn a_trap_is_only_chosen_by_name(#[values("", ", opportune.libre.sh/offers: mail")] mark: &str) {
    let mailpit = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: mailpit, namespace: blog,
          labels: {{app.kubernetes.io/name: mailpit{mark}}}, annotations: {{opportune.libre.sh/settings: 'from: a@b.c'}}}},
          spec: {{ports: [{{name: tcp-smtp, port: 25}}]}}}}"
    );
    let world = World::empty().and(yaml(&mailpit));
    let mail = |more: &[(&str, &str)]| {
        let object = asking(asking(deployment("x"), &[("wants", "mail")]), more);
        status_of(&inject(&object, &world.catalog()), "mail").to_owned()
    };
    assert_ne!(mail(&[]), "blog/mailpit");
    if !mark.is_empty() {
        assert_eq!(mail(&[("use.mail", "mailpit")]), "blog/mailpit");
    }
}

#[test]
fn a_service_and_a_service_offer_of_one_name_are_two_offers() {
    let offer = offered(
        "blog",
        "dir",
        "{intent: ldap, priority: 5, settings: {host: other, port: 389, base-dn: dc}}",
    );
    let world = World::empty().and(marked("blog", "dir", &[])).and(offer);
    assert_eq!(world.catalog().offers().filter(|o| o.intent == Intent::parse("ldap").unwrap()).count(), 2);
    let after = inject(&asking(deployment("x"), &[("wants", "ldap")]), &world.catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("other"));
}

#[rstest]
#[case::no_name(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "x"}}))]
#[case::no_metadata(json!({"apiVersion": "v1", "kind": "Service"}))]
#[case::no_spec(json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "ServiceOffer", "metadata": {"name": "a", "namespace": "b"}}))]
#[case::not_an_intent(offered("b", "a", "{intent: Not A Label}"))]
fn a_malformed_object_is_refused_alone(#[case] object: Value) {
    let mut inventory = inventory();
    for object in World::full().0 {
        assert!(inventory.apply(&object).is_ok_and(|t| t == Taken::Known));
    }
    assert!(inventory.apply(&object).is_err());
    assert_eq!(inventory.snapshot().offers().count(), World::full().catalog().offers().count());
}

#[test]
fn offers_that_share_a_label_of_their_selectors_each_reach_their_own_consumers() {
    let mut world = World::empty().and(provider("directory"));
    for team in ["a", "b", "c"] {
        let selector = format!("env=production,team={team}");
        let annotations = [("consumers", selector.as_str()), ("priority", "1")];
        world = world.and(marked("directory", &format!("for-{team}"), &annotations));
        let labels = format!("env: production\n    team: {team}\n    opportune.libre.sh/inject: enabled");
        world = world.and(yaml(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-{team}\n  labels:\n    {labels}\n"
        )));
    }
    let catalog = world.catalog();
    let ldap = Intent::parse("ldap").unwrap();
    for team in ["a", "b", "c"] {
        let namespace = format!("team-{team}");
        let names: Vec<_> =
            catalog.candidates(&ldap, &namespace).map(|offer| offer.id.name.clone()).collect();
        assert_eq!(names, [format!("for-{team}")]);
    }
}

#[test]
fn an_object_of_ours_that_becomes_unreadable_is_forgotten() {
    let mut inventory = inventory();
    let good = offered("blog", "own", "{intent: ldap, settings: {host: h, port: 389, base-dn: dc=x}}");
    inventory.apply(&good).unwrap();
    assert_eq!(inventory.snapshot().offers().count(), 1);
    let bad = offered("blog", "own", "{intent: ldap, colour: red}");
    assert!(inventory.apply(&bad).unwrap_err().to_string().contains("colour"));
    assert_eq!(inventory.snapshot().offers().count(), 0);
}
