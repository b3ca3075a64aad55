//! The command line, run as a user would: output, messages, exit codes.
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use rstest::rstest;
use serde_json::Value;

pub fn demo(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/demo").join(file)
}

pub fn opportune(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("opportune").unwrap();
    command.env_remove("OPPORTUNE_CATALOG").env("NO_COLOR", "1").args(args);
    command
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `inject` of one text on standard input against the demo's cluster.
fn inject(text: &str, more: &[&str]) -> Ran {
    let cluster = demo("cluster.yaml");
    let mut args = vec!["inject", "-f", "-", "--catalog", cluster.to_str().unwrap()];
    args.extend(more);
    ran(opportune(&args).write_stdin(text))
}

fn wordpress() -> String {
    std::fs::read_to_string(demo("wordpress.yaml")).unwrap()
}

#[test]
fn the_demo_shows_catalog_plan_and_diff() {
    let ran = ran(&mut opportune(&["demo"]));
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in [
        "marked ServiceOffer",
        "incomplete: lacks base-dn",
        "-> directory/openldap (marked Service): used",
        "+        - name: WORDPRESS_SMTP_HOST",
        "+          claimName: wordpress-bitnami-wordpress-3875d7",
        "ldap=absent: no offer",
    ] {
        assert!(ran.out.contains(part), "{part} is missing in\n{}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "NO_COLOR is respected");
}

#[test]
fn injecting_twice_changes_nothing_and_removing_restores() {
    let once = inject(&wordpress(), &[]);
    assert_eq!(once.code, 0, "{}", once.err);
    let twice = inject(&once.out, &[]);
    assert_eq!(twice.out, once.out);
    let removed = ran(opportune(&["inject", "-f", "-", "--remove"]).write_stdin(once.out));
    let untouched = ran(opportune(&["inject", "-f", "-", "--remove"]).write_stdin(wordpress()));
    assert_eq!(removed.out, untouched.out);
}

#[test]
fn json_is_one_list_with_everything_in_order() {
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n---\n{}", wordpress());
    let ran = inject(&text, &["-o", "json", "--with-delivery"]);
    let list: Value = serde_json::from_str(&ran.out).unwrap();
    let kinds: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|o| o["kind"].as_str().unwrap()).collect();
    assert_eq!(list["kind"], "List");
    assert_eq!(kinds, ["ConfigMap", "Deployment", "Secret", "Secret", "PersistentVolumeClaim"]);
    assert!(list["items"][2].get("data").is_none() && list["items"][2].get("stringData").is_none());
}

#[test]
fn a_patch_is_what_makes_the_output() {
    let patch = inject(&wordpress(), &["-o", "patch"]).out;
    let patch: json_patch::Patch = serde_json::from_str(patch.trim()).unwrap();
    let before =
        ran(opportune(&["inject", "-f", "-", "--remove", "-o", "json"]).write_stdin(wordpress())).out;
    let mut object = serde_json::from_str::<Value>(&before).unwrap()["items"][0].take();
    json_patch::patch(&mut object, &patch).unwrap();
    let after: Value = serde_json::from_str(&inject(&wordpress(), &["-o", "json"]).out).unwrap();
    assert_eq!(object, after["items"][0]);
}

#[test]
fn lists_are_taken_apart_and_unknown_kinds_pass_unchanged() {
    let text = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"mode":"0644","deep":{"x":[1,null]}}}]}"#;
    let ran = inject(text, &["-o", "json"]);
    let list: Value = serde_json::from_str(&ran.out).unwrap();
    let given: Value = serde_json::from_str(text).unwrap();
    assert_eq!(list["items"], given["items"]);
}

#[test]
fn a_file_mode_in_octal_keeps_its_meaning() {
    let text =
        "apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: {defaultMode: 0644, s: \"0644\", on: \"yes\"}\n";
    let list: Value = serde_json::from_str(&inject(text, &["-o", "json"]).out).unwrap();
    assert_eq!(list["items"][0]["spec"]["defaultMode"], 420);
    assert!(inject(text, &[]).out.contains("s: \"0644\""));
}

