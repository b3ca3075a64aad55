//! Our own resources: what their schemas refuse, and whether the readers agree.
//!
//! The objects stand in `e2e/cases/crds`, where the same ones are sent to a real API server: that is where CEL is
//! evaluated. Here a bad one has to be refused by the schema itself, or the message that is expected has to be that of a rule.
use std::{fs, path::PathBuf, sync::Arc};

use jsonschema::Validator;
use opportune_core::{
    api::{InjectionPolicySpec, definitions},
    discover::{Inventory, Recipes, Taken},
    inject::profile::Profiles,
};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// An object of `e2e/cases/crds`.
struct Case {
    name: String,
    object: Value,
    /// What the refusal says: `# refused: ...` in its first line.
    refused: String,
    /// Whether the reader says otherwise than the schema: `# the reader takes it: WHY`, `# the reader refuses it: WHY`.
    differs: bool,
}

fn cases(folder: &str) -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../e2e/cases/crds").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let cases = paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let comment =
            |start: &str| text.lines().find_map(|line| Some(line.strip_prefix(start)?.trim().to_owned()));
        Case {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            object: serde_saphyr::from_str(&text).unwrap(),
            refused: comment("# refused: ").unwrap_or_default(),
            differs: ["# the reader takes it: ", "# the reader refuses it: "]
                .into_iter()
                .filter_map(comment)
                .any(|why| !why.is_empty()),
        }
    });
    cases.collect()
}

/// The schema of a kind, as it is in the definition.
pub fn schema(kind: &str) -> Value {
    let of_kind = |definition: &Value| definition["spec"]["names"]["kind"] == kind;
    let definition = definitions().into_iter().find(of_kind).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Says in plain JSON Schema what Kubernetes' extensions mean, and that unknown fields are refused, as they are for all who
/// ask for strict field validation (`kubectl` does).
fn plain(schema: &mut Value, is_root: bool) {
    if schema["x-kubernetes-int-or-string"] == true {
        schema["type"] = json!(["integer", "string"]);
    }
    if schema["x-kubernetes-list-type"] == "set" {
        schema["uniqueItems"] = json!(true);
    }
    if schema["format"] == "int64" {
        (schema["minimum"], schema["maximum"]) = (json!(i64::MIN), json!(i64::MAX));
    }
    for part in ["items", "additionalProperties"] {
        schema.get_mut(part).into_iter().for_each(|part| plain(part, false));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| plain(property, false));
        if !is_root {
            schema["additionalProperties"] = json!(false);
        }
    }
}

fn validator(kind: &str) -> Validator {
    let mut schema = schema(kind);
    plain(&mut schema, true);
    jsonschema::validator_for(&schema).unwrap()
}

/// The messages of all rules of a schema.
fn messages(schema: &Value, into: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            into.extend(fields.get("message").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| messages(value, into));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, into)),
        _ => {}
    }
}

/// What the reader of its kind has against an object: that it can't be read, or that its offer has a problem.
fn read(object: &Value) -> Result<(), String> {
    if object["kind"] == "InjectionPolicy" {
        // Nothing acts on policies yet: their type is all that reads them.
        return InjectionPolicySpec::deserialize(&object["spec"])
            .map(drop)
            .map_err(|error| error.to_string());
    }
    let mut inventory = Inventory::new(Arc::new(Recipes::built_in().unwrap()), Profiles::default());
    let taken = inventory.apply(object).map_err(|error| error.reason)?;
    assert_eq!(taken, Taken::Known, "{object}");
    let catalog = inventory.snapshot();
    let problems: Vec<String> =
        catalog.offers().flat_map(|offer| &offer.problems).map(ToString::to_string).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

#[test]
fn schema_and_reader_take_what_is_good_or_its_case_says_why_not() {
    let cases = cases("good");
    assert!(cases.len() > 10);
    for case in cases {
        let validator = validator(case.object["kind"].as_str().unwrap());
        let errors: Vec<_> =
            validator.iter_errors(&case.object).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", case.name);
        let read = read(&case.object);
        assert_eq!(read.is_err(), case.differs, "{}: the reader says {read:?}", case.name);
    }
}

#[test]
fn the_schema_refuses_what_is_bad() {
    let cases = cases("bad");
    assert!(cases.len() > 80);
    for case in cases {
        assert!(!case.refused.is_empty(), "{}: its first line says no `# refused: MESSAGE`", case.name);
        let kind = case.object["kind"].as_str().unwrap();
        let mut rules = Vec::new();
        messages(&schema(kind), &mut rules);
        let is_rule = rules.iter().any(|message| message.contains(&case.refused));
        let is_valid = validator(kind).is_valid(&case.object);
        assert!(
            is_rule || !is_valid,
            "{}: nothing refuses it, and no rule says `{}`",
            case.name,
            case.refused
        );
        assert_eq!(is_rule, is_valid, "{}: both the schema and a rule refuse it: two messages", case.name);
    }
}

#[test]
fn the_reader_refuses_it_as_well_or_its_case_says_why_not() {
    for case in cases("bad").iter().filter(|case| case.object["kind"] != "InjectionPolicy") {
        let read = read(&case.object);
        assert_eq!(read.is_ok(), case.differs, "{}: the reader says {read:?}", case.name);
    }
}

#[test]
fn a_schema_is_structural() {
    fn check(schema: &Value, at: &str) {
        for keyword in ["$ref", "nullable", "patternProperties", "anyOf", "oneOf", "allOf", "title"] {
            assert!(schema.get(keyword).is_none(), "{at}: {keyword}");
        }
        assert!(
            schema["type"].is_string() != (schema["x-kubernetes-int-or-string"] == true),
            "{at}: no type, or more than one: {schema}"
        );
        assert_ne!(schema["additionalProperties"], false, "{at}");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check(property, &format!("{at}.{name}"));
            let is_described = property["description"].is_string() || at.matches('.').count() == 0;
            assert!(is_described, "{at}.{name} has no description");
        }
        for part in ["items", "additionalProperties"] {
            schema.get(part).into_iter().for_each(|inner| check(inner, &format!("{at}[]")));
        }
    }
    for definition in definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        check(&schema(kind), kind);
    }
}
