//! From additions to operations: the object's lists are made to hold the user's entries and ours.
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use serde_json::Value;

use super::{
    Operation,
    additions::{Additions, Entry},
    env::has_references,
    owners::{Owner, Owners},
    patch::{List, Operations, Wanted, below, path},
    record::Record,
    slot::{ANNOTATIONS, CLASS, ENV, MOUNT, POD, Slot, TEMPLATE, VOLUME, slot, variable_slot},
    templates::{class_of, template_name},
};
use crate::{
    json::{Json, Object},
    keys,
    template::references,
    workload::{Container, Kind, Workload},
};

const SECURITY_CONTEXT: &str = "securityContext";

/// One workload under change.
struct Change<'a> {
    workload: &'a Workload<'a>,
    record: Option<&'a Record>,
    owners: &'a Owners,
    operations: Operations,
}

/// The operations that make `workload` hold the user's entries and `additions`, and nothing else of what `owners` calls
/// ours. With no additions, everything is taken out.
///
/// Claim templates are changed only where `has_templates`: they can't be once a StatefulSet exists.
pub(crate) fn operations<'a>(
    workload: &'a Workload<'a>,
    record: Option<&'a Record>,
    owners: &'a Owners,
    mut additions: Additions,
    has_templates: bool,
) -> Vec<Operation> {
    if record.is_none() && additions.is_empty() {
        return Vec::new();
    }
    let mut change = Change { workload, record, owners, operations: Operations::default() };
    change.volumes(additions.volumes, &additions.replaced);
    for (place, container) in workload.containers.iter().enumerate() {
        let owners = owners.of_container(place);
        let env = additions.env.remove(container.name).unwrap_or_default();
        change.env(container, &owners.env, env, &additions.overwritten);
        let mounts = additions.mounts.remove(container.name).unwrap_or_default();
        change.mounts(container, &owners.mounts, mounts);
    }
    change.security_context(additions.pod);
    if has_templates && workload.kind == Kind::StatefulSet {
        change.classes(&additions.classes);
        change.templates(additions.templates);
    }
    change.operations.into_inner()
}

/// Sets or removes our two annotations on the workload's own metadata.
pub(crate) fn annotate(
    workload: &Workload<'_>,
    record: Option<&Record>,
    injected: Option<String>,
    status: Option<String>,
) -> Vec<Operation> {
    let mut operations = Operations::default();
    let current = workload.own_annotations();
    let at = |key: &str| path(&["metadata", ANNOTATIONS, key]);
    let wanted = [(keys::INJECTED, injected), (keys::STATUS, status)];
    let others = current
        .into_iter()
        .flat_map(Object::iter)
        .filter(|(key, _)| wanted.iter().all(|(ours, _)| ours != key))
        .count();
    let is_last = others == 0 && wanted.iter().all(|(_, text)| text.is_none());
    if is_last && current.is_some_and(|map| !map.is_empty()) {
        match record.and_then(|record| record.empty.get(ANNOTATIONS)) {
            Some(original) => {
                operations.replace(path(&["metadata", ANNOTATIONS]), Json::from(original).to_static())
            }
            None => operations.remove(path(&["metadata", ANNOTATIONS])),
        }
        return operations.into_inner();
    }
    if current.is_none() {
        let new = wanted.into_iter().filter_map(|(key, text)| Some((key, Json::from(text?))));
        let new: Object<'static> = new.collect();
        if !new.is_empty() {
            if !workload.object().get("metadata").is_some_and(Json::is_object) {
                operations.add(path(&["metadata"]), Json::object([]));
            }
            operations.add(path(&["metadata", ANNOTATIONS]), Json::Object(new));
        }
        return operations.into_inner();
    }
    for (key, text) in wanted {
        let now = current.and_then(|map| map.get(key));
        match text.map(Json::from) {
            Some(text) if now != Some(&text) => operations.add(at(key), text),
            None if now.is_some() => operations.remove(at(key)),
            _ => {}
        }
    }
    operations.into_inner()
}