#[test]
fn a_namespace_that_is_not_opted_in_is_left_alone() {
    let cluster = "apiVersion: v1\nkind: Namespace\nmetadata: {name: blog}\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, cluster).unwrap();
    let inject = |mode: &str| {
        let args = ["inject", "-f", "-", "-o", "patch", "--mode", mode, "--catalog", file.to_str().unwrap()];
        ran(opportune(&args).write_stdin(wordpress())).out
    };
    assert_eq!(inject("opt-in"), "[]\n");
    assert_ne!(inject("cluster-wide"), "[]\n");
}

#[test]
fn an_unsatisfied_requirement_is_exit_code_3_with_nothing_printed() {
    let text = wordpress().replace("wants: ldap, mail", "requires: cache, ldap, mail");
    let ran = inject(&text, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert_eq!(
        ran.err,
        "error: standard input, document 1 (Deployment wordpress): cache is required but absent: no offer\n"
    );
}

#[rstest]
#[case::not_yaml("a: [", "standard input, document 1: not YAML")]
#[case::not_yaml_later("kind: A\napiVersion: v1\n---\nb: {", "standard input, document 2: not YAML")]
#[case::a_scalar("hello", "standard input, document 1: not a Kubernetes object")]
#[case::without_kind("apiVersion: v1\nmetadata: {name: x}", "document 1: kind: missing")]
#[case::without_version("kind: Service\nmetadata: {name: x}", "document 1: apiVersion: missing")]
#[case::a_list_of_nothing("apiVersion: v1\nkind: List\nitems: 3", "document 1: items: not a list")]
#[case::a_boolean_name(
    "apiVersion: v1\nkind: A\nmetadata: {name: on}",
    "metadata.name: not a string: put it in quotes"
)]
#[case::double_key("apiVersion: v1\nkind: A\nkind: B", "duplicate mapping key: kind")]
fn bad_manifests_are_named(#[case] text: &str, #[case] message: &str) {
    let ran = inject(text, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains(message), "{}", ran.err);
}

#[test]
fn deep_nesting_and_bombs_are_refused() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g]\n";
    for text in ["[".repeat(10_000), "{\"a\":".repeat(10_000), "- ".repeat(10_000), bomb.to_owned()] {
        let ran = inject(&text, &[]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(ran.err.starts_with("error: standard input"), "{}", ran.err);
    }
}

#[rstest]
#[case("wants: LDAP", "annotation opportune.libre.sh/wants: `LDAP` is not an intent")]
#[case("wants: [ldap]", "annotation opportune.libre.sh/wants: not a string")]
#[case(
    "env.ldap: 'A=[[ldap.nope]]'",
    "annotation opportune.libre.sh/env.ldap: line 1: unknown setting `ldap.nope`"
)]
#[case("storage: /a/../b=1Gi", "annotation opportune.libre.sh/storage: `/a/../b` is not an absolute path")]
#[case("profile: nope", "annotation opportune.libre.sh/profile: no profile is named nope")]
#[case("containers: nope", "annotation opportune.libre.sh/containers: no container is named nope")]
fn bad_annotations_are_named(#[case] annotation: &str, #[case] message: &str) {
    let text = wordpress().replace("wants: ldap, mail, analytics, storage", annotation);
    let ran = inject(&text, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("(Deployment wordpress)") && ran.err.contains(message), "{}", ran.err);
}

#[test]
fn a_slip_of_the_pen_is_warned_of() {
    let ran = inject(&wordpress().replace("/wants:", "/want:"), &[]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.contains("unknown annotation opportune.libre.sh/want; did you mean wants?"),
        "{}",
        ran.err
    );
}

#[test]
fn paths_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    let cluster = demo("cluster.yaml");
    for (path, message) in
        [("/nowhere/x", "/nowhere/x: no such file or folder"), (empty, "no .yaml, .yml or .json")]
    {
        let manifests = ran(&mut opportune(&["inject", "-f", path, "--catalog", cluster.to_str().unwrap()]));
        let catalog = ran(&mut opportune(&["catalog", "--catalog", path]));
        for ran in [manifests, catalog] {
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(ran.err.contains(message), "{}", ran.err);
        }
    }
}

