//! What a workload holds of ours now: its annotation `status` and its record, taken apart for people.
use std::collections::BTreeMap;

use opportune_core::{
    inject::account::{Account, Part, Place, Standing},
    keys,
    workload::{Kind, Workload},
};
use serde_json::Value;

use super::line;
use crate::cli::style::{self, plain};

/// The annotation `status`, taken apart: what became of each intent.
pub fn statuses(status: &str) -> BTreeMap<&str, &str> {
    status.split("; ").filter_map(|part| part.split_once('=')).collect()
}

/// The lines on `status`.
pub fn status(workload: &Workload<'_>) -> String {
    let Some(text) = workload.own_annotation(keys::STATUS) else {
        return "  it has no annotation opportune.libre.sh/status: no admission of ours has seen it\n"
            .to_owned();
    };
    let parts = statuses(text);
    let width = parts.keys().map(|intent| intent.chars().count()).max().unwrap_or(0);
    let shown = |(intent, outcome): (&&str, &&str)| {
        let (word, rest) = told(outcome);
        line(intent, word, rest, width)
    };
    parts.iter().map(shown).collect()
}

/// What the annotation `status` says of one intent: the word, and the rest.
pub fn told(outcome: &str) -> (&str, &str) {
    match outcome.split_once(": ") {
        Some((word, rest)) if is_word(word) => (word, rest),
        _ if is_word(outcome) => (outcome, ""),
        _ => ("bound", outcome),
    }
}

fn is_word(text: &str) -> bool {
    ["kept", "absent", "incomplete", "declined", "withdrawn", "forbidden", "conflict"].contains(&text)
}

/// The lines on the record.
pub fn record(workload: &Workload<'_>) -> String {
    let account = match Account::of(workload) {
        Ok(Some(account)) => account,
        Ok(None) => return "\n  nothing of Opportune is in it (it has no record)\n".to_owned(),
        Err(error) => return format!("\n  {}\n", plain(&error.to_string())),
    };
    let mut text = String::new();
    for (intent, part) in &account.parts {
        let from = part.offer.as_ref().map(|offer| format!(" (from {})", plain(offer))).unwrap_or_default();
        text += &format!("\n  {} added{from}\n", style::paint(style::HEAD, intent.as_str()));
        text += &places(part);
        if intent.is_storage() {
            text += &volumes(&account);
        }
    }
    for (intent, withdrawn) in &account.withdrawn {
        text += &format!(
            "\n  {} was taken out again: {} could not be delivered: {}\n",
            intent,
            plain(&withdrawn.offer),
            plain(&withdrawn.reason)
        );
        text += "    it is tried again once that offer or the wishes change\n";
    }
    match text.is_empty() {
        true => "\n  nothing of Opportune is in it\n".to_owned(),
        false => text,
    }
}

fn places(part: &Part) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (place, standing) in &part.places {
        let (container, what) = words(place, standing);
        let what = match standing {
            Standing::Ours(_) => what,
            Standing::Users => format!("{what} (changed since: yours, left alone)"),
            Standing::Gone => format!("{what} (no longer there)"),
        };
        lines.push(match container {
            Some(container) => format!("    {}: {what}\n", plain(container)),
            None => format!("    {what}\n"),
        });
    }
    lines.concat()
}

