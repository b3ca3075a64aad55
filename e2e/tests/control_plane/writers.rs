//! Whoever writes a workload, and in whichever way: it is injected once, and writing it again changes nothing.
use crate::{
    trial::{Cluster, trials},
    webhook,
    workload::{Kind, annotation, fault, generation, live, manifest, text, variables},
    writer::Writer,
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};
use std::fs;

async fn a_deployment_is_injected_once_by_whatever_way_it_is_written(cluster: Cluster) -> Result<()> {
    written_in_every_way(&cluster, Kind::Deployment).await
}

async fn a_stateful_set_is_injected_once_by_whatever_way_it_is_written(cluster: Cluster) -> Result<()> {
    written_in_every_way(&cluster, Kind::StatefulSet).await
}

async fn written_in_every_way(cluster: &Cluster, kind: Kind) -> Result<()> {
    webhook::shared(cluster).await?;
    let namespace = webhook::namespace(cluster, "writers")?;
    for writer in Writer::ALL {
        let manifest = manifest(kind, &writer.object());
        writer.begin(cluster, &namespace, &manifest)?;
        let first = live(cluster, &namespace, &manifest)?;
        ensure_injected(&first, writer)?;

        writer.write(cluster, &namespace, &manifest)?;
        let again = live(cluster, &namespace, &manifest)?;
        ensure_unchanged(&first, &again, writer)?;
        // A replaced Deployment has lost the annotation with its revision, which counts as a change with or without us.
        if writer != Writer::Replace || kind == Kind::StatefulSet {
            assert_eq!(generation(&first), generation(&again), "{writer:?}");
        }
        let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
        let diff = kubectl.feed(&["-n", &namespace, "diff", "-f", "-"], &manifest.to_string());
        ensure!(diff?.is_empty(), "{writer:?}: the owner's manifest and the object differ");
    }
    Ok(())
}

fn ensure_injected(object: &Value, what: impl std::fmt::Debug) -> Result<()> {
    match fault(object) {
        None => Ok(()),
        Some(fault) => {
            anyhow::bail!("{what:?}: {fault}\n{:#}", object.pointer("/spec").unwrap_or(object))
        }
    }
}

/// Two states of one object, between which nothing happened that anybody would see.
fn ensure_unchanged(before: &Value, after: &Value, what: impl std::fmt::Debug) -> Result<()> {
    ensure!(before["spec"] == after["spec"], "{what:?}: the spec changed to {:#}", after["spec"]);
    for key in ["injected", "status"] {
        let (before, after) = (annotation(before, key), annotation(after, key));
        ensure!(before == after, "{what:?}: {key} changed from {before} to {after}");
    }
    Ok(())
}

async fn server_side_appliers_do_not_conflict_over_what_was_injected(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "appliers")?;
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    let apply = |manager: &str, manifest: &Value| {
        let manager = format!("--field-manager={manager}");
        kubectl.feed(
            &["-n", &namespace, "apply", "--server-side", &manager, "-f", "-"],
            &manifest.to_string(),
        )
    };
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let manifest = manifest(kind, "web");
        apply("team", &manifest)?;
        let first = live(&cluster, &namespace, &manifest)?;
        apply("team", &manifest)?;
        let part = |spec: Value| {
            json!({"apiVersion": "apps/v1", "kind": format!("{kind:?}"),
                "metadata": {"name": "web", "labels": {"seen": "yes"}}, "spec": spec})
        };
        apply("labeller", &part(json!({})))?;
        let labelled = live(&cluster, &namespace, &manifest)?;
        ensure_unchanged(&first, &labelled, "a label")?;
        assert_eq!(generation(&first), generation(&labelled));

        let container = json!({"name": "web", "env": [{"name": "THEIRS", "value": "1"}]});
        let other = part(json!({"template": {"spec": {"containers": [container]}}}));
        apply("configurer", &other)?;
        apply("team", &manifest)?;
        apply("configurer", &other)?;
        let last = live(&cluster, &namespace, &manifest)?;
        assert_eq!(variables(&last, "THEIRS").len(), 1);
        assert_eq!(fault(&last), None);
        assert_eq!(generation(&last), generation(&first) + 1);
    }
    Ok(())
}