fn catalog(text: &str, more: &[&str]) -> Ran {
    let mut args = vec!["catalog", "--catalog", "-"];
    args.extend(more);
    ran(opportune(&args).write_stdin(text))
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: d\n  namespace: ns\n  \
                       labels: {opportune.libre.sh/offers: ldap}\n";

#[test]
fn one_object_with_two_contents_is_refused() {
    let service = |port: u16| format!("{SERVICE}spec: {{ports: [{{port: {port}}}]}}\n");
    let twice = catalog(&format!("{}---\n{}", service(389), service(636)), &[]);
    assert_eq!((twice.code, twice.out.as_str()), (1, ""));
    assert!(
        twice.err.contains(
            "standard input, document 2 (Service d): metadata.name: the same object stands in standard input, document 1"
        ),
        "{}",
        twice.err
    );
    let same = catalog(&format!("{}---\n{}", service(389), service(389)), &[]);
    assert_eq!(same.code, 0, "{}", same.err);
}

#[test]
fn two_offers_of_one_name_are_warned_of() {
    let offer = "apiVersion: opportune.libre.sh/v1alpha1\nkind: ServiceOffer\nmetadata: {name: d, namespace: ns}\n\
                 spec: {intent: ldap, settings: {host: h, port: 389, base-dn: dc=x}}\n";
    let ran = catalog(&format!("{SERVICE}---\n{offer}"), &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("named ns/d: the ServiceOffer comes before the Service"), "{}", ran.err);
}

#[rstest]
#[case("port: many", "port: expected a number")]
#[case("\"x\\ty\": 1", "settings: `x?y` is not a name of lower-case letters")]
#[case("from: \"a\\tb\"", "from: has control characters")]
#[case("host: [a]", "host: expected a string, a number or a boolean")]
#[case("password: hunter2", "password: a secret: name the Secret")]
#[case("- a", "settings: expected a YAML map")]
fn a_bad_setting_makes_its_offer_incomplete_and_nothing_else(#[case] settings: &str, #[case] reason: &str) {
    let text = format!(
        "{SERVICE}  annotations:\n    opportune.libre.sh/settings: '{settings}'\nspec: {{ports: [{{port: 389}}]}}\n"
    );
    let ran = catalog(&text, &["-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let offers: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(offers[0]["complete"], false);
    assert!(offers[0]["problems"].to_string().contains(reason), "{}", offers[0]["problems"]);
    assert!(!ran.out.contains("hunter2"), "a password is not repeated");
}

#[test]
fn an_overlong_setting_makes_its_offer_incomplete() {
    let long = "x".repeat(5 * 1024);
    let text = format!("{SERVICE}  annotations:\n    opportune.libre.sh/settings: 'base-dn: {long}'\n");
    let ran = catalog(&text, &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("base-dn: 5120 bytes, more than 4 KiB"), "{}", ran.out);
}

#[test]
fn a_label_that_is_no_intent_is_warned_of_and_the_rest_is_listed() {
    let text = format!(
        "{}---\n{}",
        SERVICE.replace("offers: ldap", "offers: LDAP"),
        SERVICE.replace("name: d", "name: e")
    );
    let ran = catalog(&text, &[]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.contains("(Service d): left out: metadata.labels[opportune.libre.sh/offers]"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("ns/e"), "{}", ran.out);
}

#[test]
fn explain_tells_an_operator_why_an_offer_is_not_for_a_namespace() {
    let cluster = demo("cluster.yaml");
    let text = wordpress().replace("namespace: blog", "namespace: shop");
    let ran =
        ran(opportune(&["explain", "-f", "-", "--catalog", cluster.to_str().unwrap()]).write_stdin(text));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains(
            "directory/openldap (marked Service): not for this namespace: its consumers do not select this namespace"
        ),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("incomplete  directory/lldap lacks base-dn"), "{}", ran.out);
}

#[test]
fn an_apps_own_file_tells_its_address() {
    let app =
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: wiki, namespace: blog}, spec: {template: {
          metadata: {labels: {app: wiki}, annotations: {opportune.libre.sh/wants: mail,
            opportune.libre.sh/env.mail: 'BASE=[[app.url]]pages'}},
          spec: {containers: [{name: wiki, image: example.org/wiki}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: wiki, namespace: blog}, spec: {selector: {app: wiki}}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: wiki, namespace: blog}, spec: {
  tls: [{hosts: [wiki.example.org]}], rules: [{host: wiki.example.org, http: {paths: [
    {path: /w, pathType: Prefix, backend: {service: {name: wiki, port: {number: 80}}}}]}}]}}
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wiki.yaml");
    std::fs::write(&path, app).unwrap();
    assert!(!inject(app, &[]).out.contains("BASE\n"), "nothing tells the address");
    let ran = inject(app, &["--catalog", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("- name: BASE\n          value: https://wiki.example.org/w/pages\n"),
        "{}",
        ran.out
    );
}

#[test]
fn explain_names_the_profiles_that_fit_as_well() {
    let profile = "{apiVersion: opportune.libre.sh/v1alpha1, kind: AppProfile, metadata: {name: ours},\n\
        spec: {images: [docker.io/bitnami/wordpress]}}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.yaml");
    std::fs::write(&path, profile).unwrap();
    let cluster = demo("cluster.yaml");
    let catalog = [cluster.to_str().unwrap(), path.to_str().unwrap()];
    let text = wordpress();
    let ran = ran(opportune(&["explain", "-f", "-", "--catalog", catalog[0], catalog[1]]).write_stdin(text));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("profile     ours (ours)\n"), "{}", ran.out);
    assert!(ran.out.contains("also matches: wordpress-bitnami (same pattern length)\n"), "{}", ran.out);
}

#[rstest]
#[case(&["inject"], "--filename")]
#[case(&["inject", "-f", "-", "-n", "../secrets"], "not a name that Kubernetes allows for a namespace")]
#[case(&["explain"], "<TYPE/NAME|--filename <FILE>...>")]
#[case(&["explain", "deploy/x", "-f", "x"], "cannot be used with")]
#[case(&["explain", "deploy/x", "--catalog", "x"], "leave --catalog (OPPORTUNE_CATALOG) out")]
#[case(&["report", "--catalog", "x"], "goes with manifests: name them by -f")]
#[case(&["report", "-f", "-", "--catalog", "-"], "standard input (`-`) can be read only once")]
#[case(&["report", "-n", "../x"], "not a name that Kubernetes allows for a namespace")]
#[case(&["doctor", "-n", "a/b"], "not a name that Kubernetes allows for a namespace")]
#[case(&["doctor", "--catalog", "x"], "unexpected argument")]
#[case(&["explain", "rs/x"], "deployment (deploy), statefulset (sts), daemonset (ds)")]
#[case(&["serve", "--kinds", "deployments,replicasets"], "expected deployments, statefulsets, daemonsets")]
#[case(&["explain", "x"], "expected TYPE/NAME, as in deployment/x")]
#[case(&["explain", "deploy/x/../y"], "not a name that Kubernetes allows")]
#[case(&["explain", "deploy", "x", "y"], "unexpected")]
#[case(&["serve", "--catalog", "x", "--tls", "managed"], "needs a live cluster")]
#[case(&["serve", "--register", "http://192.0.2.7"], "HTTPS only")]
#[case(&["nonsense"], "unrecognized subcommand")]
#[case(&["serve", "--catalog", "x", "--tls", "files"], "--tls-cert")]
#[case(&["inject", "--remove", "--with-delivery", "-f", "x"], "cannot be used with")]
fn wrong_usage_is_exit_code_2(#[case] args: &[&str], #[case] message: &str) {
    let ran = ran(&mut opportune(args));
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains(message), "{}", ran.err);
}

#[rstest]
#[case(&["inject", "-f", "-"])]
#[case(&["explain", "-f", "-"])]
#[case(&["explain", "deploy/x"])]
#[case(&["explain", "sts", "x"])]
#[case(&["catalog"])]
#[case(&["report"])]
#[case(&["report", "-f", "-"])]
#[case(&["serve"])]
fn without_a_cluster_and_a_catalog_both_ways_are_named(#[case] args: &[&str]) {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = opportune(args);
    command.env("HOME", nowhere.path()).env_remove("KUBECONFIG").write_stdin("");
    let ran = ran(&mut command);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("no cluster to talk to") && ran.err.contains("--catalog"), "{}", ran.err);
}

