//! A workload as raw JSON: a borrowed view of what decisions look at. Nothing is ever written back through it.
mod kind;

use serde_json::Value;

pub use self::kind::{Kind, Kinds, NotAKind};
use crate::{
    decide::is_users,
    discover::Labels,
    json::{Json, Object},
    name::is_dns_subdomain,
};

/// A workload of any kind that can be injected.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// Which of them.
    pub kind: Kind,
    /// Its name; empty where the server has yet to make one (`generateName`).
    pub name: &'a str,
    /// Its regular and init containers, in this order.
    pub containers: Vec<Container<'a>>,
    object: &'a Json<'a>,
}

/// One container of its pods.
#[derive(Debug, Clone)]
pub struct Container<'a> {
    /// Which list it stands in.
    pub list: &'static str,
    /// Its place in that list.
    pub index: usize,
    /// Its name, unique in the pod.
    pub name: &'a str,
    /// Its image; empty where there is none.
    pub image: &'a str,
    /// Its variables.
    pub env: &'a [Json<'a>],
    /// Its mounts.
    pub mounts: &'a [Json<'a>],
    /// The names of its variables, in their order: each of ours is looked for among them.
    names: Vec<&'a str>,
}

/// A workload that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Malformed {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The most containers of one pod: no node could run more.
const MAX_CONTAINERS: usize = 500;
/// The list of regular containers.
pub const CONTAINERS: &str = "containers";
/// The list of init containers.
pub const INIT_CONTAINERS: &str = "initContainers";
const CLAIM_TEMPLATES: &[&str] = &["spec", "volumeClaimTemplates"];
pub(crate) const OWNERS: &[&str] = &["metadata", "ownerReferences"];
const LABELS: &[&str] = &["metadata", "labels"];
const ANNOTATIONS: &[&str] = &["metadata", "annotations"];

// === impl Malformed ===

impl Malformed {
    fn new(field: impl Into<String>, reason: &'static str) -> Self {
        Self { field: field.into(), reason }
    }
}

// === impl Workload ===

impl<'a> Workload<'a> {
    /// Looks at an object of a kind that we inject; `None` for any other.
    ///
    /// # Errors
    /// [`Malformed`] where a field that is read has the wrong shape.
    pub fn read(object: &'a Json<'a>) -> Result<Option<Self>, Malformed> {
        let Some(kind) = Kind::of_json(object) else { return Ok(None) };
        let name = object.at(&["metadata", "name"]).and_then(Json::as_str).unwrap_or_default();
        if !name.is_empty() && !is_dns_subdomain(name) {
            return Err(Malformed::new("metadata.name", "not a name that Kubernetes allows"));
        }
        for field in ["metadata", "spec"] {
            object_at(object, &[field])?;
        }
        let (template, pod_spec) = (kind.template(), kind.pod_spec());
        if object_at(object, pod_spec)?.is_none() {
            return Err(Malformed::new(dotted(pod_spec), "missing"));
        }
        object_at(object, ANNOTATIONS)?;
        let inside = |place: &[&'static str], field| [place, &[field]].concat();
        let metadata = inside(template, "metadata");
        object_at(object, &metadata)?;
        object_at(object, &inside(&metadata, "annotations"))?;
        list_at(object, &inside(pod_spec, "volumes"))?;
        if kind == Kind::StatefulSet {
            list_at(object, CLAIM_TEMPLATES)?;
        }
        object_at(object, &inside(pod_spec, "securityContext"))?;
        let mut containers = Vec::new();
        for list in [CONTAINERS, INIT_CONTAINERS] {
            read_containers(object, pod_spec, list, &mut containers)?;
        }
        Ok(Some(Self { kind, name, containers, object }))
    }

    /// The raw object.
    pub fn object(&self) -> &'a Json<'a> {
        self.object
    }

    /// `metadata.annotations` of the workload.
    pub fn own_annotations(&self) -> Option<&'a Object<'a>> {
        self.object.at(ANNOTATIONS)?.as_object()
    }

    /// `metadata.annotations` of the pod template; a Pod's own.
    pub fn template_annotations(&self) -> Option<&'a Object<'a>> {
        self.template()?.at(ANNOTATIONS)?.as_object()
    }

    /// The pod template; a Pod is its own.
    pub fn template(&self) -> Option<&'a Json<'a>> {
        self.object.at(self.kind.template())
    }

    /// The spec of its pods.
    pub fn pod_spec(&self) -> Option<&'a Json<'a>> {
        self.template()?.get("spec")
    }

    /// An annotation of the workload's own metadata.
    pub fn own_annotation(&self, key: &str) -> Option<&'a str> {
        self.own_annotations()?.get(key)?.as_str()
    }

