//! The chart, installed by helm, with processes outside in place of its pods: the arguments and the ServiceAccounts are the
//! chart's, and the API server calls through the Service.
use crate::trial::trials;
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Options, Program, eventually, free_address};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, time::Duration};

const SYSTEM: &str = "opportune-system";
const SOON: Duration = Duration::from_secs(30);
/// The Lease of a leader that was killed is free after 15 s.
const TAKEN_OVER: Duration = Duration::from_secs(25);

const CLUSTER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: directory, labels: {opportune.libre.sh/provider: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: blog, labels: {opportune.libre.sh/inject: enabled}}
---
apiVersion: opportune.libre.sh/v1alpha1
kind: ServiceOffer
metadata: {name: people, namespace: directory}
spec:
  intent: ldap
  consumers: {namespaceSelector: {}}
  settings: {host: ldap.example.org, port: 636, base-dn: "dc=example,dc=org"}
  credentials: {secretRef: {name: reader}}
---
apiVersion: opportune.libre.sh/v1alpha1
kind: AppProfile
metadata: {name: intranet}
spec:
  images: [example.org/intranet]
  env: {ldap: {DIRECTORY: "[[ldap.uri]]"}}
"#;

/// One of the chart's two roles, as processes of ours.
struct Role {
    name: &'static str,
    arguments: Vec<String>,
    kubeconfig: std::path::PathBuf,
}

// === impl Role ===

impl Role {
    /// What the chart would run in its pods.
    fn of(cluster: &ControlPlane, name: &'static str) -> Result<Self> {
        let name_of_all = format!("opportune-{name}");
        let deployment = cluster.kubectl(&["get", "deploy", &name_of_all, "-n", SYSTEM, "-o", "json"])?;
        let deployment: Value = serde_json::from_str(&deployment)?;
        let arguments = deployment
            .pointer("/spec/template/spec/containers/0/args")
            .and_then(Value::as_array)
            .context("the chart gives no arguments")?;
        let arguments = arguments.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let kubeconfig = cluster.service_account_kubeconfig(SYSTEM, &name_of_all)?;
        Ok(Self { name, arguments, kubeconfig })
    }

    fn start(&self, cluster: &ControlPlane, listen: SocketAddr) -> Result<(Program, SocketAddr)> {
        let admin = free_address()?;
        let arguments = self.arguments.iter().map(|argument| match argument.split_once('=') {
            Some(("--listen", _)) => format!("--listen={listen}"),
            Some(("--admin", _)) => format!("--admin={admin}"),
            _ => argument.clone(),
        });
        let program = Program::against(cluster, &self.kubeconfig, arguments)
            .arguments([format!("--namespace={SYSTEM}"), "--settle=0".to_owned()])
            .start_ready(admin, SOON)
            .with_context(|| format!("role {}", self.name))?;
        Ok((program, admin))
    }
}

/// Without a node there are no endpoints: the Service is led to this machine, and to the process's port.
fn lead_here(cluster: &ControlPlane, listen: SocketAddr) -> Result<()> {
    let external = r#"{"spec": {"type": "ExternalName", "externalName": "localhost", "selector": null, "clusterIP": null, "clusterIPs": null}}"#;
    cluster.kubectl(&["patch", "service", "opportune", "-n", SYSTEM, "--type=merge", "-p", external])?;
    let port = |index| {
        let (op, value) = ("replace", listen.port());
        format!(r#"{{"op": "{op}", "path": "/webhooks/{index}/clientConfig/service/port", "value": {value}}}"#)
    };
    let ports = format!("[{}, {}]", port(0), port(1));
    cluster.kubectl(&[
        "patch",
        "mutatingwebhookconfiguration",
        "opportune",
        "--type=json",
        "-p",
        &ports,
    ])?;
    Ok(())
}

fn intranet(name: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "namespace": "blog"}},
        "spec": {{"selector": {{"matchLabels": {{"app": "{name}"}}}}, "template": {{
            "metadata": {{"labels": {{"app": "{name}"}}, "annotations": {{"opportune.libre.sh/wants": "ldap"}}}},
            "spec": {{"containers": [{{"name": "app", "image": "example.org/intranet:1"}}]}}}}}}}}"#
    )
}

