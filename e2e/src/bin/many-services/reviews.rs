//! Its memory while it answers: a process that answers for ever must not grow.
use super::{Serving, mib};
use anyhow::{Result, ensure};
use opportune_e2e::{Caller, ControlPlane};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Connections at once.
const AT_ONCE: usize = 8;
/// How often its memory is told.
const LOOKS: u64 = 5;

/// Has that many reviews answered, a new workload each; every fourth is injected.
pub async fn measure(cluster: &ControlPlane, count: u64) -> Result<()> {
    let offer = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "openldap", "namespace": "directory",
        "labels": {"opportune.libre.sh/offers": "ldap"},
        "annotations": {"opportune.libre.sh/settings": "base-dn: dc=example,dc=org"}},
        "spec": {"ports": [{"port": 389}]}});
    cluster.apply(&offer.to_string())?;
    let mut serving = Serving::start(cluster, "webhook,controller")?;
    let authority = authority(cluster)?;
    println!("\n| reviews | memory | at most | processor time for one |\n|---|---|---|---|");
    tell(&serving, 0, None)?;
    let asked = Arc::new(AtomicU64::new(0));
    let (mut answered, mut spent) = (0, serving.program.cpu()?);
    for look in 1..=LOOKS {
        let until = count * look / LOOKS;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let mut caller = Caller::connect(serving.listen, &authority).await?;
            let asked = Arc::clone(&asked);
            callers.spawn(async move {
                loop {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    if number >= until {
                        return anyhow::Ok(());
                    }
                    let answer = caller.ask(review(number).into()).await?;
                    let is_patched = answer.windows(7).any(|window| window == b"\"patch\"");
                    ensure!(is_patched == number.is_multiple_of(4), "{}", String::from_utf8_lossy(&answer));
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done??;
        }
        asked.store(until, Ordering::Relaxed);
        let now = serving.program.cpu()?;
        let one = (now - spent).as_secs_f64() / (until - answered) as f64;
        (answered, spent) = (until, now);
        tell(&serving, until, Some(one))?;
    }
    serving.program.terminate(Duration::from_secs(20))?;
    Ok(())
}

fn tell(serving: &Serving, count: u64, one: Option<f64>) -> Result<()> {
    let (memory, peak) = (mib(serving.program.rss_kib()?), mib(serving.program.peak_kib()?));
    let one = one.map_or("-".to_owned(), |seconds| format!("{:.3} ms", seconds * 1000.0));
    println!("| {count} | {memory:.1} MiB | {peak:.1} MiB | {one} |");
    Ok(())
}

/// The one that the API server was told to trust.
fn authority(cluster: &ControlPlane) -> Result<String> {
    use base64::Engine as _;
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let bundle = cluster.kubectl(&["get", "mutatingwebhookconfiguration", "opportune", "-o", path])?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(bundle.trim())?)?)
}

/// The creation of a Deployment of about 3 KB; one in four wants something.
fn review(number: u64) -> Vec<u8> {
    let name = format!("app{number}");
    let wants = if number.is_multiple_of(4) {
        json!({"opportune.libre.sh/wants": "ldap"})
    } else {
        json!({"a": "b"})
    };
    let variables: Vec<_> = (0..30)
        .map(|n| json!({"name": format!("SHOP_OPTION_{n}"), "value": format!("value number {n}")}))
        .collect();
    let group = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": format!("00000000-0000-4000-8000-{number:012x}"), "kind": group, "resource": resource,
        "requestKind": group, "requestResource": resource, "name": name, "namespace": "blog",
        "operation": "CREATE", "userInfo": {"username": "admin", "groups": ["system:masters"]},
        "object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "blog"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name}, "annotations": wants},
                "spec": {"containers": [{"name": "app", "image": "registry.example.org/shop/app:1.2.3", "env": variables}]}}}},
        "oldObject": null, "dryRun": false, "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}}})
    .to_string()
    .into_bytes()
}
