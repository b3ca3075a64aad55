//! Everything at once, as when a cluster starts again: all are served, though what serves them is small.
use crate::{installed::Installed, trial::trials, webhook::SOON};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::PostParams};
use opportune_e2e::{Share, eventually, free_address};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const CROWD: u32 = 1_000;
/// What a replica has of a processor, in hundredths.
const HALF: u32 = 50;

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
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: gitops, namespace: blog}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gitops, namespace: blog}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: gitops, namespace: blog}]
"#;

/// Leads connections to one replica after the other, as a Service does.
async fn balance(listener: TcpListener, replicas: [SocketAddr; 2]) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    while let Ok((mut client, _)) = listener.accept().await {
        let [first, second] = replicas;
        let replica = if NEXT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { first } else { second };
        tokio::spawn(async move {
            let mut server = TcpStream::connect(replica).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

async fn create(client: Client, number: u32) -> Result<bool> {
    let deployments: Api<Deployment> = Api::namespaced(client, "blog");
    let name = format!("app-{number}");
    let workload: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            // Pods would measure the machine.
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"opportune.libre.sh/wants": "ldap"}},
                "spec": {"containers": [{"name": "app", "image": "example.org/app:1"}]},
            },
        },
    }))?;
    let made = deployments.create(&PostParams::default(), &workload).await.context(name)?;
    let status = made.metadata.annotations.unwrap_or_default().remove("opportune.libre.sh/status");
    Ok(status.as_deref() == Some("ldap=blog/openldap"))
}

async fn a_thousand_workloads_at_once_are_all_served_by_two_replicas_with_half_a_processor_each() -> Result<()> {
    // First, so that they are dropped last: a group goes when nobody is in it any more.
    let mut shares = Vec::new();
    let installed = Installed::start(&[], &[], 1).await?;
    let plane = &installed.plane;
    let address = free_address()?;
    let second = installed.another_webhook(address)?;
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    installed.lead_to(listener.local_addr()?)?;
    let balancing = tokio::spawn(balance(listener, [installed.listen(), address]));
    plane.apply(CLUSTER)?;
    for replica in [&installed.webhook, &second] {
        // Who is not root tries it with whole processors.
        if let Ok(share) = Share::new(HALF) {
            share.give(replica.program.id())?;
            shares.push(share);
        }
    }
    // Not the administrator, for whom there is no limit of what is on its way: the API server lets everybody else wait for that.
    let client = plane.client_for(&plane.service_account_kubeconfig("blog", "gitops")?).await?;
    let probes = AtomicUsize::new(0);
    eventually("somebody is served", SOON, async || {
        let number = CROWD + u32::try_from(probes.fetch_add(1, Ordering::Relaxed))?;
        Ok(create(client.clone(), number).await?.then_some(()))
    })
    .await?;
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        crowd.spawn(create(client.clone(), number));
    }
    let mut missed = 0;
    while let Some(served) = crowd.join_next().await {
        missed += u32::from(!served??);
    }
    let took = begun.elapsed();
    let figures = plane.metrics()?;
    let late = figures.sum("apiserver_admission_webhook_fail_open_count", &[]).abs();
    eprintln!("{CROWD} workloads in {took:?}, with {} shares; {missed} missed, {late} not waited for", shares.len());
    for replica in [&installed.webhook, &second] {
        let figures = replica.metrics()?;
        eprintln!(
            "a replica answered {} in {:.1} s, and shed {}",
            figures.sum("opportune_admission_duration_seconds_count", &[]),
            figures.sum("opportune_admission_duration_seconds_sum", &[]),
            figures.sum("opportune_admission_requests_total", &[("outcome", "shed")]),
        );
        let answered = replica.metrics()?.sum("opportune_admission_requests_total", &[("outcome", "patched")]);
        ensure!(answered > f64::from(CROWD / 10), "one replica answered {answered} only");
    }
    ensure!(missed == 0, "{missed} of {CROWD} were missed");
    balancing.abort();
    Ok(())
}

trials![
    alone a_thousand_workloads_at_once_are_all_served_by_two_replicas_with_half_a_processor_each,
];
