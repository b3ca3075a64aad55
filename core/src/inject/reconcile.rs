//! From additions to operations: the object's lists are made to hold the user's entries and ours.
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use serde_json::Value;

use super::{
    Operation,
    additions::{Additions, Entry, template_essence},
    env::has_references,
    patch::{List, Operations, Owner, Wanted, below, path},
    record::Record,
    slot::{ANNOTATIONS, CLASS, ENV, MOUNT, POD, Slot, TEMPLATE, VOLUME, slot, variable_slot},
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
    stored: Option<(&'a Workload<'a>, &'a Record)>,
    operations: Operations,
}

/// The operations that make `workload` hold the user's entries and `additions`, and nothing else of what `record` calls
/// ours. With no additions, everything is taken out.
///
/// `stored` is the object as the server holds it, with its record: by it, what a merge left of ours in an entry of the
/// user's is found. Claim templates are changed only where `has_templates`: they can't be once a StatefulSet exists.
pub(crate) fn operations<'a>(
    workload: &'a Workload<'a>,
    record: Option<&'a Record>,
    stored: Option<(&'a Workload<'a>, &'a Record)>,
    mut additions: Additions,
    has_templates: bool,
) -> Vec<Operation> {
    if record.is_none() && additions.is_empty() {
        return Vec::new();
    }
    let mut change = Change { workload, record, stored, operations: Operations::default() };
    change.volumes(additions.volumes, &additions.replaced);
    for container in &workload.containers {
        let env = additions.env.remove(container.name).unwrap_or_default();
        change.env(container, env, &additions.overwritten);
        change.mounts(container, additions.mounts.remove(container.name).unwrap_or_default());
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

/// Puts the claim templates of a StatefulSet back as the server holds them, where they differ only by what is ours.
pub(crate) fn claim_templates(
    workload: &Workload<'_>,
    stored: &Workload<'_>,
    stored_record: Option<&Record>,
) -> Vec<Operation> {
    let mut operations = Operations::default();
    let (now, then) = (workload.claim_templates(), stored.claim_templates());
    let users = |templates: &[Json<'_>]| -> Vec<Json<'static>> {
        templates.iter().filter_map(|template| users_template(template, stored_record)).collect()
    };
    if now != then && users(now) == users(then) {
        operations.add(
            path(&["spec", "volumeClaimTemplates"]),
            Json::Array(then.iter().map(Json::to_static).collect()),
        );
    }
    operations.into_inner()
}

/// A template as the user wrote it; `None` where all of it is ours.
fn users_template(template: &Json<'_>, record: Option<&Record>) -> Option<Json<'static>> {
    let name = template_name(template);
    let owns = |place: &str, value: &Json<'_>| {
        record.is_some_and(|record| record.owns(&slot(&[place, name]), value))
    };
    if owns(TEMPLATE, &template_essence(template)) {
        return None;
    }
    let mut users = template.to_static();
    if let Some(spec) = users.get_mut("spec").and_then(Json::as_object_mut)
        && spec.get("storageClassName").is_some_and(|class| owns(CLASS, class))
    {
        spec.remove("storageClassName");
    }
    // The server fills it in and nobody writes it.
    if let Some(template) = users.as_object_mut() {
        template.remove("status");
    }
    Some(users)
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
        note(slot(&[CLASS, name]), template.at(&["spec", "storageClassName"]), has_class);
    }
    empties
}

// === impl Change ===

impl<'a> Change<'a> {
    fn owns(&self, slot: &str, value: &Json<'_>) -> bool {
        self.record.is_some_and(|record| record.owns(slot, value))
    }

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
        key: &str,
        wanted: Vec<Wanted>,
        owner: &dyn Fn(&Self, &str, &Json<'_>) -> Owner,
    ) {
        let mut operations = std::mem::take(&mut self.operations);
        let list = List {
            path,
            current,
            key_of: &|entry| entry.text(key),
            owner_of: &|entry| match self.record {
                // Without a record nothing is ours.
                None => Owner::User,
                Some(_) => owner(self, &slot(&[place, entry.text(key)]), entry),
            },
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

    fn env(&mut self, container: &Container<'_>, wanted: Vec<Entry>, overwritten: &BTreeMap<Slot, Value>) {
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
        self.reconcile(&place, path, current, "name", wanted, &Self::owner_of_variable);
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

    fn mounts(&mut self, container: &Container<'_>, wanted: Vec<Entry>) {
        if self.stays(&wanted) {
            return;
        }
        let path = self.container_path(container, "volumeMounts");
        let current = self.raw(container, "volumeMounts");
        let place = slot(&[MOUNT, container.name]);
        let wanted = wanted.into_iter().map(Wanted::from).collect();
        let stored = self.stored.and_then(|(stored, _)| stored.container(container.name).map(|c| c.mounts));
        let owner = |change: &Self, slot: &str, mount: &Json<'_>| {
            change.owner_of_mount(slot, mount, stored.unwrap_or(&[]))
        };
        self.reconcile(&place, path, current, "mountPath", wanted, &owner);
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
        self.reconcile(VOLUME, path, current, "name", wanted, &Self::owner_of_volume);
    }

    fn owner(&self, slot: &str, entry: &Json<'_>) -> Owner {
        if self.owns(slot, entry) { Owner::Ours } else { Owner::User }
    }

    /// Apply merges mounts by their path: the user's volume may stand beside our `readOnly` or `subPath`.
    fn owner_of_mount(&self, slot: &str, mount: &Json<'_>, stored: &[Json<'_>]) -> Owner {
        if self.owns(slot, mount) {
            return Owner::Ours;
        }
        let path = mount.text("mountPath");
        let ours = stored.iter().find(|other| other.text("mountPath") == path);
        // What the new object's record does not call ours was written whole by the user: nothing was merged.
        let is_recorded = self.record.is_some_and(|record| record.has_slot(slot));
        let ours =
            ours.filter(|ours| is_recorded && self.stored.is_some_and(|(_, record)| record.owns(slot, ours)));
        let (Some(ours), Some(map)) = (ours, mount.as_object()) else { return Owner::User };
        let is_left = |field: &str, value: &Json<'_>| field != "mountPath" && ours.get(field) == Some(value);
        // With our volume's name it is our mount, edited: the user's now, as it is.
        if ours.text("name") == mount.text("name") || !map.iter().any(|(field, value)| is_left(field, value))
        {
            return Owner::User;
        }
        let users = map.iter().filter(|(field, value)| !is_left(field, value));
        Owner::Both(Json::Object(users.map(|(field, value)| (field.to_owned(), value.to_static())).collect()))
    }

    /// Apply merges by name: the user's `valueFrom` may stand beside our `value` and the other way round, or two sources
    /// in one `valueFrom`.
    fn owner_of_variable(&self, slot: &str, entry: &Json<'_>) -> Owner {
        let owner = self.owner_of_merged(slot, entry, &|field| ["value", "valueFrom"].contains(&field));
        let Some(sources) = entry.get("valueFrom").and_then(Json::as_object).filter(|map| map.len() > 1)
        else {
            return owner;
        };
        if owner != Owner::User {
            return owner;
        }
        let part = |keep: &dyn Fn(&str) -> bool| {
            let mut entry = entry.to_static();
            if let Some(sources) = entry.get_mut("valueFrom").and_then(Json::as_object_mut) {
                sources.retain(keep);
            }
            entry
        };
        let ours = sources.iter().map(|(source, _)| source);
        let ours = ours.into_iter().find(|source| self.owns(slot, &part(&|key| key == *source)));
        ours.map_or(Owner::User, |ours| Owner::Both(part(&|key| key != ours)))
    }

    /// Likewise the user's `emptyDir` beside our claim.
    fn owner_of_volume(&self, slot: &str, entry: &Json<'_>) -> Owner {
        self.owner_of_merged(slot, entry, &|field| field != "name")
    }

    /// Whose an entry is that may hold several of what can only stand there alone.
    fn owner_of_merged(&self, slot: &str, entry: &Json<'_>, is_alternative: &dyn Fn(&str) -> bool) -> Owner {
        if self.owns(slot, entry) {
            return Owner::Ours;
        }
        let Some(object) = entry.as_object() else { return Owner::User };
        let part = |keep: &dyn Fn(&str) -> bool| {
            let mut part = entry.to_static();
            if let Some(object) = part.as_object_mut() {
                object.retain(keep);
            }
            part
        };
        let alternatives: Vec<&str> =
            object.iter().map(|(field, _)| field).filter(|field| is_alternative(field)).collect();
        let is_ours = |ours: &str| self.owns(slot, &part(&|key| key == ours || !is_alternative(key)));
        match alternatives.iter().find(|field| alternatives.len() > 1 && is_ours(field)) {
            Some(ours) => Owner::Both(part(&|key| key != *ours)),
            None => Owner::User,
        }
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
        let is_ours = |field: &str, value: &Json<'_>| self.owns(&slot(&[POD, field]), value);
        let ours: Vec<String> = current
            .iter()
            .filter(|(field, value)| is_ours(field, value))
            .map(|(field, _)| field.to_owned())
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
        for (index, template) in self.workload.claim_templates().iter().enumerate() {
            let name = template_name(template);
            let index = index.to_string();
            let path = path(&["spec", "volumeClaimTemplates", &index, "spec", "storageClassName"]);
            let current = template.at(&["spec", "storageClassName"]);
            let is_ours = current.is_some_and(|class| self.owns(&slot(&[CLASS, name]), class));
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
            owner_of: &|template| {
                self.owner(&slot(&[TEMPLATE, template_name(template)]), &template_essence(template))
            },
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

fn template_name<'a>(template: &'a Json<'a>) -> &'a str {
    template.at(&["metadata", "name"]).and_then(Json::as_str).unwrap_or_default()
}
