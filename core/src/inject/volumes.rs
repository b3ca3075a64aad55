//! The volumes of one workload: which data paths want one, what stands there, and how one is added.
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Target,
    additions::{Additions, Entry},
    fitted::Fitted,
    record::{ChosenVolume, Record},
};
use crate::{
    decide::{PolicySize, Skipped},
    deliver,
    intent::Intent,
    json::Json,
    name::{bounded, hex, slug},
    size,
    workload::{Container, Kind, Workload},
};

/// The size of a volume where neither the workload nor its profile says one.
const DEFAULT_SIZE: &str = "10Gi";

/// The word of a note by which a volume is smaller than it was asked for.
pub(crate) const CUT: &str = "cut";

/// What stands at a data path now.
pub(super) enum Place {
    /// Nothing, or an `emptyDir` (of that volume) that gives way.
    Free(Option<String>),
    /// Something of the user's.
    Taken(&'static str),
}

// === impl Target ===

impl Target<'_> {
    /// The paths that want a volume, with its size: those that the workload names, else those of its profile; both, where
    /// volumes are enforced.
    pub(super) fn data_paths(&self, is_enforced: bool) -> BTreeMap<String, String> {
        let default = self.terms.default_size().map_or_else(|| DEFAULT_SIZE.to_owned(), |size| size.size);
        let sized = |path: &str, size: Option<&str>| {
            let known = || self.profile.and_then(|profile| profile.size_of(path)).unwrap_or(&default);
            (path.to_owned(), size.unwrap_or_else(known).to_owned())
        };
        let own = self.wishes.storage.iter().map(|(path, size)| sized(path, size.as_deref()));
        let mut paths: BTreeMap<String, String> = own.collect();
        if let Some(profile) = self.profile.filter(|_| paths.is_empty() || is_enforced) {
            let mut images = self.containers.iter().map(|container| container.image);
            let image = images.find(|image| profile.has_image(image)).unwrap_or_default();
            for (path, size) in profile.data_paths(image).map(|(path, size)| sized(path, size)) {
                paths.entry(path).or_insert(size);
            }
        }
        paths
    }

    /// Says by which policy a volume has its size, where nobody nearer says one.
    pub(super) fn say_default(&self, path: &str, fitted: &mut Fitted) {
        let is_said = self.wishes.storage.get(path).is_some_and(Option::is_some)
            || self.profile.is_some_and(|profile| profile.size_of(path).is_some());
        if let Some(PolicySize { policy, size }) = self.terms.default_size().filter(|_| !is_said) {
            fitted.because.push(format!("policy {policy} gives {path} {size} by default"));
        }
    }

    /// Cuts the size of a new volume down to what policies allow.
    pub(super) fn limit(&self, path: &str, size: &mut String, fitted: &mut Fitted) {
        let bytes = |text: &str| size::bytes(text).unwrap_or_default();
        let Some(PolicySize { policy, size: most }) = self.terms.max_size() else { return };
        if bytes(&most) < bytes(size) {
            fitted.notes.push(format!("{path} {CUT} from {size} to {most} by policy {policy}"));
            *size = most;
        }
    }

