//! Recipes and profiles of the operator's own: `--recipes` and `--profiles`.
use assert_cmd::Command;
use std::{fs, path::Path};
use tempfile::TempDir;

const PROFILE: &str = "\
name: intranet
app: Intranet
images: [example.org/intranet]
intents:
  mail:
    env: {MX: \"[[mail.host]]:[[mail.port]]\"}
    confidence: memory
    sources: []
";

const RECIPE: &str = "\
name: acme-mail
title: ACME Mail
intent: mail
provider: acme
match:
  labels:
    - {app.kubernetes.io/name: acme-mail}
  names: [\"acme*\"]
  port-numbers: [2525]
ports:
  - {number: 2525, tls: none}
settings:
  from: noreply@example.org
confidence: memory
sources: []
";

const CLUSTER: &str = "\
apiVersion: v1
kind: Service
metadata: {name: acme, namespace: blog, labels: {app.kubernetes.io/name: acme-mail}}
spec: {ports: [{port: 2525}]}
";

const WORKLOAD: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: intranet, namespace: blog}
spec:
  selector: {matchLabels: {app: intranet}}
  template:
    metadata: {labels: {app: intranet}, annotations: {opportune.libre.sh/wants: mail}}
    spec: {containers: [{name: app, image: \"example.org/intranet:1\"}]}
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Exit code, standard output and standard error of an injection.
fn inject(recipes: &Path, profiles: &Path) -> (i32, String, String) {
    let catalog = folder(&[("cluster.yaml", CLUSTER)]);
    let mut command = Command::cargo_bin("opportune").unwrap();
    command.args(["inject", "-f", "-", "--catalog"]).arg(catalog.path());
    command.arg("--recipes").arg(recipes).arg("--profiles").arg(profiles).write_stdin(WORKLOAD);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_service_and_an_app_of_ones_own_are_known() {
    let (recipes, profiles) = (folder(&[("acme.yaml", RECIPE)]), folder(&[("intranet.yml", PROFILE)]));
    let (code, out, err) = inject(recipes.path(), profiles.path());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("mail=blog/acme") && out.contains("value: acme.blog.svc:2525"), "{out}{err}");

    let nothing = folder(&[("notes.txt", "not read")]);
    let (code, out, _) = inject(nothing.path(), nothing.path());
    assert_eq!(code, 0);
    assert!(out.contains("mail=absent: no offer"), "{out}");
}

#[test]
fn a_mounted_config_map_is_read_through_its_links() {
    let mounted = folder(&[]);
    let data = mounted.path().join("..2026_11_22");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("acme.yaml"), RECIPE).unwrap();
    std::os::unix::fs::symlink(&data, mounted.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/acme.yaml", mounted.path().join("acme.yaml")).unwrap();
    let profiles = folder(&[("intranet.yaml", PROFILE)]);
    let (code, out, err) = inject(mounted.path(), profiles.path());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("mail=blog/acme"), "{out}");
}

#[test]
fn what_is_wrong_is_named_by_file_and_field() {
    let good = folder(&[("acme.yaml", RECIPE)]);
    let broken = folder(&[("bad.yaml", &PROFILE.replace("app: Intranet", "app: [1]"))]);
    let (code, out, err) = inject(good.path(), broken.path());
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("bad.yaml") && err.contains("app"), "{err}");

    let twice = folder(&[("a.yaml", RECIPE), ("b.yaml", RECIPE)]);
    let (code, _, err) = inject(twice.path(), good.path());
    assert_eq!(code, 1);
    assert!(err.contains("b.yaml") && err.contains("two recipes are named acme-mail"), "{err}");

    let (code, _, err) = inject(&good.path().join("nowhere"), good.path());
    assert_eq!(code, 1);
    assert!(err.contains("nowhere"), "{err}");
}