/// The lists and maps of the user's that are there but empty and get something of ours.
pub(crate) fn empties(base: &Workload<'_>, additions: &Additions) -> BTreeMap<String, Value> {
    let mut empties = BTreeMap::new();
    let mut note = |slot: String, value: Option<&Json<'_>>, is_used: bool| {
        if let Some(value) = value.filter(|value| is_used && value.is_empty()) {
            empties.insert(slot, value.into());
        }
    };
    let object = base.object();
    let pod = |field: &str| base.pod_spec().and_then(|spec| spec.get(field));
    for container in &base.containers {
        let raw = pod(container.list).and_then(Json::as_array).and_then(|list| list.get(container.index));
        let field = |name: &str| raw.and_then(|raw| raw.get(name));
        note(slot(&[ENV, container.name]), field("env"), additions.env.contains_key(container.name));
        let has_mounts = additions.mounts.contains_key(container.name);
        note(slot(&[MOUNT, container.name]), field("volumeMounts"), has_mounts);
    }
    note(VOLUME.into(), pod("volumes"), !additions.volumes.is_empty());
    note(POD.into(), pod(SECURITY_CONTEXT), !additions.pod.is_empty());
    let templates = object.at(&["spec", "volumeClaimTemplates"]).filter(|_| base.kind == Kind::StatefulSet);
    note(TEMPLATE.into(), templates, !additions.templates.is_empty());
    note(ANNOTATIONS.into(), object.at(&["metadata", ANNOTATIONS]), true);
    for template in base.claim_templates() {
        let name = template_name(template);
        let has_class = additions.classes.iter().any(|entry| entry.key == name);
        note(slot(&[CLASS, name]), class_of(template), has_class);
    }
    empties
}

// === impl Change ===

impl<'a> Change<'a> {
    /// Whether nothing can be there to do: nothing is wanted, and nothing is ours.
    fn stays(&self, wanted: &[Entry]) -> bool {
        wanted.is_empty() && self.record.is_none()
    }

    fn when_empty(&self, slot: &str) -> Option<&Value> {
        self.record.and_then(|record| record.empty.get(slot))
    }

    /// A place in the spec of the pods.
    fn pod_path(&self, tokens: &[&str]) -> PointerBuf {
        path(&[self.workload.kind.template(), &["spec"], tokens].concat())
    }

    fn container_path(&self, container: &Container<'_>, field: &str) -> PointerBuf {
        self.pod_path(&[container.list, &container.index.to_string(), field])
    }

    fn raw(&self, container: &Container<'_>, field: &str) -> Option<&'a Json<'a>> {
        self.workload.pod_spec()?.get(container.list)?.as_array()?.get(container.index)?.get(field)
    }

    fn reconcile(
        &mut self,
        place: &str,
        path: PointerBuf,
        current: Option<&Json<'_>>,
        owners: &[Owner],
        key: &str,
        wanted: Vec<Wanted>,
    ) {
        let mut operations = std::mem::take(&mut self.operations);
        let list = List {
            path,
            current,
            key_of: &|entry| entry.text(key),
            owners,
            displaced: &|name| self.displaced(place, name),
            when_empty: self.when_empty(place),
        };
        operations.reconcile(&list, wanted);
        self.operations = operations;
    }