    /// Its own labels.
    pub fn labels(&self) -> Labels {
        labels(self.object.at(LABELS))
    }

    /// Whether another controller owns it, which would put back what is changed.
    pub fn is_controlled(&self) -> bool {
        self.object.at(OWNERS).is_some_and(has_controller)
    }

    /// Whether it has an annotation of ours that users write.
    pub fn has_annotations_of_users(&self) -> bool {
        let maps = [self.own_annotations(), self.template_annotations()];
        maps.into_iter().flatten().flat_map(Object::iter).any(|(key, _)| is_users(key))
    }

    /// The labels of its pods.
    pub fn pod_labels(&self) -> Labels {
        labels(self.template().and_then(|template| template.at(LABELS)))
    }

    /// The pod's volumes.
    pub fn volumes(&self) -> &'a [Json<'a>] {
        slice(self.pod_spec().and_then(|spec| spec.get("volumes")))
    }

    /// The volume claim templates of a StatefulSet.
    pub fn claim_templates(&self) -> &'a [Json<'a>] {
        match self.kind {
            Kind::StatefulSet => slice(self.object.at(CLAIM_TEMPLATES)),
            _ => &[],
        }
    }

    /// `securityContext` of the pod.
    pub fn security_context(&self) -> Option<&'a Object<'a>> {
        self.pod_spec()?.get("securityContext")?.as_object()
    }

    /// How many pods are asked for at once, where that is for the workload to say; 1 where nothing is said.
    pub fn replicas(&self) -> u64 {
        let count = match self.kind.job_spec(self.object) {
            Some(job) => job.get("parallelism"),
            None => self.object.at(&["spec", "replicas"]),
        };
        count.and_then(Json::as_u64).unwrap_or(1)
    }

    /// Whether pods of two generations can run at once, other than those of a StatefulSet, which have a volume each.
    pub fn generations_overlap(&self) -> bool {
        let text = |place: &[&str]| self.object.at(place).and_then(Json::as_str);
        match self.kind {
            Kind::Deployment => {
                self.replicas() > 1 || text(&["spec", "strategy", "type"]) != Some("Recreate")
            }
            // One a node, and all at once.
            Kind::DaemonSet => true,
            Kind::Job => self.retries_overlap(),
            // `Replace` begins the next run while the pods of the last one still end.
            Kind::CronJob => text(&["spec", "concurrencyPolicy"]) != Some("Forbid") || self.retries_overlap(),
            Kind::StatefulSet | Kind::Pod => false,
        }
    }

    /// Whether two pods of one Job can run at once. The API server's default, `podReplacementPolicy: TerminatingOrFailed`, makes
    /// a new pod as soon as the old one is told to end, which may go on writing for as long as its grace period lasts; with a
    /// `podFailurePolicy`, the default is `Failed`.
    fn retries_overlap(&self) -> bool {
        let job = self.kind.job_spec(self.object);
        let field = |name: &str| job.and_then(|job| job.get(name)).filter(|value| !value.is_null());
        let waits = match field("podReplacementPolicy") {
            Some(policy) => policy.as_str() == Some("Failed"),
            None => field("podFailurePolicy").is_some(),
        };
        self.replicas() > 1 || !waits
    }

    /// Whether the entries of all lists are the same in which something of ours can stand.
    pub(crate) fn has_same_entries(&self, other: &Self) -> bool {
        let entries = |container: &Container<'a>| (container.name, container.env, container.mounts);
        self.kind == other.kind
            && self.containers.iter().map(entries).eq(other.containers.iter().map(entries))
            && self.volumes() == other.volumes()
            && self.claim_templates() == other.claim_templates()
            && self.security_context() == other.security_context()
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&Container<'a>> {
        self.containers.iter().find(|container| container.name == name)
    }
}

