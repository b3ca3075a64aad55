//! Additions: everything that a plan puts into one workload, by place.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    hash::{Hash, hash},
    owners::{Owner, Owners},
    record::{ChosenVolume, Record},
    slot::{CLASS, ENV, MOUNT, POD, Slot, TEMPLATE, VOLUME, slot, variable_slot},
    templates::{class_of, template_essence, template_name},
};
use crate::{
    intent::Intent,
    json::{Json, Object},
    workload::Workload,
};

/// What is put into one workload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Additions {
    /// Variables by container, in order.
    pub env: BTreeMap<String, Vec<Entry>>,
    /// Mounts by container.
    pub mounts: BTreeMap<String, Vec<Entry>>,
    /// Volumes of the pod.
    pub volumes: Vec<Entry>,
    /// Volume claim templates.
    pub templates: Vec<Entry>,
    /// Classes of the user's templates.
    pub classes: Vec<Entry>,
    /// Fields of the pod's security context.
    pub pod: Vec<Entry>,
    /// The user's `emptyDir`s that give way, by volume.
    pub replaced: BTreeMap<String, Value>,
    /// The user's variables that give way, by the slot of ours.
    pub overwritten: BTreeMap<Slot, Value>,
    /// The volumes chosen for data paths.
    pub claims: BTreeMap<String, ChosenVolume>,
}

/// One entry, the intents that want it, and its key in its list.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub intents: BTreeSet<Intent>,
    pub key: String,
    pub value: Json<'static>,
    /// By which the record knows it.
    pub hash: Hash,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(intent: &Intent, key: impl Into<String>, value: Json<'static>) -> Self {
        let hash = hash(&value);
        Self::known_by(hash, intent, key, value)
    }

    /// A claim template: the server adds to it, so its record is of what is ours to say.
    pub(super) fn template(intent: &Intent, key: impl Into<String>, value: Json<'static>) -> Self {
        let hash = hash(&template_essence(&value));
        Self::known_by(hash, intent, key, value)
    }

    fn known_by(hash: Hash, intent: &Intent, key: impl Into<String>, value: Json<'static>) -> Self {
        Self { intents: BTreeSet::from([intent.clone()]), key: key.into(), value, hash }
    }

    /// The same for the intents that `is_kept` names; `None` where none of them wants it.
    fn only(&self, is_kept: &dyn Fn(&Intent) -> bool) -> Option<Self> {
        let intents: BTreeSet<Intent> =
            self.intents.iter().filter(|intent| is_kept(intent)).cloned().collect();
        (!intents.is_empty()).then(|| Self { intents, ..self.clone() })
    }
}

// === impl Additions ===

impl Additions {
    /// Adds what another has; where both want one place, the first stays, and serves both when they agree. Returns the
    /// keys of those that had to give way, each with an intent that has its place.
    pub(crate) fn merge(&mut self, other: Self) -> Vec<(String, Intent)> {
        let mut lost = Vec::new();
        for (container, entries) in other.env {
            add_all(self.env.entry(container).or_default(), entries, &mut lost);
        }
        for (container, entries) in other.mounts {
            add_all(self.mounts.entry(container).or_default(), entries, &mut lost);
        }
        add_all(&mut self.volumes, other.volumes, &mut lost);
        add_all(&mut self.templates, other.templates, &mut lost);
        add_all(&mut self.classes, other.classes, &mut lost);
        add_all(&mut self.pod, other.pod, &mut lost);
        self.replaced.extend(other.replaced);
        self.overwritten.extend(other.overwritten);
        self.claims.extend(other.claims);
        lost
    }

