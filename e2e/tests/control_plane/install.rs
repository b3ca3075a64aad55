//! The chart, installed by helm: that it is all that an install needs.
use crate::{
    installed::{Role, SYSTEM, holder, install, lead_here},
    trial::trials,
};
use anyhow::{Result, ensure};
use opportune_e2e::{ControlPlane, Options, eventually, free_address};
use std::time::Duration;

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

async fn the_chart_is_all_that_an_install_needs() -> Result<()> {
    let cluster = ControlPlane::start(Options::default())?;
    install(&cluster, &[])?;
    cluster.apply(CLUSTER)?;

    let (webhook, controller) = (Role::of(&cluster, "webhook")?, Role::of(&cluster, "controller")?);
    let listen = free_address()?;
    lead_here(&cluster, listen)?;
    let mut first = controller.start(&cluster, listen)?;
    let leader = eventually("somebody leads", SOON, async || {
        Ok(Some(holder(&cluster)?).filter(|holder| !holder.is_empty()))
    })
    .await?;
    let mut second = controller.start(&cluster, listen)?;
    let serving = webhook.start(&cluster, listen)?;

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
    first.program.kill();
    let next = eventually("the other one leads", TAKEN_OVER, async || {
        Ok(Some(holder(&cluster)?).filter(|holder| *holder != leader && !holder.is_empty()))
    })
    .await?;
    ensure!(second.program.terminate(SOON)?.success(), "{}", second.program.log()?);
    assert_eq!(holder(&cluster)?, "", "{next} gives its Lease back");

    for (replica, role) in [(&first, "controller"), (&second, "controller"), (&serving, "webhook")] {
        let log = replica.program.log()?;
        ensure!(!log.contains("forbidden") && !log.contains("no right"), "{role} lacks a right:\n{log}");
    }
    let offers = serving.metrics()?.sum("opportune_catalog_offers", &[("state", "complete")]);
    assert!(offers >= 1.0, "{offers}");

    // What runs stays as it is, and new workloads come without us.
    let before = cluster.kubectl(&["get", "deploy", "one", "-n", "blog", "-o", "jsonpath={.spec}"])?;
    let helm = cluster.helm_for(&cluster.kubeconfig())?;
    helm.run(&["uninstall", "opportune", "--namespace", SYSTEM])?;
    assert_eq!(cluster.kubectl(&["get", "deploy", "one", "-n", "blog", "-o", "jsonpath={.spec}"])?, before);
    cluster.apply(&intranet("two"))?;
    assert_eq!(status(&cluster, "two")?, "");
    cluster.kubectl(&["get", "serviceoffer", "people", "-n", "directory"])?;
    Ok(())
}

trials![own the_chart_is_all_that_an_install_needs];
