//! Delivered objects as JSON: what they should hold, how they are written, and what stands in the cluster.
use super::uses::{Copy, Made, Object, Used};
use crate::{cluster::look::Kind, watch::WorkloadId};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use opportune_core::{intent::Intent, keys};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::OnceLock,
};

const SECRETS: Kind = Kind::of("", "v1", "secrets");
const CONFIG_MAPS: Kind = Kind::of("", "v1", "configmaps");

/// The most bytes of the annotation `stale`: all annotations together may have 256 KiB.
const MAX_STALE: usize = 128 * 1024;

/// A workload, and what it uses.
pub(super) type User = (WorkloadId, Used);

/// What an object should hold, without its owners.
pub(super) struct Content {
    /// All but its values.
    pub frame: Value,
    pub values: BTreeMap<String, String>,
    /// Why a value that somebody needs is not there.
    pub missing: BTreeMap<String, String>,
}

/// What stands in the cluster under an object's name.
pub(super) enum Found {
    Absent,
    Ours(Value),
    Foreign,
}

// === impl Content ===

impl Content {
    /// A hash of what it holds.
    pub(super) fn print(&self) -> u64 {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
        self.values.hash(&mut hasher);
        self.frame.to_string().hash(&mut hasher);
        hasher.finish()
    }

    /// Why a key that stands in the object, and that somebody needs, has no value any more; `None` where there is none. With the
    /// others made anew, pods that use both would not fit either.
    pub(super) fn lost(&self, object: &Object, users: &[User], stored: &Value) -> Option<String> {
        let before = values(stored, object.made);
        let needs = users.iter().filter_map(|(_, used)| used.needs.secrets.get(&object.name));
        let mut lost = needs.flat_map(|need| &need.keys).filter(|key| before.contains_key(*key));
        lost.find_map(|key| self.missing.get(key).cloned())
    }

    /// The whole object, but for what the server adds.
    pub(super) fn object(
        &self,
        object: &Object,
        values: &BTreeMap<String, String>,
        users: &[User],
        stale: &BTreeMap<String, String>,
        revision: &str,
    ) -> Value {
        let mut new = self.frame.clone();
        let encoded = values.iter().map(|(key, value)| match object.made {
            Made::Secret => (key.clone(), Value::from(STANDARD.encode(value))),
            Made::ConfigMap => (key.clone(), Value::from(value.as_str())),
        });
        let encoded: Map<String, Value> = encoded.collect();
        if let Some(map) = new.as_object_mut() {
            map.insert("data".into(), encoded.into());
        }
        if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("ownerReferences".into(), owners(users));
        }
        if let Some(annotations) = new
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
            .filter(|_| object.made == Made::Secret)
        {
            annotations.insert(keys::REVISION.into(), revision.into());
            annotations.insert(keys::STALE.into(), json!(bounded(stale)).to_string().into());
        }
        new
    }
}

// === impl Object ===

impl Object {
    pub(super) fn kind(&self) -> Kind {
        match self.made {
            Made::Secret => SECRETS,
            Made::ConfigMap => CONFIG_MAPS,
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self.made {
            Made::Secret => "Secret",
            Made::ConfigMap => "ConfigMap",
        }
    }

    /// What it serves in a workload.
    pub(super) fn intent(&self, used: &Used) -> Option<Intent> {
        match self.made {
            Made::Secret => used.needs.secrets.get(&self.name).map(|need| need.intent.clone()),
            Made::ConfigMap => used.needs.config_maps.get(&self.name).map(|need| need.intent.clone()),
        }
    }

    /// Whether what stands there is ours: its label says so, and of a Secret its type, too, which never changes.
    pub(super) fn found(&self, stored: Option<Value>) -> Found {
        let Some(mut stored) = stored else { return Found::Absent };
        let labels = stored.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let is_ours = label(keys::MANAGED_BY) == Some("opportune");
        let is_typed = match self.made {
            Made::ConfigMap => true,
            Made::Secret => {
                let kind = stored.get("type").and_then(Value::as_str).unwrap_or_default();
                kind.strip_prefix("servicebinding.io/")
                    .is_some_and(|intent| label(keys::INTENT) == Some(intent))
            }
        };
        if !is_ours || !is_typed {
            return Found::Foreign;
        }
        if let Some(metadata) = stored.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Found::Ours(stored)
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.word(), self.namespace, self.name)
    }
}

