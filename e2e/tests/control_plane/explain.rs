//! `opportune explain TYPE/NAME`, with all rights and with few.
use crate::trial::{Cluster, trials};
use anyhow::{Result, ensure};
use opportune_e2e::Tool;

/// An app as it was admitted: its record names a variable, and its status is somebody's joke.
const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: NAMESPACE
  annotations:
    opportune.libre.sh/wants: mail
    opportune.libre.sh/status: "mail=NAMESPACE/relay; ldap=absent: \e[2J"
    opportune.libre.sh/injected: >-
      {"v":1,"offers":{"mail":"Service/NAMESPACE/relay"},"added":{"mail":{"env/app/SMTP_HOST":"00000000"}}}
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: app, image: example.invalid/web:1, env: [{ name: SMTP_HOST, value: mine }] }] }
---
apiVersion: v1
kind: Service
metadata:
  name: relay
  namespace: NAMESPACE
  labels: { opportune.libre.sh/offers: mail }
  annotations: { opportune.libre.sh/settings: "from: noreply@example.org" }
spec: { ports: [{ port: 587 }] }
"#;

async fn all_rights_show_what_is_there_and_what_would_be(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("explain")?;
    cluster.apply(&APP.replace("NAMESPACE", &namespace))?;
    cluster.kubectl(&["label", "namespace", &namespace, "opportune.libre.sh/inject=enabled"])?;
    let opportune = cluster.opportune_for(&cluster.kubeconfig())?;
    let said = opportune.run(&["explain", "deploy/web", "-n", &namespace])?;
    for part in [
        "labelled opportune.libre.sh/inject=enabled",
        "SMTP_HOST (changed since: yours, left alone)",
        "ldap  absent      \\u{1b}[2J",
        "(marked Service): used",
        "none of Opportune",
    ] {
        ensure!(said.contains(part), "no {part:?} in\n{said}");
    }
    let said = opportune.refused(&["explain", "sts/web", "-n", &namespace], "")?;
    ensure!(said.contains("there is no statefulsets.apps web in namespace") && said.contains("context"), "{said}");
    Ok(())
}

async fn the_right_to_get_the_workload_is_enough(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("explain")?;
    cluster.apply(&APP.replace("NAMESPACE", &namespace))?;
    let nobody = powerless(&cluster, &namespace)?;
    let said = nobody.refused(&["explain", "deploy/web", "-n", &namespace], "")?;
    ensure!(said.contains("you have no right to get deployments.apps web in namespace"), "{said}");

    let user = format!("--serviceaccount={namespace}:dev");
    cluster.kubectl(&["-n", &namespace, "create", "role", "dev", "--verb=get", "--resource=deployments.apps"])?;
    cluster.kubectl(&["-n", &namespace, "create", "rolebinding", "dev", "--role=dev", &user])?;
    let said = nobody.run(&["explain", "deploy/web", "-n", &namespace])?;
    for part in [
        "SMTP_HOST (changed since: yours, left alone)",
        "you have no right to get namespaces",
        "unknown     you may not see all offers",
        "no right to list events in namespace",
    ] {
        ensure!(said.contains(part), "no {part:?} in\n{said}");
    }
    Ok(())
}

fn powerless(cluster: &Cluster, namespace: &str) -> Result<Tool> {
    cluster.kubectl(&["-n", namespace, "create", "serviceaccount", "dev"])?;
    cluster.opportune_for(&cluster.service_account_kubeconfig(namespace, "dev")?)
}

trials![
    shared all_rights_show_what_is_there_and_what_would_be,
    shared the_right_to_get_the_workload_is_enough,
];
