//! Volumes: claim templates for a StatefulSet's data paths, claims for those of all other workloads.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    Target,
    additions::{Additions, Entry},
    env::Fitted,
    record::{ChosenVolume, Record},
};
use crate::{
    decide::{Absence, Choice, Decision, Outcome, PolicySize, Question, Skipped, choose},
    deliver,
    discover::{Catalog, Offer},
    intent::Intent,
    name::{bounded, hex, slug},
    size,
    workload::{Container, Kind, Workload, text},
};

/// The size of a volume where neither the workload nor its profile says one.
const DEFAULT_SIZE: &str = "10Gi";

/// The word of a note by which a volume is smaller than it was asked for.
pub(crate) const CUT: &str = "cut";

/// What the storage intent comes to.
pub(super) struct Stored {
    pub decision: Decision,
    pub fitted: Fitted,
}

/// The wish for volumes, and what was chosen before.
pub(super) struct StorageQuestion<'a> {
    pub question: Question<'a>,
    pub is_required: bool,
    /// The record of the object as the server holds it.
    pub before: Option<&'a Record>,
    /// Whether the object exists already.
    pub is_update: bool,
}

/// What the intent comes to, the offer for new volumes, and why there is none.
struct Found {
    outcome: Outcome,
    offer: Option<Arc<Offer>>,
    refused: Option<Absence>,
}

impl Found {
    fn new(outcome: Outcome, offer: Option<Arc<Offer>>, refused: Option<Absence>) -> Self {
        Self { outcome, offer, refused }
    }
}

/// What a data path wants.
enum Wished {
    /// A volume of this size.
    Anew(String),
    /// The one that it has.
    Chosen(ChosenVolume),
}

/// What stands at a data path now.
enum Place {
    /// Nothing, or an `emptyDir` (of that volume) that gives way.
    Free(Option<String>),
    /// Something of the user's.
    Taken(&'static str),
}

impl StorageQuestion<'_> {
    /// Decides on volumes for a StatefulSet that is created, or for any other workload.
    pub(super) fn answer(&self, catalog: &Catalog, target: &Target<'_>) -> Stored {
        let mut fitted = Fitted::default();
        let outcome = self.fit(catalog, target, &mut fitted).unwrap_or_else(Outcome::Absent);
        if !matches!(outcome, Outcome::Bound(_) | Outcome::Kept { .. }) {
            fitted = Fitted::default();
        }
        let decision = Decision::new(self.is_required, outcome);
        Stored { decision, fitted }
    }

    fn fit(&self, catalog: &Catalog, target: &Target<'_>, fitted: &mut Fitted) -> Result<Outcome, Absence> {
        let is_set = target.workload.kind == Kind::StatefulSet;
        if is_set && self.is_update {
            return Err(Absence::Immutable);
        }
        let paths = self.paths(target, fitted);
        let templates = if is_set { target.workload.claim_templates() } else { &[] };
        let classless: Vec<&Value> = templates.iter().filter(is_classless).collect();
        if paths.is_empty() && classless.is_empty() {
            return Err(Absence::NoDataPath);
        }
        if target.workload.name.is_empty() && !is_set {
            return Err(Absence::NoName);
        }
        let Found { outcome, offer, refused } = self.find(catalog, target, &paths)?;
        let mut taken = Vec::new();
        for (path, wished) in &paths {
            let volume = match (wished, offer.as_deref(), &refused) {
                (Wished::Chosen(volume), ..) => volume.clone(),
                (Wished::Anew(size), Some(offer), None) => ChosenVolume::of(offer, size),
                (Wished::Anew(_), _, reason) => {
                    let reason = reason.as_ref().map_or_else(String::new, ToString::to_string);
                    fitted.skipped.push(Skipped::new(path, reason));
                    continue;
                }
            };
            if volume.kind == "block" && target.workload.generations_overlap() {
                fitted.notes.push(format!("{path} is block storage: one pod at a time"));
            }
            match target.place(path) {
                Place::Taken(reason) => {
                    taken.push(path.clone());
                    fitted.skipped.push(Skipped::new(path, reason));
                }
                Place::Free(empty_dir) => {
                    target.add_volume(self.question.intent, path, &volume, empty_dir, fitted)
                }
            }
        }
        let is_used = !fitted.additions.volumes.is_empty() || !fitted.additions.templates.is_empty();
        if let Some(offer) = &offer {
            self.add_classes(&classless, offer, fitted);
        }
        if is_used {
            target.add_group(self.question.intent, fitted);
        }
        match fitted.additions.is_empty() && !taken.is_empty() {
            true => Err(Absence::Mounted(taken)),
            false => Ok(outcome),
        }
    }