    /// Whether there is nothing to add.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots().next().is_none()
    }

    /// Every entry with its place.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let contained = [(ENV, &self.env), (MOUNT, &self.mounts)].into_iter().flat_map(|(place, map)| {
            map.iter().flat_map(move |(container, entries)| {
                entries.iter().map(move |entry| (slot(&[place, container, &entry.key]), entry))
            })
        });
        let lists =
            [(VOLUME, &self.volumes), (TEMPLATE, &self.templates), (CLASS, &self.classes), (POD, &self.pod)];
        let flat = lists.into_iter().flat_map(|(place, entries)| {
            entries.iter().map(move |entry| (slot(&[place, &entry.key]), entry))
        });
        contained.chain(flat)
    }

    /// Less what the user has set in the meantime (what `record` does not call ours), and what belongs to containers that
    /// are gone.
    pub(crate) fn without_users(mut self, base: &Workload<'_>, record: Option<&Record>) -> Self {
        let is_ours = |slot: String, entry: &Json<'_>| record.is_some_and(|record| record.owns(&slot, entry));
        self.env.retain(|name, _| base.container(name).is_some());
        self.mounts.retain(|name, _| base.container(name).is_some());
        for container in &base.containers {
            if let Some(entries) = self.env.get_mut(container.name) {
                entries.retain(|entry| {
                    let slot = variable_slot(container.name, &entry.key);
                    let users = container.variable(&entry.key).filter(|v| !is_ours(slot.clone(), v));
                    // One that gave way gives way still, as it is now.
                    match (users, self.overwritten.get_mut(&slot)) {
                        (None, _) => true,
                        (Some(users), Some(overwritten)) => {
                            *overwritten = users.into();
                            true
                        }
                        (Some(_), None) => false,
                    }
                });
            }
            if let Some(entries) = self.mounts.get_mut(container.name) {
                let users = |key: &str| {
                    let mut here = container
                        .mounts
                        .iter()
                        .filter(|mount| mount.text("mountPath").trim_end_matches('/') == key);
                    here.any(|mount| !is_ours(slot(&[MOUNT, container.name, key]), mount))
                };
                entries.retain(|entry| !users(&entry.key));
            }
        }
        let context = base.security_context();
        self.pod.retain(|entry| {
            let now = context.and_then(|context| context.get(&entry.key)).filter(|value| !value.is_null());
            now.is_none_or(|value| is_ours(slot(&[POD, &entry.key]), value))
        });
        let replaced = &self.replaced;
        self.volumes.retain(|entry| {
            let is_users = |volume: &&Json<'_>| {
                volume.text("name") == entry.key && !is_ours(slot(&[VOLUME, &entry.key]), volume)
            };
            let users = base.volumes().iter().find(is_users);
            users.is_none_or(|volume| replaced.contains_key(&entry.key) && volume.get("emptyDir").is_some())
        });
        self
    }

    /// Writes down what stands where.
    pub(crate) fn note_in(&self, record: &mut Record) {
        for (slot, entry) in self.slots() {
            for intent in &entry.intents {
                record.note(intent, slot.clone(), entry.hash.clone());
            }
        }
        record.claims.clone_from(&self.claims);
        record.replaced.clone_from(&self.replaced);
        record.overwritten.clone_from(&self.overwritten);
    }

    /// What a record says is ours in an object, as it stands there; `owners` are those of the object by this record.
    pub(crate) fn standing_in(workload: &Workload<'_>, record: &Record, owners: &Owners) -> Self {
        let has_storage = record.added.keys().any(Intent::is_storage);
        let mut found = Self {
            replaced: record.replaced.clone(),
            overwritten: record.overwritten.clone(),
            claims: if has_storage { record.claims.clone() } else { BTreeMap::new() },
            ..Self::default()
        };
        for (number, container) in workload.containers.iter().enumerate() {
            let owners = owners.of_container(number);
            for (map, place, entries, owners, key) in [
                (&mut found.env, ENV, container.env, &owners.env, "name"),
                (&mut found.mounts, MOUNT, container.mounts, &owners.mounts, "mountPath"),
            ] {
                let entries = entries.iter().map(|entry| (entry.text(key), entry));
                let entries = among(record, entries, owners, &slot(&[place, container.name]));
                if !entries.is_empty() {
                    map.insert(container.name.to_owned(), entries);
                }
            }
        }
        let volumes = workload.volumes().iter().map(|volume| (volume.text("name"), volume));
        found.volumes = among(record, volumes, &owners.volumes, VOLUME);
        let templates =
            || workload.claim_templates().iter().map(|template| (template_name(template), template));
        found.templates = among(record, templates(), &owners.templates, TEMPLATE);
        // One without a class is the user's.
        let classes = templates().map(|(name, template)| (name, class_of(template).unwrap_or(&Json::Null)));
        found.classes = among(record, classes, &owners.classes, CLASS);
        let fields = workload.security_context().into_iter().flat_map(Object::iter);
        found.pod = among(record, fields, &owners.pod, POD);
        found.without_orphans()
    }

    /// What the intents want that `is_kept` names.
    pub(crate) fn only(&self, is_kept: &dyn Fn(&Intent) -> bool) -> Self {
        let kept = |entries: &Vec<Entry>| -> Vec<Entry> {
            entries.iter().filter_map(|entry| entry.only(is_kept)).collect()
        };
        let contained = |map: &BTreeMap<String, Vec<Entry>>| -> BTreeMap<String, Vec<Entry>> {
            let kept = map.iter().map(|(container, entries)| (container.clone(), kept(entries)));
            kept.filter(|(_, entries)| !entries.is_empty()).collect()
        };
        let has_storage = Intent::parse("storage").is_ok_and(|storage| is_kept(&storage));
        let only = Self {
            env: contained(&self.env),
            mounts: contained(&self.mounts),
            volumes: kept(&self.volumes),
            templates: kept(&self.templates),
            classes: kept(&self.classes),
            pod: kept(&self.pod),
            replaced: self.replaced.clone(),
            overwritten: self.overwritten.clone(),
            claims: if has_storage { self.claims.clone() } else { BTreeMap::new() },
        };
        only.without_orphans()
    }

    /// Less what only goes with an entry that is not there.
    fn without_orphans(mut self) -> Self {
        if self.is_empty() {
            return Self::default();
        }
        let volumes = &self.volumes;
        self.replaced.retain(|name, _| volumes.iter().any(|volume| volume.key == *name));
        if !self.overwritten.is_empty() {
            let stand: BTreeSet<Slot> = self.slots().map(|(slot, _)| slot).collect();
            self.overwritten.retain(|slot, _| stand.contains(slot));
        }
        self
    }
}

