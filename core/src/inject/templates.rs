//! The claim templates of a StatefulSet: what of one is ours, and how they are put back, since they can't change.
use super::{
    Operation,
    patch::{Operations, path},
    record::Record,
    slot::{CLASS, TEMPLATE, slot},
};
use crate::{json::Json, workload::Workload};

/// Puts the claim templates of a StatefulSet back as the server holds them, where they differ only by what is ours.
pub(crate) fn claim_templates(
    workload: &Workload<'_>,
    stored: &Workload<'_>,
    stored_record: Option<&Record>,
) -> Vec<Operation> {
    let mut operations = Operations::default();
    let (now, then) = (workload.claim_templates(), stored.claim_templates());
    let users = |templates: &[Json<'_>]| -> Vec<Json<'static>> {
        templates.iter().filter_map(|template| users_template(template, stored_record)).collect()
    };
    if now != then && users(now) == users(then) {
        operations.add(
            path(&["spec", "volumeClaimTemplates"]),
            Json::Array(then.iter().map(Json::to_static).collect()),
        );
    }
    operations.into_inner()
}

/// A template as the user wrote it; `None` where all of it is ours.
fn users_template(template: &Json<'_>, record: Option<&Record>) -> Option<Json<'static>> {
    let name = template_name(template);
    let owns = |place: &str, value: &Json<'_>| {
        record.is_some_and(|record| record.owns(&slot(&[place, name]), value))
    };
    if owns(TEMPLATE, &template_essence(template)) {
        return None;
    }
    let mut users = template.to_static();
    if let Some(spec) = users.get_mut("spec").and_then(Json::as_object_mut)
        && spec.get("storageClassName").is_some_and(|class| owns(CLASS, class))
    {
        spec.remove("storageClassName");
    }
    // The server fills it in and nobody writes it.
    if let Some(template) = users.as_object_mut() {
        template.remove("status");
    }
    Some(users)
}

/// What of a claim template is ours to say: the server adds the rest.
pub(super) fn template_essence<'a>(template: &'a Json<'a>) -> Json<'a> {
    let part = |place: &[&str]| template.at(place).cloned().unwrap_or_default();
    Json::object([
        ("name", part(&["metadata", "name"])),
        ("class", part(&["spec", "storageClassName"])),
        ("modes", part(&["spec", "accessModes"])),
        ("size", part(&["spec", "resources", "requests", "storage"])),
    ])
}

/// The name of a claim template.
pub(super) fn template_name<'a>(template: &'a Json<'a>) -> &'a str {
    template.at(&["metadata", "name"]).and_then(Json::as_str).unwrap_or_default()
}

/// The class that a claim template names.
pub(super) fn class_of<'a>(template: &'a Json<'a>) -> Option<&'a Json<'a>> {
    template.at(&["spec", "storageClassName"])
}