    /// The paths that want a volume. One that has its volume keeps it, unless the workload's own list leaves it out: a
    /// profile that no longer matches must not put an app on an empty disk.
    fn paths(&self, target: &Target<'_>, fitted: &mut Fitted) -> BTreeMap<String, Wished> {
        let sized = target.data_paths(self.question.is_enforced).into_iter();
        let wished = sized.map(|(path, size)| (path, Wished::Anew(size)));
        let mut paths: BTreeMap<String, Wished> = wished.collect();
        // What could not be made holds nothing.
        let is_withdrawn = |record: &&Record| {
            let offer = record.offers.get(self.question.intent);
            let last = self.question.withdrawn.and_then(|withdrawn| withdrawn.offers.first());
            last.is_some_and(|(id, _)| offer == Some(&id.key()))
        };
        let before = self.before.filter(|record| record.has(self.question.intent) && !is_withdrawn(record));
        for (path, volume) in before.iter().flat_map(|record| &record.claims) {
            if target.wishes.storage.is_empty() || paths.contains_key(path) {
                paths.insert(path.clone(), Wished::Chosen(volume.clone()));
            }
        }
        for (path, wished) in &mut paths {
            if let Wished::Anew(size) = wished {
                target.say_default(path, fitted);
                target.limit(path, size, fitted);
            }
        }
        paths
    }

    /// Looks for storage where a path needs a new volume: one that has its volume stays whatever becomes of the others.
    fn find(
        &self,
        catalog: &Catalog,
        target: &Target<'_>,
        paths: &BTreeMap<String, Wished>,
    ) -> Result<Found, Absence> {
        let has_chosen = paths.values().any(|wished| matches!(wished, Wished::Chosen(_)));
        let has_new = paths.is_empty() || paths.values().any(|wished| matches!(wished, Wished::Anew(_)));
        if has_new {
            match self.choose(catalog, target) {
                Ok(Outcome::Bound(offer)) => {
                    return Ok(Found::new(Outcome::Bound(offer.clone()), Some(offer), None));
                }
                // Where no path has its volume, there is nothing to keep.
                Ok(Outcome::Kept { .. }) if !has_chosen => return Err(Absence::NoOffer),
                Ok(outcome) if !has_chosen => return Ok(Found::new(outcome, None, None)),
                Err(absence) if !has_chosen => return Err(absence),
                Ok(_) => return Ok(Found::new(self.unchanged(catalog), None, Some(Absence::NoOffer))),
                Err(absence) => return Ok(Found::new(self.unchanged(catalog), None, Some(absence))),
            }
        }
        Ok(Found::new(self.unchanged(catalog), None, None))
    }

    /// The offer of the volumes that are there.
    fn unchanged(&self, catalog: &Catalog) -> Outcome {
        let id =
            self.before.and_then(|record| record.in_use(self.question.intent, "")).map(|in_use| in_use.offer);
        let offer = id.as_ref().and_then(|id| catalog.offer(self.question.intent, id));
        match (offer.filter(|offer| offer.is_complete()), id) {
            (Some(offer), _) => Outcome::Bound(offer.clone()),
            (None, Some(id)) => {
                Outcome::Kept { offer: id.to_string(), reason: format!("{id} is no longer offered") }
            }
            (None, None) => Outcome::Kept { offer: String::new(), reason: "its volumes are there".into() },
        }
    }