#[test]
fn a_doctor_without_a_cluster_that_answers_finds_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: gone\n\
        contexts: [{name: gone, context: {cluster: c, user: u}}]\n\
        clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n";
    std::fs::write(&kubeconfig, text).unwrap();
    let silent = ran(opportune(&["doctor"]).env("KUBECONFIG", &kubeconfig));
    assert_eq!((silent.code, silent.out.as_str()), (1, ""), "{}", silent.err);
    assert!(silent.err.contains("the cluster (context gone) does not answer"), "{}", silent.err);

    let nowhere = folder.path().join("nothing");
    let ran = ran(opportune(&["doctor"]).env("HOME", &nowhere).env_remove("KUBECONFIG"));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("no cluster to talk to") && ran.err.contains("Set KUBECONFIG"), "{}", ran.err);
}

#[rstest]
fn each_command_helps_with_an_example(
    #[values("demo", "inject", "explain", "catalog", "report", "doctor", "serve", "completions")]
    command: &str,
) {
    let ran = ran(&mut opportune(&[command, "--help"]));
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Example") && ran.out.contains(&format!("opportune {command}")), "{}", ran.out);
}

#[rstest]
fn completions_are_scripts(#[values("bash", "zsh", "fish")] shell: &str) {
    let ran = ran(&mut opportune(&["completions", shell]));
    assert!(ran.code == 0 && ran.out.contains("opportune"));
}

