//! What the user sets later meets what was injected, on one entry of a list: the user's wins, ours comes back when it
//! goes, and the API server refuses nothing.
use crate::{
    trial::{Cluster, trials},
    webhook,
    workload::{DATA, Kind, annotation, data_volumes, doubled, fault, live, manifest, text, variables},
    writer::Writer,
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};

/// A variable whose value we write out, and one that we take from a Secret.
const INJECTED: [&str; 2] = ["LDAP_HOST", "LDAP_BIND_PASSWORD"];

async fn a_variable_that_the_user_sets_wins_until_it_is_removed(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "variables")?;
    for (kind, writer) in everybody() {
        let manifest = manifest(kind, &writer.object());
        writer.begin(&cluster, &namespace, &manifest)?;
        let injected = live(&cluster, &namespace, &manifest)?;
        for name in INJECTED {
            let ours: Vec<Value> = variables(&injected, name).into_iter().cloned().collect();
            let literal = |value: &str| json!({"name": name, "value": value});
            let config_map =
                json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": "own", "key": "host"}}});
            let steps = [literal("first"), literal("second"), config_map, literal("third")];
            for (index, wanted) in steps.iter().enumerate() {
                let mut entry = wanted.clone();
                if writer == Writer::StrategicPatch && index >= 2 {
                    // Such a patch merges: who changes the kind of an entry of their own takes the old one out.
                    let old = if wanted.get("value").is_some() { "valueFrom" } else { "value" };
                    entry[old] = Value::Null;
                }
                set(&cluster, &namespace, writer, &manifest, Some(entry))
                    .with_context(|| format!("{kind:?}, {writer:?}: {wanted}"))?;
                let object = live(&cluster, &namespace, &manifest)?;
                assert_eq!(variables(&object, name), [wanted], "{kind:?}, {writer:?}");
                ensure!(doubled(&object).is_none(), "{kind:?}, {writer:?}: {:?}", doubled(&object));
                let status = annotation(&object, "status");
                ensure!(status.contains(&format!("set by the workload: {name}")), "{status}");
            }
            let delete = (writer == Writer::StrategicPatch).then(|| json!({"name": name, "$patch": "delete"}));
            set(&cluster, &namespace, writer, &manifest, delete)?;
            let object = live(&cluster, &namespace, &manifest)?;
            assert_eq!(variables(&object, name), ours.iter().collect::<Vec<_>>(), "{kind:?}, {writer:?}");
            assert_eq!(fault(&object), None, "{kind:?}, {writer:?}");
        }
    }
    Ok(())
}

/// The other order: what is a kind change for us at the very first step.
async fn a_source_that_the_user_sets_first_wins_over_a_value(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "sources")?;
    for (kind, writer) in everybody() {
        let manifest = manifest(kind, &writer.object());
        writer.begin(&cluster, &namespace, &manifest)?;
        for name in INJECTED {
            for source in [
                json!({"configMapKeyRef": {"name": "own", "key": "host"}}),
                json!({"secretKeyRef": {"name": "own", "key": "host"}}),
            ] {
                let entry = json!({"name": name, "valueFrom": source});
                set(&cluster, &namespace, writer, &manifest, Some(entry.clone()))
                    .with_context(|| format!("{kind:?}, {writer:?}: {entry}"))?;
                let object = live(&cluster, &namespace, &manifest)?;
                assert_eq!(variables(&object, name), [&entry], "{kind:?}, {writer:?}");
                let delete =
                    (writer == Writer::StrategicPatch).then(|| json!({"name": name, "$patch": "delete"}));
                set(&cluster, &namespace, writer, &manifest, delete)?;
                let object = live(&cluster, &namespace, &manifest)?;
                assert_eq!(fault(&object), None, "{kind:?}, {writer:?}: {entry}");
            }
        }
    }
    Ok(())
}

fn everybody() -> impl Iterator<Item = (Kind, Writer)> {
    let kinds = [Kind::Deployment, Kind::StatefulSet];
    kinds.into_iter().flat_map(|kind| Writer::ALL.into_iter().map(move |writer| (kind, writer)))
}