// === impl Container ===

impl<'a> Container<'a> {
    /// The variable of that name.
    pub fn variable(&self, name: &str) -> Option<&'a Json<'a>> {
        self.env.get(self.place_of(name)?)
    }

    /// The place of the variable of that name among all.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| *other == name)
    }

    /// Whether it is one of the pod's regular containers.
    pub fn is_regular(&self) -> bool {
        self.list == CONTAINERS
    }
}

fn read_containers<'a>(
    object: &'a Json<'a>,
    pod_spec: &[&str],
    list: &'static str,
    containers: &mut Vec<Container<'a>>,
) -> Result<(), Malformed> {
    for (index, container) in list_at(object, &[pod_spec, &[list]].concat())?.iter().enumerate() {
        let field = |name: &str| format!("{}.{list}[{index}]{name}", dotted(pod_spec));
        if !container.is_object() {
            return Err(Malformed::new(field(""), "not an object"));
        }
        if containers.len() >= MAX_CONTAINERS {
            return Err(Malformed::new(field(""), "more than 500 containers"));
        }
        let name = container.text("name");
        if containers.iter().any(|other| other.name == name) {
            return Err(Malformed::new(field(".name"), "two containers have this name"));
        }
        for inner in ["env", "volumeMounts"] {
            list_at(container, &[inner])
                .map_err(|error| Malformed::new(field(&format!(".{}", error.field)), error.reason))?;
        }
        let env = slice(container.get("env"));
        containers.push(Container {
            list,
            index,
            name,
            image: container.text("image"),
            env,
            mounts: slice(container.get("volumeMounts")),
            names: env.iter().map(|variable| variable.text("name")).collect(),
        });
    }
    Ok(())
}

/// Whether another object makes such a workload, and will make the next one as this one is: what a Job of a CronJob or a Pod
/// of anything is to have stands in the template of its maker.
pub fn is_made_by_another(kind: Kind, object: &Value) -> bool {
    has_maker(kind, object.pointer("/metadata/ownerReferences").map(Json::from).as_ref())
}

/// Whether a workload with these owners is made by another object.
pub(crate) fn has_maker(kind: Kind, owners: Option<&Json<'_>>) -> bool {
    kind.is_made_once() && owners.is_some_and(has_controller)
}

/// Whether one of these owner references is a controller's.
pub(crate) fn has_controller(owners: &Json<'_>) -> bool {
    let is_controller = |owner: &Json<'_>| owner.get("controller") == Some(&Json::Bool(true));
    owners.as_array().into_iter().flatten().any(is_controller)
}

fn slice<'a>(list: Option<&'a Json<'a>>) -> &'a [Json<'a>] {
    list.and_then(Json::as_array).unwrap_or_default()
}

/// The labels that stand there; entries that are no strings are left out.
fn labels(map: Option<&Json<'_>>) -> Labels {
    let entries = map.and_then(Json::as_object).into_iter().flat_map(Object::iter);
    entries.filter_map(|(name, value)| Some((name, value.as_str()?))).collect()
}

/// A place as people write it.
pub(crate) fn dotted(place: &[&str]) -> String {
    place.join(".")
}

fn list_at<'a>(object: &'a Json<'a>, place: &[&str]) -> Result<&'a [Json<'a>], Malformed> {
    match object.at(place) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::Array(list)) => Ok(list),
        Some(_) => Err(Malformed::new(dotted(place), "not a list")),
    }
}

fn object_at<'a>(object: &'a Json<'a>, place: &[&str]) -> Result<Option<&'a Object<'a>>, Malformed> {
    match object.at(place) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(map)) => Ok(Some(map)),
        Some(_) => Err(Malformed::new(dotted(place), "not an object")),
    }
}