/// Where something was added, and its container where it is in one.
fn words<'a>(place: &'a Place, standing: &Standing) -> (Option<&'a str>, String) {
    let value = match standing {
        Standing::Ours(value) => value,
        Standing::Users | Standing::Gone => &Value::Null,
    };
    let at = |pointer: &str| plain(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    match place {
        Place::Variable { container, name } => (Some(container), format!("{}{}", plain(name), shown(value))),
        Place::Mount { container, path } => {
            (Some(container), format!("{} from volume {}", plain(path), at("/name")))
        }
        Place::Volume(name) => (None, format!("volume {}{}", plain(name), source(value))),
        Place::Template(name) => {
            (None, format!("claim template {}: class {}, {}", plain(name), at("/class"), at("/size")))
        }
        Place::Class(name) => (
            None,
            format!("class {} of claim template {}", plain(value.as_str().unwrap_or_default()), plain(name)),
        ),
        Place::Security(field) => {
            (None, format!("the pod's securityContext {}: {}", plain(field), plain(&value.to_string())))
        }
        Place::Elsewhere(slot) => (None, plain(slot).into_owned()),
    }
}

/// A variable's value, or where it comes from.
pub fn shown(entry: &Value) -> String {
    let at = |pointer: &str| plain(entry.pointer(pointer).and_then(Value::as_str).unwrap_or("?"));
    if entry.is_null() {
        return String::new();
    }
    match entry.get("value").and_then(Value::as_str) {
        Some(value) => format!(" = {}", plain(value)),
        None if entry.pointer("/valueFrom/secretKeyRef").is_some() => {
            let (name, key) = (at("/valueFrom/secretKeyRef/name"), at("/valueFrom/secretKeyRef/key"));
            format!(" from Secret {name}, key {key}")
        }
        None if entry.get("valueFrom").is_some() => " from elsewhere".to_owned(),
        None => " =".to_owned(),
    }
}

/// What a volume holds.
pub fn source(volume: &Value) -> String {
    let kinds = [
        ("/persistentVolumeClaim/claimName", "claim"),
        ("/secret/secretName", "Secret"),
        ("/configMap/name", "ConfigMap"),
    ];
    let named = kinds.iter().find_map(|(pointer, kind)| Some((*kind, volume.pointer(pointer)?.as_str()?)));
    named.map_or_else(String::new, |(kind, name)| format!(": {kind} {}", plain(name)))
}

fn volumes(account: &Account) -> String {
    let mut text = String::new();
    for (path, chosen) in &account.claims {
        let (class, kind, size) = (plain(&chosen.class), plain(&chosen.kind), plain(&chosen.size));
        text += &format!("    {}: {size} of {class}, {kind}\n", plain(path));
    }
    for volume in &account.replaced {
        text += &format!("    volume {} was an emptyDir of yours\n", plain(volume));
    }
    text
}

/// The Secrets and claims that what was added points at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Secrets by name.
    pub secrets: Vec<String>,
    /// ConfigMaps by name.
    pub config_maps: Vec<String>,
    /// Claims by name.
    pub claims: Vec<String>,
}

/// How many of a StatefulSet's claims are looked up for each template.
const REPLICAS: u64 = 5;

// === impl Delivered ===

impl Delivered {
    /// What the record's entries, as they still stand, point at.
    pub fn of(workload: &Workload<'_>) -> Self {
        let mut found = Self::default();
        let account = Account::of(workload).ok().flatten().unwrap_or_default();
        for (place, standing) in account.parts.values().flat_map(|part| &part.places) {
            let Standing::Ours(value) = standing else { continue };
            let at = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            found.secrets.extend(at("/valueFrom/secretKeyRef/name"));
            found.secrets.extend(at("/secret/secretName"));
            found.config_maps.extend(at("/configMap/name"));
            found.claims.extend(at("/persistentVolumeClaim/claimName"));
            if let (Place::Template(name), Kind::StatefulSet) = (place, workload.kind) {
                let ordinals = 0..workload.replicas().min(REPLICAS);
                found.claims.extend(ordinals.map(|n| format!("{name}-{}-{n}", workload.name)));
            }
        }
        for names in [&mut found.secrets, &mut found.config_maps, &mut found.claims] {
            names.sort_unstable();
            names.dedup();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_taken_apart() {
        let text = "ldap=directory/openldap; mail=absent: no offer; storage=rook-cephfs (kept: a, b)";
        let parts = statuses(text);
        assert_eq!(parts["ldap"], "directory/openldap");
        assert_eq!(parts["mail"], "absent: no offer");
        assert_eq!(parts["storage"], "rook-cephfs (kept: a, b)");
        assert!(statuses("").is_empty() && statuses("\u{1b}[2J").is_empty());
    }
}