fn status(cluster: &ControlPlane, name: &str) -> Result<String> {
    let path = r"jsonpath={.metadata.annotations.opportune\.libre\.sh/status}";
    cluster.kubectl(&["get", "deployment", name, "-n", "blog", "-o", path])
}

fn holder(cluster: &ControlPlane) -> Result<String> {
    cluster.kubectl(&["get", "lease", "opportune", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"])
}

async fn the_chart_is_all_that_an_install_needs() -> Result<()> {
    let cluster = ControlPlane::start(Options::default())?;
    let helm = cluster.helm_for(&cluster.kubeconfig())?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/chart");
    let chart = chart.to_str().context("a path that is no text")?;
    helm.run(&["install", "opportune", chart, "--namespace", SYSTEM, "--create-namespace"])?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    cluster.apply(CLUSTER)?;

    let (webhook, controller) = (Role::of(&cluster, "webhook")?, Role::of(&cluster, "controller")?);
    let listen = free_address()?;
    lead_here(&cluster, listen)?;
    let (mut first, _) = controller.start(&cluster, listen)?;
    let leader = eventually("somebody leads", SOON, async || {
        Ok(Some(holder(&cluster)?).filter(|holder| !holder.is_empty()))
    })
    .await?;
    let (mut second, _) = controller.start(&cluster, listen)?;
    let (serving, admin) = webhook.start(&cluster, listen)?;

    cluster.apply(&intranet("one"))?;
    assert_eq!(status(&cluster, "one")?, "ldap=directory/people");
    let env = cluster.kubectl(&["get", "deploy", "one", "-n", "blog", "-o", "jsonpath={..env}"])?;
    assert_eq!(env, r#"[{"name":"DIRECTORY","value":"ldaps://ldap.example.org:636"}]"#);

    // The ServiceAccount of the controller may write our own annotations, and nobody else.
    let note = r#"{"metadata": {"annotations": {"opportune.libre.sh/status": "noted"}}}"#;
    let patch = ["patch", "deployment", "one", "-n", "blog", "--type=merge", "-p", note, "--field-manager=opportune"];
    cluster.kubectl(&patch)?;
    assert_eq!(status(&cluster, "one")?, "ldap=directory/people");
    cluster.kubectl_for(&controller.kubeconfig)?.run(&patch)?;
    assert_eq!(status(&cluster, "one")?, "noted");

    // A leader that is killed is replaced when its Lease is over; one that is told to stop, at once.
    first.kill();
    let next = eventually("the other one leads", TAKEN_OVER, async || {
        Ok(Some(holder(&cluster)?).filter(|holder| *holder != leader && !holder.is_empty()))
    })
    .await?;
    ensure!(second.terminate(SOON)?.success(), "{}", second.log()?);
    assert_eq!(holder(&cluster)?, "", "{next} gives its Lease back");

    for (program, role) in [(&first, "controller"), (&second, "controller"), (&serving, "webhook")] {
        let log = program.log()?;
        ensure!(!log.contains("forbidden") && !log.contains("no right"), "{role} lacks a right:\n{log}");
    }
    let offers = serving.metrics(admin)?.sum("opportune_catalog_offers", &[("state", "complete")]);
    assert!(offers >= 1.0, "{offers}");

    // What runs stays as it is, and new workloads come without us.
    let before = cluster.kubectl(&["get", "deploy", "one", "-n", "blog", "-o", "jsonpath={.spec}"])?;
    helm.run(&["uninstall", "opportune", "--namespace", SYSTEM])?;
    assert_eq!(cluster.kubectl(&["get", "deploy", "one", "-n", "blog", "-o", "jsonpath={.spec}"])?, before);
    cluster.apply(&intranet("two"))?;
    assert_eq!(status(&cluster, "two")?, "");
    cluster.kubectl(&["get", "serviceoffer", "people", "-n", "directory"])?;
    Ok(())
}

trials![own the_chart_is_all_that_an_install_needs];
