//! The workloads that have a key of ours, as they stand in the cluster: what a controller works on. Of the others, only what tells
//! whether a policy acts on them.
use super::Change;
use opportune_core::{
    discover::Labels,
    json::Json,
    keys,
    workload::{Kind, Workload, is_made_by_another},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// One workload of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// Its namespace.
    pub namespace: String,
    /// Which kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// A workload as the API server last told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The object without `managedFields` and `status`.
    pub object: Value,
    /// What else is known of it.
    pub facts: Facts,
}

/// What is kept of a workload besides its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Whether all its pods are of its template, and available.
    pub is_rolled_out: bool,
    /// Whether another controller owns it, which would put back what we change.
    pub is_controlled: bool,
    /// The annotation `refreshed` of its pod template: the cause of the last rollout of ours.
    pub refreshed: Option<String>,
    /// Its annotation `status`.
    pub status: Option<String>,
    /// When that was last seen to change.
    pub told: Option<Instant>,
}

/// What is kept of a workload without a key of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its own labels.
    pub labels: Labels,
    /// Whether another controller owns it.
    pub is_controlled: bool,
}

/// All of them. Clones share them.
#[derive(Clone, Default)]
pub struct Workloads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    /// Objects as text: a parsed one takes several times as much.
    objects: BTreeMap<WorkloadId, (Box<[u8]>, Facts)>,
    dirty: HashSet<WorkloadId>,
    others: BTreeMap<WorkloadId, Other>,
    /// Those of the others that came or changed.
    fresh: HashSet<WorkloadId>,
    /// Those that count as if they had a key of ours.
    adopted: HashSet<WorkloadId>,
    /// Kinds of which all were told once.
    listed: HashSet<&'static str>,
}

// === impl WorkloadId ===

impl WorkloadId {
    /// Of an object as a watch tells it; `None` where it is no workload.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |field: &str| object.pointer(&format!("/metadata/{field}"))?.as_str().map(str::to_owned);
        Some(Self { kind: Kind::of(object)?, namespace: text("namespace")?, name: text("name")? })
    }
}

/// As in `kubectl get`: `deployment/web in blog`.
impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} in {}", self.kind.name().to_ascii_lowercase(), self.name, self.namespace)
    }
}

// === impl Workloads ===

impl Workloads {
    /// Takes note of what a watch told.
    pub(super) fn take(&self, change: &Change) {
        let mut known = self.known();
        match change {
            Change::Applied(object) => known.apply(object),
            Change::Removed(object) => {
                if let Some(id) = WorkloadId::of(object) {
                    known.remove(&id);
                }
            }
            Change::Listed { resource, present } => {
                let is_gone = |id: &&WorkloadId| {
                    id.kind.name() == resource.kind
                        && !present.contains(&(Some(id.namespace.clone()), id.name.clone()))
                };
                let all = known.objects.keys().chain(known.others.keys());
                let gone: Vec<WorkloadId> = all.filter(is_gone).cloned().collect();
                gone.iter().for_each(|id| known.remove(id));
                known.listed.insert(resource.kind);
            }
        }
        if !(known.dirty.is_empty() && known.fresh.is_empty()) {
            self.0.changed.notify_one();
        }
    }

    /// As if a watch told of an object.
    #[cfg(test)]
    pub(crate) fn told(&self, object: Value) {
        self.take(&Change::Applied(object));
    }

    /// As if a watch told that an object is no more.
    #[cfg(test)]
    pub(crate) fn told_gone(&self, object: Value) {
        self.take(&Change::Removed(object));
    }

    /// Ends when something changed since [`Workloads::take_changed`].
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What changed since it was last asked.
    pub fn take_changed(&self) -> HashSet<WorkloadId> {
        std::mem::take(&mut self.known().dirty)
    }

    /// The workloads without a key of ours.
    pub fn others(&self) -> Vec<(WorkloadId, Other)> {
        self.known().others.iter().map(|(id, other)| (id.clone(), other.clone())).collect()
    }

