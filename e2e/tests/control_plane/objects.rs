//! Objects, and what controllers make of them.
use crate::trial::{Cluster, trials};
use anyhow::{Context, Result};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{Api, api::ListParams};
use opportune_e2e::eventually;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: example.invalid/web:1 }] }
";

async fn a_namespace_is_made_and_emptied(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("emptied")?;
    let name = namespace.name().to_owned();
    cluster.kubectl(&["-n", &name, "create", "configmap", "one"])?;
    drop(namespace);

    let client = cluster.client().await?;
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
    let namespaces: Api<Namespace> = Api::all(client);
    eventually("the namespace is gone, with all in it", SOON, async || {
        let left = config_maps.list(&ListParams::default()).await?.items.len();
        Ok((left == 0 && namespaces.get_opt(&name).await?.is_none()).then_some(()))
    })
    .await
}

async fn a_deployment_gets_pods_that_no_node_takes(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("deployment")?;
    cluster.apply(&DEPLOYMENT.replace("name: web }\nspec", &format!("name: web, namespace: {namespace} }}\nspec")))?;

    let client = cluster.client().await?;
    let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &namespace);
    eventually("the Deployment has its ReplicaSet", SOON, async || {
        Ok(replica_sets.list(&ListParams::default()).await?.items.pop())
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    eventually("two pods are pending, and the scheduler says why", SOON, async || {
        let pods = pods.list(&ListParams::default()).await?.items;
        Ok((pods.len() == 2 && pods.iter().all(is_unschedulable)).then_some(()))
    })
    .await
}

async fn a_write_is_in_the_audit_log_and_in_the_figures(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("audit")?;
    cluster.kubectl(&["-n", &namespace, "create", "configmap", "written"])?;

    let event = eventually("the write is in the audit log", SOON, async || {
        Ok(cluster.audit()?.into_iter().find(|event| event.is_about("configmaps", &namespace, "written")))
    })
    .await?;
    assert_eq!(event.verb(), "create");
    let (_, decision) = event
        .annotations()
        .find(|(key, _)| *key == "authorization.k8s.io/decision")
        .context("the event says nothing of authorization")?;
    assert_eq!(decision, "allow");
    let created = [("resource", "configmaps"), ("verb", "POST"), ("code", "201")];
    assert!(cluster.metrics()?.sum("apiserver_request_total", &created) >= 1.0);
    assert_eq!(cluster.webhook_calls("nobody.example.invalid")?, 0);
    Ok(())
}

fn is_unschedulable(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    status.and_then(|status| status.phase.as_deref()) == Some("Pending")
        && conditions.into_iter().any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
}

trials![
    shared a_namespace_is_made_and_emptied,
    shared a_deployment_gets_pods_that_no_node_takes,
    shared a_write_is_in_the_audit_log_and_in_the_figures,
];
