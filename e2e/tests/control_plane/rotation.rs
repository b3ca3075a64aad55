//! Certificates that are replaced under load: nobody notices.
use crate::{trial::trials, webhook};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::PostParams};
use opportune_e2e::{ControlPlane, Options, Program, free_address};
use serde_json::json;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::interval};

/// The new authority is alone when the last certificate of the old one is over: after about 55 s, and later on a busy machine.
const SPAN: Duration = Duration::from_secs(75);
/// Creates a second.
const RATE: u32 = 50;

const CLUSTER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: blog, labels: {opportune.libre.sh/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata:
  name: openldap
  namespace: blog
  labels: {opportune.libre.sh/offers: ldap}
  annotations: {opportune.libre.sh/settings: "base-dn: dc=example,dc=org"}
spec: {ports: [{name: ldap, port: 389}]}
"#;

fn required(name: &str) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            // Pods would measure the machine.
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name},
                    "annotations": {"opportune.libre.sh/requires": "ldap"}},
                "spec": {"containers": [{"name": "app", "image": "example.org/app:1"}]},
            },
        },
    }))?)
}

/// Creates a workload that can't be admitted without us; whether it came out injected.
async fn create(client: Client, number: u32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client, "blog");
    let name = format!("app-{number}");
    let made = deployments.create(&PostParams::default(), &required(&name)?).await.context(name)?;
    let status = made.metadata.annotations.unwrap_or_default().remove("opportune.libre.sh/status");
    ensure!(status.as_deref() == Some("ldap=blog/openldap"), "it was missed: {status:?}");
    Ok(())
}

/// What was served and trusted, looked at once a second.
#[derive(Default)]
struct Seen {
    bundles: BTreeSet<String>,
    leaves: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, cluster: &ControlPlane, program: &Program, admin: SocketAddr) -> Result<()> {
        let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
        self.bundles.insert(cluster.kubectl(&[
            "get",
            "mutatingwebhookconfiguration",
            "opportune",
            "-o",
            path,
        ])?);
        let expiry = program.metrics(admin)?.sum("opportune_certificate_expiry_timestamp_seconds", &[]);
        self.leaves.insert(expiry.to_string());
        Ok(())
    }
}

async fn an_authority_and_two_certificates_are_replaced_under_load_and_no_workload_is_missed() -> Result<()> {
    let cluster = ControlPlane::start(Options::default())?;
    cluster.apply(CLUSTER)?;
    let (listen, admin) = (free_address()?, free_address()?);
    // The authority is replaced after 40 s, a certificate after 10.
    let lifetimes = ["--ca-lifetime=60s", "--certificate-lifetime=15s"];
    let program = webhook::serve(&cluster, listen, admin, &lifetimes)?;
    let client = cluster.client().await?;
    let mut seen = Seen::default();
    let mut creates = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    let begun = Instant::now();
    let mut made = 0;
    while begun.elapsed() < SPAN {
        ticks.tick().await;
        if made % RATE == 0 {
            seen.look(&cluster, &program, admin)?;
        }
        creates.spawn(create(client.clone(), made));
        made += 1;
    }
    let results = creates.join_all().await;
    let failed: Vec<String> =
        results.iter().filter_map(|result| result.as_ref().err()).map(|error| format!("{error:#}")).collect();
    let count = failed.len();
    ensure!(failed.is_empty(), "{count} of {made} failed, such as {:?}\n{}", failed.first(), program.log()?);
    // Old, both, new.
    ensure!(seen.bundles.len() >= 3, "{} bundles in {SPAN:?}", seen.bundles.len());
    ensure!(seen.leaves.len() >= 3, "{} certificates in {SPAN:?}", seen.leaves.len());
    ensure!(made >= RATE * 55, "only {made} workloads in {SPAN:?}");
    Ok(())
}

trials![alone an_authority_and_two_certificates_are_replaced_under_load_and_no_workload_is_missed];
