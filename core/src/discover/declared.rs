//! Offers that are no Services: ServiceOffers and StorageClasses.
use serde::Deserialize;
use serde_json::Value;

use super::{
    Consumers, LabelSelector, Labels, Offer, OfferId, Origin, Source,
    object::{self, ObjectError},
    recipe::Recipes,
    service::{add_credentials, add_settings, finish},
};
use crate::{
    api::ServiceOfferSpec,
    settings::{Fact, Settings},
};

/// The offer that a `ServiceOffer` makes.
///
/// # Errors
/// When it can't be read, or names no intent.
pub(super) fn service_offer(object: &Value, recipes: &Recipes) -> Result<Offer, ObjectError> {
    let (namespace, name) = object::namespaced_name(object)?;
    let spec = object.get("spec").ok_or_else(|| ObjectError::new("spec: missing"))?;
    let spec =
        ServiceOfferSpec::deserialize(spec).map_err(|error| ObjectError::new(format!("spec: {error}")))?;
    let mut problems = Vec::new();
    let mut settings = Settings::default();
    add_settings(spec.settings, &mut settings, &mut problems);
    if let Some(provider) = spec.provider {
        add_settings([("provider".to_owned(), Value::String(provider))], &mut settings, &mut problems);
    }
    let credentials = spec.credentials.and_then(|credentials| {
        let name = &credentials.secret_ref.name;
        add_credentials(name, &credentials.keys, &spec.intent, &mut settings, &mut problems)
    });
    problems.extend(finish(&mut settings, &spec.intent, None, recipes));
    let selector = spec.consumers.and_then(|consumers| consumers.namespace_selector);
    Ok(Offer {
        intent: spec.intent,
        id: OfferId { namespace: Some(namespace), name, source: Source::ServiceOffer },
        origin: Origin::Marked,
        recipe: None,
        hint: None,
        priority: spec.priority,
        consumers: selector.map_or(Consumers::OwnNamespace, Consumers::Selected),
        settings,
        credentials,
        problems,
        is_trap: false,
        pods: Labels::new(),
    })
}

/// The offer that a StorageClass makes, where its provisioner is Ceph's.
///
/// # Errors
/// When it has no name.
pub(super) fn storage_class(object: &Value, recipes: &Recipes) -> Result<Option<Offer>, ObjectError> {
    let name = object::name(object)?;
    let provisioner = object.get("provisioner").and_then(Value::as_str).unwrap_or_default();
    let Some(recipe) = recipes.by_provisioner(provisioner) else { return Ok(None) };
    let mut settings = Settings::default();
    settings.set("class", Fact::Literal(name.clone()));
    let problems = finish(&mut settings, &recipe.intent, Some(recipe), recipes);
    Ok(Some(Offer {
        intent: recipe.intent.clone(),
        id: OfferId { namespace: None, name, source: Source::StorageClass },
        origin: Origin::Recognised,
        recipe: Some(recipe.name.clone()),
        hint: recipe.hint.clone(),
        priority: 0,
        consumers: Consumers::Selected(LabelSelector::default()),
        settings,
        credentials: None,
        problems,
        is_trap: recipe.is_trap,
        pods: Labels::new(),
    }))
}