#[test]
fn where_injection_is_off_it_is_said_and_what_to_do() {
    let cluster = demo("cluster.yaml");
    let args = ["-f", "-", "--catalog", cluster.to_str().unwrap()];
    let text = wordpress().replace("namespace: blog", "namespace: mail");
    let injected = ran(opportune(&[&["inject"], &args[..]].concat()).write_stdin(text.clone()));
    assert!(
        injected.err.contains("injection is off in namespace mail: label its Namespace"),
        "{}",
        injected.err
    );
    let explained = ran(opportune(&[&["explain"], &args[..]].concat()).write_stdin(text));
    assert!(explained.out.contains("opportune.libre.sh/inject=enabled"), "{}", explained.out);
}

#[test]
fn standard_input_is_read_only_once() {
    let ran = ran(opportune(&["inject", "-f", "-", "--catalog", "-"]).write_stdin(wordpress()));
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
}

#[test]
fn delivered_objects_are_printed_once_and_removed_with_the_rest() {
    let once = inject(&wordpress(), &["--with-delivery"]);
    let twice = inject(&once.out, &["--with-delivery"]);
    assert_eq!(twice.out.matches("kind: Secret").count(), 2);
    assert!(
        once.out.contains("opportune.libre.sh/credentials-keys: bind-dn=bind-dn|username,password=password")
    );
    let removed = ran(opportune(&["inject", "-f", "-", "--remove"]).write_stdin(once.out));
    assert!(
        !removed.out.contains("kind: Secret") && !removed.out.contains("PersistentVolumeClaim"),
        "{}",
        removed.out
    );
}

#[test]
fn an_injected_file_keeps_its_volume_when_the_catalog_lost_the_class() {
    let once = inject(&wordpress(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.yaml");
    std::fs::write(&empty, "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n").unwrap();
    let args = ["inject", "-f", "-", "--catalog", empty.to_str().unwrap()];
    let after = ran(opportune(&args).write_stdin(once.out));
    assert!(after.out.contains("claimName: wordpress-bitnami-wordpress-3875d7"), "{}", after.out);
    assert!(after.out.contains("storage=kept: no offer"), "{}", after.out);
}

#[rstest]
#[case(&[], "", "not injected: this kind is not switched on")]
#[case(&["--kinds", "cronjobs,pods"], "SMTP_HOST", "")]
fn a_kind_is_injected_offline_where_it_is_named(
    #[case] kinds: &[&str],
    #[case] holds: &str,
    #[case] warns: &str,
) {
    let manifest = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: night}\nspec: {schedule: '0 0 * * *', jobTemplate: \
         {spec: {template: {metadata: {annotations: {opportune.libre.sh/wants: mail}}, \
         spec: {containers: [{name: app, image: 'x:1'}]}}}}}\n";
    let cluster = demo("cluster.yaml");
    let args = ["inject", "-f", "-", "--catalog", cluster.to_str().unwrap()];
    let ran = ran(opportune(&args).args(kinds).write_stdin(manifest));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains(holds) && ran.err.contains(warns), "{}{}", ran.out, ran.err);
    assert_eq!(ran.out.contains("SMTP_HOST"), !holds.is_empty());
}
