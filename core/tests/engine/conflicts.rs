//! What policies disagree about, and who wins.
use opportune_core::{admit::Options, decide::conflicts};
use rstest::rstest;

use crate::world::*;

/// What the policies `a` and `b` are told, each with this spec, in a cluster with all offers.
fn told(a: &str, b: &str) -> (Vec<String>, Vec<String>) {
    let world = World::full().and(policy("a", a)).and(policy("b", b));
    let mut conflicts = conflicts(&world.catalog(), &Options::default());
    let mut of = |name: &str| conflicts.remove(name).unwrap_or_default();
    (of("a"), of("b"))
}

const BLOG: &str = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blog}}";

#[rstest]
#[case::equal_priority(
    "enforce: [mail]",
    "forbid: [mail]",
    "enforces mail, which policy b forbids: that policy wins",
    "forbids mail, which policy a enforces: this policy wins"
)]
#[case::higher_priority(
    "enforce: [mail], priority: 1",
    "forbid: [mail]",
    "enforces mail, which policy b forbids: this policy wins",
    "forbids mail, which policy a enforces: that policy wins"
)]
#[case::lower_priority(
    "enforce: [mail]",
    "forbid: [mail], priority: 1",
    "enforces mail, which policy b forbids: that policy wins",
    "forbids mail, which policy a enforces: this policy wins"
)]
#[case::preferences(
    "prefer: {storage: rook-cephfs}",
    "storage: {class: rook-ceph-block}, priority: 1",
    "prefers rook-cephfs for storage, and policy b rook-ceph-block: that policy wins",
    "prefers rook-ceph-block for storage, and policy a rook-cephfs: this policy wins"
)]
#[case::refusal(
    "enforce: [mail]",
    "enforce: [mail], onAbsent: Deny",
    "only warns where mail is absent, and policy b refuses: it is refused",
    ""
)]
#[case::sizes(
    "storage: {defaultSize: 10Gi}",
    "storage: {maxSize: 5Gi}",
    "gives volumes 10Gi by default, of which policy b allows 5Gi",
    ""
)]
#[case::refresh(
    "refresh: never",
    "refresh: rollout",
    "says another refresh than policy b: this policy wins",
    "says another refresh than policy a: that policy wins"
)]
#[case::not_offered(
    "prefer: {mail: mail/nothing}",
    "",
    "prefers mail/nothing for mail, which is not offered",
    ""
)]
fn each_policy_is_told_of_the_other(
    #[case] a: &str,
    #[case] b: &str,
    #[case] of_a: &str,
    #[case] of_b: &str,
) {
    let (first, second) = told(&format!("{{{BLOG}, {a}}}"), &format!("{{{BLOG}, {b}}}"));
    let expected = |text: &str| {
        if text.is_empty() { Vec::new() } else { vec![format!("{text}, in namespace blog")] }
    };
    assert_eq!((first, second), (expected(of_a), expected(of_b)));
}

#[test]
fn policies_that_meet_nowhere_do_not_disagree() {
    let elsewhere = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mail}}";
    let none = told(&format!("{{{BLOG}, enforce: [mail]}}"), &format!("{{{elsewhere}, forbid: [mail]}}"));
    assert_eq!(none, (vec![], vec![]));
}

#[test]
fn an_offer_that_some_namespaces_may_not_use_is_told_with_what_to_do() {
    let hidden = with(openldap(), "/metadata/annotations/opportune.libre.sh~1consumers", "team=a".into());
    let world = World::full().without("Service", "openldap").and(hidden);
    let world = ["n1", "n2", "n3", "n4"].iter().fold(world, |world, name| world.and(namespace(name, "", "")));
    let world = world.and(policy("a", "prefer: {ldap: directory/openldap}"));
    let told = conflicts(&world.catalog(), &Options::default()).remove("a").unwrap();
    assert_eq!(
        told,
        [
            "prefers directory/openldap for ldap, which may not be used: its consumers do not select this namespace, in \
          namespaces blog, mail, n1 and 4 more"
        ]
    );
}

#[test]
fn namespaces_that_are_never_touched_do_not_count() {
    let world = World::empty().and(policy("a", "prefer: {mail: x/y}"));
    let options = Options { excluded_namespaces: vec!["blog".to_owned()], ..Options::default() };
    assert!(conflicts(&world.catalog(), &options).is_empty());
}
