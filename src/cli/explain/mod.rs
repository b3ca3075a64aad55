//! `opportune explain`: each intent, each candidate, and why it was taken or not.
mod live;
mod now;
mod target;

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit},
    decide::{Decision, Plan, Standing, consider},
    discover::Catalog,
    inject::profile::Takes,
    inject::standard,
    intent::Intent,
    json::Json,
    keys,
    workload::{Kind, Workload},
};
use serde_json::Value;

pub use self::now::{statuses, told};
use self::target::Target;
use super::{
    Failure, InjectionArgs, inject,
    manifest::{self, Manifest},
    style::{self, plain},
};

/// Options of `opportune explain`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["workload", "files"])))]
#[command(after_help = "\
Examples:
  opportune explain -f wordpress.yaml --catalog cluster.yaml
  helm template blog bitnami/wordpress | opportune explain -f - -n blog --catalog cluster/
  opportune explain deployment/wordpress -n blog      (in the cluster of the current kubeconfig)
  opportune explain sts/gitea -n forge --context prod

Of a workload in a cluster you see what it holds now (its status, its record, Secrets and claims by name, Events), and what
the next change of its pod template would bring. What you may not read is named; the rest is shown.

A requirement that is not satisfied is explained, with exit code 0; `inject` refuses it, with 3.")]
pub struct ExplainArgs {
    /// A workload in the live cluster: deployment/NAME (deploy/NAME), statefulset/NAME (sts/NAME), daemonset/NAME (ds/NAME),
    /// job/NAME, cronjob/NAME (cj/NAME) or pod/NAME (po/NAME).
    #[arg(value_name = "TYPE/NAME", num_args = 1..=2)]
    workload: Vec<String>,
    /// Manifests: files, folders, or `-` for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// The namespace of manifests that name none (default: `default`), or of TYPE/NAME (default: that of the kubeconfig's
    /// context).
    #[arg(short, long, value_parser = super::namespace)]
    namespace: Option<String>,
    #[command(flatten)]
    injection: InjectionArgs,
}

/// Runs `opportune explain`; what it returns goes to standard output.
///
/// # Errors
/// Bad input. A requirement that is not satisfied is explained, not an error.
pub fn run(args: &ExplainArgs) -> Result<String, Failure> {
    if let Some(target) = args.target()? {
        return live::run(args, &target);
    }
    let default = args.namespace.as_deref().unwrap_or("default");
    let (catalog, options) = args.injection.read(default)?;
    let manifests = manifest::read(&args.files)?;
    let mut texts = Vec::new();
    for manifest in manifests.iter().filter(|manifest| Kind::of(&manifest.object).is_some()) {
        let namespace = manifest.namespace(default);
        texts.push(one(manifest, namespace, &catalog, &options)?);
    }
    match texts.is_empty() {
        true => Ok("nothing to explain: no Deployment or other workload in the manifests\n".to_owned()),
        false => Ok(texts.join("\n")),
    }
}

// === impl ExplainArgs ===

impl ExplainArgs {
    /// The workload of a live cluster that was named, where one was.
    fn target(&self) -> Result<Option<Target>, Failure> {
        let target = match self.workload.as_slice() {
            [] => return Ok(None),
            [one] => one.parse(),
            [kind, name, ..] => Target::of(kind, name),
        };
        if !self.injection.cluster.is_live() {
            let message =
                "TYPE/NAME is read from a live cluster: leave --catalog (OPPORTUNE_CATALOG) out, or use -f";
            return Err(Failure::Usage(message.into()));
        }
        target.map(Some).map_err(Failure::Usage)
    }
}

fn one(
    manifest: &Manifest,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
) -> Result<String, Failure> {
    let verdict =
        admit(&Request { namespace, object: &Json::from(&manifest.object), old: None }, catalog, options);
    if let Some(failure) = inject::unread(&verdict) {
        return Err(Failure::input(format!("{}: {failure}", manifest.place)));
    }
    for warning in &verdict.warnings {
        style::warn(&format!("{}: {}", manifest.place, warning.trim_start_matches("opportune: ")));
    }
    let text = explained(&manifest.object, namespace, (catalog, options), &verdict)?;
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
    (catalog, options): (&Catalog, &Options),
    verdict: &Verdict,
) -> Result<String, Failure> {
    let known = (catalog, options);
    let mut text = heading(object, namespace) + &decisions(object, namespace, known, verdict, &headline);
    if is_accepted(verdict) {
        let after = inject::patched(object, &standard(&verdict.patch))?;
        text += &difference(object, &after, "added").unwrap_or_else(|| "\n  nothing is added\n".to_owned());
    }
    Ok(text)
}

/// Whether there is a patch to show.
fn is_accepted(verdict: &Verdict) -> bool {
    verdict.plan.is_some() && !matches!(verdict.result, AdmissionResult::Denied(_))
}

/// Which workload.
fn heading(object: &Value, namespace: &str) -> String {
    let object = Json::from(object);
    let workload = Workload::read(&object).ok().flatten();
    let (kind, name) = workload.as_ref().map_or(("object", ""), |w| (w.kind.name(), w.name));
    style::paint(style::HEAD, &format!("{kind} {}/{name}", plain(namespace))) + "\n"
}

