//! One golden for each recipe: the Services and pods as its chart or its users write them, and the offers that they make.
//! A Service that must never become an offer says why in its annotation `test/double`.
use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf, sync::Arc};

use opportune_core::{
    discover::{Catalog, Inventory, Offer, Recipes},
    inject::profile::Profiles,
    settings::Fact,
};
use serde_json::{Value, json};

use crate::{schema::files, snapshots_of};

/// What somebody who marks a Service says of it.
fn missing(intent: &str) -> &'static str {
    match intent {
        "ldap" => "base-dn: dc=example,dc=org",
        "mail" => "from: noreply@example.org",
        _ => "{url: 'https://stats.example.org', site-id: 7}",
    }
}

fn cluster(recipe: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/clusters/{recipe}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|_| {
        panic!("{recipe}: write tests/data/clusters/{recipe}.yaml, the Services and pods of a typical installation")
    });
    serde_saphyr::from_multiple(&text).unwrap()
}

fn catalog(objects: &[Value]) -> Catalog {
    let mut inventory = Inventory::new(Arc::new(Recipes::built_in().unwrap()), Profiles::default());
    for object in objects {
        inventory.apply(object).unwrap();
    }
    inventory.snapshot()
}

fn double(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations/test~1double")?.as_str()
}

fn is_service(object: &Value) -> bool {
    object["kind"] == "Service"
}

fn place(object: &Value) -> String {
    format!(
        "{}/{}",
        object["metadata"]["namespace"].as_str().unwrap(),
        object["metadata"]["name"].as_str().unwrap()
    )
}

/// The Service with our label, and what it can't be known by.
fn marked(mut service: Value, intent: &str) -> Value {
    let metadata = service["metadata"].as_object_mut().unwrap();
    metadata.entry("labels").or_insert(json!({}))["opportune.libre.sh/offers"] = json!(intent);
    metadata.insert("annotations".into(), json!({"opportune.libre.sh/settings": missing(intent)}));
    service
}

fn shown(fact: &Fact) -> String {
    match fact {
        Fact::Literal(value) => value.clone(),
        Fact::Credential(keys) => format!("(Secret, {})", keys.join(" or ")),
        Fact::Composed(template) => format!("(Secret) {}", template.source()),
    }
}

fn described(offer: &Offer, known: Option<&Offer>) -> String {
    let state = match (offer.is_trap, offer.is_complete()) {
        (true, _) => "trap".to_owned(),
        (_, true) => "complete".to_owned(),
        _ => offer.incompleteness(),
    };
    let mut text = format!("  {} {}, {}: {state}\n", offer.id.source, offer.id, offer.intent);
    writeln!(text, "    recipe {}", offer.recipe.as_deref().unwrap_or("none")).unwrap();
    for (name, fact) in offer.settings.iter() {
        if known.and_then(|known| known.settings.get(name)) != Some(fact) {
            writeln!(text, "    {name} = {}", shown(fact)).unwrap();
        }
    }
    text
}

fn golden(recipe: &str, intent: &str) -> String {
    let objects = cluster(recipe);
    let unmarked = catalog(&objects);
    let mut text = String::from("recognised\n");
    text.extend(unmarked.offers().map(|offer| described(offer, None)));
    let others: Vec<_> = objects.iter().filter(|object| double(object).is_some()).collect();
    if !others.is_empty() {
        text += "\nnever an offer\n";
        for other in others {
            writeln!(text, "  {}: {}", place(other), double(other).unwrap()).unwrap();
        }
    }
    let is_wanted = |object: &Value| is_service(object) && double(object).is_none();
    if objects.iter().any(is_wanted) {
        write!(text, "\nmarked, with `{}`\n", missing(intent)).unwrap();
        let objects: Vec<_> = objects
            .into_iter()
            .map(|object| if is_wanted(&object) { marked(object, intent) } else { object })
            .collect();
        for offer in catalog(&objects).offers() {
            let known = unmarked.offers().find(|known| known.id == offer.id);
            text += &described(offer, known.map(AsRef::as_ref));
        }
    }
    text
}

#[test]
fn each_recipe_does_what_its_golden_says() {
    for (name, recipe) in files("src/discover/recipes") {
        let intent = recipe["intent"].as_str().unwrap();
        insta::with_settings!({
            snapshot_path => "snapshots/recipes", prepend_module_to_snapshot => false, omit_expression => true,
            description => recipe["title"].as_str().unwrap(),
        }, { insta::assert_snapshot!(name.as_str(), golden(&name, intent)) });
    }
}

#[test]
fn what_is_behind_a_service_is_recognised_by_its_own_recipe_and_no_double_is() {
    for (name, _) in files("src/discover/recipes") {
        let objects = cluster(&name);
        let catalog = catalog(&objects);
        let found: BTreeSet<_> =
            catalog.offers().filter(|o| o.id.namespace.is_some()).map(|offer| offer.id.to_string()).collect();
        let wanted = objects.iter().filter(|object| is_service(object) && double(object).is_none());
        assert_eq!(found, wanted.map(place).collect(), "{name}");
        for offer in catalog.offers() {
            assert_eq!(offer.recipe.as_deref(), Some(name.as_str()), "{}", offer.id);
        }
    }
}

#[test]
fn every_recipe_has_a_golden_and_every_golden_a_recipe() {
    let recipes: Vec<_> = files("src/discover/recipes").into_iter().map(|(name, _)| name).collect();
    assert_eq!(snapshots_of("recipes"), recipes);
    let clusters: Vec<_> = files_of_clusters();
    assert_eq!(clusters, recipes);
}

fn files_of_clusters() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/clusters");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<_> = paths.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.into_iter().collect()
}
