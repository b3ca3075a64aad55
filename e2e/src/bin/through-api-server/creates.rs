//! Creates of Deployments, and how long they take.
use super::Extent;
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::Request;
use kube::{Client, client::Body};
use opportune_e2e::{Component, ControlPlane, cpu};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// As a WordPress comes from its chart, with wishes added; half of the review is `managedFields`, which the API server adds.
const REVIEW: &str = include_str!("../../../../core/tests/engine/reviews/deployment-create-ssa.json");

/// Whether what is created stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is stored.
    DryRun,
    /// It is stored, and deleted after the round.
    Real,
}

/// What some creates took, in one round.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub p50: Duration,
    pub p99: Duration,
    /// Of the API server's processor time, for one.
    pub cpu: Duration,
}

/// The Deployment of that name.
pub fn deployment(name: &str) -> Result<Value> {
    let mut review: Value = serde_json::from_str(REVIEW)?;
    let mut object = review.pointer_mut("/request/object").context("no object")?.take();
    let fields = object.as_object_mut().context("no object")?;
    fields.remove("status");
    let labels = fields.get("metadata").and_then(|metadata| metadata.get("labels")).cloned();
    fields.insert(
        "metadata".to_owned(),
        json!({"name": name, "labels": labels, "annotations": {
        "opportune.libre.sh/wants": "ldap", "opportune.libre.sh/profile": "none",
        "meta.helm.sh/release-name": "blog", "meta.helm.sh/release-namespace": "default"}}),
    );
    *object.pointer_mut("/spec/replicas").context("no replicas")? = json!(0);
    Ok(object)
}

/// The object as the API server would store it in that namespace.
pub async fn seen(client: &Client, namespace: &str) -> Result<Value> {
    let answer = create(client, namespace, &deployment("probe")?.to_string(), Kind::DryRun).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn create(client: &Client, namespace: &str, body: &str, kind: Kind) -> Result<Vec<u8>> {
    let dry = if kind == Kind::DryRun { "?dryRun=All" } else { "" };
    let request = Request::post(format!("/apis/apps/v1/namespaces/{namespace}/deployments{dry}"))
        .header("content-type", "application/json")
        .body(Body::from(body.as_bytes().to_vec()))?;
    let answer = client.send(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{namespace}: {status}: {}", String::from_utf8_lossy(&bytes));
    Ok(bytes.to_vec())
}

/// In each round, the creates of each namespace in turn, by so many clients at once; the rounds of each namespace.
pub async fn measure<'a>(
    cluster: &ControlPlane,
    client: &Client,
    namespaces: &[&'a str],
    kind: Kind,
    clients: usize,
    extent: Extent,
) -> Result<BTreeMap<&'a str, Vec<Times>>> {
    let mut rounds: BTreeMap<&str, Vec<Times>> = BTreeMap::new();
    let template = deployment("NAME")?.to_string();
    // What comes first pays for connections and caches.
    for namespace in namespaces {
        batch(cluster, client, namespace, &template, Kind::DryRun, clients, 2 * clients).await?;
    }
    for round in 0..extent.rounds {
        for turn in 0..namespaces.len() {
            // Nobody always comes first.
            let Some(namespace) = namespaces.get((turn + round) % namespaces.len()) else { continue };
            let times = batch(cluster, client, namespace, &template, kind, clients, extent.creates).await?;
            rounds.entry(namespace).or_default().push(times);
            if kind == Kind::Real {
                cluster.kubectl(&["delete", "deployments", "--all", "--wait=false", "-n", namespace])?;
                settle(cluster, namespace)?;
            }
        }
    }
    Ok(rounds)
}

/// Waits until the controllers have nothing to do with what was there.
fn settle(cluster: &ControlPlane, namespace: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left = cluster.kubectl(&["get", "deployments,replicasets", "-o", "name", "-n", namespace])?;
        if left.trim().is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "{namespace} does not become empty");
    }
}

async fn batch(
    cluster: &ControlPlane,
    client: &Client,
    namespace: &str,
    template: &str,
    kind: Kind,
    clients: usize,
    creates: usize,
) -> Result<Times> {
    let server = cluster.processes().into_iter().find(|(component, _)| *component == Component::ApiServer);
    let (_, server) = server.context("the API server does not run")?;
    let before = cpu(server)?;
    let mut took: Vec<Duration> = stream::iter(0..creates)
        .map(|number| async move {
            let body = template.replace("NAME", &format!("web{number}"));
            let begun = Instant::now();
            create(client, namespace, &body, kind).await?;
            anyhow::Ok(begun.elapsed())
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    let spent = cpu(server)?.saturating_sub(before);
    took.sort();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1))).copied();
    let (p50, p99) = at(50).zip(at(99)).context("nothing was created")?;
    Ok(Times { p50, p99, cpu: spent / u32::try_from(creates)? })
}

/// The median over the rounds of what `pick` picks, less that of `base` in the same round, in milliseconds.
pub fn added(of: &[Times], base: &[Times], pick: fn(&Times) -> Duration) -> f64 {
    let millis = |times: &Times| pick(times).as_secs_f64() * 1000.0;
    let mut differences: Vec<f64> = of.iter().zip(base).map(|(of, base)| millis(of) - millis(base)).collect();
    differences.sort_by(f64::total_cmp);
    differences.get(differences.len() / 2).copied().unwrap_or(f64::NAN)
}
