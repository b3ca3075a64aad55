//! The cases of `cases/policies`, each in a namespace of its own, through a real API server and the chart's webhooks: the same
//! has to come of them as of the engine alone.
#[path = "../../cases/policies/case.rs"]
mod case;

use self::case::{Case, NAMESPACE, Outcome, expected, policies};
use crate::{
    delivered::PROMPT,
    installed::Installed,
    trial::trials,
    workload::{annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{Tool, eventually};
use serde_json::{Value, json};
use std::path::Path;

/// One case, and where it is played.
struct Played {
    file: String,
    case: Case,
    namespace: String,
    /// What was applied first, as the API server holds it.
    stored: Option<Value>,
}

/// All of them, on one control plane.
struct Stage {
    installed: Installed,
    kubectl: Tool,
    /// How many policies were made to be waited for.
    canaries: usize,
}

async fn what_comes_of_each_case_is_what_comes_of_the_engine() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/policies");
    let mut played: Vec<Played> = Case::all(&folder)
        .into_iter()
        .enumerate()
        // As long as the name that expectations have: warnings are cut to a length.
        .map(|(number, (file, case))| Played { file, case, namespace: format!("c{number:03}"), stored: None })
        .collect();
    let installed = Installed::start(&[], &["namespaceDefaults=true"], 1).await?;
    let kubectl = installed.plane.kubectl_for(&installed.plane.kubeconfig())?;
    let mut stage = Stage { installed, kubectl, canaries: 0 };
    stage.kubectl.run(&["apply", "-f", folder.join("cluster.yaml").to_str().context("a path")?])?;

    stage.apply(played.iter().flat_map(Played::surroundings))?;
    stage.apply(played.iter().flat_map(|played| match &played.case.before {
        Some(before) => policies(&before.policies, &played.prefix(), &played.namespace),
        None => policies(&played.case.policies, &played.prefix(), &played.namespace),
    }))?;
    stage.wait_for_policies().await?;
    for played in &mut played {
        if let Some(before) = played.case.workload_before() {
            let object = before.object(&played.namespace);
            stage.kubectl.feed(&["create", "-f", "-"], &object.to_string())?;
            let name = text(&object, "/metadata/name");
            let stored = stage.installed.admin.get(text(&object, "/kind"), &played.namespace, name).await?;
            played.stored = Some(stored);
        }
    }
    stage.change_policies(&played)?;
    stage.wait_for_policies().await?;

    let wanted = expected(&folder);
    let mut wrong = Vec::new();
    for played in &played {
        let came = stage.play(played)?.renamed(&[(&played.prefix(), ""), (&played.namespace, NAMESPACE)]);
        let wanted = wanted.get(&played.case.name).context("a case that nothing is expected of")?;
        if came != *wanted {
            wrong.push(format!("{}: {}\n  wanted {wanted:?}\n  came   {came:?}", played.file, played.case.name));
        }
    }
    let complaints = if wrong.is_empty() { String::new() } else { stage.installed.complaints()? };
    ensure!(wrong.is_empty(), "{} of {} cases:\n{}\n{complaints}", wrong.len(), played.len(), wrong.join("\n"));
    ensure!(played.len() >= 40, "only {} cases", played.len());
    Ok(())
}

// === impl Played ===

impl Played {
    /// What the names of its policies begin with.
    fn prefix(&self) -> String {
        format!("{}-", self.namespace)
    }

    /// The namespace, and what stands in it.
    fn surroundings(&self) -> Vec<Value> {
        let mut objects = vec![self.case.namespace(&self.namespace)];
        objects.extend(self.case.objects(&self.namespace));
        objects
    }
}

// === impl Stage ===

impl Stage {
    fn apply(&self, objects: impl Iterator<Item = Value>) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
        self.kubectl.feed(&["apply", "--server-side", "-f", "-"], &list.to_string())?;
        Ok(())
    }

    /// Puts the policies of now in the place of those before.
    fn change_policies(&self, played: &[Played]) -> Result<()> {
        let changed = || played.iter().filter(|played| played.case.before.is_some());
        let gone: Vec<String> = changed()
            .flat_map(|played| {
                let before = played.case.before.iter().flat_map(|before| before.policies.keys());
                let gone = before.filter(|name| !played.case.policies.contains_key(*name));
                gone.map(|name| format!("{}{name}", played.prefix())).collect::<Vec<_>>()
            })
            .collect();
        if !gone.is_empty() {
            let mut arguments = vec!["delete", "injectionpolicies"];
            arguments.extend(gone.iter().map(String::as_str));
            self.kubectl.run(&arguments)?;
        }
        self.apply(changed().flat_map(|p| policies(&p.case.policies, &p.prefix(), &p.namespace)))
    }

    /// Waits until a policy acts that was made after all others: a watch tells in order.
    async fn wait_for_policies(&mut self) -> Result<()> {
        self.canaries += 1;
        let namespace = format!("canary-{}", self.canaries);
        self.installed.admin.namespace(&namespace, &[("inject", "enabled")]).await?;
        let specs = [("zz".to_owned(), json!({"defaults": ["mail"]}))].into_iter().collect();
        self.apply(policies(&specs, &format!("{namespace}-"), &namespace).into_iter())?;
        let canary = case::WorkloadSpec::default().object(&namespace);
        eventually("the last policy acts", PROMPT, async || {
            let object = self.installed.admin.try_out(&canary).await?;
            Ok(annotation(&object, "status").starts_with("mail=mail/smtp").then_some(()))
        })
        .await
    }

    /// What comes of a case when it is applied, which nothing is stored of.
    fn play(&self, played: &Played) -> Result<Outcome> {
        let mut object = played.case.workload.object(&played.namespace);
        let verb = if played.stored.is_some() { "replace" } else { "create" };
        for key in ["injected", "status"].map(|key| format!("opportune.libre.sh/{key}")) {
            // Who applies brings along what the server holds, but for what he wrote himself.
            let annotations = &mut object["metadata"]["annotations"];
            let held = played.stored.as_ref().and_then(|stored| stored["metadata"]["annotations"].get(&key));
            if let (Some(held), None) = (held, annotations.get(&key)) {
                annotations[&key] = held.clone();
            }
        }
        let arguments = [verb, "--dry-run=server", "-o", "json", "-f", "-"];
        let output = self.kubectl.output(&arguments, &object.to_string())?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let (_, reason) = told.split_once("denied the request: ").with_context(|| told.to_string())?;
            return Ok(Outcome::refused(reason.trim()));
        }
        // Each of our webhooks that is called says the same.
        let mut warnings: Vec<String> = Vec::new();
        for line in told.lines().filter_map(|line| line.strip_prefix("Warning: ")) {
            if !warnings.iter().any(|warning| warning == line) {
                warnings.push(line.to_owned());
            }
        }
        Ok(Outcome::of(&serde_json::from_slice(&output.stdout)?, &warnings))
    }
}

trials![own what_comes_of_each_case_is_what_comes_of_the_engine];