    fn choose(&self, catalog: &Catalog, target: &Target<'_>) -> Result<Outcome, Absence> {
        let is_block = |offer: &Offer| offer.settings.literal("kind") == Some("block");
        let is_shared = |offer: &Offer| offer.settings.literal("kind") == Some("shared");
        let overlap = target.workload.generations_overlap();
        let fits: &[&dyn Fn(&Offer) -> bool] = if overlap { &[&is_shared] } else { &[&is_block, &is_shared] };
        match choose(catalog, &self.question, fits) {
            Choice::Use(offer) => Ok(Outcome::Bound(offer)),
            Choice::Not(Outcome::Absent(absence)) => match choose(catalog, &self.question, &[&is_block]) {
                Choice::Use(block) if overlap => {
                    Err(Absence::BlockNeedsRecreate(block.id.to_string(), alone(target.workload.kind)))
                }
                _ => Err(absence),
            },
            Choice::Not(outcome) => Ok(outcome),
        }
    }

    /// Gives the user's templates without a class the class of the offer, where it can do what they ask.
    fn add_classes(&self, classless: &[&Value], offer: &Arc<Offer>, fitted: &mut Fitted) {
        let Some(class) = offer.settings.literal("class") else { return };
        let is_block = offer.settings.literal("kind") == Some("block");
        for template in classless {
            let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let modes = template.pointer("/spec/accessModes").and_then(Value::as_array);
            let is_shared = modes.into_iter().flatten().any(|mode| mode == "ReadWriteMany");
            if is_shared && is_block {
                fitted
                    .skipped
                    .push(Skipped::new(name, "wants ReadWriteMany, which block storage can't give"));
                continue;
            }
            fitted.additions.classes.push(Entry::new(self.question.intent, name, Value::from(class)));
        }
    }
}

/// What a StatefulSet that exists has of us, which can't change: it stays whatever is wished.
pub(super) fn immutable(
    target: &Target<'_>,
    mut additions: Additions,
    (stored, before): (&Workload<'_>, &Record),
    catalog: &Catalog,
    intent: &Intent,
    wish: Option<bool>,
) -> Stored {
    target.mount_orphans(intent, stored, &mut additions);
    target.mount_lost(intent, before, &mut additions);
    let id = before.in_use(intent, "").map(|in_use| in_use.offer);
    let offer = id.as_ref().and_then(|id| catalog.offer(intent, id)).filter(|_| wish.is_some());
    let name = id.map_or_else(String::new, |id| id.to_string());
    let outcome = match offer {
        Some(offer) => Outcome::Bound(offer.clone()),
        None if wish.is_some() => {
            Outcome::Kept { reason: format!("{name} is no longer offered"), offer: name }
        }
        None => Outcome::Kept { offer: name, reason: "immutable".into() },
    };
    let decision = Decision::new(wish.unwrap_or(false), outcome);
    Stored { decision, fitted: Fitted { additions, ..Fitted::default() } }
}

/// What lets a workload run one pod at a time.
fn alone(kind: Kind) -> &'static str {
    match kind {
        Kind::DaemonSet => "one pod at a time, and this has one on each node",
        Kind::Job => "parallelism 1 and podReplacementPolicy Failed",
        Kind::CronJob => "concurrencyPolicy Forbid, parallelism 1 and podReplacementPolicy Failed",
        Kind::Deployment | Kind::StatefulSet | Kind::Pod => "one replica and strategy Recreate",
    }
}

