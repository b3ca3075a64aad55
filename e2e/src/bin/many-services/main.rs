//! Measures `opportune serve` in a cluster with many Services, Deployments and Secrets: from its start to ready, its memory, how
//! soon a new Service is used, and its memory while it answers. Prints the tables of docs/performance.md.
mod large;
mod reviews;

use anyhow::{Result, ensure};
use clap::Parser;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use opportune_e2e::{ControlPlane, Options, Program, free_address};
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How many times the delay of a new Service is measured.
const NEW: usize = 15;
/// Deployments in the largest cluster, of which one in four wants something.
const DEPLOYMENTS: usize = 2_000;
/// How long after it is ready its memory counts: what a start takes for a moment was given back then.
const SETTLED: Duration = Duration::from_secs(10);
/// What one process may be told to do.
const ROLES: [&str; 3] = ["webhook,controller", "webhook", "controller"];

/// Measures `opportune serve` in a cluster of its own that grows: time from start to ready, resident memory, and how soon a new
/// Service is used
#[derive(Debug, Parser)]
#[command(after_help = "Needs the programs that `e2e/build` makes, and `opportune` from `make build`.")]
struct Arguments {
    /// How many Services there are, one after another; one in ten offers something, and with the most of them come 2,000 Deployments
    #[arg(value_name = "SERVICES", default_values_t = [0, 1_000, 10_000])]
    services: Vec<usize>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    /// Secrets that are made at the end, before it is measured once more
    #[arg(long, value_name = "N", default_value_t = 0)]
    secrets: usize,
    /// Reviews that are answered at the end, a new workload each; the memory is told five times on the way
    #[arg(long, value_name = "N", default_value_t = 0)]
    reviews: u64,
}

/// A running `opportune` with both its addresses.
struct Serving {
    program: Program,
    listen: SocketAddr,
    admin: SocketAddr,
    ready: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { rounds, services, secrets, reviews } = Arguments::parse();
    let binary = fs::metadata(opportune_e2e::binary()?)?.len();
    println!("The program has {:.1} MiB.\n", mib(binary / 1024));
    let cluster = ControlPlane::start(Options::default())?;
    for (namespace, label) in [("directory", "provider=true"), ("blog", "inject=enabled")] {
        cluster.kubectl(&["create", "namespace", namespace])?;
        cluster.kubectl(&["label", "namespace", namespace, &format!("opportune.libre.sh/{label}")])?;
    }
    let client = cluster.client().await?;
    println!(
        "| Services | offers | Deployments | Secrets | roles | start to ready | memory | at most | new Service used after (median, worst of {NEW}) |\n|---|---|---|---|---|---|---|---|---|"
    );
    let largest = services.iter().copied().max().unwrap_or_default();
    let (mut made, mut deployed) = (0, 0);
    for count in services {
        large::services(&client, made, count).await?;
        made = made.max(count);
        let deployments = if count == largest && count > 0 { DEPLOYMENTS } else { 0 };
        large::deployments(&client, deployments).await?;
        deployed += deployments;
        let roles = ROLES.iter().take(if deployments > 0 { 3 } else { 1 });
        for roles in roles.flat_map(|roles| std::iter::repeat_n(roles, rounds)) {
            println!("{}", measure(&cluster, &client, [count, deployments, 0], roles).await?);
        }
    }
    if secrets > 0 {
        large::secrets(&client, secrets).await?;
        let line = measure(&cluster, &client, [largest, deployed, secrets], ROLES[0]).await?;
        println!("{line}");
    }
    if reviews > 0 {
        reviews::measure(&cluster, reviews).await?;
    }
    cluster.stop();
    Ok(())
}

async fn measure(
    cluster: &ControlPlane,
    client: &Client,
    [services, deployments, secrets]: [usize; 3],
    roles: &str,
) -> Result<String> {
    let mut serving = Serving::start(cluster, roles)?;
    let mut delays = Vec::new();
    if roles.contains("webhook") {
        for number in 0..NEW {
            delays.push(new_service(client, &format!("late{number}")).await?);
        }
    }
    delays.sort();
    let delays = match (delays.get(NEW / 2), delays.last()) {
        (Some(median), Some(worst)) => format!("{} ms, {} ms", median.as_millis(), worst.as_millis()),
        _ => "-".to_owned(),
    };
    tokio::time::sleep(SETTLED).await;
    let (memory, peak) = (serving.program.rss_kib()?, serving.program.peak_kib()?);
    let offers = serving.program.metrics(serving.admin)?.sum("opportune_catalog_offers", &[]);
    serving.program.terminate(Duration::from_secs(20))?;
    Ok(format!(
        "| {services} | {offers} | {deployments} | {secrets} | {roles} | {:.2} s | {:.1} MiB | {:.1} MiB | {delays} |",
        serving.ready.as_secs_f64(),
        mib(memory),
        mib(peak),
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
    let offer = large::service(name, json!({"opportune.libre.sh/offers": "ldap"}))?;
    services.create(&PostParams::default(), &offer).await?;
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

/// A size in KiB.
#[expect(clippy::cast_precision_loss, reason = "no process holds 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

// === impl Serving ===

impl Serving {
    fn start(cluster: &ControlPlane, roles: &str) -> Result<Self> {
        let (listen, admin) = (free_address()?, free_address()?);
        let (webhook, probes, url) = (listen.to_string(), admin.to_string(), format!("https://{listen}"));
        let mut arguments = vec!["serve", "--roles", roles, "--admin", &probes, "--settle", "0"];
        if roles.contains("webhook") {
            arguments.extend(["--register", &url, "--listen", &webhook]);
        }
        let begun = Instant::now();
        let program = Program::against(cluster, &cluster.kubeconfig(), arguments)
            .start_ready(admin, Duration::from_secs(60))?;
        Ok(Self { program, listen, admin, ready: begun.elapsed() })
    }
}
