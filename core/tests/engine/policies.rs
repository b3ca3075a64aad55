//! Policies (1.6) where a case in a file can't say it: credentials, hostile annotations, what is told of a workload that
//! stands, and what holds for all of them.
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Selection, admit, look_again},
    decide::{Asker, Refresh},
    discover::Catalog,
    json::Json,
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{generate::*, world::*};

fn app() -> Value {
    deployment("example.org/unknown:1")
}

fn enforcing(spec: &str) -> Catalog {
    World::full().and(policy("base", spec)).catalog()
}

#[rstest]
#[case::beside_a_credential("X=$(HOME)[[ldap.password]]", "X names $(...) beside a credential")]
#[case::too_much("BIG", "too much to inject")]
fn a_mapping_that_can_not_be_written_takes_nothing_enforced_away(#[case] lines: &str, #[case] why: &str) {
    let big: String = (0..60).map(|n| format!("B{n}={}\n", "x".repeat(4000))).collect();
    let lines = if lines == "BIG" { big.as_str() } else { lines };
    let mut object = asking(app(), &[("env.ldap", lines)]);
    for name in ["b", "c", "d"] {
        let container = json!({"name": name, "image": "example.org/unknown:1"});
        object = with(object, "/spec/template/spec/containers/-", container);
    }
    let after = inject(&object, &enforcing("enforce: [ldap]"));
    assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"));
    assert!(status(&after).contains(&format!("its own mapping is left out: {why}")), "{}", status(&after));
}

#[test]
fn the_webhook_of_a_policy_is_believed_about_a_namespace_that_nobody_knows_yet() {
    let catalog = World::full()
        .without("Namespace", "blog")
        .and(policy("base", "{namespaceSelector: {matchLabels: {team: a}}, enforce: [ldap]}"))
        .catalog();
    let object = asking(app(), &[("wants", "mail")]);
    let unknown = admitted(&object, None, &catalog, &Options::default()).0;
    assert_eq!(status(&unknown), "mail=mail/mailu-front");
    let options = Options { selection: Selection::Policy("base".to_owned()), ..Options::default() };
    let told = admitted(&app(), None, &catalog, &options).0;
    assert_eq!(status(&told), "ldap=directory/openldap (enforced by policy base)");
    // What the other webhook, which knows more of the namespace, put in stays.
    let both = admitted(&unknown, None, &catalog, &options).0;
    assert_eq!(status(&both), "ldap=directory/openldap (enforced by policy base); mail=mail/mailu-front");
    assert_eq!(literal(&both, "SMTP_HOST"), Some("mailu-front.mail.svc"));
}

#[test]
fn the_webhook_of_a_default_is_called_only_where_injection_is_on() {
    let catalog =
        World::full().without("Namespace", "blog").and(policy("base", "defaults: [ldap]")).catalog();
    let options = Options { selection: Selection::Policy("base".to_owned()), ..Options::default() };
    let told = admitted(&app(), None, &catalog, &options).0;
    assert_eq!(status(&told), "ldap=directory/openldap (by default of policy base)");
}

#[rstest]
fn nothing_is_enforced_where_nobody_may_touch_anything(#[values("kube-system", "attic")] namespace: &str) {
    let catalog = enforcing("{enforce: [cache], onAbsent: Deny}");
    let options = Options {
        excluded_namespaces: vec!["attic".to_owned()],
        selection: Selection::Policy("base".to_owned()),
        ..Options::default()
    };
    let object = app();
    let verdict = admit(&Request { namespace, object: &Json::from(&object), old: None }, &catalog, &options);
    assert_eq!(verdict.result, AdmissionResult::Ignored);
}

#[test]
fn a_strict_policy_refuses_what_can_not_be_read() {
    let twins = json!([{"name": "app", "image": "a"}, {"name": "app", "image": "b"}]);
    let object = with(app(), "/spec/template/spec/containers", twins);
    let result = |spec: &str| admitted(&object, None, &enforcing(spec), &Options::default()).1.result;
    let AdmissionResult::Denied(why) = result("{enforce: [ldap], onAbsent: Deny}") else {
        panic!("admitted")
    };
    assert!(why.contains("policy base enforces ldap") && why.contains("two containers"), "{why}");
    assert!(matches!(result("enforce: [ldap]"), AdmissionResult::FailedOpen(_)));
}

#[test]
fn without_policies_the_digest_is_that_of_the_wishes() {
    let object = asking(app(), &[("wants", "ldap")]);
    let of =
        |catalog: &Catalog| inject(&object, catalog).pointer(INJECTED).unwrap().as_str().unwrap().to_owned();
    let alone = of(&World::full().catalog());
    assert_eq!(alone, of(&enforcing("{defaults: [ldap], refresh: never}")));
    assert_ne!(alone, of(&enforcing("prefer: {ldap: directory/openldap}")));
}

