//! What of a patch costs the API server time: constant patches of different forms.
use super::{
    Extent,
    creates::{self, Kind, added, deployment},
    hook::{self, Hook},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};

const ENV: &str = "/spec/template/spec/containers/0/env";
/// Variables that a patch adds.
const VARIABLES: usize = 6;

pub async fn run(cluster: &ControlPlane, extent: Extent) -> Result<()> {
    let forms = forms()?;
    let client = cluster.client().await?;
    let mut namespaces = vec!["none"];
    namespaces.extend(forms.iter().map(|(name, _)| *name));
    for namespace in &namespaces {
        cluster.kubectl(&["create", "namespace", namespace])?;
    }
    let hook = |&(name, ref patch): &(&'static str, Option<Value>)| {
        let patch = patch.clone();
        Hook { name, patch, conditions: vec![json!([])] }
    };
    hook::serve(cluster, &forms.iter().map(hook).collect::<Vec<_>>()).await?;
    wait_for(&client, &namespaces).await?;
    let alone = creates::measure(cluster, &client, &namespaces, Kind::DryRun, 1, extent).await?;
    let crowd = creates::measure(cluster, &client, &namespaces, Kind::DryRun, 8, extent).await?;
    println!(
        "| patch | operations | bytes | added p50, 1 client | added p50, 8 clients | added processor time of the API server |"
    );
    println!("|---|---|---|---|---|---|");
    let [of_alone, of_crowd] =
        [&alone, &crowd].map(|rounds| rounds.get("none").map(Vec::as_slice).unwrap_or_default());
    for (name, patch) in &forms {
        let (Some(one), Some(eight)) = (alone.get(name), crowd.get(name)) else { continue };
        let count = patch.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
        let bytes = patch.as_ref().map_or(0, |patch| patch.to_string().len());
        println!(
            "| {name} | {count} | {bytes} | {:.2} ms | {:.2} ms | {:.2}, {:.2} ms |",
            added(one, of_alone, |times| times.p50),
            added(eight, of_crowd, |times| times.p50),
            added(one, of_alone, |times| times.cpu),
            added(eight, of_crowd, |times| times.cpu),
        );
    }
    Ok(())
}

/// The API server reads configurations a moment later.
async fn wait_for(client: &kube::Client, namespaces: &[&str]) -> Result<()> {
    for namespace in namespaces.iter().filter(|name| !["none", "nothing", "empty"].contains(name)) {
        let begun = std::time::Instant::now();
        while !creates::seen(client, namespace).await?.to_string().contains("ADDED") {
            ensure!(begun.elapsed().as_secs() < 20, "{namespace}: nothing is added");
        }
    }
    Ok(())
}

fn forms() -> Result<Vec<(&'static str, Option<Value>)>> {
    let object = deployment("web")?;
    let containers = object.pointer("/spec/template/spec/containers").context("no containers")?;
    let env = containers.pointer("/0/env").and_then(Value::as_array).context("no env")?;
    let length = env.len();
    let variable = |n: usize| json!({"name": format!("ADDED_{n}"), "value": "openldap.directory.svc"});
    let add = |path: String, value: Value| json!({"op": "add", "path": path, "value": value});
    let append =
        |count: usize| -> Vec<Value> { (0..count).map(|n| add(format!("{ENV}/-"), variable(n))).collect() };
    let annotation = |name: &str, bytes: usize| {
        add(format!("/metadata/annotations/opportune.libre.sh~1{name}"), "x".repeat(bytes).into())
    };
    let all: Vec<Value> = env.iter().cloned().chain((0..VARIABLES).map(variable)).collect();
    let mut whole = containers.clone();
    *whole.pointer_mut("/0/env").context("no env")? = all.clone().into();
    let test = json!({"op": "test", "path": "/spec/template/spec/containers/0/name", "value": containers.pointer("/0/name")});
    let tested =
        append(VARIABLES).into_iter().flat_map(|operation| [test.clone(), operation]).collect::<Vec<_>>();
    let prepend = |n: usize| add(format!("{ENV}/0"), variable(n));
    let at_index = |n: usize| add(format!("{ENV}/{}", length + n), variable(n));
    let with_notes: Vec<Value> = append(VARIABLES)
        .into_iter()
        .chain([annotation("injected", 400), annotation("status", 40)])
        .collect();
    Ok(vec![
        ("nothing", None),
        ("empty", Some(json!([]))),
        ("one", Some(append(1).into())),
        ("append", Some(append(VARIABLES).into())),
        ("index", Some((0..VARIABLES).map(at_index).collect())),
        ("prepend", Some((0..VARIABLES).map(prepend).collect())),
        ("tested", Some(tested.into())),
        ("list", Some(json!([{"op": "replace", "path": ENV, "value": all}]))),
        (
            "containers",
            Some(json!([{"op": "replace", "path": "/spec/template/spec/containers", "value": whole}])),
        ),
        ("notes", Some(with_notes.into())),
        ("many", Some(append(4 * VARIABLES).into())),
    ])
}
