//! The JSON Schemas of recipes and profiles: current, and of one mind with the readers.
use std::{fs, path::PathBuf};

use jsonschema::Validator;
use opportune_core::{
    discover::{Recipes, recipe_schema},
    inject::profile::{Profiles, profile_schema},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::reference::check;

fn recipes() -> Validator {
    jsonschema::validator_for(recipe_schema().as_value()).unwrap()
}

fn profiles() -> Validator {
    jsonschema::validator_for(profile_schema().as_value()).unwrap()
}

/// The YAML files of a folder of this crate, with their names.
pub fn files(folder: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap())
        })
        .collect();
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files
}

fn printed(schema: &schemars::Schema) -> String {
    let mut value = schema.as_value().clone();
    value.sort_all_objects();
    format!("{value:#}\n")
}

#[test]
fn the_reference_schemas_are_current() {
    check("recipe.schema.json", &printed(&recipe_schema()));
    check("profile.schema.json", &printed(&profile_schema()));
}

#[rstest]
#[case("src/discover/recipes", recipes())]
#[case("src/inject/profiles", profiles())]
fn every_file_fits_its_schema_and_has_its_name(#[case] folder: &str, #[case] schema: Validator) {
    let files = files(folder);
    assert!(!files.is_empty());
    for (name, value) in files {
        let errors: Vec<_> =
            schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        assert_eq!(value["name"], json!(name), "{folder}/{name}.yaml names itself otherwise");
    }
}

fn a_recipe() -> Value {
    json!({"name": "x", "title": "X", "intent": "mail", "match": {"images": ["*/x/x"]},
        "exclude": {"names": []}, "ports": [{"number": 25}], "config-map": {"name": "*", "settings": {}},
        "confidence": "memory", "sources": []})
}

fn a_profile() -> Value {
    json!({"name": "x", "app": "X", "images": ["docker.io/x/x"], "data": [{"path": "/data"}],
        "intents": {"mail": {"confidence": "memory",
            "env": {"A": "[[mail.host]]", "B": {"map": "mail.tls", "to": {"tls": "yes"}}},
            "files": [{"path": "/x.conf", "blocks": ["a", {"when": "mail.tls", "is": ["tls"], "text": "b"}]}]}}})
}

fn reads_as_recipe(value: &Value) -> bool {
    Recipes::read([("x.yaml", value.to_string().as_str())]).is_ok()
}

fn reads_as_profile(value: &Value) -> bool {
    Profiles::read([("x.yaml", value.to_string().as_str())], &|_| None).is_ok()
}

fn with_unknown(mut value: Value, at: &str) -> Value {
    value.pointer_mut(at).unwrap().as_object_mut().unwrap().insert("colour".into(), json!("red"));
    value
}

#[rstest]
#[case("")]
#[case("/match")]
#[case("/exclude")]
#[case("/ports/0")]
#[case("/config-map")]
fn schema_and_reader_refuse_unknown_fields_of_a_recipe(#[case] at: &str) {
    assert!(recipes().is_valid(&a_recipe()) && reads_as_recipe(&a_recipe()));
    let bad = with_unknown(a_recipe(), at);
    assert!(!recipes().is_valid(&bad), "the schema takes {bad}");
    assert!(!reads_as_recipe(&bad), "the reader takes {bad}");
}

#[rstest]
#[case("")]
#[case("/data/0")]
#[case("/intents/mail")]
#[case("/intents/mail/env/B")]
#[case("/intents/mail/files/0")]
#[case("/intents/mail/files/0/blocks/1")]
fn schema_and_reader_refuse_unknown_fields_of_a_profile(#[case] at: &str) {
    assert!(profiles().is_valid(&a_profile()) && reads_as_profile(&a_profile()));
    let bad = with_unknown(a_profile(), at);
    assert!(!profiles().is_valid(&bad), "the schema takes {bad}");
    assert!(!reads_as_profile(&bad), "the reader takes {bad}");
}

#[rstest]
#[case("/images/0", json!(""))]
#[case("/images/0", json!("*"))]
#[case("/images/0", json!("**/*"))]
#[case("/images/0", json!("https://docker.io/x/x"))]
#[case("/images/0", json!("docker.io/X/x"))]
#[case("/images/0", json!("docker.io/x x"))]
#[case("/images/0", json!("docker.io/x?"))]
#[case("/images", json!([]))]
#[case("/name", json!("X"))]
#[case("/data/0/path", json!("data"))]
#[case("/intents", json!({"app": {"unsupported": "x", "confidence": "memory"}}))]
#[case("/intents/mail/confidence", json!("sure"))]
#[case("/intents/mail/env/A", json!(25))]
fn schema_and_reader_refuse_what_no_profile_may_hold(#[case] at: &str, #[case] value: Value) {
    let mut bad = a_profile();
    *bad.pointer_mut(at).unwrap() = value;
    assert!(!profiles().is_valid(&bad), "the schema takes {bad}");
    assert!(!reads_as_profile(&bad), "the reader takes {bad}");
}

#[rstest]
#[case("/match/images/0", json!("*"))]
#[case("/ports/0", json!({"number": 25, "tls": "ssl"}))]
#[case("/intent", json!("Mail"))]
fn schema_and_reader_refuse_what_no_recipe_may_hold(#[case] at: &str, #[case] value: Value) {
    let mut bad = a_recipe();
    *bad.pointer_mut(at).unwrap() = value;
    assert!(!recipes().is_valid(&bad), "the schema takes {bad}");
    assert!(!reads_as_recipe(&bad), "the reader takes {bad}");
}