#[rstest]
#[case::bound("enforce: [ldap]", &[], None)]
#[case::absent("enforce: [bucket]", &[], Some(("bucket", "absent: no offer")))]
#[case::waiting("enforce: [ldap]", &["before"], Some(("ldap", "after the next rollout")))]
#[case::forbidden("forbid: [mail]", &["mail"], Some(("mail", "it still has it")))]
#[case::evaded("enforce: [ldap]", &["evade"], Some(("ldap", "the workload sets LDAP_HOST itself")))]
fn what_a_workload_lacks_of_a_policy_is_told(
    #[case] spec: &str,
    #[case] history: &[&str],
    #[case] lacks: Option<(&str, &str)>,
) {
    let catalog = enforcing(spec);
    let object = match history {
        ["before"] => inject(&asking(app(), &[("wants", "analytics")]), &World::full().catalog()),
        ["mail"] => inject(&asking(app(), &[("wants", "mail")]), &World::full().catalog()),
        ["evade"] => {
            let env = json!([{"name": "LDAP_HOST", "value": "mine"}]);
            inject(&with(app(), "/spec/template/spec/containers/0/env", env), &catalog)
        }
        _ => inject(&app(), &catalog),
    };
    let again = look_again(&object, "blog", &catalog, &Options::default()).unwrap();
    let told = &again.conformance["base"];
    match lacks {
        None => assert!(told.is_empty(), "{told:?}"),
        Some((intent, why)) => {
            let [(lacking, reason)] = told.iter().collect::<Vec<_>>()[..] else { panic!("{told:?}") };
            assert_eq!(lacking.as_str(), intent);
            assert!(reason.contains(why), "{reason}");
        }
    }
}

#[test]
fn who_says_what_happens_later_is_told() {
    let plan = |object: &Value, spec: &str| {
        admitted(object, None, &enforcing(spec), &Options::default()).1.plan.unwrap()
    };
    let by_policy = plan(&app(), "{defaults: [ldap], refresh: rollout}");
    assert_eq!(by_policy.refresh, Refresh::Rollout);
    assert_eq!(by_policy.refresh_by, Some(Asker::Policy("base".to_owned())));
    let own = plan(&asking(app(), &[("refresh", "never")]), "{defaults: [ldap], refresh: rollout}");
    assert_eq!((own.refresh, own.refresh_by), (Refresh::Never, Some(Asker::Workload)));
    let nobody = plan(&app(), "defaults: [ldap]");
    assert_eq!((nobody.refresh, nobody.refresh_by), (Refresh::Notify, None));
}

#[test]
fn a_policy_that_can_not_be_read_names_its_field() {
    for (spec, field) in [
        ("{workloadSelector: {matchLabels: {a: b}}, enforce: [ldap]}", "spec.workloadSelector"),
        ("{enforce: [ldap], forbid: [ldap]}", "spec.enforce"),
        ("storage: {maxSize: 10GB}", "spec.storage.maxSize"),
        ("storage: {maxSize: 1Gi, defaultSize: 2Gi}", "spec.storage.defaultSize"),
        ("enforce: [NOT]", "spec.enforce[0]"),
        ("enforces: [ldap]", "spec.enforces"),
    ] {
        let error = inventory().apply(&policy("base", spec)).unwrap_err();
        assert!(error.reason.starts_with(field), "{spec}: {error}");
    }
}

#[test]
fn what_was_known_of_a_policy_goes_when_it_can_not_be_read_any_more() {
    let mut inventory = inventory();
    inventory.apply(&policy("base", "defaults: [ldap]")).unwrap();
    assert!(inventory.apply(&policy("base", "defaults: [NOT]")).is_err());
    let catalog = inventory.snapshot();
    assert!(catalog.policies().is_empty() && catalog.is_gone_policy("base"));
}

/// The workload with regular containers of an image that no profile knows.
fn unknown(mut object: Value) -> Value {
    for container in object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
        container["image"] = json!("example.org/unknown:1");
    }
    object
}

/// The strongest policy: which directory, and whatever the user set.
const FIRM: &str = "{enforce: [ldap], prefer: {ldap: directory/openldap}, overwrite: true}";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_enforced_is_got_whatever_a_workload_says(
        object in workload(),
        record in any_json(),
        was in proptest::option::of(workload()),
    ) {
        let catalog = enforcing(FIRM);
        // Which profile is taken is said by the images of regular containers, and these are the user's.
        let object = unknown(object);
        let forged = with(object, INJECTED, json!(record.to_string()));
        let stored = was.map(|was| {
            let was = unknown(with(was, "/kind", forged["kind"].clone()));
            admitted(&was, None, &catalog, &Options::default()).0
        });
        let (after, verdict) = admitted(&forged, stored.as_ref(), &catalog, &Options::default());
        // An update that changes nothing that we look at is not decided on.
        if stored.as_ref().is_none_or(|stored| stored["spec"]["template"] != forged["spec"]["template"])
            && !matches!(verdict.result, AdmissionResult::Denied(_))
        {
            prop_assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"), "{:#}", after);
        }
    }

    #[test]
    fn what_gave_way_comes_back_when_all_is_taken_out(object in workload()) {
        let catalog = enforcing(FIRM);
        let once = admitted(&object, None, &catalog, &Options::default()).0;
        let twice = admitted(&once, None, &catalog, &Options::default()).0;
        prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
        prop_assert_eq!(taken_out(&once), object);
    }

    #[test]
    fn a_policy_that_came_since_changes_nothing_more_at_the_second_call(object in workload()) {
        let catalog = enforcing(FIRM);
        let stored = admitted(&object, None, &World::full().catalog(), &Options::default()).0;
        let once = admitted(&object, Some(&stored), &catalog, &Options::default()).0;
        let twice = admitted(&once, Some(&stored), &catalog, &Options::default()).0;
        prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
    }
}
