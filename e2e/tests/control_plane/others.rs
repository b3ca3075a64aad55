//! Beside other mutating webhooks: the order in which they are called makes no difference.
use crate::{
    sidecar::{NAME, Sidecar},
    trial::{Cluster, trials},
    webhook,
    workload::{Kind, annotation, doubled, live, manifest, text},
    writer::Writer,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Called before `opportune`, and called after it.
const ORDERS: [&str; 2] = ["a-sidecar", "z-sidecar"];

async fn the_order_of_webhooks_makes_no_difference(cluster: Cluster) -> Result<()> {
    in_both_orders(&cluster, None).await
}

async fn the_order_of_webhooks_makes_no_difference_where_containers_are_named(cluster: Cluster) -> Result<()> {
    in_both_orders(&cluster, Some("web")).await
}

async fn in_both_orders(cluster: &Cluster, containers: Option<&str>) -> Result<()> {
    webhook::shared(cluster).await?;
    let sidecar = Sidecar::start().await?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let mut results = Vec::new();
        for order in ORDERS {
            let namespace = webhook::namespace(cluster, "others")?;
            let _registered = sidecar.register(cluster, order, &namespace)?;
            let mut manifest = manifest(kind, "web");
            if let Some(containers) = containers {
                let annotations = &mut manifest["spec"]["template"]["metadata"]["annotations"];
                annotations["opportune.libre.sh/containers"] = containers.into();
            }
            wait_until_called(cluster, &namespace, &manifest).await?;
            Writer::ServerSide.begin(cluster, &namespace, &manifest)?;
            let created = live(cluster, &namespace, &manifest)?;
            ensure!(doubled(&created).is_none(), "{order}, {kind:?}: {:?}", doubled(&created));

            // The owner's manifest once more, in the way that forgets what others added.
            Writer::Replace.write(cluster, &namespace, &manifest)?;
            let replaced = live(cluster, &namespace, &manifest)?;
            assert_eq!(additions(&replaced)?, additions(&created)?, "{order}, {kind:?}");
            let annotations = &mut manifest["spec"]["template"]["metadata"]["annotations"];
            annotations["opportune.libre.sh/wants"] = "ldap, storage".into();
            Writer::Replace.write(cluster, &namespace, &manifest)?;
            let fewer = live(cluster, &namespace, &manifest)?;
            ensure!(doubled(&fewer).is_none(), "{order}, {kind:?}: {:?}", doubled(&fewer));
            results.push((additions(&created)?, additions(&fewer)?));
        }
        let [before, after] = &results[..] else { unreachable!() };
        assert_eq!(before, after, "{kind:?}");
        let (created, fewer) = before;
        assert!(created.containers["web"].contains_key("env/SMTP_HOST"));
        assert!(fewer.containers["web"].contains_key("env/LDAP_HOST"));
        assert!(!fewer.containers["web"].contains_key("env/SMTP_HOST"));
        assert_eq!(created.containers[NAME].contains_key("env/SMTP_HOST"), containers.is_none());
    }
    Ok(())
}

/// A configuration is known to the API server some moments after it was made.
async fn wait_until_called(cluster: &Cluster, namespace: &str, manifest: &Value) -> Result<()> {
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    opportune_e2e::eventually("the other webhook is called", webhook::SOON, async || {
        let arguments = ["-n", namespace, "create", "--dry-run=server", "-o=yaml", "-f", "-"];
        Ok(kubectl.feed(&arguments, &manifest.to_string())?.contains("example.invalid/sidecar").then_some(()))
    })
    .await
}

/// What a workload came to, whatever the order of its lists.
#[derive(Debug, PartialEq)]
struct Additions {
    containers: BTreeMap<String, BTreeMap<String, Value>>,
    volumes: BTreeMap<String, Value>,
    templates: Value,
    status: String,
}

fn additions(object: &Value) -> Result<Additions> {
    let pod = object.pointer("/spec/template/spec").context("no pod template")?;
    let named = |list: &Value, key: &str, prefix: &str| -> BTreeMap<String, Value> {
        let entries = list.as_array().into_iter().flatten();
        entries.map(|entry| (format!("{prefix}{}", text(entry, key)), entry.clone())).collect()
    };
    let containers = pod["containers"].as_array().context("no containers")?;
    let containers = containers.iter().map(|container| {
        let mut all = named(&container["env"], "/name", "env/");
        all.extend(named(&container["volumeMounts"], "/mountPath", "mount"));
        (text(container, "/name").to_owned(), all)
    });
    Ok(Additions {
        containers: containers.collect(),
        volumes: named(&pod["volumes"], "/name", ""),
        templates: object["spec"]["volumeClaimTemplates"].clone(),
        status: annotation(object, "status").to_owned(),
    })
}

trials![
    shared the_order_of_webhooks_makes_no_difference,
    shared the_order_of_webhooks_makes_no_difference_where_containers_are_named,
];
