//! Whose the entries of a workload's lists are: apply merges entries by their key, so one may be the user's and ours.
use super::{
    hash::Hash,
    record::Record,
    slot::{CLASS, ENV, MOUNT, POD, TEMPLATE, VOLUME, slot},
    templates::{class_of, template_essence, template_name},
};
use crate::{
    json::{Json, Object},
    workload::Workload,
};

/// What one entry of a list is to us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Owner {
    /// The user's: it stays as it is.
    User,
    /// Ours: it goes, unless it is still wanted; and by what a record knows it.
    Ours(Hash),
    /// Both, merged by name: what is left once ours is taken out.
    Both(Json<'static>),
}

/// Whose each entry of one workload is, list by list, as its record tells. Where there is no record the lists are empty: what
/// stands at no place of them is the user's.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Of each container, in the order of [`Workload::containers`].
    containers: Vec<OfContainer>,
    pub(super) volumes: Vec<Owner>,
    /// The volume claim templates.
    pub(super) templates: Vec<Owner>,
    /// The classes of the claim templates; the user's, where there is none.
    pub(super) classes: Vec<Owner>,
    /// The fields of the pod's security context.
    pub(super) pod: Vec<Owner>,
}

/// Whose the entries of one container are.
#[derive(Debug, Default)]
pub(super) struct OfContainer {
    pub env: Vec<Owner>,
    pub mounts: Vec<Owner>,
}

/// What tells them.
struct Records<'a> {
    record: &'a Record,
    stored: Option<(&'a Workload<'a>, &'a Record)>,
}

// === impl Owner ===

impl Owner {
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }
}

// === impl Owners ===

impl Owners {
    /// Whose the entries of `workload` are, by its record. `stored` is the object as the server holds it, with its record: by it,
    /// what a merge left of ours in an entry of the user's is found.
    pub(crate) fn of<'a>(
        workload: &Workload<'_>,
        record: Option<&'a Record>,
        stored: Option<(&'a Workload<'a>, &'a Record)>,
    ) -> Self {
        let Some(record) = record else { return Self::default() };
        let records = Records { record, stored };
        let containers = workload.containers.iter().map(|container| {
            let (env, mounts) = (slot(&[ENV, container.name]), slot(&[MOUNT, container.name]));
            let stored = stored.and_then(|(stored, _)| stored.container(container.name));
            let stored = stored.map(|container| container.mounts).unwrap_or_default();
            let of_variable =
                |entry: &Json<'_>| records.of_variable(&slot(&[&env, entry.text("name")]), entry);
            let of_mount = |entry: &Json<'_>| {
                records.of_mount(&slot(&[&mounts, entry.text("mountPath")]), entry, stored)
            };
            OfContainer {
                env: container.env.iter().map(of_variable).collect(),
                mounts: container.mounts.iter().map(of_mount).collect(),
            }
        });
        let of_volume = |entry: &Json<'_>| records.of_volume(&slot(&[VOLUME, entry.text("name")]), entry);
        let of_template = |entry: &Json<'_>| {
            records.of_whole(&slot(&[TEMPLATE, template_name(entry)]), &template_essence(entry))
        };
        let of_class = |entry: &Json<'_>| match class_of(entry) {
            Some(class) => records.of_whole(&slot(&[CLASS, template_name(entry)]), class),
            None => Owner::User,
        };
        let templates = workload.claim_templates();
        let fields = workload.security_context().into_iter().flat_map(Object::iter);
        Self {
            containers: containers.collect(),
            volumes: workload.volumes().iter().map(of_volume).collect(),
            templates: templates.iter().map(of_template).collect(),
            classes: templates.iter().map(of_class).collect(),
            pod: fields.map(|(field, value)| records.of_whole(&slot(&[POD, field]), value)).collect(),
        }
    }

    /// Those of one container, by its place in [`Workload::containers`].
    pub(super) fn of_container(&self, place: usize) -> &OfContainer {
        const NOTHING: &OfContainer = &OfContainer { env: Vec::new(), mounts: Vec::new() };
        self.containers.get(place).unwrap_or(NOTHING)
    }
}

// === impl Records ===

impl Records<'_> {
    /// Whose something is that nothing is merged into.
    fn of_whole(&self, slot: &str, entry: &Json<'_>) -> Owner {
        self.record.owned(slot, entry).map_or(Owner::User, Owner::Ours)
    }

    /// Apply merges mounts by their path: the user's volume may stand beside our `readOnly` or `subPath`.
    fn of_mount(&self, slot: &str, mount: &Json<'_>, stored: &[Json<'_>]) -> Owner {
        if let Some(hash) = self.record.owned(slot, mount) {
            return Owner::Ours(hash);
        }
        let path = mount.text("mountPath");
        let ours = stored.iter().find(|other| other.text("mountPath") == path);
        // What the new object's record does not call ours was written whole by the user: nothing was merged.
        let is_recorded = self.record.has_slot(slot);
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
    fn of_variable(&self, slot: &str, entry: &Json<'_>) -> Owner {
        let owner = self.of_merged(slot, entry, &|field| ["value", "valueFrom"].contains(&field));
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
        let mut ours = sources.iter().map(|(source, _)| source);
        let ours = ours.find(|source| self.record.owns(slot, &part(&|key| key == *source)));
        ours.map_or(Owner::User, |ours| Owner::Both(part(&|key| key != ours)))
    }

    /// Likewise the user's `emptyDir` beside our claim.
    fn of_volume(&self, slot: &str, entry: &Json<'_>) -> Owner {
        self.of_merged(slot, entry, &|field| field != "name")
    }

    /// Whose an entry is that may hold several of what can only stand there alone.
    fn of_merged(&self, slot: &str, entry: &Json<'_>, is_alternative: &dyn Fn(&str) -> bool) -> Owner {
        if let Some(hash) = self.record.owned(slot, entry) {
            return Owner::Ours(hash);
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
        let is_ours = |ours: &str| self.record.owns(slot, &part(&|key| key == ours || !is_alternative(key)));
        match alternatives.iter().find(|field| alternatives.len() > 1 && is_ours(field)) {
            Some(ours) => Owner::Both(part(&|key| key != *ours)),
            None => Owner::User,
        }
    }
}
