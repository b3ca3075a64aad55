//! Measures `opportune serve` in a cluster with many Services: from its start to ready, its memory, and how soon a new
//! Service is used. Prints the table of docs/performance.md.
//!
//! Usage: many-services [SERVICES...], by default 1000 and 10000; one in ten offers something.
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use opportune_e2e::{ControlPlane, Options, Program, free_address};
use serde_json::json;
use std::time::{Duration, Instant};

/// Requests to the API server at once.
const AT_ONCE: usize = 16;
/// How many times the delay of a new Service is measured.
const NEW: usize = 15;
/// Services in one namespace.
const IN_ONE: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let asked: Vec<usize> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().with_context(|| format!("{argument} is no number of Services")))
        .collect::<Result<_>>()?;
    let counts = if asked.is_empty() { vec![1_000, 10_000] } else { asked };
    let cluster = ControlPlane::start(Options::default())?;
    cluster.kubectl(&["create", "namespace", "directory"])?;
    cluster.kubectl(&["label", "namespace", "directory", "opportune.libre.sh/provider=true"])?;
    cluster.kubectl(&["create", "namespace", "blog"])?;
    cluster.kubectl(&["label", "namespace", "blog", "opportune.libre.sh/inject=enabled"])?;
    let client = cluster.client().await?;
    println!(
        "| Services | offers | start to ready | resident memory | new Service used after (median, worst of {NEW}) |"
    );
    println!("|---|---|---|---|---|");
    let mut made = 0;
    for count in counts {
        eprintln!("making {count} Services");
        make(&client, made, count).await?;
        made = made.max(count);
        println!("{}", measure(&cluster, &client, count).await?);
    }
    cluster.stop();
    Ok(())
}

/// Makes the Services `from..to`.
async fn make(client: &Client, from: usize, to: usize) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for number in from.div_ceil(IN_ONE)..to.div_ceil(IN_ONE) {
        let namespace = json!({"metadata": {"name": format!("n{number}")}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    }
    stream::iter(from..to)
        .map(|number| async move {
            let services: Api<Service> = Api::namespaced(client.clone(), &format!("n{}", number / IN_ONE));
            let labels = if number.is_multiple_of(10) {
                json!({"opportune.libre.sh/offers": "ldap", "app": "openldap"})
            } else {
                json!({"app": "shop", "app.kubernetes.io/name": "shop", "helm.sh/chart": "shop-1.2.3"})
            };
            services.create(&PostParams::default(), &service(&format!("s{number}"), labels)?).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

fn service(name: &str, labels: serde_json::Value) -> Result<Service> {
    let annotations = json!({"opportune.libre.sh/settings": "base-dn: dc=example,dc=org"});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"clusterIP": "None", "ports": [{"name": "ldap", "port": 389}]},
    }))?)
}

async fn measure(cluster: &ControlPlane, client: &Client, count: usize) -> Result<String> {
    let (webhook, admin) = (free_address()?, free_address()?);
    let (listen, probes, url) = (webhook.to_string(), admin.to_string(), format!("https://{webhook}"));
    let arguments = ["serve", "--register", &url, "--listen", &listen, "--admin", &probes, "--settle", "0"];
    let begun = Instant::now();
    let mut program = Program::against(cluster, &cluster.kubeconfig(), arguments)
        .start_ready(admin, Duration::from_secs(60))?;
    let ready = begun.elapsed();
    let memory = program.rss_kib()? / 1024;
    let offers = program.metrics(admin)?.sum("opportune_catalog_offers", &[]);
    let mut delays = Vec::new();
    for number in 0..NEW {
        delays.push(new_service(client, &format!("late{count}-{number}")).await?);
    }
    delays.sort();
    let (median, worst) = (delays.get(NEW / 2), delays.last());
    let (median, worst) = median.zip(worst).context("nothing was measured")?;
    program.terminate(Duration::from_secs(20))?;
    Ok(format!(
        "| {count} | {offers} | {:.2} s | {memory} MiB | {} ms, {} ms |",
        ready.as_secs_f64(),
        median.as_millis(),
        worst.as_millis()
    ))
}

/// Time from the answer to the creation of a Service to the first workload that uses it.
async fn new_service(client: &Client, name: &str) -> Result<Duration> {
    let services: Api<Service> = Api::namespaced(client.clone(), "directory");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "blog");
    let workload: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {
                    "opportune.libre.sh/wants": "ldap",
                    "opportune.libre.sh/use.ldap": format!("directory/{name}")}},
                "spec": {"containers": [{"name": "app", "image": "example.org/app:1"}]},
            },
        },
    }))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    services
        .create(&PostParams::default(), &service(name, json!({"opportune.libre.sh/offers": "ldap"}))?)
        .await?;
    let begun = Instant::now();
    let bound = format!("ldap=directory/{name}");
    loop {
        let seen = deployments.create(&dry, &workload).await?;
        let status = seen.metadata.annotations.and_then(|all| all.get("opportune.libre.sh/status").cloned());
        if status.as_deref() == Some(bound.as_str()) {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "{name} is not used: {status:?}");
    }
    let took = begun.elapsed();
    services.delete(name, &DeleteParams::default()).await?;
    Ok(took)
}
