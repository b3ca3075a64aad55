//! A cluster in which nothing happens: its watches live, and say so.
use crate::{trial::trials, webhook};
use anyhow::{Result, ensure};
use opportune_e2e::{ControlPlane, Options, free_address};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than any watch lasts, so that each is taken up again.
const SPAN: Duration = Duration::from_secs(75);
/// The longest time without a sign of life.
const QUIET: f64 = 60.0;

async fn a_quiet_cluster_keeps_its_replica_ready_and_its_watches_heard_of() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let (listen, admin) = (free_address()?, free_address()?);
    let program = webhook::serve(&plane, listen, admin, &[])?;
    let begun = Instant::now();
    while begun.elapsed() < SPAN {
        let (status, conditions) = program.get(admin, "/readyz")?;
        ensure!(status == 200, "after {:?}: {conditions}\n{}", begun.elapsed(), program.log()?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let figures = program.metrics(admin)?;
    // The Gateway API is not installed: that it is still not there is a sign of life too.
    let missing = "httproutes.gateway.networking.k8s.io";
    for resource in ["namespaces", "services", "storageclasses.storage.k8s.io", "deployments.apps", missing] {
        let labels = [("resource", resource)];
        let heard = figures.sum("opportune_catalog_last_event_timestamp_seconds", &labels);
        ensure!(now - heard < QUIET, "{resource} was last heard of {} s ago", now - heard);
    }
    ensure!(!program.log()?.contains("can't watch"), "{}", program.log()?);
    Ok(())
}

trials![patient a_quiet_cluster_keeps_its_replica_ready_and_its_watches_heard_of];
