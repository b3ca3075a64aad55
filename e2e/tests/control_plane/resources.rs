//! Our own resources: what the API server takes and refuses, and in which words.
use crate::trial::{Cluster, trials};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

/// Every case of a folder: file name and text.
fn cases(folder: &str) -> Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/crds").join(folder);
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        cases.push((name, fs::read_to_string(&path)?));
    }
    ensure!(cases.len() > 10, "{} holds few cases", folder.display());
    cases.sort();
    Ok(cases)
}

async fn good_resources_are_taken_and_bad_ones_are_refused_with_their_reason(cluster: Cluster) -> Result<()> {
    let program = opportune_e2e::Program::against(&cluster, &cluster.kubeconfig(), ["crds"]);
    let mut program = program.start()?;
    ensure!(program.wait(std::time::Duration::from_secs(10))?.success(), "{}", program.log()?);
    cluster.apply(&program.log()?)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    let crds = "jsonpath={.items[*].status.conditions[*].type}";
    let conditions = cluster.kubectl(&["get", "crd", "-o", crds])?;
    ensure!(!conditions.contains("NonStructuralSchema"), "{conditions}");

    let namespace = cluster.namespace("resources")?;
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    let apply = ["apply", "--dry-run=server", "-n", &namespace, "-f", "-"];
    let mut wrong = Vec::new();
    for (file, text) in cases("good")? {
        if let Err(error) = kubectl.feed(&apply, &text) {
            wrong.push(format!("{file} is good: {error:#}"));
        }
    }
    for (file, text) in cases("bad")? {
        let first = text.lines().next().unwrap_or_default();
        let expected = first.strip_prefix("# refused: ").with_context(|| format!("{file} does not say why"))?;
        match kubectl.refused(&apply, &text) {
            Ok(said) if said.contains(expected) => {}
            Ok(said) => wrong.push(format!("{file}: expected `{expected}`, the API server said: {said}")),
            Err(error) => wrong.push(format!("{file} is bad: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

trials![exclusive good_resources_are_taken_and_bad_ones_are_refused_with_their_reason];
