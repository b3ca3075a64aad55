//! Workloads that count on us where we are not called.
use kube::Client;
use opportune_core::{
    admit::{Mode, Options},
    discover::{Catalog, NamespaceLabel},
    keys, workload,
};
use serde_json::Value;

use super::{Finding, Mark, counted, some, text};
use crate::cluster::look::{Kind, Look};

const CHECK: &str = "workloads";
pub(super) const NAMESPACES: Kind = Kind::of("", "v1", "namespaces");

/// Counts namespaces that are labelled, and workloads with wishes or a record.
pub(super) async fn look(client: &Client, catalog: &Catalog, options: &Options) -> Vec<Finding> {
    let mut findings = vec![judge_namespaces(&NAMESPACES.list(client, None, "").await, options)];
    let mut ours: Vec<(String, String)> = Vec::new();
    for kind in options.kinds.iter() {
        match Kind::of(kind.group(), "v1", kind.plural()).list(client, None, "").await {
            Look::Found(objects) => {
                ours.extend(objects.iter().filter(|object| is_ours(kind, object)).map(|object| {
                    (
                        text(object, "/metadata/namespace").to_owned(),
                        text(object, "/metadata/name").to_owned(),
                    )
                }));
            }
            look => findings.extend(Finding::blind(CHECK, &look)),
        }
    }
    if findings.iter().skip(1).all(|finding| finding.result == Mark::Ok) {
        findings.push(judge(&ours, catalog, options));
    }
    findings
}

fn judge_namespaces(look: &Look<Vec<Value>>, options: &Options) -> Finding {
    let Some(namespaces) = look.found() else {
        return Finding::blind(CHECK, look).unwrap_or_else(|| Finding::skip(CHECK, "no namespaces"));
    };
    let labelled = |value: &str| {
        let has = |object: &&Value| {
            object
                .pointer("/metadata/labels")
                .and_then(|labels| labels.get(keys::INJECT))
                .is_some_and(|v| v == value)
        };
        namespaces.iter().filter(has).count()
    };
    let (on, off) = (labelled("enabled"), labelled("disabled"));
    let what = format!("of {} namespaces {on} are labelled enabled, {off} disabled", namespaces.len());
    match (options.mode, on) {
        (Mode::OptIn, 0) => Finding::warn(
            CHECK,
            format!("{what}: injection is on nowhere"),
            format!("kubectl label namespace NAME {}=enabled", keys::INJECT),
        ),
        _ => Finding::ok(CHECK, what),
    }
}

/// Whether it has wishes, or holds what we added.
fn is_ours(kind: workload::Kind, object: &Value) -> bool {
    if workload::is_made_by_another(kind, object) {
        return false;
    }
    let own = object.pointer("/metadata/annotations");
    let template = object.pointer(&kind.pod_annotations_pointer());
    let has = |key: &str| [own, template].iter().flatten().any(|map| map.get(key).is_some());
    has(keys::WANTS) || has(keys::REQUIRES) || own.is_some_and(|map| map.get(keys::INJECTED).is_some())
}

fn judge(ours: &[(String, String)], catalog: &Catalog, options: &Options) -> Finding {
    let is_off = |namespace: &str| {
        options.why_off(catalog, namespace).is_some()
            || (catalog.namespace_label(namespace) == NamespaceLabel::Unknown && options.mode == Mode::OptIn)
    };
    let off: Vec<String> =
        ours.iter().filter(|(ns, _)| is_off(ns)).map(|(ns, name)| format!("{ns}/{name}")).collect();
    let what = format!("with wishes or a record of ours: {}", counted(ours.len(), "workload", "workloads"));
    match off.is_empty() {
        true => Finding::ok(CHECK, what),
        false => Finding::warn(
            CHECK,
            format!(
                "{what}, {} of them where injection is off: {}",
                off.len(),
                some(off.iter().map(String::as_str))
            ),
            format!("label those namespaces {}=enabled, or take the annotations away", keys::INJECT),
        ),
    }
}

/// The namespaces in which injection is on, by name; those of people before those of the cluster.
pub(super) fn on(namespaces: &[Value], options: &Options) -> Option<String> {
    let is_excluded = |name: &str| {
        name.starts_with("kube-") || options.excluded_namespaces.iter().any(|excluded| excluded == name)
    };
    let label = |object: &Value| {
        let labels = object.pointer("/metadata/labels")?;
        labels.get(keys::INJECT)?.as_str().map(str::to_owned)
    };
    let is_on = |object: &&Value| {
        let is_leaving = object.pointer("/metadata/deletionTimestamp").is_some();
        let by_label = match (options.mode, label(object).as_deref()) {
            (_, Some("enabled")) => true,
            (Mode::OptIn, _) | (Mode::ClusterWide, Some("disabled")) => false,
            (Mode::ClusterWide, _) => true,
        };
        by_label && !is_leaving && !is_excluded(text(object, "/metadata/name"))
    };
    let mut names: Vec<&str> =
        namespaces.iter().filter(is_on).map(|object| text(object, "/metadata/name")).collect();
    names.sort_unstable_by_key(|name| (options.mode == Mode::ClusterWide && *name != "default", *name));
    names.first().map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(name: &str, inject: Option<&str>) -> Value {
        json!({"metadata": {"name": name, "labels": inject.map(|value| json!({keys::INJECT: value}))}})
    }

    #[test]
    fn a_place_for_a_trial_is_where_injection_is_on() {
        let all = [
            namespace("attic", Some("disabled")),
            namespace("blog", None),
            namespace("default", None),
            namespace("forge", Some("enabled")),
            namespace("kube-public", Some("enabled")),
        ];
        let of = |mode, excluded: &[&str]| {
            let excluded_namespaces = excluded.iter().map(|name| (*name).to_owned()).collect();
            on(&all, &Options { mode, excluded_namespaces, ..Options::default() })
        };
        assert_eq!(of(Mode::OptIn, &[]).as_deref(), Some("forge"));
        assert_eq!(of(Mode::OptIn, &["forge"]), None);
        assert_eq!(of(Mode::ClusterWide, &[]).as_deref(), Some("default"));
        assert_eq!(of(Mode::ClusterWide, &["default"]).as_deref(), Some("blog"));
    }

    #[test]
    fn a_wish_on_either_metadata_counts() {
        let is_deployment = |object: Value| is_ours(workload::Kind::Deployment, &object);
        assert!(is_deployment(
            json!({"spec": {"template": {"metadata": {"annotations": {keys::WANTS: "x"}}}}})
        ));
        assert!(is_deployment(json!({"metadata": {"annotations": {keys::INJECTED: "{}"}}})));
        assert!(!is_deployment(json!({"metadata": {"annotations": {keys::STATUS: "x"}}})));
        let pod = |owners: Value| json!({"metadata": {"annotations": {keys::WANTS: "x"}, "ownerReferences": owners}});
        assert!(is_ours(workload::Kind::Pod, &pod(json!([{"kind": "Node"}]))));
        assert!(!is_ours(workload::Kind::Pod, &pod(json!([{"kind": "ReplicaSet", "controller": true}]))));
    }
}
