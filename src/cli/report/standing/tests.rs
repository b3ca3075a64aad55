use opportune_core::{
    admit::{Request, admit},
    inject::standard,
};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    cli::{inject::patched, manifest, offline},
    knowledge::Folders,
};

const CLUSTER: &str = include_str!("../../demo/cluster.yaml");
const WORDPRESS: &str = include_str!("../../demo/wordpress.yaml");

fn catalog(cluster: &str) -> Catalog {
    offline::from_manifests(&manifest::read_text("cluster", cluster).unwrap(), &Folders::default()).unwrap()
}

/// WordPress with these wishes.
fn wishing(wishes: &str) -> Value {
    let text = WORDPRESS.replace("wants: ldap, mail, analytics, storage", wishes);
    manifest::read_text("wordpress", &text).unwrap().remove(0).object
}

/// The same as the webhook leaves it.
fn injected(wishes: &str) -> Value {
    let object = wishing(wishes);
    let verdict = admit(
        &Request { namespace: "blog", object: &Json::from(&object), old: None },
        &catalog(CLUSTER),
        &Options::default(),
    );
    patched(&object, &standard(&verdict.patch)).unwrap()
}

fn report(object: &Value, cluster: &str) -> Reported {
    of(object, "blog", &catalog(cluster), &Options::default(), &|_| false).unwrap()
}

