//! `opportune explain`: each intent, each candidate, and why it was taken or not.
use clap::Args;
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit},
    decide::{Decision, Standing, consider},
    discover::Catalog,
    inject::profile::Takes,
    intent::Intent,
    keys,
    workload::{Kind, Workload},
};
use serde_json::Value;

use super::{
    Failure, InjectionArgs, ManifestArgs, inject,
    manifest::{self, Manifest},
    style,
};

/// Options of `opportune explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune explain -f wordpress.yaml --catalog cluster.yaml
  helm template blog bitnami/wordpress | opportune explain -f - -n blog --catalog cluster/

A requirement that is not satisfied is explained, with exit code 0; `inject` refuses it, with 3.")]
pub struct ExplainArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    injection: InjectionArgs,
}

/// Runs `opportune explain`; what it returns goes to standard output.
///
/// # Errors
/// Bad input. A requirement that is not satisfied is explained, not an error.
pub fn run(args: &ExplainArgs) -> Result<String, Failure> {
    let catalog = args.injection.cluster.read(Some(&args.manifests.namespace))?;
    let manifests = manifest::read(&args.manifests.files)?;
    let options = args.injection.options();
    let mut texts = Vec::new();
    for manifest in manifests.iter().filter(|manifest| Kind::of(&manifest.object).is_some()) {
        let namespace = manifest.namespace(&args.manifests.namespace);
        texts.push(one(manifest, namespace, &catalog, &options)?);
    }
    match texts.is_empty() {
        true => Ok("nothing to explain: no Deployment or StatefulSet in the manifests\n".to_owned()),
        false => Ok(texts.join("\n")),
    }
}

fn one(
    manifest: &Manifest,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
) -> Result<String, Failure> {
    let verdict = admit(&Request { namespace, object: &manifest.object, old: None }, catalog, options);
    if let AdmissionResult::FailedOpen(failure) = &verdict.result {
        return Err(Failure::input(format!("{}: {failure}", manifest.place)));
    }
    for warning in &verdict.warnings {
        style::warn(&format!("{}: {}", manifest.place, warning.trim_start_matches("opportune: ")));
    }
    let text = explained(&manifest.object, namespace, catalog, &verdict)?;
    Ok(match options.why_off(catalog, namespace) {
        Some(why) => format!("{text}  {why}\n"),
        None => text,
    })
}

/// A verdict as people show it to each other.
///
/// # Errors
/// When the verdict's patch does not apply, which is a defect of ours.
pub fn explained(
    object: &Value,
    namespace: &str,
    catalog: &Catalog,
    verdict: &Verdict,
) -> Result<String, Failure> {
    let workload = Workload::read(object).ok().flatten();
    let (kind, name) = workload.as_ref().map_or(("object", ""), |w| (w.kind.name(), w.name));
    let mut text = style::paint(style::HEAD, &format!("{kind} {namespace}/{name}")) + "\n";
    let Some(plan) = &verdict.plan else {
        text += match verdict.result {
            AdmissionResult::Ignored => "  injection is off in this namespace\n",
            _ => "  nothing is asked for\n",
        };
        return Ok(text);
    };
    let profile = plan.profile.as_ref().and_then(|name| catalog.profiles().get(name));
    let profile = profile.map_or("none: generic names".to_owned(), |p| format!("{} ({})", p.name, p.app));
    text += &format!("  profile     {profile}\n");
    for other in also_matching(catalog, workload.as_ref(), plan.profile.as_deref()) {
        text += &format!("              also matches: {other} (same pattern length)\n");
    }
    text += &format!("  containers  {}\n", plan.containers.join(", "));
    if plan.decisions.is_empty() {
        let is_left_alone = workload.as_ref().is_some_and(|w| {
            let template = w.template_annotations().and_then(|map| map.get(keys::INJECT)?.as_str());
            template.or_else(|| w.own_annotation(keys::INJECT)) == Some("false")
        });
        text += match is_left_alone {
            true => "  its annotation opportune.libre.sh/inject says that it is to be left alone\n",
            false => {
                "  nothing is asked for: annotate it, for example opportune.libre.sh/wants: \"ldap, mail\"\n"
            }
        };
    }
    let labels = workload.as_ref().map(Workload::pod_labels).unwrap_or_default();
    let width = plan.decisions.keys().map(|intent| intent.as_str().len()).max().unwrap_or(0);
    for (intent, decision) in &plan.decisions {
        text.push('\n');
        text += &headline(intent, decision, width);
        for considered in consider(catalog, intent, namespace, &labels, &decision.outcome) {
            let offer = &considered.offer;
            let mark = if considered.standing == Standing::Used { "->" } else { "  " };
            let origin = format!("{} {}", offer.origin.word(), offer.id.source);
            let line = format!("    {mark} {} ({origin}): {}\n", offer.id, considered.standing);
            text += &if mark == "->" { line } else { style::paint(style::FAINT, line.trim_end()) + "\n" };
        }
        if let Some(note) = profile_note(catalog, plan.profile.as_deref(), intent) {
            text += &format!("    note: {note}\n");
        }
    }
    if let AdmissionResult::Denied(reason) = &verdict.result {
        let reason = reason.trim_start_matches("opportune: ");
        text += &format!("\n  {}: {reason}\n", style::paint(style::BAD, "refused"));
        return Ok(text);
    }
    text += &added(object, verdict)?;
    Ok(text)
}