/// Those of the entries that are ours, each with its key in the list.
fn among<'e>(
    record: &Record,
    entries: impl Iterator<Item = (&'e str, &'e Json<'e>)>,
    owners: &[Owner],
    place: &str,
) -> Vec<Entry> {
    let ours = entries.zip(owners).filter_map(|((key, value), owner)| match owner {
        Owner::Ours(hash) => standing(record, &slot(&[place, key]), key, value, hash),
        Owner::User | Owner::Both(_) => None,
    });
    ours.collect()
}

/// An entry of ours as it stands there; `None` where it is of a remembered past, and no intent wants it now.
fn standing(record: &Record, slot: &str, key: &str, value: &Json<'_>, hash: &Hash) -> Option<Entry> {
    let wanting = record.added.iter().filter(|(_, slots)| slots.contains_key(slot));
    let intents: BTreeSet<Intent> = wanting.map(|(intent, _)| intent.clone()).collect();
    (!intents.is_empty()).then(|| Entry {
        intents,
        key: key.to_owned(),
        value: value.to_static(),
        hash: hash.clone(),
    })
}

fn add_all(entries: &mut Vec<Entry>, others: Vec<Entry>, lost: &mut Vec<(String, Intent)>) {
    for other in others {
        match entries.iter_mut().find(|entry| entry.key == other.key) {
            Some(entry) if entry.value == other.value => entry.intents.extend(other.intents),
            Some(entry) => lost.extend(entry.intents.first().map(|intent| (other.key, intent.clone()))),
            None => entries.push(other),
        }
    }
}
