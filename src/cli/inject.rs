//! `opportune inject`: the webhook's twin for CI and GitOps.

use std::collections::HashSet;

use clap::{Args, ValueEnum};
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit, take_out},
    discover::Catalog,
    inject::{PatchOperation, standard},
    json::{Json, Object},
    keys,
    workload::Workload,
};
use serde_json::Value;

use super::{
    Failure, InjectionArgs, ManifestArgs,
    manifest::{self, Manifest},
    output, source, style,
};

/// Options of `opportune inject`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune inject -f wordpress.yaml --catalog cluster.yaml
  helm template blog bitnami/wordpress | opportune inject -f - --catalog cluster/ -o diff
  opportune inject -f deploy/ --catalog cluster.yaml --with-delivery | kubectl apply -f -
  opportune inject -f injected.yaml --remove
  opportune inject -f wordpress.yaml            (against the cluster of the current kubeconfig)

A catalog holds ordinary objects, as kubectl prints them:
  kubectl get ns,svc,deploy,sts,ds,sc,cm -A -o yaml > cluster.yaml

Exit codes: 0 fine, 1 bad input, 2 wrong usage, 3 a required intent is not satisfied.")]
pub struct InjectArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    injection: InjectionArgs,
    /// How to print the objects; `patch` is one RFC 6902 patch a manifest, one a line.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
    /// Also print the objects that the controller would make: Secrets (without values) and claims.
    #[arg(long, conflicts_with = "remove")]
    with_delivery: bool,
    /// Take everything out that was injected.
    #[arg(long)]
    remove: bool,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A stream of YAML documents.
    Yaml,
    /// One `v1` List.
    Json,
    /// A unified diff.
    Diff,
    /// JSON patches.
    Patch,
}

/// One manifest and what became of it.
struct Injected<'a> {
    manifest: &'a Manifest,
    patch: Vec<PatchOperation>,
    delivered: Vec<Value>,
}

/// Runs `opportune inject`; what it returns goes to standard output.
///
/// # Errors
/// Bad input, or a requirement that is not satisfied; nothing is printed then.
pub fn run(args: &InjectArgs) -> Result<String, Failure> {
    source::ensure_stdin_once(&args.manifests.files, &args.injection.cluster.catalog)?;
    let (catalog, options) = match args.remove {
        true => (Catalog::default(), Options::default()),
        false => args.injection.read(&args.manifests.namespace)?,
    };
    let mut manifests = manifest::read(&args.manifests.files)?;
    if args.remove {
        manifests.retain(|manifest| !is_delivered(&manifest.object));
    }
    let given: HashSet<String> = manifests.iter().map(|manifest| name(&manifest.object)).collect();
    let mut injected = Vec::new();
    let mut unsatisfied = Vec::new();
    for manifest in &manifests {
        let namespace = manifest.namespace(&args.manifests.namespace);
        let one = match args.remove {
            true => remove(manifest),
            false => inject(manifest, namespace, &catalog, &options, args.with_delivery),
        };
        match one {
            Ok(mut one) => {
                one.delivered.retain(|object| !given.contains(&name(object)));
                injected.push(one);
            }
            Err(Failure::Unsatisfied(reasons)) => unsatisfied.extend(reasons),
            Err(failure) => return Err(failure),
        }
    }
    if !unsatisfied.is_empty() {
        return Err(Failure::Unsatisfied(unsatisfied));
    }
    print(injected, args.output)
}

/// Whether an object is one that `--with-delivery` printed.
fn is_delivered(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let manager = object.pointer("/metadata/labels").and_then(|labels| labels.get(keys::MANAGED_BY));
    ["Secret", "ConfigMap", "PersistentVolumeClaim"].contains(&kind)
        && manager.is_some_and(|name| name == "opportune")
}

fn remove(manifest: &Manifest) -> Result<Injected<'_>, Failure> {
    let patch = take_out(&manifest.object)
        .map_err(|failure| Failure::input(format!("{}: {failure}", manifest.place)))?;
    Ok(Injected { manifest, patch, delivered: Vec::new() })
}