    /// What of the user's ours took the place of: an `emptyDir`, or a variable.
    fn displaced(&self, place: &str, name: &str) -> Option<Json<'static>> {
        if place != VOLUME {
            return self
                .record?
                .overwritten
                .get(&slot(&[place, name]))
                .map(|value| Json::from(value).to_static());
        }
        let original = self.record?.replaced.get(name)?;
        Some(Json::object([("name", name.into()), ("emptyDir", original.into())]).to_static())
    }

    fn env(
        &mut self,
        container: &Container<'_>,
        owners: &[Owner],
        wanted: Vec<Entry>,
        overwritten: &BTreeMap<Slot, Value>,
    ) {
        if self.stays(&wanted) {
            return;
        }
        let path = self.container_path(container, "env");
        let moving = self.has_misplaced(container, &wanted);
        let takes_place = |name: &str| overwritten.contains_key(&variable_slot(container.name, name));
        let wanted = wanted.into_iter().map(|entry| {
            let takes_place = !overwritten.is_empty() && takes_place(&entry.key);
            // Under another key it is not found where it stands, and is appended.
            let is_moved = moving && has_references(&entry.value) && !takes_place;
            let key = if is_moved { String::new() } else { entry.key };
            Wanted { key, value: entry.value, takes_place }
        });
        let wanted = wanted.collect();
        let current = self.raw(container, "env");
        let place = slot(&[ENV, container.name]);
        self.reconcile(&place, path, current, owners, "name", wanted);
    }

    /// Whether a variable of ours stands before one that it names.
    fn has_misplaced(&self, container: &Container<'_>, wanted: &[Entry]) -> bool {
        let at = |name: &str| container.place_of(name);
        let is_known = |name: &str| at(name).is_some() || wanted.iter().any(|other| other.key == name);
        wanted.iter().any(|entry| {
            let Some(own) = at(&entry.key) else { return false };
            let names = references(entry.value.text("value"));
            names.iter().any(|name| is_known(name) && at(name).is_none_or(|other| other > own))
        })
    }

    fn mounts(&mut self, container: &Container<'_>, owners: &[Owner], wanted: Vec<Entry>) {
        if self.stays(&wanted) {
            return;
        }
        let path = self.container_path(container, "volumeMounts");
        let current = self.raw(container, "volumeMounts");
        let place = slot(&[MOUNT, container.name]);
        let wanted = wanted.into_iter().map(Wanted::from).collect();
        self.reconcile(&place, path, current, owners, "mountPath", wanted);
    }

    fn volumes(&mut self, wanted: Vec<Entry>, replaced: &BTreeMap<String, Value>) {
        if self.stays(&wanted) {
            return;
        }
        let wanted = wanted
            .into_iter()
            .map(|entry| Wanted { takes_place: replaced.contains_key(&entry.key), ..Wanted::from(entry) });
        let wanted = wanted.collect();
        let current = self.workload.pod_spec().and_then(|spec| spec.get("volumes"));
        let path = self.pod_path(&["volumes"]);
        self.reconcile(VOLUME, path, current, &self.owners.volumes, "name", wanted);
    }

    fn security_context(&mut self, wanted: Vec<Entry>) {
        let path = self.pod_path(&[SECURITY_CONTEXT]);
        let current = self.workload.security_context();
        let Some(current) = current else {
            if !wanted.is_empty() {
                let map = wanted.into_iter().map(|entry| (entry.key, entry.value));
                self.operations.add(path, Json::Object(map.collect()));
            }
            return;
        };
        let ours: Vec<&str> = current
            .iter()
            .zip(&self.owners.pod)
            .filter(|(_, owner)| owner.is_ours())
            .map(|((field, _), _)| field)
            .collect();
        if wanted.is_empty() && !ours.is_empty() && ours.len() == current.len() {
            match self.when_empty(POD).map(|original| Json::from(original).to_static()) {
                Some(original) => self.operations.replace(path, original),
                None => self.operations.remove(path),
            }
            return;
        }
        for field in ours.iter().filter(|field| wanted.iter().all(|entry| entry.key != **field)) {
            self.operations.remove(below(&path, field));
        }
        for entry in wanted.into_iter().filter(|entry| current.get(&entry.key) != Some(&entry.value)) {
            self.operations.add(below(&path, &entry.key), entry.value);
        }
    }

    fn classes(&mut self, wanted: &[Entry]) {
        for (place, template) in self.workload.claim_templates().iter().enumerate() {
            let name = template_name(template);
            let index = place.to_string();
            let path = path(&["spec", "volumeClaimTemplates", &index, "spec", "storageClassName"]);
            let current = class_of(template);
            let is_ours = self.owners.classes.get(place).is_some_and(Owner::is_ours);
            match wanted.iter().find(|entry| entry.key == name) {
                Some(entry) if current != Some(&entry.value) => {
                    self.operations.add(path, entry.value.clone());
                }
                None if is_ours => match self.when_empty(&slot(&[CLASS, name])) {
                    Some(original) => self.operations.replace(path, Json::from(original).to_static()),
                    None => self.operations.remove(path),
                },
                _ => {}
            }
        }
    }

    fn templates(&mut self, wanted: Vec<Entry>) {
        let current = self.workload.object().at(&["spec", "volumeClaimTemplates"]);
        let mut operations = std::mem::take(&mut self.operations);
        let wanted = wanted.into_iter().map(Wanted::from).collect();
        let list = List {
            path: path(&["spec", "volumeClaimTemplates"]),
            current,
            key_of: &|template| template_name(template),
            owners: &self.owners.templates,
            displaced: &|_| None,
            when_empty: self.when_empty(TEMPLATE),
        };
        operations.reconcile(&list, wanted);
        self.operations = operations;
    }
}

impl From<Entry> for Wanted {
    fn from(entry: Entry) -> Self {
        Self { key: entry.key, value: entry.value, takes_place: false }
    }
}
