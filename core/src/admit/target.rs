//! What of a workload is injected, and what has to be made for it.
use std::collections::BTreeSet;

use super::Failure;
use crate::{
    decide::{Outcome, ProfileChoice, Terms, Wishes},
    deliver::{ClaimToMake, ConfigMapToMake, Delivery, SecretToMake, claim_name},
    discover::Catalog,
    inject::{Injection, Target, profile::Profile},
    json::Json,
    keys,
    settings::Fact,
    workload::{Container, Kind, Workload},
};

/// Whether the profile and the containers that a workload names are there.
pub(super) fn check(catalog: &Catalog, workload: &Workload<'_>, wishes: &Wishes) -> Result<(), Failure> {
    if let ProfileChoice::Named(name) = &wishes.profile
        && catalog.profiles().get(name).is_none()
    {
        return Err(Failure::annotation(keys::PROFILE, format!("no profile is named {name}")));
    }
    let mut names = wishes.containers.iter().flatten();
    match names.find(|name| workload.container(name).is_none()) {
        Some(stray) => Err(Failure::annotation(keys::CONTAINERS, format!("no container is named {stray}"))),
        None => Ok(()),
    }
}

/// A workload as its own annotations want it injected.
pub(super) fn asked<'a>(
    catalog: &'a Catalog,
    namespace: &'a str,
    workload: &'a Workload<'a>,
    terms: &'a Terms,
) -> Target<'a> {
    let profile = match &terms.wishes.profile {
        ProfileChoice::None => None,
        ProfileChoice::Named(name) => catalog.profiles().get(name).map(AsRef::as_ref),
        ProfileChoice::ByImage => by_image(catalog, workload.containers.iter()),
    };
    let containers = match &terms.wishes.containers {
        Some(names) => workload.containers.iter().filter(|c| names.contains(c.name)).collect(),
        None => usual_containers(workload, profile),
    };
    target(catalog, namespace, workload, terms, profile, containers)
}

/// A workload as what is enforced is injected: the profile of its image comes before one that it names, and the containers
/// that it names come besides the usual ones.
pub(super) fn enforced<'a>(
    catalog: &'a Catalog,
    namespace: &'a str,
    workload: &'a Workload<'a>,
    terms: &'a Terms,
) -> Target<'a> {
    let named = match &terms.wishes.profile {
        ProfileChoice::Named(name) => catalog.profiles().get(name).map(AsRef::as_ref),
        ProfileChoice::None | ProfileChoice::ByImage => None,
    };
    // An init container of a known image does not make the app another one.
    let regular = workload.containers.iter().filter(|container| container.is_regular());
    let profile = by_image(catalog, regular).or(named);
    let usual = usual_containers(workload, profile);
    let is_usual = |container: &Container<'_>| usual.iter().any(|other| other.name == container.name);
    let is_named = |container: &Container<'_>| {
        terms.wishes.containers.as_ref().is_some_and(|names| names.contains(container.name))
    };
    let containers = workload.containers.iter().filter(|c| is_usual(c) || is_named(c)).collect();
    target(catalog, namespace, workload, terms, profile, containers)
}

fn target<'a>(
    catalog: &Catalog,
    namespace: &'a str,
    workload: &'a Workload<'a>,
    terms: &'a Terms,
    profile: Option<&'a Profile>,
    containers: Vec<&'a Container<'a>>,
) -> Target<'a> {
    let labels = workload.pod_labels();
    let address = catalog.app_address(namespace, &labels);
    Target { workload, namespace, labels, terms, wishes: &terms.wishes, profile, containers, address }
}

/// The profile of the first image that one is known of.
fn by_image<'a, 'b>(
    catalog: &'a Catalog,
    mut containers: impl Iterator<Item = &'b Container<'b>>,
) -> Option<&'a Profile> {
    containers.find_map(|container| catalog.profiles().by_image(container.image)).map(AsRef::as_ref)
}

/// The containers whose image matches the profile; else all regular ones.
fn usual_containers<'a>(workload: &'a Workload<'a>, profile: Option<&Profile>) -> Vec<&'a Container<'a>> {
    let all = &workload.containers;
    let matches =
        |container: &&Container<'_>| profile.is_some_and(|profile| profile.has_image(container.image));
    let matching: Vec<_> = all.iter().filter(matches).collect();
    match matching.is_empty() {
        false => matching,
        true => all.iter().filter(|container| container.is_regular()).collect(),
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
        .filter_map(|entry| entry.value.at(&["valueFrom", "secretKeyRef", "name"])?.as_str())
        .chain(
            additions.volumes.iter().filter_map(|entry| entry.value.at(&["secret", "secretName"])?.as_str()),
        )
        .collect();
    for (intent, decision) in &injection.plan.decisions {
        let Outcome::Bound(offer) = &decision.outcome else { continue };
        // What points at it may have given way to what another intent has there.
        if let Some(name) = injection.secrets.get(intent).filter(|name| named.contains(name.as_str())) {
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
            delivery.secrets.insert(name.clone(), secret);
        }
    }
    for volume in &additions.volumes {
        let name = volume.value.at(&["configMap", "name"]).and_then(Json::as_str).unwrap_or_default();
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
