//! The control plane's own life: what runs, what a restart keeps, what stays behind.
use crate::trial::{Cluster, trials};
use anyhow::{Result, ensure};
use opportune_e2e::{Component, ControlPlane, Options};
use std::path::Path;

async fn the_servers_version_is_the_one_asked_for(cluster: Cluster) -> Result<()> {
    let version = cluster.client().await?.apiserver_version().await?;
    assert_eq!(version.git_version, format!("v{}", cluster.assets().version()));
    Ok(())
}

async fn a_restart_of_the_api_server_keeps_objects(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("restart")?;
    cluster.kubectl(&["-n", &namespace, "create", "configmap", "kept", "--from-literal=answer=42"])?;

    cluster.stop_api_server();
    ensure!(cluster.metrics().is_err(), "a stopped API server answers");
    cluster.start_api_server()?;

    let answer = cluster.kubectl(&["-n", &namespace, "get", "configmap", "kept", "-o=jsonpath={.data.answer}"])?;
    assert_eq!(answer, "42");
    // The controller manager has found the new server: a namespace is complete only with its ServiceAccount.
    cluster.namespace("restarted")?;
    Ok(())
}

async fn nothing_is_left_behind() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let processes = plane.processes();
    let directory = plane.directory().to_owned();
    assert_eq!(processes.iter().map(|(component, _)| *component).collect::<Vec<_>>(), Component::ALL);
    for (component, id) in &processes {
        assert_eq!(running(*id).as_deref(), Some(component.name()));
    }

    plane.stop();
    for (component, id) in &processes {
        assert_eq!(running(*id), None, "{} still runs", component.name());
    }
    drop(plane);
    assert!(!directory.exists(), "{} is still there", directory.display());
    Ok(())
}

/// The name of the program with this process id.
fn running(id: u32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{id}/exe")).ok()?;
    Some(Path::new(&link).file_name()?.to_string_lossy().into_owned())
}

trials![
    shared the_servers_version_is_the_one_asked_for,
    exclusive a_restart_of_the_api_server_keeps_objects,
    own nothing_is_left_behind,
];