/// One entry, as `result/state offer: reason`.
fn line(reported: &Reported) -> String {
    let lines = reported.entries.iter().map(|entry| {
        let offer = entry.offer.as_deref().unwrap_or("-");
        format!("{}/{} {offer}: {}", entry.result, entry.state.word(), entry.reason)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn annotate(object: &mut Value, key: &str, text: &str) {
    object["metadata"]["annotations"][key] = text.into();
}

#[test]
fn what_stands_and_would_be_given_again_is_current() {
    assert_eq!(line(&report(&injected("wants: mail"), CLUSTER)), "bound/current mail/relay: first boot only");
}

#[test]
fn what_nobody_decided_on_is_missed() {
    let reason = "asked for while the webhook was away or too busy; after the next rollout: mail/relay (first boot only)";
    assert_eq!(line(&report(&wishing("wants: mail"), CLUSTER)), format!("absent/missed -: {reason}"));
    // A controller has told it meanwhile.
    let mut told = wishing("wants: mail");
    let again = look_again(&told, "blog", &catalog(CLUSTER), &Options::default()).unwrap();
    annotate(&mut told, keys::STATUS, &again.status.unwrap());
    assert_eq!(line(&report(&told, CLUSTER)), format!("absent/missed -: {reason}"));
}

#[test]
fn what_came_since_is_pending() {
    let mut object = wishing("wants: mail");
    annotate(&mut object, keys::STATUS, "mail=absent: no offer");
    let pending = "absent/pending -: after the next rollout: mail/relay (first boot only)";
    assert_eq!(line(&report(&object, CLUSTER)), pending);
}

#[test]
fn what_changed_since_is_pending_beside_what_stands() {
    let moved = CLUSTER.replace("host: mail.example.org", "host: other.example.org");
    let line = line(&report(&injected("wants: mail"), &moved));
    assert_eq!(
        line,
        "bound/pending mail/relay: its offer or the wishes changed since: followed after the next rollout"
    );
}

#[test]
fn what_is_no_longer_offered_is_kept() {
    let bare = CLUSTER.split("---").next().unwrap();
    let line = line(&report(&injected("wants: mail"), bare));
    assert!(line.starts_with("kept/current mail/relay: "), "{line}");
}

#[test]
fn what_is_no_longer_asked_for_goes() {
    let mut object = injected("wants: mail");
    object["spec"]["template"]["metadata"]["annotations"][keys::WANTS] = "".into();
    let line = line(&report(&object, CLUSTER));
    assert_eq!(line, "bound/pending mail/relay: no longer asked for: it goes after the next rollout");
}

#[test]
fn what_somebody_tore_out_comes_back() {
    let mut object = injected("wants: mail");
    let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.retain(|entry| entry["name"] != "WORDPRESS_SMTP_HOST");
    let line = line(&report(&object, CLUSTER));
    assert_eq!(line, "bound/pending mail/relay: a part of it is gone, and comes back after the next rollout");
}

#[test]
fn where_offers_are_hidden_only_what_stands_is_known() {
    let bare = catalog(CLUSTER.split("---").next().unwrap());
    let of = |object: &Value| of(object, "blog", &bare, &Options::default(), &|_| true).unwrap();
    let standing = line(&of(&injected("wants: mail")));
    assert!(standing.starts_with("bound/unknown mail/relay: you may not see all offers; "), "{standing}");
    let mut absent = wishing("wants: mail");
    annotate(&mut absent, keys::STATUS, "mail=absent: no offer");
    assert_eq!(line(&of(&absent)), "absent/current -: no offer");
}

#[test]
fn where_injection_is_off_what_stands_is_told_and_nothing_is_required() {
    let off = CLUSTER.replace("inject: enabled", "inject: disabled");
    let why = "its Namespace is labelled opportune.libre.sh/inject=disabled";
    let bound = report(&injected("requires: mail"), &off);
    assert_eq!(line(&bound), format!("bound/off mail/relay: {why}"));
    let absent = report(&wishing("requires: mail"), &off);
    assert_eq!(line(&absent), format!("absent/off -: {why}"));
    let unreadable = report(&wishing("requires: MAIL"), &off);
    assert!(unreadable.problem.as_ref().unwrap().contains("`MAIL` is not an intent"));
    assert!([absent, unreadable].iter().all(|reported| reported.unsatisfied().count() == 0));
}

#[rstest]
#[case("requires: MAIL", 1)]
#[case("wants: MAIL", 0)]
fn an_annotation_that_can_not_be_read_is_a_problem(#[case] wishes: &str, #[case] unsatisfied: usize) {
    let reported = report(&wishing(wishes), CLUSTER);
    assert!(reported.entries.is_empty() && reported.is_concerned());
    assert!(reported.problem.as_ref().unwrap().contains("`MAIL` is not an intent"));
    assert_eq!(reported.unsatisfied().count(), unsatisfied);
}

#[test]
fn a_requirement_that_is_no_longer_met_is_absent_though_it_still_stands() {
    let withdrawn = CLUSTER.replace("consumers: {namespaceSelector: {}}", "priority: 1");
    let reported = report(&injected("requires: mail"), &withdrawn);
    assert_eq!(
        line(&reported),
        "absent/current -: no offer; it still has mail/relay; a change of it would be refused"
    );
    assert_eq!(reported.unsatisfied().count(), 1);
}

#[test]
fn beside_a_requirement_that_is_not_met_nothing_new_is_given() {
    let mut object = wishing("requires: cache, mail");
    annotate(&mut object, keys::STATUS, "mail=absent: no offer; cache=absent: no offer");
    let reported = report(&object, CLUSTER);
    assert_eq!(
        line(&reported),
        "absent/current -: no offer; a change of it would be refused\n\
         absent/pending -: mail/relay (first boot only), once cache is there: until then a change of it would be refused"
    );
    assert_eq!(reported.unsatisfied().count(), 2);
}

#[test]
fn neither_a_record_nor_a_status_is_believed_to_be_what_stands() {
    let mut object = wishing("requires: mail");
    let record = json!({"v": 1, "offers": {"mail": "ServiceOffer/mail/relay"},
        "added": {"mail": {"env/wordpress/WORDPRESS_BLOG_NAME": "00000000"}}});
    annotate(&mut object, keys::INJECTED, &record.to_string());
    annotate(&mut object, keys::STATUS, "mail=mail/relay; x=\u{1b}[2J");
    let hidden =
        of(&object, "blog", &catalog(CLUSTER.split("---").next().unwrap()), &Options::default(), &|_| true);
    let hidden = hidden.unwrap();
    assert_eq!((hidden.entries.len(), hidden.entries[0].result), (1, "absent"), "{}", line(&hidden));
}

#[test]
fn what_was_withdrawn_tells_why_at_bounded_length() {
    let mut object = wishing("wants: mail");
    let off = CLUSTER.replace("inject: enabled", "inject: disabled");
    let record = json!({"v": 1, "withdrawn": {"mail": {"offer": "ServiceOffer/mail/relay", "print": "",
        "reason": "x".repeat(5000)}}});
    annotate(&mut object, keys::INJECTED, &record.to_string());
    let reported = report(&object, &off);
    let entry = &reported.entries[0];
    assert_eq!(entry.result, "withdrawn");
    assert!(entry.reason.ends_with("...") && entry.reason.len() < 400, "{}", entry.reason);
}