    /// Those of them that came or changed since it was last asked.
    pub fn take_fresh(&self) -> Vec<(WorkloadId, Other)> {
        let mut known = self.known();
        let fresh = std::mem::take(&mut known.fresh);
        let noted = fresh.into_iter().filter_map(|id| {
            let other = known.others.get(&id)?.clone();
            Some((id, other))
        });
        noted.collect()
    }

    /// From now on, a workload without a key of ours counts as one that has one, as long as it is there; returns whether it
    /// has to be read.
    pub fn adopt(&self, id: &WorkloadId) -> bool {
        let mut known = self.known();
        let is_there = known.others.contains_key(id);
        if is_there {
            known.adopted.insert(id.clone());
        }
        is_there
    }

    /// Takes note of an adopted workload as it was read, unless a watch told of it or of its end since.
    pub fn take_adopted(&self, id: &WorkloadId, object: &Value) {
        let mut known = self.known();
        if known.adopted.contains(id) && !known.objects.contains_key(id) {
            known.apply(object);
            drop(known);
            self.0.changed.notify_one();
        }
    }

    /// All of them.
    pub fn ids(&self) -> Vec<WorkloadId> {
        self.known().objects.keys().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, id: &WorkloadId) -> Option<Stored> {
        let known = self.known();
        let (text, facts) = known.objects.get(id)?;
        let (text, facts) = (text.clone(), facts.clone());
        drop(known);
        Some(Stored { object: serde_json::from_slice(&text).ok()?, facts })
    }

    /// What is known of one besides its object.
    pub fn facts(&self, id: &WorkloadId) -> Option<Facts> {
        self.known().objects.get(id).map(|(_, facts)| facts.clone())
    }

    /// Those that a rollout of ours keeps from being rolled out, each with its cause.
    pub fn rolling(&self) -> BTreeMap<WorkloadId, String> {
        let known = self.known();
        let rolling = known.objects.iter().filter(|(_, (_, facts))| !facts.is_rolled_out);
        rolling.filter_map(|(id, (_, facts))| Some((id.clone(), facts.refreshed.clone()?))).collect()
    }

