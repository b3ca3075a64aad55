//! `opportune doctor` on an install that is well, and on broken ones: each has to be named, with exit code 3.
use crate::trial::trials;
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Options, Program, Tool, free_address};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

const SOON: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "opportune-system";
const WEBHOOKS: &str = "mutatingwebhookconfiguration/opportune";

/// An install outside the cluster, and one namespace in which injection is on.
struct Install {
    plane: ControlPlane,
    webhook: Program,
    listen: SocketAddr,
    doctor: Tool,
}

/// What doctor found: check, result, what and todo.
struct Found {
    findings: Vec<Value>,
    code: Option<i32>,
}

// === impl Install ===

impl Install {
    fn new(tls: &str) -> Result<Self> {
        let plane = ControlPlane::start(Options::default())?;
        plane.kubectl(&["create", "namespace", "blog"])?;
        let (listen, admin) = (free_address()?, free_address()?);
        let url = format!("https://{listen}");
        let arguments = ["serve", "--register", &url, "--tls", tls, "--settle", "0"];
        let authority = plane.directory().join("webhook-authority.pem");
        let webhook = Program::against(&plane, &plane.kubeconfig(), arguments)
            .arguments(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .arguments(["--ca-out".into(), authority.into_os_string()])
            .start_ready(admin, SOON)?;
        plane.kubectl(&["label", "namespace", "blog", "opportune.libre.sh/inject=enabled"])?;
        let doctor = plane.opportune_for(&plane.kubeconfig())?;
        Ok(Self { plane, webhook, listen, doctor })
    }

    fn examine(&self, arguments: &[&str]) -> Result<Found> {
        Found::by(&self.doctor, arguments)
    }

    /// Changes the webhook configuration as somebody else would.
    fn patch(&self, operations: &Value) -> Result<()> {
        self.plane.kubectl(&["patch", WEBHOOKS, "--type=json", "-p", &operations.to_string()]).map(drop)
    }
}

// === impl Found ===

impl Found {
    fn by(doctor: &Tool, arguments: &[&str]) -> Result<Self> {
        let output = doctor.output(&[&["doctor", "-o", "json"], arguments].concat(), "")?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let findings = serde_json::from_str(&printed)
            .with_context(|| format!("{printed}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(Self { findings, code: output.status.code() })
    }

    fn texts(&self) -> Vec<String> {
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        let line = |f: &Value| {
            format!("{} {}: {} — {}", text(f, "result"), text(f, "check"), text(f, "what"), text(f, "todo"))
        };
        self.findings.iter().map(line).collect()
    }

    /// Has one line with this result and check that says this.
    fn says(&self, start: &str, part: &str) -> Result<()> {
        let texts = self.texts();
        ensure!(
            texts.iter().any(|text| text.starts_with(start) && text.contains(part)),
            "no \"{start}\" with {part:?} in\n{}",
            texts.join("\n")
        );
        Ok(())
    }

    fn is_broken(&self) -> Result<()> {
        ensure!(self.code == Some(3), "exit code {:?}:\n{}", self.code, self.texts().join("\n"));
        Ok(())
    }
}

async fn a_good_install_is_well_and_each_thing_that_breaks_is_named() -> Result<()> {
    let mut install = Install::new("managed")?;
    let found = install.examine(&[])?;
    ensure!(found.code == Some(0), "{}", found.texts().join("\n"));
    found.says("ok webhooks", "as they should be")?;
    found.says("ok certificate", "serves a certificate that caBundle trusts")?;
    found.says("ok lease", "renewed the Lease while we looked")?;
    found.says("ok dry run", "comes back with a status")?;
    found.says("ok dry run", "refused by us")?;
    found.says("warn crds", "serviceoffers.opportune.libre.sh is not installed")?;

    // Somebody edits the conditions, so that only requirements reach us, and the policy of the other one.
    install.patch(&json!([
        {"op": "replace", "path": "/webhooks/0/matchConditions/2/expression", "value": "false"},
        {"op": "replace", "path": "/webhooks/1/failurePolicy", "value": "Ignore"},
    ]))?;
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("fail webhooks", "wants.opportune.libre.sh: matchConditions is not what")?;
    found.says("fail webhooks", "requires.opportune.libre.sh: failurePolicy is not what")?;

    // Nobody labels a namespace.
    install.plane.kubectl(&["label", "namespace", "blog", "opportune.libre.sh/inject-"])?;
    let found = install.examine(&[])?;
    found.says("warn workloads", "injection is on nowhere")?;
    found.says("warn dry run", "injection is on in no namespace")?;
    install.examine(&["--probe-namespace", "blog"])?.says("fail dry run", "is not injected")?;
    install.plane.kubectl(&["label", "namespace", "blog", "opportune.libre.sh/inject=enabled"])?;

    // The process dies: the Lease stands still, and nobody answers.
    install.webhook.kill();
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("warn certificate", &format!("nothing answers at {} from here", install.listen))?;
    found.says("fail lease", "has not renewed it for")?;

    install.plane.kubectl(&["delete", WEBHOOKS])?;
    install.plane.kubectl(&["-n", NAMESPACE, "delete", "lease", "opportune"])?;
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("fail webhooks", "there is no MutatingWebhookConfiguration opportune")?;
    found.says("fail lease", "no controller ever ran there")
}

async fn a_webhook_that_dies_is_named_by_the_api_server() -> Result<()> {
    let mut install = Install::new("managed")?;
    install.webhook.kill();
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("fail dry run", "a Deployment in blog that wants something is not injected: the API server can't call us")?;
    found.says("fail dry run", "connection refused")?;
    found.says("fail dry run", "see that a webhook runs and listens on that port")
}

async fn a_bundle_that_lacks_or_is_somebody_elses_is_named() -> Result<()> {
    // After its start, nobody writes caBundle here.
    let install = Install::new("self-signed")?;
    install.patch(&json!([
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"},
        {"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"},
    ]))?;
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("fail certificate", "no caBundle")?;
    found.says("fail dry run", "x509")?;

    let of_the_cluster = "-o=jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let authority = install.plane.kubectl(&["config", "view", "--raw", of_the_cluster])?;
    install.patch(&json!([
        {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority},
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": authority},
    ]))?;
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("fail certificate", "is not trusted")?;
    found.says("fail dry run", "caBundle does not trust what is served")
}

async fn few_rights_are_told_and_are_no_failure() -> Result<()> {
    let install = Install::new("managed")?;
    install.plane.kubectl(&["-n", "blog", "create", "serviceaccount", "dev"])?;
    let dev = install.plane.service_account_kubeconfig("blog", "dev")?;
    let said = install.plane.opportune_for(&dev)?.run(&["doctor"])?;
    for part in [
        "no right to get mutatingwebhookconfigurations.admissionregistration.k8s.io opportune",
        "no right to list services in the whole cluster",
        "name a namespace where injection is on by --probe-namespace",
        " 0 fail,",
    ] {
        ensure!(said.contains(part), "no {part:?} in\n{said}");
    }
    Ok(())
}

async fn rights_that_lack_or_are_too_many_are_named() -> Result<()> {
    let install = Install::new("managed")?;
    for account in ["opportune-webhook", "opportune-controller"] {
        install.plane.kubectl(&["-n", NAMESPACE, "create", "serviceaccount", account])?;
    }
    let user = format!("--serviceaccount={NAMESPACE}:opportune-webhook");
    install.plane.kubectl(&["create", "clusterrolebinding", "generous", "--clusterrole=cluster-admin", &user])?;
    let found = install.examine(&[])?;
    found.is_broken()?;
    found.says("ok rights", "opportune-webhook has the")?;
    found.says("warn rights", "opportune-webhook may do what it need not: list secrets")?;
    found.says("fail rights", "opportune-controller lacks")?;
    found.says("fail rights", "create leases.coordination.k8s.io in opportune-system")
}

/// What is installed, and what is asked for, are written in two places. No pod runs here: the rights are there without.
async fn the_chart_gives_the_rights_that_the_code_needs_and_no_more() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/chart");
    let helm = plane.helm_for(&plane.kubeconfig())?;
    helm.run(&["install", "opportune", chart, "--namespace", NAMESPACE, "--create-namespace"])?;
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    for (name, consumers) in [("directory", "{}"), ("mail", "{}"), ("diary", "null")] {
        let provider = if name == "diary" { "false" } else { "true" };
        plane.apply(&format!(
            r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{opportune.libre.sh/provider: "{provider}"}}}}
---
apiVersion: opportune.libre.sh/v1alpha1
kind: ServiceOffer
metadata: {{name: people, namespace: {name}}}
spec:
  intent: ldap
  consumers: {{namespaceSelector: {consumers}}}
  settings: {{host: ldap.example.org, port: 636, base-dn: "dc=example,dc=org"}}
  credentials: {{secretRef: {{name: reader}}}}
"#
        ))?;
    }
    let doctor = plane.opportune_for(&plane.kubeconfig())?;
    let found = Found::by(&doctor, &[])?;
    found.says("ok webhooks", "both webhooks are as they should be")?;
    for account in ["opportune-webhook", "opportune-controller"] {
        found.says("ok rights", &format!("{account} has the"))?;
        found.says("ok rights", &format!("{account} has none of"))?;
    }
    let advice = "kubectl create rolebinding opportune-provider -n mail --clusterrole=opportune-provider \
                  --serviceaccount=opportune-system:opportune-controller";
    found.says("warn rights", advice)?;
    ensure!(!found.texts().iter().any(|text| text.contains("Secrets in diary")), "it provides to nobody");

    // The advice, as it is given; and the chart's way.
    let words: Vec<&str> = advice.split_whitespace().skip(1).collect();
    plane.kubectl(&words)?;
    helm.run(&["upgrade", "opportune", chart, "--namespace", NAMESPACE, "--set", "providerNamespaces={directory}"])?;
    let found = Found::by(&doctor, &[])?;
    found.says("ok rights", "may watch Secrets in mail")?;
    found.says("ok rights", "may watch Secrets in directory")
}

trials![
    own the_chart_gives_the_rights_that_the_code_needs_and_no_more,
    own a_good_install_is_well_and_each_thing_that_breaks_is_named,
    own a_webhook_that_dies_is_named_by_the_api_server,
    own a_bundle_that_lacks_or_is_somebody_elses_is_named,
    own few_rights_are_told_and_are_no_failure,
    own rights_that_lack_or_are_too_many_are_named,
];
