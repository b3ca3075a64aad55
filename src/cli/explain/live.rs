//! One workload of a live cluster: what it holds of ours, what the next change of it would bring, and what was said of it.
//! With few rights less is known, and each right that lacks is named.
use opportune_core::{
    admit::{AdmissionResult, Options, Request, Verdict, admit, take_out},
    decide::{Decision, Outcome},
    discover::{Catalog, NamespaceLabel},
    inject::standard,
    intent::Intent,
    json::Json,
    keys,
    name::is_dns_subdomain,
    workload::{self, Workload},
};
use serde_json::{Value, json};

use super::{
    ExplainArgs, decisions, difference, heading, headline, is_accepted, line,
    now::{self, Delivered},
    target::Target,
};
use crate::{
    cli::{
        Failure, inject, source,
        style::{self, plain},
    },
    cluster::{
        Cluster,
        look::{Kind, Look},
    },
    register::Reach,
    watch::Unread,
};

const CLAIMS: Kind = Kind::of("", "v1", "persistentvolumeclaims");
const EVENTS: Kind = Kind::of("", "v1", "events");
/// How many Events are shown.
const NEWEST: usize = 10;
/// What `kubectl rollout restart` changes: a change of the template that asks for nothing else.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Runs `opportune explain TYPE/NAME`.
///
/// # Errors
/// The workload is not there or may not be read; or no cluster answers.
pub fn run(args: &ExplainArgs, target: &Target) -> Result<String, Failure> {
    source::block_on(async {
        let cluster = args.injection.cluster.connect().await?;
        let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
        let object = workload(&cluster, &namespace, target).await?;
        let (catalog, unread) = args.injection.cluster.read_from(&cluster, &namespace).await?;
        let (options, reach) = args.injection.scope.live_options(&cluster).await;
        args.injection.scope.warn_of_mode(&reach, &catalog, [namespace.as_str()]);
        let json = Json::from(&object);
        let Ok(Some(workload)) = Workload::read(&json) else {
            return Err(Failure::input(format!("{}: not a workload that can be read", target.name)));
        };
        let mut text = heading(&object, &namespace);
        text += &is_on(&catalog, &options, &reach, &namespace);
        text += &title("What it holds now");
        text += &now::status(&workload);
        text += &now::record(&workload);
        text += &delivered(&cluster, &namespace, &workload).await;
        text += &title(match workload.kind.is_made_once() {
            true => "What it would get, were it made anew (it can't change any more)",
            false => "What the next change of its pod template would bring",
        });
        text += &next(&object, &namespace, &catalog, &options, &unread)?;
        text += &title("Events");
        text += &events(&cluster, &namespace, &object).await;
        Ok(text)
    })
}

fn title(text: &str) -> String {
    format!("\n{}\n", style::paint(style::HEAD, text))
}

async fn workload(cluster: &Cluster, namespace: &str, target: &Target) -> Result<Value, Failure> {
    let (resource, name) = (target.resource(), &target.name);
    let of = format!("in namespace {namespace} ({cluster})");
    match resource.get(&cluster.client, Some(namespace), name).await {
        Look::Found(object) => Ok(object),
        Look::Missing => Err(Failure::input(format!(
            "there is no {} {name} {of}; choose another namespace by -n, another cluster by --context",
            resource.name()
        ))),
        Look::Forbidden(right) => {
            Err(Failure::input(format!("you have no right to {right} ({cluster}): ask who runs the cluster")))
        }
        Look::Failed(reason) => {
            Err(Failure::input(format!("can't read {} {name} {of}: {reason}", resource.name())))
        }
    }
}

/// Whether injection is on in its namespace, and how that is known.
fn is_on(catalog: &Catalog, options: &Options, reach: &Look<Reach>, namespace: &str) -> String {
    let (word, why) = match (options.why_off(catalog, namespace), catalog.namespace_label(namespace)) {
        (Some(why), _) => (style::paint(style::NOTE, "off"), why.to_owned()),
        (None, NamespaceLabel::Unknown) => (
            style::paint(style::NOTE, "unknown"),
            format!("you have no right to get namespaces {namespace}; taken as on"),
        ),
        (None, NamespaceLabel::Enabled) => {
            (style::paint(style::GOOD, "on"), format!("labelled {}=enabled", keys::INJECT))
        }
        (None, _) => (style::paint(style::GOOD, "on"), "cluster-wide".to_owned()),
    };
    let mut text = format!("  injection   {word} in namespace {namespace}: {why}\n");
    if matches!(reach, Look::Missing) {
        text += "              but no webhook configuration of ours is in this cluster: nothing is injected \
                 (`opportune doctor` tells more)\n";
    }
    text
}

