//! A rollout that is undone takes what was injected back with it.
use crate::{
    trial::{Cluster, trials},
    webhook::{self, SOON},
    workload::{Kind, VARIABLES, annotation, doubled, live, text, variables, wishing},
    writer::Writer,
};
use anyhow::{Result, ensure};
use opportune_e2e::{ControlPlane, eventually};
use serde_json::Value;

async fn an_undone_wish_is_taken_out_and_comes_back_when_that_is_undone(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "undo")?;
    for (kind, writer) in [
        (Kind::Deployment, Writer::Apply),
        (Kind::StatefulSet, Writer::Apply),
        (Kind::Deployment, Writer::ServerSide),
        (Kind::StatefulSet, Writer::ServerSide),
    ] {
        let name = writer.object();
        let one = wishing(kind, &name, &[("wants", "ldap")]);
        let two = wishing(kind, &name, &[("wants", "ldap, mail")]);
        writer.begin(&cluster, &namespace, &one)?;
        wait_for_revisions(&cluster, &namespace, &one, 1).await?;
        let first = live(&cluster, &namespace, &one)?;
        ensure_has(&first, &["LDAP"])?;
        writer.write(&cluster, &namespace, &two)?;
        wait_for_revisions(&cluster, &namespace, &one, 2).await?;
        let second = live(&cluster, &namespace, &one)?;
        ensure_has(&second, &["LDAP", "SMTP"])?;

        for (round, before) in [(1, &first), (2, &second), (3, &first)] {
            undo(&cluster, &namespace, kind, &name)?;
            let undone = live(&cluster, &namespace, &one)?;
            ensure!(
                undone["spec"]["template"] == before["spec"]["template"],
                "{kind:?}, undo {round}: {:#}",
                undone["spec"]["template"]
            );
            assert_eq!(annotation(&undone, "status"), annotation(before, "status"), "{kind:?}, undo {round}");
            // The controller has to have seen it, or the next undo finds the same revision.
            wait_until_seen(&cluster, &namespace, &one).await?;
        }
        // Nothing that was ours is taken for the user's by now.
        let last = wishing(kind, &name, &[("wants", "mail")]);
        Writer::Replace.write(&cluster, &namespace, &last)?;
        ensure_has(&live(&cluster, &namespace, &one)?, &["SMTP"])?;
    }
    Ok(())
}

async fn an_undo_keeps_the_volumes_of_a_stateful_set(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "undo-volumes")?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let mut manifest = crate::workload::manifest(kind, "web");
        Writer::Apply.begin(&cluster, &namespace, &manifest)?;
        wait_for_revisions(&cluster, &namespace, &manifest, 1).await?;
        let first = live(&cluster, &namespace, &manifest)?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        Writer::Apply.write(&cluster, &namespace, &manifest)?;
        wait_for_revisions(&cluster, &namespace, &manifest, 2).await?;
        undo(&cluster, &namespace, kind, "web")?;
        let undone = live(&cluster, &namespace, &manifest)?;
        assert_eq!(undone["spec"], first["spec"], "{kind:?}");
        assert_eq!(crate::workload::fault(&undone), None, "{kind:?}");
    }
    Ok(())
}

async fn an_undo_to_before_the_first_wish_takes_everything_out(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "undo-all")?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let plain = crate::workload::plain(kind, "web");
        Writer::Apply.begin(&cluster, &namespace, &plain)?;
        wait_for_revisions(&cluster, &namespace, &plain, 1).await?;
        let first = live(&cluster, &namespace, &plain)?;
        Writer::Apply.write(&cluster, &namespace, &wishing(kind, "web", &[("wants", "ldap")]))?;
        wait_for_revisions(&cluster, &namespace, &plain, 2).await?;
        undo(&cluster, &namespace, kind, "web")?;
        let undone = live(&cluster, &namespace, &plain)?;
        assert_eq!(undone["spec"]["template"], first["spec"]["template"], "{kind:?}");
        assert_eq!(annotation(&undone, "status"), "", "{kind:?}");
    }
    Ok(())
}

/// The variables of these families are there, and those of no other.
fn ensure_has(object: &Value, families: &[&str]) -> Result<()> {
    ensure!(doubled(object).is_none(), "{:?}", doubled(object));
    for name in VARIABLES {
        let wanted = families.iter().any(|family| name.starts_with(family));
        let found = variables(object, name).len();
        ensure!(found == usize::from(wanted), "{name} is there {found} times; {}", annotation(object, "status"));
    }
    Ok(())
}

fn undo(cluster: &ControlPlane, namespace: &str, kind: Kind, name: &str) -> Result<String> {
    cluster.kubectl(&["-n", namespace, "rollout", "undo", &format!("{kind:?}/{name}")])
}

async fn wait_for_revisions(
    cluster: &ControlPlane,
    namespace: &str,
    manifest: &Value,
    count: usize,
) -> Result<()> {
    let target = format!("{}/{}", text(manifest, "/kind"), text(manifest, "/metadata/name"));
    eventually("the controller keeps the revision", SOON, async || {
        let history = cluster.kubectl(&["-n", namespace, "rollout", "history", &target])?;
        let revisions = history.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        Ok((revisions.count() >= count).then_some(()))
    })
    .await?;
    wait_until_seen(cluster, namespace, manifest).await
}

async fn wait_until_seen(cluster: &ControlPlane, namespace: &str, manifest: &Value) -> Result<()> {
    eventually("the controller has seen the change", SOON, async || {
        let object = live(cluster, namespace, manifest)?;
        let is_seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        Ok(is_seen.then_some(()))
    })
    .await
}

trials![
    shared an_undone_wish_is_taken_out_and_comes_back_when_that_is_undone,
    shared an_undo_keeps_the_volumes_of_a_stateful_set,
    shared an_undo_to_before_the_first_wish_takes_everything_out,
];