/// The profiles that fit the image as well as the one that was taken.
fn also_matching<'a>(
    catalog: &'a Catalog,
    workload: Option<&Workload<'_>>,
    taken: Option<&str>,
) -> Vec<&'a str> {
    let profiles = catalog.profiles();
    let mut images = workload.into_iter().flat_map(|workload| &workload.containers).map(|c| c.image);
    let image = images.find(|image| profiles.by_image(image).is_some_and(|p| Some(p.name.as_str()) == taken));
    image.map_or_else(Vec::new, |image| {
        profiles.runners_up(image).into_iter().map(|profile| profile.name.as_str()).collect()
    })
}

fn headline(intent: &Intent, decision: &Decision, width: usize) -> String {
    let word = decision.outcome.word();
    let full = decision.to_string();
    let rest = full.strip_prefix(word).map_or(full.as_str(), |rest| rest.trim_start_matches(": "));
    let required = if decision.is_required { " (required)" } else { "" };
    let word = style::paint(style::of_result(word), &format!("{word:<10}"));
    format!("  {:<width$}  {word}  {rest}{required}\n", intent.as_str())
}

fn profile_note(catalog: &Catalog, profile: Option<&str>, intent: &Intent) -> Option<String> {
    let mapping = catalog.profiles().get(profile?)?.intents.get(intent)?;
    match &mapping.takes {
        Takes::Mapped(env) => env.note.clone(),
        Takes::Unsupported(_) => None,
    }
}

/// The variables, mounts and volumes that are added.
fn added(object: &Value, verdict: &Verdict) -> Result<String, Failure> {
    let after = inject::patched(object, &verdict.patch)?;
    let (Ok(Some(before)), Ok(Some(after))) = (Workload::read(object), Workload::read(&after)) else {
        return Ok(String::new());
    };
    let mut lines = Vec::new();
    for container in &after.containers {
        let old = before.container(container.name);
        let is_new = |entry: &&Value, list: &[Value]| !list.contains(entry);
        for entry in container.env.iter().filter(|e| is_new(e, old.map_or(&[], |old| old.env))) {
            let value = match entry.get("value").and_then(Value::as_str) {
                Some(value) => format!("= {value}"),
                None if entry.get("valueFrom").is_none() => "=".to_owned(),
                None => {
                    let at = |field: &str| {
                        entry.pointer(&format!("/valueFrom/secretKeyRef/{field}")).and_then(Value::as_str)
                    };
                    format!("from Secret {}, key {}", at("name").unwrap_or("?"), at("key").unwrap_or("?"))
                }
            };
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            lines.push(format!("    {}: {name} {value}", container.name));
        }
        for mount in container.mounts.iter().filter(|m| is_new(m, old.map_or(&[], |old| old.mounts))) {
            let at = |field: &str| mount.get(field).and_then(Value::as_str).unwrap_or_default();
            lines.push(format!("    {}: {} from volume {}", container.name, at("mountPath"), at("name")));
        }
    }
    for volume in after.volumes().iter().filter(|volume| !before.volumes().contains(volume)) {
        let claim = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str);
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        lines.extend(claim.map(|claim| format!("    volume {name}: claim {claim}")));
    }
    for template in after.claim_templates().iter().filter(|t| !before.claim_templates().contains(t)) {
        let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let class = template.pointer("/spec/storageClassName").and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("    claim template {name}: class {class}"));
    }
    match lines.is_empty() {
        true => Ok("\n  nothing is added\n".to_owned()),
        false => Ok(format!("\n  {}\n{}\n", style::paint(style::HEAD, "added"), lines.join("\n"))),
    }
}