/// What the workload points at, and whether it is there.
async fn delivered(cluster: &Cluster, namespace: &str, workload: &Workload<'_>) -> String {
    let delivered = Delivered::of(workload);
    if delivered == Delivered::default() {
        return String::new();
    }
    let mut text = format!("\n  {}\n", style::paint(style::HEAD, "it depends on"));
    for name in &delivered.secrets {
        text +=
            &format!("    Secret {} (not read: kubectl get secret says whether it is there)\n", plain(name));
    }
    for name in &delivered.config_maps {
        text += &format!("    ConfigMap {}\n", plain(name));
    }
    let mut forbidden = None;
    for name in delivered.claims.iter().filter(|name| is_dns_subdomain(name)) {
        let state = match CLAIMS.get(&cluster.client, Some(namespace), name).await {
            Look::Found(claim) => claim_state(&claim),
            Look::Missing => style::paint(style::BAD, "missing"),
            other => {
                forbidden = other.blocked().or(forbidden);
                style::paint(style::NOTE, "unknown")
            }
        };
        text += &format!("    claim {}: {state}\n", plain(name));
    }
    text + &forbidden.map(|why| format!("    {}\n", plain(&why))).unwrap_or_default()
}

fn claim_state(claim: &Value) -> String {
    let at = |pointer: &str| plain(claim.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown"));
    let phase = at("/status/phase");
    let style = if phase == "Bound" { style::GOOD } else { style::NOTE };
    let size =
        claim.pointer("/status/capacity/storage").or(claim.pointer("/spec/resources/requests/storage"));
    let size = plain(size.and_then(Value::as_str).unwrap_or("unknown"));
    format!("{}, {size} of {}", style::paint(style, &phase), at("/spec/storageClassName"))
}

/// The decision that the webhook would make today, were anything changed in the pod template: what is in use stays in use
/// then, what was withdrawn stays out, and a StatefulSet's templates stay as they are. Of what can't change, the decision on
/// another one like it.
fn next(
    object: &Value,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
    unread: &[Unread],
) -> Result<String, Failure> {
    let is_made_once = workload::Kind::of(object).is_some_and(workload::Kind::is_made_once);
    let (changed, old) = match is_made_once {
        true => (bare(object).unwrap_or_else(|| object.clone()), None),
        false => (touched(object), Some(object)),
    };
    let old = old.map(Json::from);
    let request = Request { namespace, object: &Json::from(&changed), old: old.as_ref() };
    let verdict = admit(&request, catalog, options);
    for warning in &verdict.warnings {
        style::warn(&plain(warning.trim_start_matches("opportune: ")));
    }
    let anew = anew(object, namespace, catalog, options);
    let status = object.pointer("/metadata/annotations").and_then(|map| map.get(keys::STATUS)?.as_str());
    let statuses = now::statuses(status.unwrap_or_default());
    let head = |intent: &Intent, decision: &Decision, width: usize| {
        let now = statuses.get(intent.as_str()).copied();
        if now == Some(decision.to_string().as_str()) {
            return headline(intent, decision, width);
        }
        let now = format!("    now it is: {}\n", plain(now.unwrap_or("unknown (it has no status)")));
        match unread.iter().any(|unread| unread.hides_offers_of(intent)) {
            true => {
                let unknown = line(intent.as_str(), "unknown", "you may not see all offers", width);
                format!("{unknown}{now}    as far as you may see: {}\n", plain(&decision.to_string()))
            }
            false => headline(intent, decision, width) + &now + &otherwise(intent, decision, anew.as_ref()),
        }
    };
    let mut text = decisions(&changed, namespace, (catalog, options), &verdict, &head);
    if is_accepted(&verdict) {
        text += &changes(&changed, &inject::patched(&changed, &standard(&verdict.patch))?);
    }
    if unread.iter().any(Unread::hides_offers) {
        text += "\n  You may not see all that the webhook sees (the warnings name what): offers may be missing here, and the \
                 webhook\n  may decide otherwise.\n";
    }
    Ok(text)
}

/// What a patch adds to an object and takes out of it.
fn changes(before: &Value, after: &Value) -> String {
    let parts =
        [difference(before, after, "would be added"), difference(after, before, "would be taken out")];
    let parts: String = parts.into_iter().flatten().collect();
    if parts.is_empty() { "\n  nothing would change in it\n".to_owned() } else { parts }
}

/// The object with a change of its pod template that asks for nothing.
fn touched(object: &Value) -> Value {
    let mut changed = object.clone();
    let pointer = workload::Kind::of(object).map_or("/spec/template", workload::Kind::template_pointer);
    let Some(template) = changed.pointer_mut(pointer).and_then(Value::as_object_mut) else {
        return changed;
    };
    let metadata = template.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if let Some(metadata) = metadata.as_object_mut() {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if !annotations.is_object() {
            *annotations = json!({});
        }
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(RESTARTED.to_owned(), "now".into());
        }
    }
    changed
}

