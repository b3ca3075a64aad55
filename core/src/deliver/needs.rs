//! What a workload, as the server holds it, points at: the Secrets, ConfigMaps and claims without which its pods can't start.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ClaimToMake, ConfigMapToMake, Delivery, claim_name, secret_name};
use crate::{
    decide::Retain,
    discover::OfferId,
    inject::{
        account::{Account, Place, Standing},
        record::Record,
    },
    intent::Intent,
    workload::{Kind, Workload},
};

/// What one workload points at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretNeed>,
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, FileNeed>,
    /// Claims by name.
    pub claims: BTreeMap<String, ClaimToMake>,
}

/// A Secret that a workload points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNeed {
    /// What it serves.
    pub intent: Intent,
    /// Where its values come from: what the record says, which is untrusted text.
    pub offer: OfferId,
    /// The keys without which a container can't start.
    pub keys: BTreeSet<String>,
    /// Keys that are made of several settings, as templates: those that are known now.
    pub composed: BTreeMap<String, String>,
}

/// A configuration file that a workload points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNeed {
    /// What it serves.
    pub intent: Intent,
    /// What it holds; `None` where that can't be known any more, since the offer or the profile changed.
    pub content: Option<ConfigMapToMake>,
}

// === impl Needs ===

impl Needs {
    /// What `workload` points at, by its record. `decided` is the delivery of a decision made now: by it, templates and texts
    /// are known.
    pub(crate) fn of(
        workload: &Workload<'_>,
        record: &Record,
        account: &Account,
        decided: &Delivery,
        retain: Retain,
    ) -> Self {
        let mut needs = Self::default();
        for (intent, part) in &account.parts {
            let offer = record.offers.get(intent).and_then(|key| OfferId::from_key(key));
            let standing = part.places.iter().filter_map(|(place, standing)| match standing {
                Standing::Ours(value) => Some((place, value)),
                Standing::Users | Standing::Gone => None,
            });
            let entries: Vec<(&Place, &Value)> = standing.collect();
            if let Some(offer) = offer {
                needs.add_secret(intent, offer, &entries, decided);
            }
            for (_, value) in &entries {
                let Some(name) = string(value, "/configMap/name") else { continue };
                let content = decided.config_maps.get(name).cloned();
                needs.config_maps.insert(name.to_owned(), FileNeed { intent: intent.clone(), content });
            }
            needs.add_claims(workload, account, &entries, retain);
        }
        needs
    }

    /// Whether it points at nothing.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.config_maps.is_empty() && self.claims.is_empty()
    }

    fn add_secret(
        &mut self,
        intent: &Intent,
        offer: OfferId,
        entries: &[(&Place, &Value)],
        decided: &Delivery,
    ) {
        let name = secret_name(intent, &offer);
        let mut is_named = false;
        let mut keys = BTreeSet::new();
        let mut volumes = BTreeSet::new();
        for (_, value) in entries {
            if string(value, "/valueFrom/secretKeyRef/name") == Some(&name) {
                is_named = true;
                keys.extend(string(value, "/valueFrom/secretKeyRef/key").map(str::to_owned));
            }
            if string(value, "/secret/secretName") == Some(&name) {
                is_named = true;
                volumes.insert(string(value, "/name").unwrap_or_default());
            }
        }
        if !is_named {
            return;
        }
        let mounts = entries.iter().filter(|(place, _)| matches!(place, Place::Mount { .. }));
        let files = mounts.filter(|(_, mount)| volumes.contains(string(mount, "/name").unwrap_or_default()));
        keys.extend(files.filter_map(|(_, mount)| string(mount, "/subPath")).map(str::to_owned));
        let composed = decided.secrets.get(&name).map(|secret| secret.composed.clone()).unwrap_or_default();
        self.secrets.insert(name, SecretNeed { intent: intent.clone(), offer, keys, composed });
    }

    fn add_claims(
        &mut self,
        workload: &Workload<'_>,
        account: &Account,
        entries: &[(&Place, &Value)],
        retain: Retain,
    ) {
        if workload.kind == Kind::StatefulSet {
            return;
        }
        for (path, volume) in &account.claims {
            let name = claim_name(workload.kind, workload.name, path);
            let is_named = |(_, value): &(&Place, &Value)| {
                string(value, "/persistentVolumeClaim/claimName") == Some(name.as_str())
            };
            if entries.iter().any(is_named) {
                let (kind, path, volume) = (workload.kind, path.clone(), volume.clone());
                let workload = workload.name.to_owned();
                self.claims.insert(name, ClaimToMake { kind, workload, path, volume, retain });
            }
        }
    }
}

fn string<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}
