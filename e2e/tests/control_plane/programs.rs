//! The fixtures that run programs: `opportune` itself, and helm.
use crate::trial::{Cluster, trials};
use anyhow::Result;
use opportune_e2e::{Program, free_address};
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(30);

async fn opportune_serves_and_ends_when_told_to(cluster: Cluster) -> Result<()> {
    let (listen, admin) = (free_address()?.to_string(), free_address()?);
    let catalog = cluster.directory().join("catalog.yaml");
    fs::write(&catalog, "apiVersion: v1\nkind: Namespace\nmetadata: { name: default }\n")?;
    let admin_text = admin.to_string();
    let arguments = ["serve", "--tls", "self-signed", "--settle", "0", "--listen", &listen, "--admin", &admin_text];
    let mut program = Program::against(&cluster, &cluster.kubeconfig(), arguments)
        .arguments(["--catalog".into(), catalog.into_os_string()])
        .start_ready(admin, SOON)?;

    assert!(program.rss_kib()? > 1000);
    assert!(program.metrics(admin)?.has("opportune_admission_requests_total"));
    assert!(program.terminate(SOON)?.success(), "{}", program.log()?);
    Ok(())
}

async fn a_program_that_does_not_start_shows_its_log(cluster: Cluster) -> Result<()> {
    let program = Program::against(&cluster, &cluster.kubeconfig(), ["serve", "--no-such-flag"]);
    let error = program.start_ready(free_address()?, SOON).unwrap_err().to_string();
    assert!(error.contains("opportune ended") && error.contains("--no-such-flag"), "{error}");
    Ok(())
}

async fn helm_sees_the_cluster(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("helm")?;
    let helm = cluster.helm_for(&cluster.kubeconfig())?;
    assert_eq!(helm.run(&["list", "--namespace", &namespace, "--short"])?, "");
    Ok(())
}

trials![
    shared opportune_serves_and_ends_when_told_to,
    shared a_program_that_does_not_start_shows_its_log,
    shared helm_sees_the_cluster,
];