fn is_classless(template: &&Value) -> bool {
    let spec = template.get("spec").and_then(Value::as_object);
    let is_absent = |field: &str| spec.is_some_and(|spec| spec.get(field).is_none_or(Value::is_null));
    // One that names its volume wants no other.
    ["storageClassName", "volumeName", "selector"].into_iter().all(is_absent)
}

// === impl ChosenVolume ===

impl ChosenVolume {
    fn of(offer: &Offer, size: &str) -> Self {
        let literal = |name: &str| offer.settings.literal(name).unwrap_or_default().to_owned();
        Self { class: literal("class"), kind: literal("kind"), size: size.to_owned() }
    }

    /// The access mode that goes with its kind.
    pub(crate) fn access_mode(&self) -> &'static str {
        match self.kind.as_str() {
            "shared" => "ReadWriteMany",
            _ => "ReadWriteOnce",
        }
    }
}

// === impl Target ===

impl Target<'_> {
    /// The paths that want a volume, with its size: those that the workload names, else those of its profile; both, where
    /// volumes are enforced.
    fn data_paths(&self, is_enforced: bool) -> BTreeMap<String, String> {
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
    fn say_default(&self, path: &str, fitted: &mut Fitted) {
        let is_said = self.wishes.storage.get(path).is_some_and(Option::is_some)
            || self.profile.is_some_and(|profile| profile.size_of(path).is_some());
        if let Some(PolicySize { policy, size }) = self.terms.default_size().filter(|_| !is_said) {
            fitted.because.push(format!("policy {policy} gives {path} {size} by default"));
        }
    }

    /// Cuts the size of a new volume down to what policies allow.
    fn limit(&self, path: &str, size: &mut String, fitted: &mut Fitted) {
        let bytes = |text: &str| size::bytes(text).unwrap_or_default();
        let Some(PolicySize { policy, size: most }) = self.terms.max_size() else { return };
        if bytes(&most) < bytes(size) {
            fitted.notes.push(format!("{path} {CUT} from {size} to {most} by policy {policy}"));
            *size = most;
        }
    }

    /// What stands at a path, in any container that is injected.
    fn place(&self, path: &str) -> Place {
        let own = |mount: &Value| text(mount, "mountPath").trim_end_matches('/').to_owned();
        let everywhere: Vec<&Value> = self.workload.containers.iter().flat_map(|c| c.mounts).collect();
        let here: Vec<&Value> = self.containers.iter().flat_map(|container| container.mounts).collect();
        if let Some(mount) = here.iter().find(|mount| own(mount) == path) {
            let volume = text(mount, "name");
            let is_whole =
                |mount: &&&Value| mount.get("subPath").is_none() && mount.get("subPathExpr").is_none();
            let mounts: Vec<_> = everywhere.iter().filter(|mount| text(mount, "name") == volume).collect();
            let only_here = mounts.iter().all(|mount| own(mount) == path && is_whole(mount));
            let alone =
                here.iter().filter(|mount| own(mount) == path).all(|mount| text(mount, "name") == volume);
            return match only_here && alone && self.is_plain_empty_dir(volume) {
                true => Place::Free(Some(volume.to_owned())),
                false => Place::Taken("mounted by the workload"),
            };
        }
        let nests = |mount: &&Value| {
            let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            let other = own(mount);
            !text(mount, "mountPath").is_empty() && (below(&other, path) || below(path, &other))
        };
        match here.iter().any(nests) {
            true => Place::Taken("above or below a mount of the workload"),
            false => Place::Free(None),
        }
    }

    fn is_plain_empty_dir(&self, volume: &str) -> bool {
        let volume = self.workload.volumes().iter().find(|other| text(other, "name") == volume);
        let empty_dir = volume.and_then(|volume| volume.get("emptyDir"));
        empty_dir.is_some_and(|empty_dir| text(empty_dir, "medium") != "Memory")
            && volume.and_then(Value::as_object).is_some_and(|volume| volume.len() == 2)
    }

    /// Adds one volume with its mounts.
    fn add_volume(
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
        let is_taken = |list: &[Value], pointer: &str| {
            list.iter().any(|other| other.pointer(pointer).and_then(Value::as_str) == Some(&name))
        };
        let taken = (empty_dir.is_none() && is_taken(self.workload.volumes(), "/name"))
            || is_taken(self.workload.claim_templates(), "/metadata/name");
        if taken {
            fitted.skipped.push(Skipped::new(path, format!("a volume named {name} exists")));
            return;
        }
        let additions = &mut fitted.additions;
        if is_set {
            // A template takes precedence over a pod volume of its name: an `emptyDir` can stay where it is.
            additions.templates.push(Entry::new(intent, &name, template(&name, volume)));
        } else {
            let claim = deliver::claim_name(self.workload.kind, self.workload.name, path);
            let value = json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
            additions.volumes.push(Entry::new(intent, &name, value));
            additions.claims.insert(path.to_owned(), volume.clone());
        }
        for container in &self.containers {
            if self.obstacle(container, path).is_none() {
                let mount = json!({"name": name, "mountPath": path});
                let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
                mounts.push(Entry::new(intent, path, mount));
            }
        }
        if let Some(volume) = empty_dir.filter(|_| !is_set) {
            let found = self.workload.volumes().iter().find(|other| text(other, "name") == volume);
            let original = found.and_then(|found| found.get("emptyDir")).cloned();
            additions.replaced.insert(volume, original.unwrap_or_default());
        }
    }

    /// Mounts templates of ours in new containers where containers that are gone had them: those may have got another name.
    fn mount_orphans(&self, intent: &Intent, stored: &Workload<'_>, additions: &mut Additions) {
        let is_new = |container: &Container<'_>| stored.container(container.name).is_none();
        for template in additions.templates.clone() {
            let gone = stored.containers.iter().filter(|c| self.workload.container(c.name).is_none());
            let mounts = gone.flat_map(|container| container.mounts);
            let paths: BTreeSet<&str> =
                mounts.filter(|m| text(m, "name") == template.key).map(|m| text(m, "mountPath")).collect();
            let news = self.containers.iter().filter(|container| is_new(container));
            for (container, path) in news.flat_map(|c| paths.iter().map(move |path| (c, *path))) {
                if self.obstacle(container, path).is_none() {
                    let mount = json!({"name": template.key, "mountPath": path});
                    let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
                    mounts.push(Entry::new(intent, path, mount));
                }
            }
        }
    }

    /// Mounts templates of ours again where the record says that they were mounted: an update that came past us while we were
    /// away may have dropped that, and the app would go on without its disk.
    fn mount_lost(&self, intent: &Intent, before: &Record, additions: &mut Additions) {
        for container in &self.containers {
            let mounts = additions.mounts.entry(container.name.to_owned()).or_default();
            for template in &additions.templates {
                for (slot, path) in before.mounts_in(container.name) {
                    let mount = json!({"name": template.key, "mountPath": path});
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
    fn add_group(&self, intent: &Intent, fitted: &mut Fitted) {
        let Some(gid) = self.profile.and_then(|profile| profile.gid) else { return };
        let context = self.workload.security_context();
        let is_set = |field: &str| context.and_then(|c| c.get(field)).is_some_and(|value| !value.is_null());
        if is_set("fsGroup") {
            return;
        }
        fitted.additions.pod.push(Entry::new(intent, "fsGroup", Value::from(gid)));
        if !is_set("fsGroupChangePolicy") {
            let policy = Value::from("OnRootMismatch");
            fitted.additions.pod.push(Entry::new(intent, "fsGroupChangePolicy", policy));
        }
    }
}

/// A claim template, with all that the server would add, so that it stays as we wrote it.
fn template(name: &str, volume: &ChosenVolume) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [volume.access_mode()],
            "resources": {"requests": {"storage": volume.size}},
            "storageClassName": volume.class,
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Pending"},
    })
}