/// The profile, the containers, and each intent with its candidates; `headline` makes the first lines on an intent, given
/// how wide the widest is.
fn decisions(
    object: &Value,
    namespace: &str,
    (catalog, options): (&Catalog, &Options),
    verdict: &Verdict,
    headline: &dyn Fn(&Intent, &Decision, usize) -> String,
) -> String {
    let object = Json::from(object);
    let workload = Workload::read(&object).ok().flatten();
    let Some(plan) = &verdict.plan else {
        return match &verdict.result {
            AdmissionResult::Ignored => match options.why_left_alone(&object) {
                Some(why) => format!("  {why}\n"),
                None => "  injection is off in this namespace\n".to_owned(),
            },
            AdmissionResult::FailedOpen(failure) => format!("  {}\n", plain(&failure.to_string())),
            _ => "  nothing is asked for\n".to_owned(),
        };
    };
    let mut text = head(catalog, workload.as_ref(), plan);
    let labels = workload.as_ref().map(Workload::pod_labels).unwrap_or_default();
    let width = plan.decisions.keys().map(|intent| intent.as_str().len()).max().unwrap_or(0);
    for (intent, decision) in &plan.decisions {
        text.push('\n');
        text += &headline(intent, decision, width);
        for considered in consider(catalog, intent, namespace, &labels, &decision.outcome) {
            let offer = &considered.offer;
            let mark = if considered.standing == Standing::Used { "->" } else { "  " };
            let origin = format!("{} {}", offer.origin.word(), offer.id.source);
            let standing = considered.standing.to_string();
            let line = format!("    {mark} {} ({origin}): {}\n", offer.id, plain(&standing));
            text += &if mark == "->" { line } else { style::paint(style::FAINT, line.trim_end()) + "\n" };
        }
        for because in &decision.because {
            text += &format!("    because: {}\n", plain(because));
        }
        if let Some(note) = profile_note(catalog, plan.profile.as_deref(), intent) {
            text += &format!("    note: {}\n", plain(&note));
        }
    }
    if let AdmissionResult::Denied(reason) = &verdict.result {
        let reason = plain(reason.trim_start_matches("opportune: "));
        text += &format!("\n  {}: {reason}\n", style::paint(style::BAD, "refused"));
    }
    text
}

/// The profile and the containers, and why nothing else follows where that is so.
fn head(catalog: &Catalog, workload: Option<&Workload<'_>>, plan: &Plan) -> String {
    let profile = plan.profile.as_ref().and_then(|name| catalog.profiles().get(name));
    let profile = profile.map_or("none: generic names".to_owned(), |p| format!("{} ({})", p.name, p.app));
    let mut text = format!("  profile     {}\n", plain(&profile));
    for other in also_matching(catalog, workload, plan.profile.as_deref()) {
        text += &format!("              also matches: {other} (same pattern length)\n");
    }
    text += &format!("  containers  {}\n", plain(&plan.containers.join(", ")));
    if !plan.policies.is_empty() {
        text += &format!("  policies    {}\n", plain(&plan.policies.join(", ")));
    }
    if let Some(asker) = &plan.refresh_by {
        text += &format!("  refresh     {} (by {})\n", plan.refresh, plain(&asker.to_string()));
    }
    if workload.is_some_and(|w| w.is_controlled() && !w.has_annotations_of_users()) {
        text +=
            "  another controller owns it: what is asked by default leaves it alone until it is annotated\n";
    }
    if plan.decisions.is_empty() {
        let is_left_alone = workload.is_some_and(|w| {
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
    text
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
    line(intent.as_str(), word, &format!("{rest}{required}"), width)
}

/// One intent and what became of it.
fn line(intent: &str, word: &str, rest: &str, width: usize) -> String {
    let word = style::paint(style::of_result(word), &format!("{word:<10}"));
    format!("  {:<width$}  {word}  {}\n", plain(intent), plain(rest)).replace(" \n", "\n")
}

fn profile_note(catalog: &Catalog, profile: Option<&str>, intent: &Intent) -> Option<String> {
    let mapping = catalog.profiles().get(profile?)?.intents.get(intent)?;
    match &mapping.takes {
        Takes::Mapped(env) => env.note.clone(),
        Takes::Unsupported(_) => None,
    }
}

/// What one object holds that another does not: variables, mounts, volumes, claim templates; `None` where that is nothing.
fn difference(before: &Value, after: &Value, title: &str) -> Option<String> {
    let (before, after) = (Json::from(before), Json::from(after));
    let (Ok(Some(before)), Ok(Some(after))) = (Workload::read(&before), Workload::read(&after)) else {
        return None;
    };
    let mut lines = Vec::new();
    for container in &after.containers {
        let (name, old) = (plain(container.name), before.container(container.name));
        let is_new = |entry: &&Json<'_>, list: &[Json<'_>]| !list.contains(entry);
        for entry in container.env.iter().filter(|e| is_new(e, old.map_or(&[], |old| old.env))) {
            lines.push(format!(
                "    {name}: {}{}",
                plain(entry.text("name")),
                now::shown(&Value::from(entry))
            ));
        }
        for mount in container.mounts.iter().filter(|m| is_new(m, old.map_or(&[], |old| old.mounts))) {
            lines.push(format!(
                "    {name}: {} from volume {}",
                plain(mount.text("mountPath")),
                plain(mount.text("name"))
            ));
        }
    }
    for volume in after.volumes().iter().filter(|volume| !before.volumes().contains(volume)) {
        if volume.get("persistentVolumeClaim").is_some() {
            lines.push(format!(
                "    volume {}{}",
                plain(volume.text("name")),
                now::source(&Value::from(volume))
            ));
        }
    }
    for template in after.claim_templates().iter().filter(|t| !before.claim_templates().contains(t)) {
        let field = |place: &[&str]| plain(template.at(place).and_then(Json::as_str).unwrap_or_default());
        let (name, class) = (field(&["metadata", "name"]), field(&["spec", "storageClassName"]));
        lines.push(format!("    claim template {name}: class {class}"));
    }
    match lines.is_empty() {
        true => None,
        false => Some(format!("\n  {}\n{}\n", style::paint(style::HEAD, title), lines.join("\n"))),
    }
}
