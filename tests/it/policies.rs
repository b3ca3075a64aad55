//! Policies and defaults of a namespace on the command line; the guide's own examples first.
use super::cli::{Ran, opportune, ran};
use rstest::rstest;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The YAML blocks of a page of the guide.
fn blocks(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide").join(page);
    let text = fs::read_to_string(path).unwrap();
    text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What a cluster has besides policies.
fn cluster() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cases/policies/cluster.yaml")
}

/// A command on one manifest, with these texts as files of the catalog besides the cluster.
fn on(command: &str, manifest: &str, catalog: &[&str], more: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec![command.to_owned(), "-f".to_owned(), "-".to_owned()];
    arguments.extend(more.iter().map(|more| (*more).to_owned()));
    arguments.extend(["--catalog".to_owned(), cluster().to_str().unwrap().to_owned()]);
    for (number, text) in catalog.iter().enumerate() {
        let path = folder.path().join(format!("{number}.yaml"));
        fs::write(&path, text).unwrap();
        arguments.push(path.to_str().unwrap().to_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ran(opportune(&arguments).env_remove("OPPORTUNE_NAMESPACE_DEFAULTS").write_stdin(manifest))
}

/// A Deployment in namespace `blog`, with these further lines of its metadata.
fn workload(metadata: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: blog\n{metadata}spec:\n  replicas: 1\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{containers: \
         [{{name: app, image: \"example.org/unknown:1\"}}]}}\n"
    )
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: opportune.libre.sh/v1alpha1\nkind: InjectionPolicy\nmetadata: {{name: base}}\nspec: {spec}\n"
    )
}

#[test]
fn the_policies_of_the_guide_act_together() {
    let blocks = blocks("policies.md");
    let policies: Vec<&str> =
        blocks.iter().map(String::as_str).filter(|block| block.contains("kind: InjectionPolicy")).collect();
    assert_eq!(policies.len(), 4, "the page says that four are tried together");
    let asking = "  annotations: {opportune.libre.sh/wants: \"analytics, storage\", opportune.libre.sh/storage: /data=50Gi}\n";
    let told = on("explain", &workload(asking), &policies, &[]);
    assert_eq!(told.code, 0, "{}", told.err);
    for part in [
        "policies    no-trackers, baseline, directory, disks",
        "refresh     notify (by policy baseline)",
        "directory/openldap (enforced by policy directory)",
        "mail/smtp (by default of policy baseline)",
        "forbidden   policy no-trackers",
        "/data cut from 50Gi to 20Gi by policy disks",
        "because: policy directory prefers directory/openldap",
        "because: policy disks prefers rook-cephfs",
    ] {
        assert!(told.out.contains(part), "no {part:?} in\n{}", told.out);
    }
}

#[test]
fn the_namespace_of_the_guide_says_defaults_for_its_workloads() {
    let blocks = blocks("policies.md");
    let namespace = blocks.iter().find(|block| block.contains("name: shop")).unwrap();
    let manifest = workload("").replace("namespace: blog", "namespace: shop");
    let with = on("explain", &manifest, &[namespace], &["--namespace-defaults"]);
    for part in [
        "mail/smtp (by the namespace's default)",
        "because: its variables are those of the Namespace's annotation env.mail",
        "MAILER_HOST = smtp.mail.svc",
    ] {
        assert!(with.out.contains(part), "no {part:?} in\n{}", with.out);
    }
    let without = on("explain", &manifest, &[namespace], &[]);
    assert!(without.out.contains("nothing is asked for"), "{}", without.out);
}

#[test]
fn the_walk_through_of_an_own_intent_comes_out_as_it_says() {
    let blocks = blocks("custom-intents.md");
    let [caches, profile, policy, shop] = &blocks[..] else { panic!("{} blocks", blocks.len()) };
    // The Namespace of the app stands beside the app; the command finds it in the catalog.
    let told = on("explain", shop, &[caches, profile, policy, shop], &[]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.contains("caches/redis (by default of policy cache-for-shops)"), "{}", told.out);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/custom-intents.md");
    let page = fs::read_to_string(page).unwrap();
    let promised = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(told.out.contains(promised), "the page promises\n{promised}\nand it is\n{}", told.out);
    let delivered = on("inject", shop, &[caches, profile, policy, shop], &["--with-delivery", "-o", "json"]);
    let list: Value = serde_json::from_str(&delivered.out).unwrap();
    let secret = list["items"].as_array().unwrap().iter().find(|object| object["kind"] == "Secret").unwrap();
    assert_eq!(secret["metadata"]["namespace"], "shop");
    assert!(!delivered.out.contains("not-a-real-one"), "no value of a Secret is printed");
}

#[rstest]
#[case::inject("inject", &[], 3)]
#[case::report("report", &["--check"], 3)]
#[case::report_unchecked("report", &[], 0)]
fn what_is_enforced_and_absent_ends_a_check(#[case] command: &str, #[case] more: &[&str], #[case] code: i32) {
    let ran = on(command, &workload(""), &[&policy("{enforce: [bucket], onAbsent: Deny}")], more);
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    let reason = "policy base enforces bucket, which is absent: no offer";
    match (command, code) {
        ("inject", _) => assert!(ran.out.is_empty() && ran.err.contains(reason), "{}{}", ran.out, ran.err),
        (_, 3) => assert!(
            ran.err.contains("does not conform to policy base: bucket: absent: no offer"),
            "{}",
            ran.err
        ),
        _ => assert!(ran.out.contains("1 workload does not conform to a policy"), "{}", ran.out),
    }
}

#[test]
fn a_policy_that_only_warns_is_no_error_of_inject_and_one_of_the_check() {
    let policy = policy("{enforce: [bucket]}");
    let injected = on("inject", &workload(""), &[&policy], &[]);
    assert_eq!(injected.code, 0, "{}", injected.err);
    assert!(injected.out.contains("bucket=absent: no offer (enforced by policy base)"), "{}", injected.out);
    assert_eq!(on("report", &workload(""), &[&policy], &["--check"]).code, 3);
}

#[test]
fn a_report_counts_who_conforms_to_which_policy() {
    let policies = policy("{enforce: [mail], prefer: {mail: mail/smtp}}");
    let annotated = workload("  annotations: {opportune.libre.sh/declines: \"*\"}\n");
    let told = on("report", &annotated, &[&policies], &["-o", "json"]);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    let counts = serde_json::json!({"base": {"matched": 1, "conforming": 1, "lacking": 0}});
    assert_eq!(report["summary"]["policies"], counts);
    let intent = &report["workloads"][0]["intents"][0];
    assert_eq!((&intent["origin"], &intent["enforced"]), (&"policy base".into(), &"base".into()));
    assert_eq!(report["workloads"][0]["policies"], serde_json::json!({"base": {}}));
    let csv = on("report", &annotated, &[&policies], &["-o", "csv"]);
    assert!(csv.out.contains("policy base (enforced)"), "{}", csv.out);
}

#[test]
fn where_injection_is_off_what_is_enforced_is_told_all_the_same() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: blog}\n";
    let asking = workload("  annotations: {opportune.libre.sh/wants: ldap}\n");
    let told = on("report", &asking, &[namespace, &policy("{enforce: [mail]}")], &[]);
    let line = |intent: &str| told.out.lines().find(|line| line.contains(intent)).unwrap_or_default();
    assert!(line(" mail ").contains("bound") && line(" mail ").contains("(enforced)"), "{}", told.out);
    assert!(line(" ldap ").contains("off"), "{}", told.out);
}

#[test]
fn what_can_not_be_read_is_an_error_of_a_file_though_something_is_enforced() {
    let bad = workload("  annotations: {opportune.libre.sh/wants: \"Bad_One!\"}\n");
    for command in ["inject", "explain", "report"] {
        let ran = on(command, &bad, &[&policy("{enforce: [mail]}")], &[]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{command}");
        assert!(ran.err.contains("opportune.libre.sh/wants") && ran.err.contains("Bad_One!"), "{}", ran.err);
    }
}

#[test]
fn a_policy_that_nobody_lacks_is_counted_too() {
    let counts = |spec: &str| {
        let told = on("report", &workload(""), &[&policy(spec)], &["-o", "json"]);
        let report: Value = serde_json::from_str(&told.out).unwrap();
        report["summary"]["policies"]["base"].clone()
    };
    let of = |matched: u8| serde_json::json!({"matched": matched, "conforming": matched, "lacking": 0});
    assert_eq!(counts("{forbid: [mail]}"), of(1));
    let nowhere =
        "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: nowhere}}, enforce: [mail]}";
    assert_eq!(counts(nowhere), of(0));
}

#[test]
fn who_offers_it_to_others_lacks_nothing() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: blog\n  labels: {opportune.libre.sh/provider: \"true\"}\n";
    let strict = policy("{enforce: [bucket], onAbsent: Deny}");
    assert_eq!(on("inject", &workload(""), &[namespace, &strict], &[]).code, 0);
    let report = on("report", &workload(""), &[namespace, &strict], &["--check"]);
    assert_eq!(report.code, 0, "{}{}", report.out, report.err);
}

#[test]
fn who_wins_between_policies_is_explained() {
    let low = policy("{enforce: [mail]}");
    let high = policy("{forbid: [mail], priority: 7}").replace("name: base", "name: high");
    let told = on("explain", &workload(""), &[&low, &high], &[]);
    for part in ["policy high (priority 7) forbids it", "policy base (priority 0) enforces it, and gives way"]
    {
        assert!(told.out.contains(part), "no {part:?} in\n{}", told.out);
    }
}

#[test]
fn who_is_left_alone_by_defaults_is_told_why() {
    let owned = "  ownerReferences: [{apiVersion: example.org/v1, kind: Operator, name: op, uid: u, controller: true}]\n";
    let told = on("explain", &workload(owned), &[&policy("{defaults: [mail]}")], &[]);
    assert!(told.out.contains("another controller owns it"), "{}", told.out);
    assert!(!told.out.contains("SMTP_HOST"), "{}", told.out);
}

#[rstest]
#[case("{enforce: [mail], forbid: [mail]}", "spec.enforce: mail is also in forbid")]
#[case(
    "{workloadSelector: {matchLabels: {a: b}}, forbid: [mail]}",
    "spec.workloadSelector: can't stand beside"
)]
#[case("{storage: {maxSize: 10GB}}", "spec.storage.maxSize: not a size")]
#[case("{enforces: [mail]}", "unknown field `enforces`")]
fn a_policy_that_can_not_be_read_is_an_error_and_not_left_out(#[case] spec: &str, #[case] reason: &str) {
    for command in ["inject", "explain", "report"] {
        let ran = on(command, &workload(""), &[&policy(spec)], &[]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{command}");
        assert!(ran.err.contains("0.yaml") && ran.err.contains(reason), "{}", ran.err);
    }
}
