//! `docs/reference/apps.md`, from the profiles.
use serde_json::Value;

use crate::{
    markdown::{anchor, code, codes, entries, proof, prose, table, text, texts},
    reference::check,
    schema::files,
};

const INTENTS: [&str; 3] = ["ldap", "mail", "analytics"];

const INTRODUCTION: &str = "\
# Apps

What Opportune knows of each app: which images it stands for, where the app keeps data, and how it takes a directory, a
mail server and analytics. Written by `UPDATE_REFERENCE=1 cargo test -p opportune-core --test data` from the profiles in
`core/src/inject/profiles/`; [teach your app](../guide/teach-your-app.md) says how to add one.

- **variables**, **file**: set by Opportune. *First boot*: the app reads them only while it sets up an empty volume or
  database. *Replaces login*: local users could no longer log in, so it is injected only where the directory is required.
- **by hand**: the app can't be configured from outside; its section says how a person does it.
- **generic names**: nothing is known of this app; it gets `LDAP_HOST`, `SMTP_HOST`, `ANALYTICS_URL` and so on, and may or
  may not read them.

In values, `[[mail.host]]` is a setting of the offer. A variable whose settings are not all known is left out.
";

fn summary(profile: &Value, intent: &str) -> String {
    let mapping = &profile["intents"][intent];
    if mapping.is_null() {
        return "generic names".to_owned();
    }
    if mapping["unsupported"].is_string() {
        return "by hand".to_owned();
    }
    let mut words = Vec::new();
    words.extend(mapping["env"].as_object().map(|_| "variables"));
    words.extend(mapping["files"].as_array().map(|_| "file"));
    let mut cell = words.join(" and ");
    if mapping["first-boot-only"] == true {
        cell += ", first boot";
    }
    if mapping["login"] == "replaces" {
        cell += ", replaces login";
    }
    cell
}

fn storage(profile: &Value) -> String {
    let paths = profile["data"].as_array().into_iter().flatten();
    match paths.filter(|data| data["optional"] != true && data["tags"].is_null()).count() {
        0 => "-".to_owned(),
        1 => "1 path".to_owned(),
        count => format!("{count} paths"),
    }
}

fn data(profile: &Value) -> String {
    let mut out = String::new();
    for data in profile["data"].as_array().into_iter().flatten() {
        let mut words = Vec::new();
        words.extend(data["size"].as_str().map(str::to_owned));
        words.extend(data["tags"].as_str().map(|tags| format!("images tagged {}", code(tags))));
        words
            .extend(data["except-tags"].as_str().map(|tags| format!("but for images tagged {}", code(tags))));
        words.extend((data["optional"] == true).then(|| "only where the workload names it".to_owned()));
        words.extend(data["note"].as_str().map(prose));
        out += &format!("- Data: {}: {}\n", code(text(data, "path")), words.join(", "));
    }
    if let Some(gid) = profile["gid"].as_i64() {
        out += &format!("- Group of its data: {gid}\n");
    }
    out
}

fn variable(value: &Value) -> String {
    if let Some(template) = value.as_str() {
        return code(template);
    }
    let words = entries(value, "to")
        .map(|(from, to)| format!("{} for {from}", code(to.as_str().unwrap_or_default())));
    let mut out = format!("by {}: {}", code(text(value, "map")), words.collect::<Vec<_>>().join(", "));
    let unsupported = texts(value, "unsupported");
    if !unsupported.is_empty() {
        out += &format!("; it can't do {}", unsupported.join(", "));
    }
    out
}

fn file(file: &Value) -> String {
    let mut out = format!("\nFile {}:\n\n", code(text(file, "path")));
    if let Some(source) = file["source"].as_str() {
        return out + &format!("the text of {}\n", code(source));
    }
    out += "```\n";
    for block in file["blocks"].as_array().into_iter().flatten() {
        match block.as_str() {
            Some(text) => out += text,
            None => {
                let values = texts(block, "is").join(" or ");
                out += &format!("(where {} is {values})\n{}", text(block, "when"), text(block, "text"));
            }
        }
    }
    out.trim_end().to_owned() + "\n```\n"
}

fn mapping(intent: &str, mapping: &Value) -> String {
    let mut out = format!("\n### {intent}\n\n");
    if let Some(how) = mapping["unsupported"].as_str() {
        return out + &format!("By hand. {}.\n\n", prose(how)) + &proof(mapping);
    }
    let mut about = Vec::new();
    about.extend(
        (mapping["first-boot-only"] == true).then(|| "Read at the app's first boot only.".to_owned()),
    );
    about.extend(mapping["login"].as_str().map(|login| match login {
        "replaces" => "Replaces the local login: injected only where the directory is required.".to_owned(),
        _ => "Local users still log in.".to_owned(),
    }));
    for (setting, values) in mapping.get("only").and_then(Value::as_object).into_iter().flatten() {
        let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        about.push(format!("Only with {} {}.", code(setting), codes(&values)));
    }
    let needs = texts(mapping, "needs");
    about.extend((!needs.is_empty()).then(|| format!("Needs {}.", codes(&needs))));
    about.extend(mapping["note"].as_str().map(|note| {
        let note = prose(note);
        let mut letters = note.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        format!("{}.", first.chain(letters).collect::<String>())
    }));
    if !about.is_empty() {
        out += &format!("{}\n\n", about.join(" "));
    }
    for (name, value) in entries(mapping, "env") {
        out += &format!("- {}: {}", code(name), variable(value));
        let aliases = texts(&mapping["aliases"], name);
        if !aliases.is_empty() {
            out += &format!(" (not where {} is set)", codes(&aliases));
        }
        out.push('\n');
    }
    for value in mapping["files"].as_array().into_iter().flatten() {
        out += &file(value);
    }
    out + "\n" + &proof(mapping)
}

fn page() -> String {
    let mut profiles: Vec<Value> =
        files("src/inject/profiles").into_iter().map(|(_, profile)| profile).collect();
    profiles.sort_by_key(|profile| text(profile, "app").to_lowercase());
    let rows: Vec<Vec<String>> = profiles
        .iter()
        .map(|profile| {
            let app = text(profile, "app");
            let mut row = vec![format!("[{app}](#{})", anchor(app))];
            row.extend(INTENTS.map(|intent| summary(profile, intent)));
            row.push(storage(profile));
            row
        })
        .collect();
    let mut out = String::from(INTRODUCTION) + "\n";
    out += &table(&["App", "ldap", "mail", "analytics", "storage"], &rows);
    for profile in &profiles {
        out += &format!("\n## {}\n\n", text(profile, "app"));
        out += &format!("- Profile: {}\n", code(text(profile, "name")));
        out += &format!("- Images: {}\n", codes(&texts(profile, "images")));
        if let Some(tags) = profile["tags"].as_str() {
            out += &format!("- Tags: {}\n", code(tags));
        }
        out += &data(profile);
        for intent in INTENTS.into_iter().filter(|intent| profile["intents"][intent].is_object()) {
            out += &mapping(intent, &profile["intents"][intent]);
        }
    }
    out
}

#[test]
fn the_page_of_apps_is_current() {
    check("apps.md", &page());
}

#[test]
fn no_two_apps_have_one_heading() {
    let mut anchors: Vec<_> =
        files("src/inject/profiles").iter().map(|(_, profile)| anchor(text(profile, "app"))).collect();
    anchors.sort();
    assert!(anchors.windows(2).all(|pair| pair[0] != pair[1]), "{anchors:?}");
}
