//! The node itself: without it, nothing else here means anything.
use crate::{
    stage::Stage,
    trial::trials,
};
use anyhow::{Result, ensure};

fn a_pod_resolves_names_and_reaches_the_api_server_through_its_service(stage: &Stage) -> Result<()> {
    let cluster = stage.cluster()?;
    let printed = cluster.run(
        "default",
        "looks-around",
        r#"
        getent hosts kubernetes.default.svc.cluster.local kubernetes.default.svc | cut -d ' ' -f 1
        exec 3<> /dev/tcp/kubernetes.default.svc/443 && echo connected
        "#,
    )?;
    ensure!(printed.split_whitespace().eq(["10.96.0.1", "10.96.0.1", "connected"]), "{printed}");
    Ok(())
}

trials![a_pod_resolves_names_and_reaches_the_api_server_through_its_service];
