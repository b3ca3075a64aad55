//! How soon a change of the cluster is known: within a second.
use crate::{
    offers::{service, storage_class},
    trial::{Cluster, trials},
    webhook,
    workload::{Kind, annotation, manifest, wishing},
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(1);
/// What is not seen by now never will be.
const NEVER: Duration = Duration::from_secs(15);

async fn a_service_is_used_and_forgotten_within_a_second(cluster: Cluster) -> Result<()> {
    let services = &webhook::shared(&cluster).await?.services;
    let watcher = Watcher::new(&cluster).await?;
    let manifest = wishing(Kind::Deployment, "web", &[("wants", "cache")]);
    let offer = service(services, "valkey", "cache", 6379, "provider: valkey", None);
    cluster.apply(&offer.to_string())?;
    watcher.within_a_second("a new Service", &manifest, &format!("cache={services}/valkey")).await?;

    let mut changed = offer;
    changed["metadata"]["labels"]["opportune.libre.sh/offers"] = "queue".into();
    cluster.apply(&changed.to_string())?;
    watcher.within_a_second("a changed Service", &manifest, "cache=absent: no offer").await?;

    let manifest = wishing(Kind::Deployment, "web", &[("wants", "queue")]);
    watcher.within_a_second("what it changed to", &manifest, &format!("queue={services}/valkey")).await?;
    cluster.kubectl(&["-n", services, "delete", "service", "valkey"])?;
    watcher.within_a_second("a deleted Service", &manifest, "queue=absent: no offer").await
}

async fn a_storage_class_is_used_and_forgotten_within_a_second(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let watcher = Watcher::new(&cluster).await?;
    let mut wanted = manifest(Kind::Deployment, "web");
    let annotations = &mut wanted["spec"]["template"]["metadata"]["annotations"];
    annotations["opportune.libre.sh/wants"] = "storage".into();
    annotations["opportune.libre.sh/use.storage"] = "e2e-fast".into();
    cluster.apply(&storage_class("e2e-fast", "rook-ceph.cephfs.csi.ceph.com").to_string())?;
    watcher.within_a_second("a new StorageClass", &wanted, "storage=e2e-fast").await?;
    cluster.kubectl(&["delete", "storageclass", "e2e-fast"])?;
    watcher
        .within_a_second("a deleted StorageClass", &wanted, "storage=absent: no offer named e2e-fast")
        .await
}

async fn a_namespaces_labels_count_within_a_second(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let watcher = Watcher::new(&cluster).await?;
    let inject = |change: &str| {
        cluster.kubectl(&["label", "--overwrite", "namespace", &watcher.namespace, change])
    };
    let provider = cluster.namespace("provider")?;
    cluster.apply(&service(&provider, "valkey", "stash", 6379, "provider: valkey", None).to_string())?;
    let wanted = wishing(Kind::Deployment, "web", &[("wants", "stash")]);
    watcher.within_a_second("no provider yet", &wanted, "stash=absent: no offer").await?;

    cluster.kubectl(&["label", "namespace", &provider, "opportune.libre.sh/provider=true"])?;
    let used = format!("stash={provider}/valkey");
    watcher.within_a_second("a new provider", &wanted, &used).await?;
    inject("opportune.libre.sh/inject=disabled")?;
    watcher.within_a_second("a Namespace opted out", &wanted, "").await?;
    inject("opportune.libre.sh/inject=enabled")?;
    watcher.within_a_second("a Namespace opted in", &wanted, &used).await?;
    cluster.kubectl(&["label", "namespace", &provider, "opportune.libre.sh/provider-"])?;
    watcher.within_a_second("a provider no more", &wanted, "stash=absent: no offer").await
}

/// Creates workloads, without storing them, and looks what becomes of them.
struct Watcher {
    client: Client,
    namespace: opportune_e2e::Namespace,
}

// === impl Watcher ===

impl Watcher {
    async fn new(cluster: &Cluster) -> Result<Self> {
        let namespace = webhook::namespace(cluster, "timely")?;
        let watcher = Self { client: cluster.client().await?, namespace };
        // What runs before may have restarted the API server: then the watches have to be resumed first.
        cluster.apply(&service(&watcher.namespace, "valkey", "marker", 6379, "", None).to_string())?;
        let manifest = wishing(Kind::Deployment, "web", &[("wants", "marker")]);
        watcher.seen(&manifest, &format!("marker={}/valkey", watcher.namespace)).await?;
        Ok(watcher)
    }

    /// From now until a workload gets this status.
    async fn within_a_second(&self, what: &str, manifest: &Value, status: &str) -> Result<()> {
        let after = self.seen(manifest, status).await.context(what.to_owned())?;
        println!("    {what}: seen after {} ms", after.as_millis());
        ensure!(after < SOON, "{what} was seen only after {after:?}");
        Ok(())
    }

    async fn seen(&self, manifest: &Value, status: &str) -> Result<Duration> {
        let start = Instant::now();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let deployment: Deployment = serde_json::from_value(manifest.clone())?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        loop {
            let answer = serde_json::to_value(deployments.create(&params, &deployment).await?)?;
            if annotation(&answer, "status") == status {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < NEVER, "the status is still {}", annotation(&answer, "status"));
        }
    }
}

async fn what_a_recipe_reads_of_a_config_map_completes_an_offer(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let watcher = Watcher::new(&cluster).await?;
    let namespace: &str = &watcher.namespace;
    cluster.kubectl(&["-n", namespace, "create", "cm", "openldap-env", "--from-literal=LDAP_ROOT=dc=cm,dc=org"])?;
    // As the chart helm-openldap makes it; its base DN stands in the ConfigMap alone.
    cluster.apply(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "openldap", "namespace": namespace,
            "labels": {"app.kubernetes.io/component": "openldap", "chart": "openldap-stack-ha-4.3.3", "heritage": "Helm"}},
            "spec": {"ports": [{"name": "ldap-port", "port": 389}, {"name": "ssl-ldap-port", "port": 636}]}})
        .to_string(),
    )?;
    let offer = format!("{namespace}/openldap");
    let manifest = wishing(Kind::Deployment, "web", &[("wants", "ldap"), ("use.ldap", &offer)]);
    watcher.within_a_second("a recognised Service", &manifest, &format!("ldap={offer}")).await
}

trials![
    exclusive a_service_is_used_and_forgotten_within_a_second,
    exclusive a_storage_class_is_used_and_forgotten_within_a_second,
    exclusive a_namespaces_labels_count_within_a_second,
    exclusive what_a_recipe_reads_of_a_config_map_completes_an_offer,
];
