//! The webhook is away, or the API server is: what still works, what is refused, and that all of it recovers.
use crate::{
    offers::service,
    trial::trials,
    webhook::{self, SOON, Webhook},
    workload::{Kind, annotation, data_volumes, fault, live, manifest, variables, wishing},
    writer::Writer,
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Options, eventually};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than a watch may fail before the webhook says so.
const LONG: Duration = Duration::from_secs(45);
/// Watches are asked for again ever more seldom.
const RECOVERED: Duration = Duration::from_secs(60);
/// The last time at which something was heard of the cluster's Services.
const HEARD: &str = "opportune_catalog_last_event_timestamp_seconds";

async fn a_killed_webhook_stops_only_what_must_not_be_missed() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let mut webhook = Webhook::start(&plane, &[])?;
    webhook.is_at_work(&plane).await?;
    let namespace = webhook::namespace(&plane, "away")?;
    let on_claim = manifest(Kind::Deployment, "on-claim");
    let on_template = manifest(Kind::StatefulSet, "on-template");
    let wanting = wishing(Kind::Deployment, "wanting", &[("wants", "ldap, mail")]);
    for manifest in [&on_claim, &on_template, &wanting] {
        Writer::Apply.begin(&plane, &namespace, manifest)?;
    }
    let before = [live(&plane, &namespace, &on_claim)?, live(&plane, &namespace, &on_template)?];

    webhook.program.kill();
    let new = wishing(Kind::Deployment, "new", &[("wants", "ldap")]);
    Writer::Apply.begin(&plane, &namespace, &new)?;
    let object = live(&plane, &namespace, &new)?;
    assert!(variables(&object, "LDAP_HOST").is_empty() && annotation(&object, "status").is_empty());

    let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
    let apply = ["-n", &namespace, "apply", "-f", "-"];
    let needing = wishing(Kind::Deployment, "needing", &[("requires", "ldap")]);
    let said = kubectl.refused(&apply, &needing.to_string())?;
    ensure!(said.contains(r#"failed calling webhook "requires.opportune.libre.sh""#), "{said}");
    ensure!(said.contains("connection refused"), "{said}");

    // An apply that changes nothing passes; one of another template could leave the app without its disk.
    Writer::Apply.write(&plane, &namespace, &on_template)?;
    for (manifest, before) in [&on_claim, &on_template].into_iter().zip(&before) {
        let said = kubectl.refused(&apply, &with_image(manifest, 2).to_string())?;
        ensure!(said.contains("requires.opportune.libre.sh"), "{said}");
        let said = kubectl.refused(&["-n", &namespace, "replace", "-f", "-"], &manifest.to_string())?;
        ensure!(said.contains("requires.opportune.libre.sh"), "{said}");
        assert_eq!(live(&plane, &namespace, manifest)?["spec"], before["spec"]);
    }
    for target in ["deployment/on-claim", "statefulset/on-template"] {
        plane.kubectl(&["-n", &namespace, "scale", target, "--replicas=2"])?;
        plane.kubectl(&["-n", &namespace, "label", target, "team=a"])?;
    }
    // What has no disk of ours is changed by hand, and keeps what it has.
    Writer::Apply.write(&plane, &namespace, &with_image(&wanting, 2))?;
    assert_eq!(variables(&live(&plane, &namespace, &wanting)?, "LDAP_HOST").len(), 1);
    Writer::Replace.write(&plane, &namespace, &with_image(&wanting, 3))?;
    assert_eq!(variables(&live(&plane, &namespace, &wanting)?, "LDAP_HOST").len(), 0);

    let start = Instant::now();
    webhook.start_again(&plane)?;
    eventually("a required directory is there again", SOON, async || {
        Ok(Some(Writer::Apply.begin(&plane, &namespace, &needing)?))
    })
    .await?;
    println!("    started again: a requirement is met after {} ms", start.elapsed().as_millis());
    webhook.is_at_work(&plane).await?;
    println!("    started again: everything is given after {} ms", start.elapsed().as_millis());
    for manifest in [&on_claim, &on_template] {
        Writer::Apply.write(&plane, &namespace, &with_image(manifest, 2))?;
        let object = live(&plane, &namespace, manifest)?;
        ensure!(fault(&object).is_none(), "{:?}", fault(&object));
    }
    for manifest in [&new, &wanting] {
        Writer::Apply.write(&plane, &namespace, &with_image(manifest, 4))?;
        assert_eq!(variables(&live(&plane, &namespace, manifest)?, "LDAP_HOST").len(), 1);
    }
    Ok(())
}

async fn a_restarted_api_server_is_followed_again_at_once() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let webhook = Webhook::start(&plane, &[])?;
    webhook.is_at_work(&plane).await?;
    let namespace = webhook::namespace(&plane, "restart")?;
    let wanted = wishing(Kind::Deployment, "web", &[("wants", "cache, ldap")]);

    plane.restart_api_server()?;
    let start = Instant::now();
    let offer = service(&webhook.services, "valkey", "cache", 6379, "provider: valkey", None);
    plane.apply(&offer.to_string())?;
    eventually("the new Service is used", Duration::from_secs(10), async || {
        let status = status(&plane, &namespace, &wanted)?;
        Ok(status.contains(&format!("cache={}/valkey", webhook.services)).then_some(()))
    })
    .await?;
    println!("    after a restart of the API server, a Service is used after {} ms", start.elapsed().as_millis());
    let status = status(&plane, &namespace, &wanted)?;
    ensure!(status.contains(&format!("ldap={}/openldap", webhook.services)), "{status}");
    let (code, page) = webhook.program.get(webhook.admin, "/readyz")?;
    ensure!(code == 200, "{page}");
    Ok(())
}

