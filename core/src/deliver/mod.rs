//! Delivery: the Secrets and claims that a plan needs in the workload's namespace. They are described here; a controller
//! makes them.
mod contents;
mod needs;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::contents::{Contents, Missing, SecretData};
pub use self::needs::{FileNeed, Needs, SecretNeed};
use crate::{
    decide::Retain,
    discover::OfferId,
    inject::record::ChosenVolume,
    intent::Intent,
    keys,
    name::{bounded, hex, slug},
    workload::Kind,
};

/// What one workload needs to have made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delivery {
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretToMake>,
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, ConfigMapToMake>,
    /// Claims by name.
    pub claims: BTreeMap<String, ClaimToMake>,
}

/// A Secret that holds one offer's settings for one namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretToMake {
    /// What it serves.
    pub intent: Intent,
    /// Where its values come from.
    pub offer: OfferId,
    /// The Secret beside the offer that holds its credentials.
    pub source: Option<String>,
    /// For each of its keys that is a credential, the key of the source, or alternatives joined by `|`.
    pub credentials: BTreeMap<String, String>,
    /// Keys that are made of several settings, as templates.
    pub composed: BTreeMap<String, String>,
}

/// A configuration file of an app: its name tells its content, so it never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapToMake {
    /// Its only key: the name of the file.
    pub key: String,
    /// The file's text.
    pub text: String,
}

/// A claim for one data path of one workload that is no StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimToMake {
    /// The workload's kind.
    pub kind: Kind,
    /// The workload's name.
    pub workload: String,
    /// Where it is mounted.
    pub path: String,
    /// Its class, kind and size.
    pub volume: ChosenVolume,
    /// Whether it outlives the workload.
    pub retain: Retain,
}

/// `opportune-<intent>-<offer>-<6 hex>`: one for each offer, the same in each namespace.
///
/// Where the offer's name is not all in it, 16: many names would give the same stem, and somebody could find one among them
/// whose Secret is named as that of another offer.
pub fn secret_name(intent: &Intent, offer: &OfferId) -> String {
    let slug = slug(&offer.name);
    let stem = format!("opportune-{intent}-{slug}");
    let hash = |digits: usize| hex(&["secret", intent.as_str(), &offer.key()], digits);
    let name = bounded(&stem, &hash(6));
    if slug == offer.name && name.starts_with(&stem) { name } else { bounded(&stem, &hash(16)) }
}

/// `opportune-<app>-<6 hex of app, path and text>`: another content has another name, so that pods are made anew.
pub fn config_map_name(app: &str, path: &str, text: &str) -> String {
    bounded(&format!("opportune-{app}"), &hex(&["file", app, path, text], 6))
}

/// `<workload>-<slug of the path>-<6 hex of kind, name and path>`
pub fn claim_name(kind: Kind, workload: &str, path: &str) -> String {
    bounded(&format!("{workload}-{}", slug(path)), &hex(&[kind.name(), workload, path], 6))
}

/// `<kind>.<name>`, cut and hashed where a label could not hold it: the workload that a claim was made for.
pub fn workload_label(kind: Kind, workload: &str) -> String {
    let label = format!("{}.{workload}", kind.name().to_ascii_lowercase());
    if label.len() <= 63 { label } else { bounded(&label, &hex(&[kind.name(), workload], 6)) }
}

// === impl Delivery ===

impl Delivery {
    /// The objects, as a controller would make them, in `namespace`: Secrets first, without values.
    pub fn objects(&self, namespace: &str) -> Vec<Value> {
        let secrets = self.secrets.iter().map(|(name, secret)| secret.object(namespace, name));
        let claims = self.claims.iter().map(|(name, claim)| claim.object(namespace, name));
        let config_maps =
            self.config_maps.iter().map(|(name, config_map)| config_map.object(namespace, name));
        secrets.chain(config_maps).chain(claims).collect()
    }
}

// === impl SecretToMake ===

impl SecretToMake {
    fn object(&self, namespace: &str, name: &str) -> Value {
        let mut secret = self.bare(namespace, name);
        let keys: Vec<String> = self.credentials.iter().map(|(to, from)| format!("{to}={from}")).collect();
        if let (Some(source), Some(map)) =
            (&self.source, secret.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut))
        {
            map.insert(keys::CREDENTIALS.into(), source.as_str().into());
            map.insert(keys::CREDENTIALS_KEYS.into(), keys.join(",").into());
        }
        secret
    }

    fn bare(&self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {keys::MANAGED_BY: "opportune", keys::INTENT: self.intent.as_str()},
                "annotations": {keys::OFFER: self.offer.to_string()},
            },
            "type": format!("servicebinding.io/{}", self.intent),
        })
    }
}

// === impl ConfigMapToMake ===

impl ConfigMapToMake {
    fn object(&self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": {keys::MANAGED_BY: "opportune"}},
            "immutable": true,
            "data": {&self.key: self.text},
        })
    }
}

// === impl ClaimToMake ===

impl ClaimToMake {
    /// The claim, as a controller makes it.
    pub fn object(&self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    keys::MANAGED_BY: "opportune",
                    keys::INTENT: "storage",
                    keys::WORKLOAD: workload_label(self.kind, &self.workload),
                },
                "annotations": {
                    keys::PATH: self.path,
                    keys::RETAIN: if self.retain == Retain::Keep { "true" } else { "false" },
                },
            },
            "spec": {
                "accessModes": [self.volume.access_mode()],
                "resources": {"requests": {"storage": self.volume.size}},
                "storageClassName": self.volume.class,
                "volumeMode": "Filesystem",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::Source;

    /// Found by trying: the first six digits of their hashes are the same.
    #[test]
    fn nobody_can_name_an_offer_so_that_its_secret_is_named_as_anothers() {
        let cache = Intent::parse("cache").unwrap();
        let name = |namespace: &str, number: &str| {
            let name = format!("shared-cache-of-the-whole-company-in-one-place-{number}");
            secret_name(
                &cache,
                &OfferId { namespace: Some(namespace.into()), name, source: Source::ServiceOffer },
            )
        };
        assert_ne!(name("directory", "7511"), name("rival", "773"));
        let plain = OfferId { namespace: Some("a".into()), name: "plain".into(), source: Source::Service };
        assert_eq!(secret_name(&cache, &plain).len(), "opportune-cache-plain-123456".len());
        let dotted = OfferId { name: "pl.ain".into(), ..plain };
        assert_eq!(secret_name(&cache, &dotted).len(), "opportune-cache-pl-ain-0123456789abcdef".len());
    }

    #[test]
    fn names_are_stable_and_short() {
        let id = OfferId { namespace: Some("mail".into()), name: "postfix".into(), source: Source::Service };
        let name = secret_name(&Intent::parse("mail").unwrap(), &id);
        assert!(name.starts_with("opportune-mail-postfix-"), "{name}");
        let claim = claim_name(Kind::Deployment, &"w".repeat(80), "/var/www/html");
        assert_eq!(claim.len(), 63);
        assert_ne!(claim_name(Kind::Deployment, "a", "/b"), claim_name(Kind::StatefulSet, "a", "/b"));
    }
}