/// Writes the manifest with one variable more, at the end.
fn set(
    cluster: &ControlPlane,
    namespace: &str,
    writer: Writer,
    manifest: &Value,
    entry: Option<Value>,
) -> Result<String> {
    let mut manifest = manifest.clone();
    let env = manifest["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
    env.context("the manifest has variables")?.extend(entry);
    writer.write(cluster, namespace, &manifest)
}

async fn a_stateful_set_with_templates_of_ours_takes_every_change_of_its_owner(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "templates")?;
    for writer in Writer::ALL {
        let mut manifest = manifest(Kind::StatefulSet, &writer.object());
        writer.begin(&cluster, &namespace, &manifest)?;
        let first = live(&cluster, &namespace, &manifest)?;
        let changes: [(&str, Value); 4] = [
            ("/spec/template/spec/containers/0/image", "example.invalid/web:2".into()),
            ("/spec/replicas", 3.into()),
            ("/metadata/labels", json!({"app": writer.object(), "team": "a"})),
            ("/spec/template/metadata/labels", json!({"app": writer.object(), "team": "a"})),
        ];
        for (pointer, value) in changes {
            *manifest.pointer_mut(pointer).context("no such field")? = value;
            writer.write(&cluster, &namespace, &manifest).with_context(|| format!("{writer:?}: {pointer}"))?;
            let object = live(&cluster, &namespace, &manifest)?;
            assert_eq!(fault(&object), None, "{writer:?}: {pointer}");
            let templates = "/spec/volumeClaimTemplates";
            assert_eq!(object.pointer(templates), first.pointer(templates), "{writer:?}: {pointer}");
        }
        // A wish taken back leaves them: they can't change.
        manifest["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/wants"] = "ldap".into();
        writer.write(&cluster, &namespace, &manifest)?;
        let object = live(&cluster, &namespace, &manifest)?;
        assert_eq!(data_volumes(&object).len(), 1, "{writer:?}");
        assert!(annotation(&object, "status").contains("storage=kept: immutable"), "{writer:?}");
    }
    Ok(())
}

async fn templates_of_the_user_keep_the_class_that_we_gave_them(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "classes")?;
    for writer in Writer::ALL {
        let mut manifest = manifest(Kind::StatefulSet, &writer.object());
        manifest["spec"]["volumeClaimTemplates"] = json!([{
            "metadata": {"name": "own"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }]);
        manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "own", "mountPath": "/own"}]);
        writer.begin(&cluster, &namespace, &manifest)?;
        let first = live(&cluster, &namespace, &manifest)?;
        assert_eq!(fault(&first), None, "{writer:?}");
        let class = "/spec/volumeClaimTemplates/0/spec/storageClassName";
        assert_eq!(text(&first, class), crate::offers::BLOCK_CLASS, "{writer:?}");

        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        writer.write(&cluster, &namespace, &manifest).with_context(|| format!("{writer:?}"))?;
        let second = live(&cluster, &namespace, &manifest)?;
        assert_eq!(fault(&second), None, "{writer:?}");
        assert_eq!(second["spec"]["volumeClaimTemplates"], first["spec"]["volumeClaimTemplates"]);
    }
    Ok(())
}

async fn an_empty_dir_that_gave_way_to_a_claim_stays_away(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "disks")?;
    for writer in Writer::ALL {
        let original = with_disk(writer, "scratch", json!({}));
        writer.begin(&cluster, &namespace, &original)?;
        let first = live(&cluster, &namespace, &original)?;
        ensure_on_claim(&first, "scratch").with_context(|| format!("{writer:?}"))?;

        let mut edited = original.clone();
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        let limited = with_disk(writer, "scratch", json!({"sizeLimit": "1Gi"}));
        for manifest in [&original, &edited, &limited, &original] {
            writer.write(&cluster, &namespace, manifest).with_context(|| format!("{writer:?}"))?;
            let object = live(&cluster, &namespace, manifest)?;
            ensure_on_claim(&object, "scratch").with_context(|| format!("{writer:?}"))?;
            assert_eq!(data_volumes(&object), data_volumes(&first), "{writer:?}");
        }
        assert_eq!(live(&cluster, &namespace, &original)?["spec"], first["spec"], "{writer:?}");
    }
    Ok(())
}