async fn a_dry_run_shows_the_injection_and_stores_nothing(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "dry")?;
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    let dry = |arguments: &[&str], input: &str| -> Result<Value> {
        let arguments =
            [&["-n", &namespace, "--dry-run=server", "-o=json"], arguments].concat();
        Ok(serde_json::from_str(&kubectl.feed(&arguments, input)?)?)
    };
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let manifest = manifest(kind, "web");
        let text = manifest.to_string();
        for arguments in
            [&["create", "-f", "-"][..], &["apply", "-f", "-"], &["apply", "--server-side", "-f", "-"]]
        {
            assert_eq!(fault(&dry(arguments, &text)?), None, "{arguments:?}");
        }
        let said = kubectl.refused(&["-n", &namespace, "get", &format!("{kind:?}"), "web"], "")?;
        ensure!(said.contains("NotFound"), "{said}");
    }

    let mut manifest = manifest(Kind::Deployment, "web");
    Writer::Apply.begin(&cluster, &namespace, &manifest)?;
    let before = live(&cluster, &namespace, &manifest)?;
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
    for arguments in [&["apply", "-f", "-"][..], &["replace", "-f", "-"]] {
        let answer = dry(arguments, &manifest.to_string())?;
        assert_eq!(fault(&answer), None, "{arguments:?}");
        assert_eq!(text(&answer, "/spec/template/spec/containers/0/image"), "example.invalid/web:2");
    }
    ensure_unchanged(&before, &live(&cluster, &namespace, &manifest)?, "a dry run")
}

async fn helm_installs_upgrades_and_rolls_back(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let chart = chart(&cluster)?;
    let namespace = webhook::namespace(&cluster, "helm")?;
    let helm = cluster.helm_for(&cluster.kubeconfig())?;
    let run = |arguments: &[&str]| -> Result<[Value; 2]> {
        helm.run(&[&["-n", &namespace], arguments].concat())?;
        let live = |kind| live(&cluster, &namespace, &manifest(kind, "web"));
        Ok([live(Kind::Deployment)?, live(Kind::StatefulSet)?])
    };
    let installed = run(&["install", "web", &chart])?;
    let same = run(&["upgrade", "web", &chart])?;
    let upgraded = run(&["upgrade", "web", &chart, "--set=tag=2"])?;
    let back = run(&["rollback", "web", "1"])?;
    let image = |object: &Value| text(object, "/spec/template/spec/containers/0/image").to_owned();
    for index in [0, 1] {
        for (step, objects) in [("installed", &installed), ("upgraded", &upgraded), ("back", &back)] {
            ensure_injected(&objects[index], step)?;
        }
        ensure_unchanged(&installed[index], &same[index], "an upgrade to the same")?;
        assert_eq!(image(&upgraded[index]), "example.invalid/web:2");
        assert_eq!(image(&back[index]), "example.invalid/web:1");
        assert_eq!(back[index]["spec"], installed[index]["spec"]);
    }
    Ok(())
}

/// A chart of both kinds of workload; what it prints is what [`manifest`] gives, but for the tag.
fn chart(plane: &ControlPlane) -> Result<String> {
    let folder = plane.directory().join("chart");
    fs::create_dir_all(folder.join("templates"))?;
    fs::write(folder.join("Chart.yaml"), "{apiVersion: v2, name: web, version: 1.0.0}\n")?;
    fs::write(folder.join("values.yaml"), "tag: 1\n")?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let text = manifest(kind, "web").to_string().replace("web:1", "web:{{ .Values.tag }}");
        fs::write(folder.join(format!("templates/{kind:?}.yaml")), text)?;
    }
    folder.to_str().map(str::to_owned).context("the folder's name is not UTF-8")
}

trials![
    shared a_deployment_is_injected_once_by_whatever_way_it_is_written,
    shared a_stateful_set_is_injected_once_by_whatever_way_it_is_written,
    shared server_side_appliers_do_not_conflict_over_what_was_injected,
    shared a_dry_run_shows_the_injection_and_stores_nothing,
    shared helm_installs_upgrades_and_rolls_back,
];
