//! `opportune report` on manifests: golden outputs, exit codes, and text that somebody else wrote.
use super::cli::{Ran, demo, opportune, ran};
use insta::assert_snapshot;
use rstest::rstest;
use serde_json::{Value, json};

/// A workload with these annotations of ours on itself.
fn workload(kind: &str, namespace: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, text)| (format!("opportune.libre.sh/{key}"), Value::from(*text)))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "example.org/app"}]}}},
    })
}

fn report(workloads: &[Value], more: &[&str]) -> Ran {
    let cluster = demo("cluster.yaml");
    let mut args = vec!["report", "-f", "-", "--catalog", cluster.to_str().unwrap()];
    args.extend(more);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": workloads});
    ran(opportune(&args).write_stdin(list.to_string()))
}

/// One of each result that a file can have, not in order.
fn all_sorts() -> Vec<Value> {
    let withdrawn = r#"{"v":1,"offers":{"ldap":"Service/gone/x"},"withdrawn":{"mail":{"offer":"ServiceOffer/mail/relay","print":"","reason":"a quota"}}}"#;
    vec![
        workload("StatefulSet", "forge", "gitea", &[("wants", "storage"), ("storage", "/data=5Gi")]),
        workload("Deployment", "forge", "gitea", &[("wants", "ldap mail"), ("declines", "mail")]),
        workload("Deployment", "blog", "web", &[("wants", "ldap"), ("use.ldap", "directory/lldap")]),
        workload("Deployment", "blog", "plain", &[]),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "not-a-workload"}}),
        workload("Deployment", "blog", "needy", &[("requires", "cache, mail")]),
        workload("Deployment", "mail", "webmail", &[("wants", "mail"), ("injected", withdrawn)]),
    ]
}

#[test]
fn a_report_is_a_table_with_a_summary() {
    let ran = report(&all_sorts(), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_snapshot!(ran.out);
}

#[test]
fn a_report_is_one_json_object() {
    let ran = report(&all_sorts(), &["-o", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_snapshot!(ran.out);
}

#[test]
fn a_report_is_csv_with_the_summary_beside_it() {
    let ran = report(&all_sorts(), &["-o", "csv"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.starts_with("5 workloads, 7 intents: "), "{}", ran.err);
    assert!(ran.out.lines().count() == ran.out.matches("\r\n").count());
    assert_snapshot!(ran.out.replace("\r\n", "\n"));
}

#[test]
fn the_order_of_the_files_changes_nothing() {
    let mut turned = all_sorts();
    turned.reverse();
    assert_eq!(report(&turned, &[]).out, report(&all_sorts(), &[]).out);
}

#[rstest]
#[case::table("table")]
#[case::csv("csv")]
#[case::json("json")]
fn text_that_somebody_else_wrote_does_no_harm(#[case] output: &str) {
    let hostile = [
        ("=cmd|' /C calc'!A0", "wants", "mail"),
        ("+1", "wants", "mail"),
        ("-1,\"2\"", "wants", "mail"),
        ("@SUM(1)", "wants", "mail"),
        ("\t=1", "wants", "mail"),
        ("\r\n=1", "wants", "mail"),
        ("a\u{1b}[2J\u{202e}b", "wants", "mail"),
    ];
    let mut workloads: Vec<Value> =
        hostile.iter().map(|(ns, key, text)| workload("Deployment", ns, "web", &[(key, text)])).collect();
    let status = "mail=absent: =HYPERLINK(\"http://evil.example\"\u{9b}2J,1)";
    workloads.push(workload("Deployment", "mail", "web", &[("wants", "mail"), ("status", status)]));
    let ran = report(&workloads, &["-o", output]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let moves = |c: char| c.is_control() && !matches!(c, '\n' | '\r');
    if output == "json" {
        let read: Value = serde_json::from_str(&ran.out).unwrap();
        assert!(read["workloads"].as_array().unwrap().iter().any(|w| w["namespace"] == "=cmd|' /C calc'!A0"));
    } else {
        assert!(!ran.out.contains(moves) && !ran.out.contains('\u{202e}'), "{:?}", ran.out);
        assert_snapshot!(format!("hostile_{output}"), ran.out.replace("\r\n", "\n"));
    }
    assert!(!ran.err.contains(moves), "{:?}", ran.err);
}

#[test]
fn a_check_fails_by_what_is_required_alone() {
    let failed = report(&all_sorts(), &["--check"]);
    assert_eq!(failed.code, 3);
    assert_eq!(
        failed.err,
        "error: Deployment blog/needy: cache is required but absent: no offer; it would be refused\n"
    );
    assert_eq!(failed.out, report(&all_sorts(), &[]).out, "the report is printed all the same");
    let wishes = [workload("Deployment", "blog", "a", &[("wants", "cache"), ("requires", "mail")])];
    let passed = report(&wishes, &["--check"]);
    assert_eq!((passed.code, passed.err.as_str()), (0, ""));
    assert!(passed.out.contains("1 workload, 2 intents: 1 bound, 1 absent (2 planned)\n"), "{}", passed.out);
}

#[test]
fn where_injection_is_off_it_is_said_and_nothing_is_required() {
    let ran = report(&[workload("Deployment", "mail", "a", &[("requires", "mail")])], &["--check"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.contains("off    label its Namespace opportune.libre.sh/inject=enabled\n"),
        "{}",
        ran.out
    );
}

#[rstest]
#[case::table("table", "no workload asks for anything or holds anything of ours\n")]
#[case::csv("csv", "namespace,kind,name,intent,result,offer,required,origin,state,reason\r\n")]
fn nothing_is_reported_of_nothing(#[case] output: &str, #[case] text: &str) {
    for workloads in [&[][..], &[workload("Deployment", "blog", "plain", &[])]] {
        let ran = report(workloads, &["-o", output, "--check"]);
        assert_eq!((ran.code, ran.out.as_str()), (0, text), "{}", ran.err);
    }
    let empty = report(&[], &["-o", "json"]).out;
    let empty: Value = serde_json::from_str(&empty).unwrap();
    assert_eq!((&empty["workloads"], &empty["summary"]["results"]["bound"]), (&json!([]), &json!(0)));
}

#[test]
fn bad_input_is_named_and_nothing_is_printed() {
    let bad = workload("Deployment", "blog", "web", &[("wants", "LDAP")]);
    let ran = report(&[all_sorts().remove(0), bad.clone()], &["--check", "-o", "json"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let place = "error: standard input, document 1, item 2 (Deployment web): annotation opportune.libre.sh/wants: `LDAP`";
    assert!(ran.err.starts_with(place), "{}", ran.err);
    let missing = opportune(&["report", "-f", "/nowhere/x", "--catalog", "/nowhere/y"]).output().unwrap();
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0));
}

#[test]
fn a_slip_of_the_pen_is_warned_of() {
    let ran = report(&[workload("Deployment", "blog", "web", &[("want", "ldap")])], &[]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.contains("(Deployment web): unknown annotation opportune.libre.sh/want\n"),
        "{}",
        ran.err
    );
}