async fn an_api_server_that_stays_away_ends_readiness_until_it_is_back() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let webhook = Webhook::start(&plane, &[])?;
    webhook.is_at_work(&plane).await?;
    let namespace = webhook::namespace(&plane, "outage")?;

    plane.stop_api_server();
    let start = Instant::now();
    let page = eventually("the webhook says that it is not ready", LONG, async || {
        let (code, page) = webhook.program.get(webhook.admin, "/readyz")?;
        Ok((code == 503).then_some(page))
    })
    .await?;
    println!("    without the API server, unready after {} s", start.elapsed().as_secs());
    ensure!(page.contains(": no\n"), "{page}");
    eventually("it says that its watches stand still", LONG, async || {
        let (_, page) = webhook.program.get(webhook.admin, "/readyz")?;
        Ok(page.contains("watches alive: no").then_some(()))
    })
    .await?;
    let heard = webhook.program.metrics(webhook.admin)?.sum(HEARD, &[("resource", "services")]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    ensure!(now - heard > 20.0, "the figures say that something was heard {} s ago", now - heard);
    let (code, _) = webhook.program.get(webhook.admin, "/healthz")?;
    assert_eq!(code, 200, "a restart would not help");

    plane.start_api_server()?;
    let start = Instant::now();
    eventually("the webhook is ready again", RECOVERED, async || {
        let (code, page) = webhook.program.get(webhook.admin, "/readyz")?;
        ensure!(code == 200, "{page}{}", webhook.program.log()?);
        Ok(Some(()))
    })
    .await?;
    println!("    with the API server back, ready after {} ms", start.elapsed().as_millis());
    webhook.is_at_work(&plane).await?;
    let wanted = manifest(Kind::Deployment, "web");
    Writer::Apply.begin(&plane, &namespace, &wanted)?;
    let object = live(&plane, &namespace, &wanted)?;
    assert_eq!(fault(&object), None);
    assert_eq!(data_volumes(&object).len(), 1);
    Ok(())
}

fn with_image(manifest: &Value, tag: u8) -> Value {
    let mut manifest = manifest.clone();
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = format!("example.invalid/web:{tag}").into();
    manifest
}

fn status(plane: &ControlPlane, namespace: &str, manifest: &Value) -> Result<String> {
    let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
    let arguments = ["-n", namespace, "create", "--dry-run=server", "-o=json", "-f", "-"];
    let answer: Value = serde_json::from_str(&kubectl.feed(&arguments, &manifest.to_string())?)
        .context("reading what would be stored")?;
    Ok(annotation(&answer, "status").to_owned())
}

trials![
    own a_killed_webhook_stops_only_what_must_not_be_missed,
    own a_restarted_api_server_is_followed_again_at_once,
    patient an_api_server_that_stays_away_ends_readiness_until_it_is_back,
];
