//! What tools that compare a repository with the cluster see: no difference, or they would fight us for ever.
use crate::{
    trial::{Cluster, trials},
    webhook,
    workload::{DATA, Kind, fault, generation, live, manifest},
    writer::Writer,
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

const MANAGER: &str = "--field-manager=kustomize-controller";

/// As Flux does: a dry run of a server-side apply, compared with what is there.
async fn a_server_side_dry_run_gives_what_is_there(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "flux")?;
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    for manifest in manifests() {
        let apply = |more: &[&str]| {
            let first = ["-n", &namespace, "apply", "--server-side", "--force-conflicts", MANAGER, "-o=json"];
            kubectl.feed(&[&first, more, &["-f", "-"]].concat(), &manifest.to_string())
        };
        apply(&[])?;
        for _ in 0..2 {
            let object = live(&cluster, &namespace, &manifest)?;
            ensure!(fault(&object).is_none(), "{:?}", fault(&object));
            let dry: Value = serde_json::from_str(&apply(&["--dry-run=server"])?)?;
            assert_eq!(compared(&dry), compared(&object));
            apply(&[])?;
        }
    }
    Ok(())
}

/// The fields of an object that such a tool compares.
fn compared(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
        // The controller's own, which it may not have written yet.
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
        }
    }
    object
}

/// As Argo CD does, and `kubectl apply`: a merge of what was applied, what is to be applied, and what is there. It looks at
/// the fields of the manifest only, and what it merges changes nothing.
async fn a_three_way_merge_finds_nothing_to_change(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "argo")?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let manifest = manifest(kind, "web");
        Writer::Apply.begin(&cluster, &namespace, &manifest)?;
        let before = live(&cluster, &namespace, &manifest)?;
        ensure!(fault(&before).is_none(), "{:?}", fault(&before));
        assert_eq!(lost(&manifest, &before, ""), None);
        Writer::Apply.write(&cluster, &namespace, &manifest)?;
        let after = live(&cluster, &namespace, &manifest)?;
        assert_eq!(compared(&after), compared(&before));
        assert_eq!(generation(&after), generation(&before));
    }
    Ok(())
}

/// The one field that such a tool misses: it sees a difference, and its repair changes nothing.
async fn a_three_way_merge_misses_an_empty_dir_that_gave_way(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "argo-disk")?;
    let manifest = on_empty_dir();
    Writer::Apply.begin(&cluster, &namespace, &manifest)?;
    let before = live(&cluster, &namespace, &manifest)?;
    assert_eq!(lost(&manifest, &before, "").as_deref(), Some("/spec/template/spec/volumes/scratch/emptyDir"));
    for _ in 0..3 {
        Writer::Apply.write(&cluster, &namespace, &manifest)?;
    }
    let after = live(&cluster, &namespace, &manifest)?;
    assert_eq!(compared(&after), compared(&before));
    assert_eq!(generation(&after), generation(&before));
    Ok(())
}

fn manifests() -> [Value; 3] {
    let mut others = on_empty_dir();
    others["metadata"]["name"] = "disk".into();
    [manifest(Kind::Deployment, "web"), manifest(Kind::StatefulSet, "web"), others]
}

fn on_empty_dir() -> Value {
    let mut manifest = manifest(Kind::Deployment, "web");
    let pod = &mut manifest["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": DATA}]);
    manifest
}

/// The first field of a manifest that an object does not have as it is there; entries of lists are known by their name.
fn lost(manifest: &Value, object: &Value, at: &str) -> Option<String> {
    match (manifest, object) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().find_map(|(key, value)| match object.get(key) {
                Some(there) => lost(value, there, &format!("{at}/{key}")),
                None => Some(format!("{at}/{key}")),
            })
        }
        (Value::Array(entries), Value::Array(there)) => entries.iter().find_map(|entry| {
            let key = if entry.get("mountPath").is_some() { "mountPath" } else { "name" };
            let path = format!("{at}/{}", entry[key].as_str().unwrap_or_default());
            match there.iter().find(|other| other[key] == entry[key]) {
                Some(other) => lost(entry, other, &path),
                None => Some(path),
            }
        }),
        _ => (manifest != object).then(|| at.to_owned()),
    }
}

trials![
    shared a_server_side_dry_run_gives_what_is_there,
    shared a_three_way_merge_finds_nothing_to_change,
    shared a_three_way_merge_misses_an_empty_dir_that_gave_way,
];
