//! The variables of an AppProfile, and what may stand in their templates.
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::rules::{intent_keys, rule};
use crate::{
    encode::Encoding,
    intent::{APP, Known},
    settings,
};

/// The longest template, in characters; it bounds what its rules cost.
const MAX_TEMPLATE: usize = 4096;

/// Variables by intent.
pub(super) fn env(_: &mut SchemaGenerator) -> Schema {
    let mut rules = vec![intent_keys()];
    rules.extend(Known::ALL.map(known));
    rules.push(custom());
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 32,
            "additionalProperties": {"type": "string", "maxLength": MAX_TEMPLATE},
            "x-kubernetes-validations": [rule(
                "self.all(name, size(name) <= 240 && name.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$') && name != '.' && \
                !name.startsWith('..'))",
                "the name of a variable is letters, digits and ._-, begins with no digit and has at most 240 characters"
            )],
        },
        "x-kubernetes-validations": rules,
    })
}

/// In double brackets after which a placeholder must follow: our known intents and `app`.
fn beginning() -> String {
    let words: Vec<&str> = Known::ALL.map(Known::name).into_iter().chain([APP]).collect();
    format!(r"\[\[\s*({})[.]", words.join("|"))
}

/// A whole placeholder, whose name is one of these.
fn whole(names: &str) -> String {
    let encodings: Vec<&str> = Encoding::ALL.iter().map(|encoding| encoding.name()).collect();
    format!(r"\[\[\s*({names})\s*([|]\s*({})\s*)?\]\]", encodings.join("|"))
}

fn of_app() -> String {
    format!("{APP}[.]({})", settings::APP_SETTINGS.join("|"))
}

/// A CEL expression: in `template` every beginning of a placeholder belongs to a whole one. (Comparing two counts costs a
/// fraction of looking at each.)
fn all_whole(template: &str, names: &str) -> String {
    format!("size({template}.findAll(r'{}')) == size({template}.findAll(r'{}'))", beginning(), whole(names))
}

/// The rule for the templates of a known intent.
fn known(intent: Known) -> Value {
    let name = intent.name();
    let settings: Vec<&str> = settings::names(intent).collect();
    let names = format!("{name}[.]({})|{}", settings.join("|"), of_app());
    let encodings: Vec<&str> = Encoding::ALL.iter().map(|encoding| encoding.name()).collect();
    let template = format!("self['{name}'][name]");
    rule(
        format!("!('{name}' in self) || self['{name}'].all(name, {})", all_whole(&template, &names)),
        &format!(
            "a placeholder below `{name}` is [[{name}.SETTING]], [[{name}.SETTING|ENCODING]] or [[app.FACT]]. SETTING is one of \
            {}. ENCODING is one of {}. FACT is one of {}",
            settings.join(", "),
            encodings.join(", "),
            settings::APP_SETTINGS.join(", ")
        ),
    )
}

/// The rule for the templates of intents of somebody's own: none of a known intent's settings may stand there. (What more
/// there is to check would cost more than an API server grants.)
fn custom() -> Value {
    let known = Known::ALL.map(Known::name);
    let foreign = format!(r"\[\[ *({})[.]", known.join("|"));
    let quoted = known.map(|name| format!("'{name}'")).join(", ");
    rule(
        format!(
            "self.all(intent, intent in [{quoted}] || self[intent].all(name, !self[intent][name].matches(r'{foreign}')))"
        ),
        "a placeholder below an intent of your own is [[INTENT.SETTING]] of that intent, or [[app.FACT]]: move the variable \
        below the intent that its placeholder names",
    )
}