    /// Whether any in a namespace names `text` anywhere.
    pub fn is_named(&self, namespace: &str, text: &str) -> bool {
        let known = self.known();
        let mut here = known.objects.iter().filter(|(id, _)| id.namespace == namespace);
        here.any(|(_, (object, _))| object.windows(text.len().max(1)).any(|window| window == text.as_bytes()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Known ===

impl Known {
    fn apply(&mut self, object: &Value) {
        let Some(id) = WorkloadId::of(object) else { return };
        let is_going = object.pointer("/metadata/deletionTimestamp").is_some();
        if is_going || is_made_by_another(id.kind, object) || is_over(id.kind, object) {
            self.remove(&id);
            return;
        }
        if !has_key_of_ours(id.kind, object) && !self.adopted.contains(&id) {
            if self.objects.remove(&id).is_some() {
                self.dirty.insert(id.clone());
            }
            self.note_other(id, object);
            return;
        }
        self.others.remove(&id);
        let mut facts = Facts::of(object);
        let Some(text) = stripped(object) else { return };
        match self.objects.get_mut(&id) {
            Some((known, before)) => {
                let is_told = before.status != facts.status;
                facts.told = if is_told { Some(Instant::now()) } else { before.told };
                let is_same =
                    *known == text && Facts { version: before.version.clone(), ..facts.clone() } == *before;
                (*known, *before) = (text, facts);
                if is_same {
                    return;
                }
            }
            None => {
                facts.told = self.listed.contains(id.kind.name()).then(Instant::now);
                self.objects.insert(id.clone(), (text, facts));
            }
        }
        self.dirty.insert(id);
    }

    fn note_other(&mut self, id: WorkloadId, object: &Value) {
        let object = Json::from(object);
        let Ok(Some(workload)) = Workload::read(&object) else { return };
        let other = Other { labels: workload.labels(), is_controlled: workload.is_controlled() };
        if self.others.get(&id) != Some(&other) {
            self.fresh.insert(id.clone());
            self.others.insert(id, other);
        }
    }

    fn remove(&mut self, id: &WorkloadId) {
        self.adopted.remove(id);
        self.others.remove(id);
        self.fresh.remove(id);
        if self.objects.remove(id).is_some() {
            self.dirty.insert(id.clone());
        }
    }
}

// === impl Facts ===

impl Facts {
    fn of(object: &Value) -> Self {
        let text = |field: &str| {
            object
                .pointer(&format!("/metadata/{field}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        Self {
            uid: text("uid"),
            version: text("resourceVersion"),
            is_rolled_out: is_rolled_out(object),
            is_controlled: owners
                .into_iter()
                .flatten()
                .any(|owner| owner.get("controller") == Some(&true.into())),
            refreshed: Kind::of(object)
                .and_then(|kind| annotation(object, &kind.pod_annotations_pointer(), keys::REFRESHED)),
            status: annotation(object, "/metadata/annotations", keys::STATUS),
            told: None,
        }
    }
}

fn annotation(object: &Value, map: &str, key: &str) -> Option<String> {
    object.pointer(map)?.get(key)?.as_str().map(str::to_owned)
}

/// Whether its last pod has ended: it needs nothing any more.
fn is_over(kind: Kind, object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let has = |condition: &Value, field: &str, texts: &[&str]| {
        condition.get(field).and_then(Value::as_str).is_some_and(|text| texts.contains(&text))
    };
    match kind {
        Kind::Job => conditions.into_iter().flatten().any(|condition| {
            has(condition, "type", &["Complete", "Failed"]) && has(condition, "status", &["True"])
        }),
        Kind::Pod => {
            object.get("status").is_some_and(|status| has(status, "phase", &["Succeeded", "Failed"]))
        }
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::CronJob => false,
    }
}

fn is_rolled_out(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
    let kind = Kind::of(object);
    match kind {
        // Each of its runs has pods of its own.
        Some(Kind::CronJob) => return true,
        // The API server counts no generation of these: whether what pods need is there shows by their having started.
        Some(Kind::Job) => {
            let is_suspended = object.pointer("/spec/suspend").is_some_and(|suspend| *suspend == true);
            return is_suspended || (status("active") > 0 && status("ready") >= status("active"));
        }
        Some(Kind::Pod) => return object.pointer("/status/phase").is_some_and(|phase| phase == "Running"),
        _ => {}
    }
    if status("observedGeneration") < number("/metadata/generation").unwrap_or_default() {
        return false;
    }
    let strategy = object.pointer("/spec/updateStrategy/type").and_then(Value::as_str);
    let wanted = number("/spec/replicas").unwrap_or(1);
    match kind {
        Some(Kind::Deployment) => {
            status("updatedReplicas") >= wanted
                && status("replicas") <= status("updatedReplicas")
                && status("availableReplicas") >= wanted
        }
        // Who holds pods back by hand is waited for by nobody.
        _ if strategy == Some("OnDelete") => true,
        Some(Kind::DaemonSet) => {
            let wanted = status("desiredNumberScheduled");
            status("updatedNumberScheduled") >= wanted && status("numberAvailable") >= wanted
        }
        _ => {
            let partition = number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
            status("updatedReplicas") >= wanted - partition && status("readyReplicas") >= wanted
        }
    }
}

/// Whether a key of ours is on a workload of that kind or its pod template.
pub(super) fn has_key_of_ours(kind: Kind, object: &Value) -> bool {
    let annotations = |pointer: &str| object.pointer(pointer).and_then(Value::as_object);
    let maps = [annotations("/metadata/annotations"), annotations(&kind.pod_annotations_pointer())];
    maps.into_iter().flatten().flatten().any(|(key, _)| key.starts_with(keys::PREFIX))
}

/// The object without what changes all the time or is not looked at, as text.
fn stripped(object: &Value) -> Option<Box<[u8]>> {
    let mut object = object.clone();
    object.as_object_mut()?.remove("status");
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    for field in ["managedFields", "resourceVersion", "generation"] {
        metadata.remove(field);
    }
    serde_json::to_vec(&object).ok().map(Vec::into_boxed_slice)
}
