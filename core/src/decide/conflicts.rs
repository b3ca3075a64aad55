//! What policies disagree about, namespace by namespace, and who wins: for the status of each of them.
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    admit::Options,
    api::OnAbsent,
    discover::{Catalog, Policy},
    intent::Intent,
    size,
};

/// How many namespaces are named.
const NAMED: usize = 3;
/// How many conflicts of one policy are told, and how long each may be, in characters.
const MAX_CONFLICTS: usize = 100;
const MAX_CHARS: usize = 1024;

/// What each policy disagrees about with others or can't have, by policy; sorted, and nothing where all is well.
pub fn conflicts(catalog: &Catalog, options: &Options) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<&str, BTreeMap<String, BTreeSet<&str>>> = BTreeMap::new();
    for (namespace, _) in catalog.namespaces().filter(|(namespace, _)| !options.is_excluded(namespace)) {
        let policies: Vec<&Policy> = catalog.policies_in(namespace).map(AsRef::as_ref).collect();
        for (place, policy) in policies.iter().enumerate() {
            let mut note = |what: String| {
                found.entry(&policy.name).or_default().entry(what).or_default().insert(namespace);
            };
            unusable(catalog, namespace, policy).into_iter().for_each(&mut note);
            // A policy comes before those behind it.
            for (other_place, other) in policies.iter().enumerate().filter(|(other, _)| *other != place) {
                let wins = place < other_place;
                against(policy, other, wins).into_iter().for_each(&mut note);
            }
        }
    }
    let told = found.into_iter().map(|(policy, conflicts)| {
        let conflicts = conflicts.into_iter().map(|(what, namespaces)| {
            let text = format!("{what}, in {}", list(&namespaces));
            text.chars().take(MAX_CHARS).collect()
        });
        (policy.to_owned(), conflicts.take(MAX_CONFLICTS).collect())
    });
    told.collect()
}

/// What one policy disagrees about with another; `comes_first` says whether it has the higher priority or the earlier name.
fn against(policy: &Policy, other: &Policy, comes_first: bool) -> Vec<String> {
    let (spec, theirs, name) = (&policy.spec, &other.spec, &other.name);
    let mut conflicts = Vec::new();
    let this_one = |wins: bool| if wins { "this policy wins" } else { "that policy wins" };
    for intent in spec.enforce.iter().filter(|intent| theirs.forbid.contains(intent)) {
        let wins = this_one(spec.priority > theirs.priority);
        conflicts.push(format!("enforces {intent}, which policy {name} forbids: {wins}"));
    }
    for intent in spec.forbid.iter().filter(|intent| theirs.enforce.contains(intent)) {
        let wins = this_one(spec.priority >= theirs.priority);
        conflicts.push(format!("forbids {intent}, which policy {name} enforces: {wins}"));
    }
    let preferring: BTreeSet<Intent> = spec.prefer.keys().chain(theirs.prefer.keys()).cloned().collect();
    let storage = Intent::parse("storage").ok();
    for intent in preferring.iter().chain(&storage).collect::<BTreeSet<_>>() {
        if let (Some(offer), Some(another)) = (policy.preferred(intent), other.preferred(intent))
            && offer != another
        {
            let wins = this_one(comes_first);
            conflicts.push(format!("prefers {offer} for {intent}, and policy {name} {another}: {wins}"));
        }
    }
    for intent in spec.enforce.iter().filter(|intent| theirs.enforce.contains(intent)) {
        if (spec.on_absent, theirs.on_absent) == (OnAbsent::Warn, OnAbsent::Deny) {
            conflicts.push(format!(
                "only warns where {intent} is absent, and policy {name} refuses: it is refused"
            ));
        }
    }
    let bytes = |size: Option<&String>| size.and_then(|size| size::bytes(size));
    let default = spec.storage.as_ref().and_then(|storage| storage.default_size.as_ref());
    let max = theirs.storage.as_ref().and_then(|storage| storage.max_size.as_ref());
    if let (Some(default_bytes), Some(max_bytes), Some(default), Some(max)) =
        (bytes(default), bytes(max), default, max)
        && default_bytes > max_bytes
    {
        conflicts.push(format!("gives volumes {default} by default, of which policy {name} allows {max}"));
    }
    if let (Some(refresh), Some(another)) = (spec.refresh, theirs.refresh)
        && refresh != another
    {
        let wins = this_one(comes_first);
        conflicts.push(format!("says another refresh than policy {name}: {wins}"));
    }
    conflicts
}

/// The preferences of a policy that come to nothing in a namespace, with what an operator can do.
fn unusable(catalog: &Catalog, namespace: &str, policy: &Policy) -> Vec<String> {
    let storage = Intent::parse("storage").ok();
    let intents: BTreeSet<&Intent> = policy.spec.prefer.keys().chain(&storage).collect();
    let reason = |intent: &Intent| {
        let offer = policy.preferred(intent)?;
        if catalog.preferred(intent, offer, namespace).is_some() {
            return None;
        }
        let is_it = |other: &&std::sync::Arc<crate::discover::Offer>| {
            other.intent == *intent
                && (other.id.to_string() == offer || (other.is_in(namespace) && other.id.name == offer))
        };
        let why = match catalog.offers().find(is_it) {
            None => "which is not offered".to_owned(),
            Some(found) => match catalog.admits(found, namespace) {
                Err(why) => format!("which may not be used: {}", why.advice()),
                Ok(()) if found.is_trap => "which never delivers".to_owned(),
                Ok(()) => format!("which {}", found.incompleteness()),
            },
        };
        Some(format!("prefers {offer} for {intent}, {why}"))
    };
    intents.into_iter().filter_map(reason).collect()
}

fn list(namespaces: &BTreeSet<&str>) -> String {
    let named: Vec<&str> = namespaces.iter().copied().take(NAMED).collect();
    let more = namespaces.len() - named.len();
    let noun = if namespaces.len() == 1 { "namespace" } else { "namespaces" };
    match more {
        0 => format!("{noun} {}", named.join(", ")),
        more => format!("{noun} {} and {more} more", named.join(", ")),
    }
}
