//! Whose an entry of a list is: apply merges entries by their key, so one may be the user's and ours.
use super::{Change, Owner};
use crate::json::Json;

// === impl Change ===

impl Change<'_> {
    pub(super) fn owner(&self, slot: &str, entry: &Json<'_>) -> Owner {
        if self.owns(slot, entry) { Owner::Ours } else { Owner::User }
    }

    /// Apply merges mounts by their path: the user's volume may stand beside our `readOnly` or `subPath`.
    pub(super) fn owner_of_mount(&self, slot: &str, mount: &Json<'_>, stored: &[Json<'_>]) -> Owner {
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
    pub(super) fn owner_of_variable(&self, slot: &str, entry: &Json<'_>) -> Owner {
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
    pub(super) fn owner_of_volume(&self, slot: &str, entry: &Json<'_>) -> Owner {
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
}