/// As many as an annotation can hold: those left out are not told of new credentials, or nobody would get them.
fn bounded(stale: &BTreeMap<String, String>) -> BTreeMap<&String, &String> {
    let mut left = MAX_STALE;
    let fits = move |(workload, template): &(&String, &String)| {
        // With quotes, a colon and a comma.
        let size = workload.len() + template.len() + 6;
        let fits = left >= size;
        left = left.saturating_sub(size);
        fits
    };
    stale.iter().take_while(fits).collect()
}

/// What we remember of an object as it stands.
pub(super) fn copy_of(stored: &Value, print: u64) -> Copy {
    let text = |pointer: &str| stored.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let annotation = |key: &str| stored.pointer("/metadata/annotations")?.get(key)?.as_str();
    let owners = stored.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owners =
        owners.into_iter().flatten().filter_map(|owner| owner.get("uid")?.as_str().map(str::to_owned));
    let data = stored.get("data").and_then(Value::as_object);
    Copy {
        version: text("/metadata/resourceVersion"),
        print,
        keys: data.into_iter().flatten().map(|(key, _)| key.clone()).collect(),
        owners: owners.collect(),
        revision: annotation(keys::REVISION).unwrap_or_default().to_owned(),
        stale: annotation(keys::STALE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        is_verified: true,
    }
}

pub(super) fn values(stored: &Value, made: Made) -> BTreeMap<String, String> {
    let data = stored.get("data").and_then(Value::as_object).into_iter().flatten();
    let decoded = |text: &str| match made {
        Made::Secret => STANDARD.decode(text).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        Made::ConfigMap => Some(text.to_owned()),
    };
    data.filter_map(|(key, value)| Some((key.clone(), decoded(value.as_str()?)?))).collect()
}

pub(super) fn uids(users: &[User]) -> BTreeSet<String> {
    users.iter().map(|(_, used)| used.uid.clone()).collect()
}

/// The workloads as owners. None of them waits for us when it is deleted.
pub(super) fn owners(users: &[User]) -> Value {
    let mut sorted: Vec<&User> = users.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    sorted.iter().map(|(id, used)| owner(id, &used.uid)).collect()
}

/// A workload as an owner.
pub(super) fn owner(id: &WorkloadId, uid: &str) -> Value {
    json!({"apiVersion": id.kind.api_version(), "kind": id.kind.name(), "name": id.name, "uid": uid})
}

/// Puts `new` over `stored`: the maps of its metadata are united, all else is replaced.
pub(super) fn merge(stored: &mut Value, new: Value) {
    let (Some(stored), Value::Object(new)) = (stored.as_object_mut(), new) else { return };
    for (field, value) in new {
        match (field.as_str(), value) {
            ("metadata", Value::Object(metadata)) => {
                let Some(old) = stored.get_mut("metadata").and_then(Value::as_object_mut) else { continue };
                for (field, value) in metadata {
                    match (old.get_mut(&field), value) {
                        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                        (_, value) => drop(old.insert(field, value)),
                    }
                }
            }
            (_, value) => drop(stored.insert(field, value)),
        }
    }
}

pub(super) fn random() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u8(0);
    format!("{:08x}", hasher.finish() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_workloads_share_a_secret_their_list_fits_into_an_annotation() {
        let stale = |count: usize| -> BTreeMap<String, String> {
            (0..count).map(|n| (format!("Deployment/{n:0>250}"), "12345678".to_owned())).collect()
        };
        assert_eq!(bounded(&stale(400)).len(), 400);
        assert!(json!(bounded(&stale(2000))).to_string().len() <= MAX_STALE + 2);
    }
}
