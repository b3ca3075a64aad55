//! The status of ServiceOffers: whether workloads can use them, why not, and how many do.
use super::{
    controller::{Controller, place_of},
    queue::Done,
    sources::State,
};
use crate::cluster::{look::Kind, objects::Refusal};
use k8s_openapi::jiff::Timestamp;
use opportune_core::{
    deliver::Contents,
    discover::{Catalog, NotForNamespace, Offer, OfferId},
    settings::Fact,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

const OFFERS: Kind = Kind::of("opportune.libre.sh", "v1alpha1", "serviceoffers");
/// The longest message, in characters.
const MESSAGE: usize = 1000;

/// What was last said of each offer.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<HashMap<OfferId, Status>>);

/// What is said of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Status {
    is_ready: bool,
    reason: &'static str,
    message: String,
    consumers: usize,
}

/// Says how an offer is, where that is news.
pub(super) async fn say(controller: &Controller, id: &OfferId) -> Done {
    let catalog = controller.catalog.load_full();
    let Some(offer) = catalog.offers().find(|offer| offer.id == *id) else {
        controller.offers.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        return Done::Well;
    };
    let Some(namespace) = &id.namespace else { return Done::Well };
    let Some(status) = status(controller, &catalog, offer) else { return Done::Well };
    let said = controller.offers.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
    if said.as_ref() == Some(&status) {
        return Done::Well;
    }
    match write(controller, namespace, &id.name, &status).await {
        Ok(()) => {
            controller.offers.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), status);
            Done::Well
        }
        Err(Refusal::NotFound | Refusal::Terminating) => Done::Well,
        Err(Refusal::Conflict) => Done::Again(Duration::from_millis(200)),
        Err(refusal) => {
            tracing::debug!(offer = %id, %refusal, "its status was not written");
            Done::Failed
        }
    }
}

async fn write(controller: &Controller, namespace: &str, name: &str, status: &Status) -> Result<(), Refusal> {
    let stored = controller.objects.get(OFFERS, namespace, name).await?.ok_or(Refusal::NotFound)?;
    let old = stored.pointer("/status/conditions/0");
    let of = |field: &str| old.and_then(|old| old.get(field)?.as_str()).unwrap_or_default();
    let truth = if status.is_ready { "True" } else { "False" };
    let since = match of("status") == truth && !of("lastTransitionTime").is_empty() {
        true => of("lastTransitionTime").to_owned(),
        false => Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let new = json!({
        "conditions": [{
            "type": "Ready",
            "status": truth,
            "reason": status.reason,
            "message": status.message,
            "lastTransitionTime": since,
            "observedGeneration": stored.pointer("/metadata/generation").cloned().unwrap_or(Value::Null),
        }],
        "consumers": status.consumers,
    });
    if stored.get("status") == Some(&new) {
        return Ok(());
    }
    controller.objects.merge_status(OFFERS, namespace, name, &json!({"status": new})).await.map(drop)
}

/// How an offer is; `None` while its credentials are being read.
fn status(controller: &Controller, catalog: &Catalog, offer: &Offer) -> Option<Status> {
    let may_use = |namespace: &str| catalog.admits(offer, namespace).is_ok();
    let consumers = controller.uses().consumers(&offer.id, may_use);
    let said = |is_ready: bool, reason: &'static str, message: String| {
        let message = message.chars().take(MESSAGE).collect();
        Some(Status { is_ready, reason, message, consumers })
    };
    if !offer.is_complete() {
        return said(false, "Incomplete", offer.incompleteness());
    }
    let mut asides = Vec::new();
    if let Some(place) = place_of(offer) {
        let name = &place.1;
        match controller.sources.state(&place) {
            State::Unknown => return None,
            State::Missing => {
                let message =
                    format!("there is no Secret {name} in this namespace; who has a copy of it keeps that");
                return said(false, "CredentialsMissing", message);
            }
            State::Unreadable(reason) => {
                return said(
                    false,
                    "CredentialsUnreadable",
                    format!("Secret {name} can't be read: {reason}"),
                );
            }
            State::Refused(reason) => {
                return said(false, "CredentialsRefused", format!("Secret {name}: {reason}"));
            }
            State::Present(credentials) => {
                let contents = Contents::of(offer, &credentials.0, &BTreeMap::new());
                let is_credential =
                    |name: &&String| matches!(offer.settings.get(name), Some(Fact::Credential(_)));
                let bad = contents.missing.iter().filter(|(name, _)| is_credential(name));
                let bad: Vec<String> = bad.map(|(setting, why)| format!("{setting}: {why}")).collect();
                let has_any = contents.data.keys().any(|name| is_credential(&name));
                if !has_any {
                    return said(
                        false,
                        "CredentialsIncomplete",
                        format!("Secret {name}: {}", bad.join("; ")),
                    );
                }
                asides.extend(bad);
            }
        }
        if !controller.sources.is_watched(&place) {
            asides.push(format!(
                "Secret {name} is read every 30 s; bind the ClusterRole opportune-provider in this namespace, and a change \
                 of it is delivered at once"
            ));
        }
    }
    let reach = match catalog.admits(offer, "") {
        Ok(()) | Err(NotForNamespace::NotConsumer) => "offered to the namespaces that its consumers select",
        Err(why) => why.advice(),
    };
    let reach = match offer.consumers {
        opportune_core::discover::Consumers::OwnNamespace => "offered to its own namespace only",
        opportune_core::discover::Consumers::Selected(_) => reach,
    };
    asides.insert(0, reach.to_owned());
    said(true, "Complete", asides.join("; "))
}