/// The object without what is ours.
fn bare(object: &Value) -> Option<Value> {
    inject::patched(object, &take_out(object).ok()?).ok()
}

/// What would become of the workload, were it deleted and made anew.
fn anew(object: &Value, namespace: &str, catalog: &Catalog, options: &Options) -> Option<Verdict> {
    let bare = bare(object)?;
    Some(admit(&Request { namespace, object: &Json::from(&bare), old: None }, catalog, options))
}

/// What a new workload would get in place of what this one keeps.
fn otherwise(intent: &Intent, decision: &Decision, anew: Option<&Verdict>) -> String {
    let Some(anew) = anew.filter(|verdict| !matches!(verdict.result, AdmissionResult::FailedOpen(_))) else {
        return String::new();
    };
    let Some(other) = anew.plan.as_ref().and_then(|plan| plan.decisions.get(intent)) else {
        return String::new();
    };
    let differs = match (&decision.outcome, &other.outcome) {
        (Outcome::Bound(offer), Outcome::Bound(other)) => offer.id != other.id,
        (outcome, other) => outcome.word() != other.word(),
    };
    match differs {
        true => format!("    were it made anew: {}\n", plain(&other.to_string())),
        false => String::new(),
    }
}

/// What we said of it.
async fn events(cluster: &Cluster, namespace: &str, object: &Value) -> String {
    let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // All three are validated by the API server, and hold nothing that means something in a query.
    let query = format!(
        "fieldSelector=involvedObject.kind%3D{},involvedObject.name%3D{},involvedObject.uid%3D{}",
        field("/kind"),
        field("/metadata/name"),
        field("/metadata/uid")
    );
    let events = match EVENTS.list(&cluster.client, Some(namespace), &query).await {
        Look::Found(events) => events,
        other => return format!("  {}\n", plain(&other.blocked().unwrap_or_else(|| "none".to_owned()))),
    };
    let mut lines: Vec<(String, String)> =
        events.iter().filter(|event| is_ours(event)).map(event_line).collect();
    lines.sort();
    let skipped = lines.len().saturating_sub(NEWEST);
    match lines.is_empty() {
        true => "  none of Opportune\n".to_owned(),
        false => lines.into_iter().skip(skipped).map(|(_, line)| line).collect(),
    }
}

fn is_ours(event: &Value) -> bool {
    let reporter = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    ["/reportingComponent", "/source/component"].iter().any(|pointer| {
        let reporter = reporter(pointer);
        reporter == "opportune"
            || reporter.starts_with("opportune-")
            || reporter.starts_with("opportune.libre.sh")
    })
}

/// When it was last seen, and the line about it.
fn event_line(event: &Value) -> (String, String) {
    let at = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    let time = times.iter().find_map(|pointer| at(pointer)).unwrap_or_default();
    let kind = at("/type").unwrap_or("Normal");
    let style = if kind == "Normal" { style::FAINT } else { style::NOTE };
    let line = format!(
        "  {}  {}  {}: {}\n",
        plain(time),
        style::paint(style, &plain(kind)),
        plain(at("/reason").unwrap_or_default()),
        plain(at("/message").unwrap_or_default().trim_end())
    );
    (time.to_owned(), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_events_are_shown_and_nothing_in_them_moves_the_terminal() {
        let event = |reporter: &str| json!({"reportingComponent": reporter, "message": "\u{1b}[2Jgone"});
        assert!(
            is_ours(&event("opportune"))
                && is_ours(&json!({"source": {"component": "opportune-controller"}}))
        );
        assert!(!is_ours(&event("opportunist")) && !is_ours(&json!({})));
        assert!(!event_line(&event("opportune")).1.contains("\u{1b}[2J"));
    }

    #[test]
    fn a_template_is_touched_whatever_it_holds() {
        for template in [json!({}), json!({"metadata": null}), json!({"metadata": {"annotations": null}})] {
            let changed = touched(&json!({"spec": {"template": template}}));
            assert_eq!(changed["spec"]["template"]["metadata"]["annotations"][RESTARTED], "now");
        }
    }
}