/// Writers that say all of what they want: a patch that merges does not drop what it leaves out.
const WHOLE: [Writer; 4] = [Writer::Replace, Writer::Apply, Writer::ServerSide, Writer::JsonPatch];

async fn an_empty_dir_may_be_dropped_renamed_and_come_back_under_a_claim(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "renamed")?;
    for writer in WHOLE {
        let original = with_disk(writer, "scratch", json!({}));
        writer.begin(&cluster, &namespace, &original)?;
        let claim = claim(&live(&cluster, &namespace, &original)?)?;

        let dropped = manifest(Kind::Deployment, &writer.object());
        let renamed = with_disk(writer, "other", json!({}));
        for (step, manifest) in
            [("dropped", &dropped), ("back", &original), ("renamed", &renamed), ("dropped", &dropped)]
        {
            writer.write(&cluster, &namespace, manifest).with_context(|| format!("{writer:?}: {step}"))?;
            let object = live(&cluster, &namespace, manifest)?;
            ensure!(fault(&object).is_none(), "{writer:?}, {step}: {:?}", fault(&object));
            assert_eq!(self::claim(&object)?, claim, "{writer:?}: {step}");
        }
    }
    Ok(())
}

async fn a_volume_of_the_users_takes_the_place_of_our_claim(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "volumes")?;
    for writer in Writer::ALL {
        let original = with_disk(writer, "scratch", json!({}));
        writer.begin(&cluster, &namespace, &original)?;
        let mut own = original.clone();
        let volume = &mut own["spec"]["template"]["spec"]["volumes"][0];
        *volume = json!({"name": "scratch", "configMap": {"name": "own"}});
        if writer == Writer::StrategicPatch {
            volume["emptyDir"] = Value::Null;
        }
        writer.write(&cluster, &namespace, &own).with_context(|| format!("{writer:?}"))?;
        let object = live(&cluster, &namespace, &own)?;
        ensure!(doubled(&object).is_none(), "{writer:?}: {:?}", doubled(&object));
        let volumes = data_volumes(&object);
        assert_eq!(volumes.len(), 1, "{writer:?}");
        assert_eq!(text(volumes[0], "/configMap/name"), "own", "{writer:?}");
        let status = annotation(&object, "status");
        ensure!(status.contains(&format!("storage=absent: the workload mounts {DATA}")), "{writer:?}: {status}");
    }
    Ok(())
}

/// A Deployment with an `emptyDir` of this name where its data is.
fn with_disk(writer: Writer, volume: &str, source: Value) -> Value {
    let mut manifest = manifest(Kind::Deployment, &writer.object());
    let pod = &mut manifest["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": volume, "emptyDir": source}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": volume, "mountPath": DATA}]);
    manifest
}

fn ensure_on_claim(object: &Value, volume: &str) -> Result<()> {
    if let Some(fault) = fault(object) {
        anyhow::bail!("{fault}: {:#}", object["spec"]["template"]["spec"]);
    }
    let volumes = data_volumes(object);
    ensure!(text(volumes[0], "/name") == volume, "{:?}", volumes);
    claim(object).map(drop)
}

fn claim(object: &Value) -> Result<String> {
    let volumes = data_volumes(object);
    let claim = volumes.first().map(|volume| text(volume, "/persistentVolumeClaim/claimName"));
    let claim = claim.filter(|claim| !claim.is_empty());
    Ok(claim.with_context(|| format!("no claim: {volumes:?}"))?.to_owned())
}

trials![
    shared a_variable_that_the_user_sets_wins_until_it_is_removed,
    shared a_source_that_the_user_sets_first_wins_over_a_value,
    shared a_stateful_set_with_templates_of_ours_takes_every_change_of_its_owner,
    shared templates_of_the_user_keep_the_class_that_we_gave_them,
    shared an_empty_dir_that_gave_way_to_a_claim_stays_away,
    shared an_empty_dir_may_be_dropped_renamed_and_come_back_under_a_claim,
    shared a_volume_of_the_users_takes_the_place_of_our_claim,
];