    /// What stands at a path, in any container that is injected.
    pub(super) fn place(&self, path: &str) -> Place {
        let own = |mount: &Json<'_>| mount.text("mountPath").trim_end_matches('/').to_owned();
        let everywhere: Vec<&Json<'_>> = self.workload.containers.iter().flat_map(|c| c.mounts).collect();
        let here: Vec<&Json<'_>> = self.containers.iter().flat_map(|container| container.mounts).collect();
        if let Some(mount) = here.iter().find(|mount| own(mount) == path) {
            let volume = mount.text("name");
            let is_whole =
                |mount: &&&Json<'_>| mount.get("subPath").is_none() && mount.get("subPathExpr").is_none();
            let mounts: Vec<_> = everywhere.iter().filter(|mount| mount.text("name") == volume).collect();
            let only_here = mounts.iter().all(|mount| own(mount) == path && is_whole(mount));
            let alone =
                here.iter().filter(|mount| own(mount) == path).all(|mount| mount.text("name") == volume);
            return match only_here && alone && self.is_plain_empty_dir(volume) {
                true => Place::Free(Some(volume.to_owned())),
                false => Place::Taken("mounted by the workload"),
            };
        }
        let nests = |mount: &&Json<'_>| {
            let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            let other = own(mount);
            !mount.text("mountPath").is_empty() && (below(&other, path) || below(path, &other))
        };
        match here.iter().any(nests) {
            true => Place::Taken("above or below a mount of the workload"),
            false => Place::Free(None),
        }
    }

    fn is_plain_empty_dir(&self, volume: &str) -> bool {
        let volume = self.workload.volumes().iter().find(|other| other.text("name") == volume);
        let empty_dir = volume.and_then(|volume| volume.get("emptyDir"));
        empty_dir.is_some_and(|empty_dir| empty_dir.text("medium") != "Memory")
            && volume.and_then(Json::as_object).is_some_and(|volume| volume.len() == 2)
    }

    /// Adds one volume with its mounts.
    pub(super) fn add_volume(
        &self,
        intent: &Intent,
        path: &str,
        volume: &ChosenVolume,
        empty_dir: Option<String>,
        fitted: &mut Fitted,
    ) {
        let is_set = self.workload.kind == Kind::StatefulSet;
        let made = bounded(&slug(path), &hex(&["volume", path], 6)).trim_start_matches('-').to_owned();
        let name = empty_dir.clone().unwrap_or(made);
        let is_taken = |list: &[Json<'_>], place: &[&str]| {
            list.iter().any(|other| other.at(place).and_then(Json::as_str) == Some(&name))
        };
        let taken = (empty_dir.is_none() && is_taken(self.workload.volumes(), &["name"]))
            || is_taken(self.workload.claim_templates(), &["metadata", "name"]);
        if taken {
            fitted.skipped.push(Skipped::new(path, format!("a volume named {name} exists")));
            return;
        }
        let additions = &mut fitted.additions;
        if is_set {
            // A template takes precedence over a pod volume of its name: an `emptyDir` can stay where it is.
            additions.templates.push(Entry::template(intent, &name, template(&name, volume)));
        } else {
            let claim = deliver::claim_name(self.workload.kind, self.workload.name, path);
            let value = Json::object([
                ("name", name.clone().into()),
                ("persistentVolumeClaim", Json::object([("claimName", claim.into())])),
            ]);
            additions.volumes.push(Entry::new(intent, &name, value));
            additions.claims.insert(path.to_owned(), volume.clone());
        }
        for container in &self.containers {
            if self.obstacle(container, path).is_none() {
                let mount = mount(&name, path);
                let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
                mounts.push(Entry::new(intent, path, mount));
            }
        }
        if let Some(volume) = empty_dir.filter(|_| !is_set) {
            let found = self.workload.volumes().iter().find(|other| other.text("name") == volume);
            let original = found.and_then(|found| found.get("emptyDir")).unwrap_or(&Json::Null);
            additions.replaced.insert(volume, original.into());
        }
    }

    /// Mounts templates of ours in new containers where containers that are gone had them: those may have got another name.
    pub(super) fn mount_orphans(&self, intent: &Intent, stored: &Workload<'_>, additions: &mut Additions) {
        let is_new = |container: &Container<'_>| stored.container(container.name).is_none();
        for template in additions.templates.clone() {
            let gone = stored.containers.iter().filter(|c| self.workload.container(c.name).is_none());
            let mounts = gone.flat_map(|container| container.mounts);
            let paths: BTreeSet<&str> =
                mounts.filter(|m| m.text("name") == template.key).map(|m| m.text("mountPath")).collect();
            let news = self.containers.iter().filter(|container| is_new(container));
            for (container, path) in news.flat_map(|c| paths.iter().map(move |path| (c, *path))) {
                if self.obstacle(container, path).is_none() {
                    let mount = mount(&template.key, path);
                    let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
                    mounts.push(Entry::new(intent, path, mount));
                }
            }
        }
    }

    /// Mounts templates of ours again where the record says that they were mounted: an update that came past us while we were
    /// away may have dropped that, and the app would go on without its disk.
    pub(super) fn mount_lost(&self, intent: &Intent, before: &Record, additions: &mut Additions) {
        for container in &self.containers {
            let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
            for template in &additions.templates {
                for (slot, path) in before.mounts_in(container.name) {
                    let mount = mount(&template.key, path);
                    let was_there = before.owns(slot, &mount);
                    let is_there = mounts.iter().any(|entry| entry.key == path);
                    if was_there && !is_there && self.obstacle(container, path).is_none() {
                        mounts.push(Entry::new(intent, path, mount));
                    }
                }
            }
        }
        additions.mounts.retain(|_, mounts| !mounts.is_empty());
    }

    /// A Ceph volume belongs to root, an `emptyDir` to all: the app's group is added where it is known.
    pub(super) fn add_group(&self, intent: &Intent, fitted: &mut Fitted) {
        let Some(gid) = self.profile.and_then(|profile| profile.gid) else { return };
        let context = self.workload.security_context();
        let is_set = |field: &str| context.and_then(|c| c.get(field)).is_some_and(|value| !value.is_null());
        if is_set("fsGroup") {
            return;
        }
        fitted.additions.pod.push(Entry::new(intent, "fsGroup", Json::from(gid)));
        if !is_set("fsGroupChangePolicy") {
            let policy = Json::from("OnRootMismatch");
            fitted.additions.pod.push(Entry::new(intent, "fsGroupChangePolicy", policy));
        }
    }
}

/// A mount of a volume.
fn mount(name: &str, path: &str) -> Json<'static> {
    Json::object([("name", name.to_owned().into()), ("mountPath", path.to_owned().into())])
}

/// A claim template, with all that the server would add, so that it stays as we wrote it.
fn template(name: &str, volume: &ChosenVolume) -> Json<'static> {
    let text = |text: &str| Json::from(text.to_owned());
    let requests = Json::object([("storage", text(&volume.size))]);
    let spec = Json::object([
        ("accessModes", Json::Array(vec![volume.access_mode().into()])),
        ("resources", Json::object([("requests", requests)])),
        ("storageClassName", text(&volume.class)),
        ("volumeMode", "Filesystem".into()),
    ]);
    Json::object([
        ("apiVersion", "v1".into()),
        ("kind", "PersistentVolumeClaim".into()),
        ("metadata", Json::object([("name", text(name))])),
        ("spec", spec),
        ("status", Json::object([("phase", "Pending".into())])),
    ])
}
