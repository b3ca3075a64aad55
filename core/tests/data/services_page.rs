//! `docs/reference/services.md`, from the recipes.
use serde_json::Value;

use crate::{
    markdown::{anchor, code, codes, entries, proof, prose, table, text, texts},
    reference::check,
    schema::files,
};

const INTRODUCTION: &str = "\
# Services

The services that Opportune recognises in a cluster, and what it knows of every instance of them. Written by
`UPDATE_REFERENCE=1 cargo test -p opportune-core --test data` from the recipes in `core/src/discover/recipes/`;
[teach your service](../guide/teach-your-app.md#your-service-a-recipe) says how to add one.

A Service is recognised where the evidence weighs three or more: an image behind it, a set of its labels and the name of a
port weigh two each; the number of a port and its own name weigh one each. Headless Services never count. Recognition
never hands out a credential: somebody names its Secret, in the Service's annotation `credentials` or in a ServiceOffer.

*To supply* is what can't be recognised; set it in the Service's annotation `settings`.
";

/// What an offer of that intent needs, and nobody can see in the cluster.
fn to_supply(recipe: &Value) -> Vec<&'static str> {
    let needed: &[&str] = match text(recipe, "intent") {
        "ldap" => &["base-dn"],
        "mail" => &["from"],
        "analytics" => &["url"],
        _ => &[],
    };
    let is_known =
        |name: &str| !recipe["settings"][name].is_null() || !recipe["config-map"]["settings"][name].is_null();
    needed.iter().copied().filter(|name| !is_known(name)).collect()
}

fn port(port: &Value) -> String {
    let mut words = Vec::new();
    words.extend(port["number"].as_u64().map(|number| number.to_string()));
    words.extend(port["name"].as_str().map(code));
    words.join(" ")
}

fn tls(port: &Value) -> String {
    match port["tls"].as_str() {
        Some("tls") => ", TLS".to_owned(),
        Some("starttls") => ", STARTTLS".to_owned(),
        Some(_) => ", no TLS".to_owned(),
        None => String::new(),
    }
}

fn evidence(recipe: &Value) -> String {
    let found = &recipe["match"];
    let mut out = String::new();
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            out += &format!("- {title}: {value}\n");
        }
    };
    line("Images (2)", codes(&texts(found, "images")));
    let sets = found["labels"].as_array().into_iter().flatten().map(|set| {
        let labels = set.as_object().into_iter().flatten();
        let labels =
            labels.map(|(key, value)| code(&format!("{key}: {}", value.as_str().unwrap_or_default())));
        labels.collect::<Vec<_>>().join(" with ")
    });
    line("Labels (2)", sets.collect::<Vec<_>>().join("; or "));
    line("Names of ports (2)", codes(&texts(found, "port-names")));
    let numbers = found["port-numbers"].as_array().into_iter().flatten().map(Value::to_string);
    line("Numbers of ports (1)", numbers.collect::<Vec<_>>().join(", "));
    line("Names of the Service (1)", codes(&texts(found, "names")));
    line("Never", codes(&texts(&recipe["exclude"], "names")));
    line("Provisioners", codes(&texts(recipe, "provisioners")));
    out
}

fn section(recipe: &Value) -> String {
    let mut out = format!("\n## {}\n\n", text(recipe, "title"));
    out += &format!("- Recipe: {}\n", code(text(recipe, "name")));
    out += &format!("- Offers: {}\n", text(recipe, "intent"));
    if let Some(provider) = recipe["provider"].as_str() {
        out += &format!("- Provider: {}\n", code(provider));
    }
    if recipe["trap"] == true {
        out += "- A trap: it takes requests and never serves them, so it is used only where a workload names it.\n";
    }
    out += "\nRecognised by\n\n";
    out += &evidence(recipe);
    let ports: Vec<_> = recipe["ports"].as_array().into_iter().flatten().collect();
    if !ports.is_empty() {
        out += "\nPorts, best first\n\n";
        out.extend(ports.iter().map(|value| format!("- {}{}\n", port(value), tls(value))));
    }
    let known: Vec<_> = entries(recipe, "settings").collect();
    if !known.is_empty() || recipe["config-map"].is_object() {
        out += "\nKnown settings\n\n";
        for (name, value) in known {
            out += &format!("- {}: {}\n", code(name), code(value.as_str().unwrap_or_default()));
        }
        for (name, key) in entries(&recipe["config-map"], "settings") {
            let map = text(&recipe["config-map"], "name").replace('*', "<service>");
            let key = key.as_str().unwrap_or_default();
            out += &format!("- {}: key {} of ConfigMap {}\n", code(name), code(key), code(&map));
        }
    }
    out.push('\n');
    let missing = to_supply(recipe);
    if !missing.is_empty() {
        out += &format!("- To supply: {}\n", codes(&missing));
    }
    if let Some(hint) = recipe["hint"].as_str() {
        out += &format!("- Hint: {}\n", prose(hint));
    }
    out.trim_end().to_owned() + "\n\n" + &proof(recipe)
}

fn page() -> String {
    let order = |recipe: &Value| {
        let intents = ["ldap", "mail", "analytics", "storage"];
        let intent = intents.iter().position(|intent| *intent == text(recipe, "intent"));
        (intent, text(recipe, "title").to_lowercase())
    };
    let mut recipes: Vec<Value> =
        files("src/discover/recipes").into_iter().map(|(_, recipe)| recipe).collect();
    recipes.sort_by_key(order);
    let rows: Vec<Vec<String>> = recipes
        .iter()
        .map(|recipe| {
            let title = text(recipe, "title");
            let first = &recipe["ports"][0];
            let best = if first.is_null() { "-".to_owned() } else { port(first) + &tls(first) };
            let missing = to_supply(recipe);
            vec![
                format!("[{title}](#{})", anchor(title)),
                text(recipe, "intent").to_owned(),
                best,
                if missing.is_empty() { "-".to_owned() } else { codes(&missing) },
                if recipe["trap"] == true {
                    "trap".to_owned()
                } else {
                    text(recipe, "confidence").to_owned()
                },
            ]
        })
        .collect();
    let mut out = String::from(INTRODUCTION) + "\n";
    out += &table(&["Service", "Offers", "Best port", "To supply", "Confidence"], &rows);
    out.extend(recipes.iter().map(section));
    out
}

#[test]
fn the_page_of_services_is_current() {
    check("services.md", &page());
}
