//! What there is to be had: offers by intent, providers, and storage.
use kube::Client;
use opportune_core::discover::{Catalog, NotForNamespace, Offer};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Finding, counted, some};
use crate::{cluster::look::Kind, watch::Reading};

const CHECK: &str = "offers";
const STORAGE: &str = "storage";
const CLASSES: Kind = Kind::of("storage.k8s.io", "v1", "storageclasses");
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// What was read of the cluster, by intent.
pub(super) fn judge(reading: &Reading) -> Vec<Finding> {
    let mut findings = Vec::new();
    for unread in reading.unread.iter().filter(|unread| unread.hides_offers()) {
        let what = format!("can't look: no right to list {} in the whole cluster", unread.resource);
        findings.push(Finding::warn(CHECK, what, "ask somebody who may, or go on without this check"));
    }
    for left_out in &reading.left_out {
        findings.push(Finding::warn(CHECK, format!("left out: {left_out}"), "correct that object"));
    }
    let is_hidden = |kinds: &[&str]| {
        reading.unread.iter().any(|unread| unread.is_forbidden && kinds.contains(&unread.kind))
    };
    if !is_hidden(&["Namespace", "Service", "ServiceOffer"]) {
        findings.extend(services(&reading.catalog));
    }
    if !is_hidden(&["StorageClass"]) {
        findings.extend(["block", "shared"].map(|kind| judge_storage(kind, reading)));
    }
    findings
}

/// Offers but storage, by intent, and who provides to others.
fn services(catalog: &Catalog) -> Vec<Finding> {
    let mut intents: BTreeMap<&str, Vec<&Arc<Offer>>> =
        ["analytics", "ldap", "mail"].into_iter().map(|intent| (intent, Vec::new())).collect();
    let mut providers: Vec<&str> = Vec::new();
    for offer in catalog.offers().filter(|offer| !offer.intent.is_storage()) {
        intents.entry(offer.intent.as_str()).or_default().push(offer);
        providers.extend(offer.id.namespace.as_deref().filter(|_| reaches_others(catalog, offer)));
    }
    let mut findings: Vec<Finding> =
        intents.iter().map(|(intent, offers)| judge_intent(intent, offers)).collect();
    providers.sort_unstable();
    providers.dedup();
    findings.push(match providers.len() {
        0 => Finding::ok(CHECK, "no namespace provides anything to others"),
        count => Finding::ok(CHECK, format!("providing to others: {count} ({})", some(providers))),
    });
    findings
}

/// Whether the provider's side lets an offer into other namespaces.
fn reaches_others(catalog: &Catalog, offer: &Offer) -> bool {
    // No namespace has the empty name: what keeps it out, if anything does, is the provider's side.
    !catalog.admits(offer, "").is_err_and(|why| why != NotForNamespace::NotConsumer)
}

/// The namespaces that offer credentials to others.
pub(super) fn with_credentials(catalog: &Catalog) -> Vec<String> {
    let offers = catalog.offers().filter(|offer| offer.credentials.is_some());
    let providers = offers.filter(|offer| reaches_others(catalog, offer));
    let names: BTreeSet<String> = providers.filter_map(|offer| offer.id.namespace.clone()).collect();
    names.into_iter().collect()
}

fn judge_intent(intent: &str, offers: &[&Arc<Offer>]) -> Finding {
    let complete = offers.iter().filter(|offer| offer.is_complete() && !offer.is_trap).count();
    let traps: Vec<String> = offers.iter().filter(|o| o.is_trap).map(|o| o.id.to_string()).collect();
    let incomplete: Vec<String> = offers
        .iter()
        .filter(|offer| !offer.is_complete() && !offer.is_trap)
        .map(|offer| format!("{} {}", offer.id, offer.incompleteness()))
        .collect();
    let mut what = format!("{intent}: {}", counted(complete, "complete offer", "complete offers"));
    if !incomplete.is_empty() {
        what +=
            &format!(", {} incomplete: {}", incomplete.len(), some(incomplete.iter().map(String::as_str)));
    }
    if !traps.is_empty() {
        what += &format!("; never deliver and are not chosen: {}", some(traps.iter().map(String::as_str)));
    }
    match incomplete.is_empty() {
        // Absence is normal.
        true => Finding::ok(CHECK, what),
        false => Finding::warn(CHECK, what, "`opportune catalog` says how to complete them"),
    }
}

fn judge_storage(kind: &str, reading: &Reading) -> Finding {
    let is_kind = |offer: &&Arc<Offer>| {
        offer.intent.is_storage() && offer.is_complete() && offer.settings.literal("kind") == Some(kind)
    };
    let classes: Vec<String> =
        reading.catalog.offers().filter(is_kind).map(|offer| offer.id.name.clone()).collect();
    match classes.is_empty() {
        true => Finding::warn(
            STORAGE,
            format!("no StorageClass is recognised as {kind} storage"),
            "workloads that want it run without; `opportune catalog` lists what is recognised",
        ),
        false => Finding::ok(STORAGE, format!("{kind}: {}", some(classes.iter().map(String::as_str)))),
    }
}

/// The default class, which claims get that name none.
pub(super) async fn default_class(client: &Client) -> Finding {
    let classes = CLASSES.list(client, None, "").await;
    let Some(classes) = classes.found() else {
        return Finding::blind(STORAGE, &classes)
            .unwrap_or_else(|| Finding::skip(STORAGE, "no StorageClasses"));
    };
    let is_default = |class: &&Value| {
        let annotations = class.pointer("/metadata/annotations");
        annotations.and_then(|map| map.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
    };
    let names: Vec<&str> =
        classes.iter().filter(is_default).map(|class| super::text(class, "/metadata/name")).collect();
    match names.as_slice() {
        [] => Finding::ok(
            STORAGE,
            "no default StorageClass: only what asks for a class, or wants storage, gets a volume",
        ),
        [name] => Finding::ok(STORAGE, format!("the default StorageClass is {name}")),
        names => Finding::warn(
            STORAGE,
            format!("{} StorageClasses are the default: {}", names.len(), some(names.iter().copied())),
            format!("keep the annotation {DEFAULT_CLASS} on one"),
        ),
    }
}
