//! A catalog from files.
use std::{collections::HashMap, path::PathBuf};

use opportune_core::discover::Catalog;
use serde_json::Value;

use super::{
    Failure,
    manifest::{self, Manifest},
    style,
};
use crate::knowledge::Folders;

/// Reads a catalog from the files and folders that `--catalog` names.
///
/// # Errors
/// Bad input, with file, document and field. An offer that can't be used is no error: `opportune catalog` shows it.
pub fn catalog(paths: &[PathBuf], folders: &Folders) -> Result<Catalog, Failure> {
    from_manifests(&manifest::read(paths)?, folders)
}

/// Makes a catalog of objects.
///
/// # Errors
/// Recipes or profiles that can't be read; when one object stands there twice with different contents.
pub fn from_manifests(manifests: &[Manifest], folders: &Folders) -> Result<Catalog, Failure> {
    let mut inventory = folders.inventory().map_err(|error| Failure::input(error.to_string()))?;
    let mut seen: HashMap<String, &Manifest> = HashMap::new();
    for manifest in manifests {
        if let Some(first) = seen.insert(manifest.identity(), manifest) {
            if essence(&first.object) != essence(&manifest.object) {
                let place = &manifest.place;
                return Err(Failure::input(format!(
                    "{place}: metadata.name: the same object stands in {}, with other contents; give it once",
                    first.place
                )));
            }
            continue;
        }
        if let Err(error) = inventory.apply(&manifest.object) {
            // A check that passes because a policy was left out says nothing.
            if manifest.object.get("kind").is_some_and(|kind| kind == "InjectionPolicy") {
                return Err(Failure::input(format!("{}: {error}", manifest.place)));
            }
            style::warn(&format!("{}: left out: {error}", manifest.place));
        }
    }
    let catalog = inventory.snapshot();
    warn_of_namesakes(&catalog);
    Ok(catalog)
}

/// What a server changes without anybody asking does not make two dumps of an object different.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
        }
    }
    object
}

/// Two offers of one intent and name, one of a Service and one a ServiceOffer: the latter comes first.
fn warn_of_namesakes(catalog: &Catalog) {
    let offers: Vec<_> = catalog.offers().collect();
    for pair in offers.windows(2) {
        if let [a, b] = pair
            && a.intent == b.intent
            && a.id.to_string() == b.id.to_string()
        {
            let (first, second) = (a.id.source, b.id.source);
            style::warn(&format!(
                "{} offers of {} are named {}: the {first} comes before the {second}",
                2, a.intent, a.id
            ));
        }
    }
}
