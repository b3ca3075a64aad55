//! What of a workload is injected, and what has to be made for it.
use std::collections::BTreeSet;

use serde_json::Value;

use super::Failure;
use crate::{
    decide::{Outcome, ProfileChoice, Wishes},
    deliver::{ClaimToMake, ConfigMapToMake, Delivery, SecretToMake, claim_name, secret_name},
    discover::Catalog,
    inject::{Injection, Target, env::has_secret, profile::Profile},
    keys,
    settings::Fact,
    workload::{Container, Kind, Workload},
};

/// The profile that a workload takes.
pub(super) fn profile<'a>(
    catalog: &'a Catalog,
    workload: &Workload<'_>,
    wishes: &Wishes,
) -> Result<Option<&'a Profile>, Failure> {
    let profiles = catalog.profiles();
    match &wishes.profile {
        ProfileChoice::None => Ok(None),
        ProfileChoice::Named(name) => match profiles.get(name) {
            Some(profile) => Ok(Some(profile)),
            None => Err(Failure::annotation(keys::PROFILE, format!("no profile is named {name}"))),
        },
        ProfileChoice::ByImage => {
            let mut images = workload.containers.iter().map(|container| container.image);
            Ok(images.find_map(|image| profiles.by_image(image)).map(AsRef::as_ref))
        }
    }
}

/// The containers that are injected: those named; else those whose image matches the profile; else all regular ones.
pub(super) fn containers<'a>(
    workload: &'a Workload<'a>,
    profile: Option<&Profile>,
    wishes: &Wishes,
) -> Result<Vec<&'a Container<'a>>, Failure> {
    let all = &workload.containers;
    if let Some(names) = &wishes.containers {
        if let Some(stray) = names.iter().find(|name| workload.container(name).is_none()) {
            return Err(Failure::annotation(keys::CONTAINERS, format!("no container is named {stray}")));
        }
        return Ok(all.iter().filter(|container| names.contains(container.name)).collect());
    }
    let matching: Vec<_> = all
        .iter()
        .filter(|container| profile.is_some_and(|profile| profile.has_image(container.image)))
        .collect();
    match matching.is_empty() {
        false => Ok(matching),
        true => Ok(all.iter().filter(|container| container.is_regular()).collect()),
    }
}

/// What a controller has to make for an injection.
pub(super) fn delivery(target: &Target<'_>, injection: &Injection) -> Delivery {
    let mut delivery = Delivery::default();
    let additions = &injection.additions;
    let named: BTreeSet<&str> = additions
        .env
        .values()
        .flatten()
        .filter(|entry| has_secret(&entry.value))
        .filter_map(|entry| entry.value.pointer("/valueFrom/secretKeyRef/name")?.as_str())
        .chain(
            additions.volumes.iter().filter_map(|entry| entry.value.pointer("/secret/secretName")?.as_str()),
        )
        .collect();
    for (intent, decision) in &injection.plan.decisions {
        let Outcome::Bound(offer) = &decision.outcome else { continue };
        let name = secret_name(intent, &offer.id);
        if named.contains(name.as_str()) {
            let composed = injection.composed.get(intent).into_iter().flatten();
            let composed =
                composed.map(|(key, template)| (key.clone(), template.source().to_owned())).collect();
            let credentials = offer.settings.iter().filter_map(|(setting, fact)| match fact {
                Fact::Credential(keys) => Some((setting.to_owned(), keys.join("|"))),
                Fact::Literal(_) | Fact::Composed(_) => None,
            });
            let secret = SecretToMake {
                intent: intent.clone(),
                offer: offer.id.clone(),
                source: offer.credentials.as_ref().map(|secret| secret.name.clone()),
                credentials: credentials.collect(),
                composed,
            };
            delivery.secrets.insert(name, secret);
        }
    }
    for volume in &additions.volumes {
        let name = volume.value.pointer("/configMap/name").and_then(Value::as_str).unwrap_or_default();
        if let Some((key, text)) = injection.config_maps.get(name) {
            let config_map = ConfigMapToMake { key: key.clone(), text: text.clone() };
            delivery.config_maps.insert(name.to_owned(), config_map);
        }
    }
    if target.workload.kind != Kind::StatefulSet {
        for (path, volume) in &additions.claims {
            let name = claim_name(target.workload.kind, target.workload.name, path);
            let claim = ClaimToMake {
                kind: target.workload.kind,
                workload: target.workload.name.to_owned(),
                path: path.clone(),
                volume: volume.clone(),
                retain: target.wishes.retain,
            };
            delivery.claims.insert(name, claim);
        }
    }
    delivery
}
