//! `docs/reference/resources.md`, from the definitions of our own resources.
use opportune_core::{api::definitions, keys};
use serde_json::Value;

use crate::{
    markdown::{code, prose, table, text, texts},
    reference::check,
};

const INTRODUCTION: &str = "\
# Resources

Opportune's own resources, in the API group and version `opportune.libre.sh/v1alpha1`. Written by
`UPDATE_REFERENCE=1 cargo test -p opportune-core --test data` from the types in `core/src/api/`.

`opportune crds | kubectl apply --server-side -f -` installs their definitions; the chart brings them too. An API server
then refuses a bad object when it is applied, by the rules below. `kubectl get opportune -A` lists all of them.

A field that is not listed here is refused by `kubectl`, which asks the server to be strict. Other clients may get a warning
at most, and the server drops the field.
";

/// The type of a field, as a person reads it.
fn kind_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "string or whole number".to_owned();
    }
    match text(schema, "type") {
        "array" => format!("list of {}", kind_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", kind_of(&schema["additionalProperties"]))
        }
        "integer" => "whole number".to_owned(),
        "object" => "fields".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}

/// The bounds and rules of a field, and of what is in it.
fn rules(schema: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if schema["enum"].is_array() {
        let words: Vec<String> = texts(schema, "enum").into_iter().map(code).collect();
        out.push(format!("one of {}", words.join(", ")));
    }
    for (bound, words) in [
        ("minItems", "at least ENTRIES"),
        ("maxItems", "at most ENTRIES"),
        ("minProperties", "at least ENTRIES"),
        ("maxProperties", "at most ENTRIES"),
        ("maxLength", "at most CHARACTERS"),
    ] {
        if let Some(number) = schema[bound].as_u64() {
            let entries = if number == 1 { "entry" } else { "entries" };
            let words = words.replace("ENTRIES", &format!("{number} {entries}"));
            out.push(words.replace("CHARACTERS", &format!("{number} characters")));
        }
    }
    out.extend((schema["x-kubernetes-list-type"] == "set").then(|| "no entry twice".to_owned()));
    out.extend(schema["pattern"].as_str().map(|pattern| format!("matches {}", code(pattern))));
    let messages = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    out.extend(messages.map(|rule| prose(text(rule, "message"))));
    for (part, title) in [("items", "each"), ("additionalProperties", "each value")] {
        if schema[part].is_object() && schema[part]["properties"].is_null() {
            out.extend(rules(&schema[part]).into_iter().map(|rule| format!("{title}: {rule}")));
        }
    }
    out
}

/// A cell of a table: no line breaks, no bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn fields(schema: &Value, at: &str, rows: &mut Vec<Vec<String>>) {
    let required = texts(schema, "required");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        let mut about = vec![prose(text(property, "description"))];
        let default = &property["default"];
        about.extend((!default.is_null()).then(|| format!("Default: {}.", code(&default.to_string()))));
        let refused: String = rules(property).into_iter().map(|rule| format!("<br>• {rule}")).collect();
        let must = if required.contains(&name.as_str()) { ", required" } else { "" };
        rows.push(vec![
            code(&path),
            format!("{}{must}", kind_of(property)),
            cell(&(about.join(" ") + &refused)),
        ]);
        fields(property, &path, rows);
        if property["items"]["properties"].is_object() {
            let about: Vec<String> =
                rules(&property["items"]).into_iter().map(|rule| format!("• {rule}")).collect();
            if !about.is_empty() {
                rows.push(vec![code(&format!("{path}[]")), "fields".to_owned(), cell(&about.join("<br>"))]);
            }
            fields(&property["items"], &format!("{path}[]"), rows);
        }
    }
}

fn page(definition: &Value) -> String {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"];
    let scope = if spec["scope"] == "Cluster" { "of the whole cluster" } else { "of a namespace" };
    let mut out = format!("\n## {}\n\n{}\n\n", text(names, "kind"), text(schema, "description"));
    out += &format!(
        "An object {scope}; `kubectl get {}`, or {} for short.\n\n",
        text(names, "plural"),
        code(texts(names, "shortNames")[0])
    );
    let of_parts = ["spec", "status"].map(|part| &schema["properties"][part]);
    let whole: Vec<String> = [schema].into_iter().chain(of_parts).flat_map(rules).collect();
    if !whole.is_empty() {
        out += "An object as a whole is refused by these rules, in these words:\n\n";
        out += &(whole.iter().map(|rule| format!("- {rule}\n")).collect::<String>() + "\n");
    }
    for part in ["spec", "status"] {
        let mut rows = Vec::new();
        fields(&schema["properties"][part], part, &mut rows);
        if !rows.is_empty() {
            out += &(table(&["field", "type", "meaning and rules"], &rows) + "\n");
        }
    }
    out.trim_end().to_owned() + "\n"
}

#[test]
fn the_page_of_resources_is_current() {
    let pages: String = definitions().iter().map(page).collect();
    assert!(INTRODUCTION.contains(keys::API_VERSION));
    check("resources.md", &(INTRODUCTION.to_owned() + &pages));
}