fn inject<'a>(
    manifest: &'a Manifest,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
    with_delivery: bool,
) -> Result<Injected<'a>, Failure> {
    let verdict = judge(manifest, namespace, catalog, options)?;
    let delivered = match with_delivery {
        true => verdict.delivery.objects(namespace),
        false => Vec::new(),
    };
    Ok(Injected { manifest, patch: standard(&verdict.patch), delivered })
}

/// What the webhook would say to a manifest.
///
/// # Errors
/// Where the webhook would fail open, and where it would refuse.
pub fn judge(
    manifest: &Manifest,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
) -> Result<Verdict, Failure> {
    let object = Json::from(&manifest.object);
    let verdict = admit(&Request { namespace, object: &object, old: None }, catalog, options);
    if let Some(failure) = unread(&verdict) {
        return Err(Failure::input(format!("{}: {failure}", manifest.place)));
    }
    match &verdict.result {
        AdmissionResult::Denied(reason) => {
            let reason = reason.strip_prefix("opportune: ").unwrap_or(reason);
            Err(Failure::Unsatisfied(vec![format!("{}: {reason}", manifest.place)]))
        }
        _ => {
            let is_ours = Workload::read(&object).ok().flatten().is_some_and(|w| is_annotated(&w));
            if let (true, Some(why)) = (is_ours, options.why_off(catalog, namespace)) {
                style::warn(&format!("{}: injection is off in namespace {namespace}: {why}", manifest.place));
            } else if let (true, Some(why)) = (is_ours, options.why_left_alone(&object)) {
                style::warn(&format!("{}: not injected: {why}", manifest.place));
            }
            for warning in &verdict.warnings {
                style::warn(&format!("{}: {}", manifest.place, warning.trim_start_matches("opportune: ")));
            }
            Ok(verdict)
        }
    }
}

/// What of the workload the webhook could not read: for it a reason to inject less, for a file an error.
pub fn unread(verdict: &Verdict) -> Option<&opportune_core::admit::Failure> {
    match &verdict.result {
        AdmissionResult::FailedOpen(failure) => Some(failure),
        _ => verdict.unread.as_ref(),
    }
}

/// Whether a workload has annotations of ours.
fn is_annotated(workload: &Workload<'_>) -> bool {
    let maps = [workload.own_annotations(), workload.template_annotations()];
    maps.into_iter().flatten().flat_map(Object::iter).any(|(key, _)| key.starts_with(keys::PREFIX))
}

/// The object with a patch applied.
///
/// # Errors
/// When the patch does not apply, which is a defect of ours.
pub fn patched(object: &Value, patch: &[PatchOperation]) -> Result<Value, Failure> {
    let mut object = object.clone();
    json_patch::patch(&mut object, patch)
        .map_err(|error| Failure::input(format!("the patch does not apply: {error}")))?;
    Ok(object)
}

fn print(injected: Vec<Injected<'_>>, format: Output) -> Result<String, Failure> {
    let mut text = String::new();
    let mut objects = Vec::new();
    for one in injected {
        let before = &one.manifest.object;
        let after = patched(before, &one.patch)?;
        match format {
            Output::Patch => text += &format!("{}\n", json_patch::Patch(one.patch)),
            Output::Diff => {
                text += &output::diff(&name(before), before, &after)?;
                for object in &one.delivered {
                    text += &output::diff(&name(object), &Value::Null, object)?;
                }
            }
            Output::Yaml | Output::Json => {
                objects.push(after);
                objects.extend(one.delivered);
            }
        }
    }
    match format {
        Output::Yaml => output::yaml_stream(&objects),
        Output::Json => Ok(output::json_list(objects)),
        Output::Diff | Output::Patch => Ok(text),
    }
}

/// `Kind/namespace/name`, as a diff names it.
pub fn name(object: &Value) -> String {
    let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let parts = [field("/kind"), field("/metadata/namespace"), field("/metadata/name")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}
