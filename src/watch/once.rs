//! The cluster as it is at one moment, for commands: with the rights of the person who asks, which may be few.
use super::{
    Change, Error, RESOURCES, Resource, config_maps,
    resource::{ANSWER, is_route, workloads},
    workloads::has_key_of_ours,
};
use kube::Client;
use opportune_core::{
    discover::{Catalog, Inventory},
    intent::Intent,
    workload::{Kind, Kinds, is_made_by_another},
};
use serde_json::Value;
use tokio::time::timeout;

/// Which part of the cluster a person may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All of it.
    Cluster,
    /// All of it, or, where that is forbidden, what stands in this namespace.
    Namespace(&'a str),
}

/// What was read, and what could not be.
#[derive(Debug)]
pub struct Reading {
    /// The catalog of what was read.
    pub catalog: Catalog,
    /// Resources that could not be listed in the whole cluster, and why: names as in `kubectl get`.
    pub unread: Vec<Unread>,
    /// Objects that were left out, and why.
    pub left_out: Vec<String>,
}

/// A resource that was not, or not wholly, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The resource, as in `kubectl get`.
    pub resource: &'static str,
    /// The kind of its objects.
    pub kind: &'static str,
    /// Whether a right was lacking; else it is not installed.
    pub is_forbidden: bool,
    /// Whether the objects of the one namespace were read.
    pub is_partly_read: bool,
    /// Why not more.
    pub reason: &'static str,
}

// === impl Unread ===

impl Unread {
    /// Whether there may be offers that the person can't see; of what is no route to an app there may.
    pub fn hides_offers(&self) -> bool {
        self.is_forbidden && !is_route(self.kind)
    }

    /// Whether there may be offers of this intent that the person can't see.
    pub fn hides_offers_of(&self, intent: &Intent) -> bool {
        let kinds: &[&str] = match intent.is_storage() {
            true => &["StorageClass"],
            false => &["Namespace", "Service", "ServiceOffer"],
        };
        self.is_forbidden && kinds.contains(&self.kind)
    }
}

/// Reads what discovery needs.
///
/// # Errors
/// [`Error`] where the API server does not answer. What is forbidden or not installed is no error: [`Reading::unread`]
/// tells of it.
pub async fn read(client: &Client, mut inventory: Inventory, scope: Scope<'_>) -> Result<Reading, Error> {
    let mut unread = Vec::new();
    let mut left_out = Vec::new();
    for resource in &RESOURCES {
        unread.extend(read_resource(client, resource, scope, &mut inventory, &mut left_out).await?);
    }
    let sought = inventory.sought_config_maps().into_iter().cloned().collect();
    for change in config_maps::read(client, sought).await {
        if let Change::Applied(object) = change {
            take(&mut inventory, &object, &mut left_out);
        }
    }
    Ok(Reading { catalog: inventory.snapshot(), unread, left_out })
}

async fn read_resource(
    client: &Client,
    resource: &'static Resource,
    scope: Scope<'_>,
    inventory: &mut Inventory,
    left_out: &mut Vec<String>,
) -> Result<Option<Unread>, Error> {
    let error = match list(client, resource, None, inventory, left_out).await {
        Ok(()) => return Ok(None),
        Err(error) => error,
    };
    let is_forbidden = error.is_forbidden();
    let (name, kind) = (resource.name, resource.kind);
    let unread =
        |is_partly_read, reason| Some(Unread { resource: name, kind, is_forbidden, is_partly_read, reason });
    if error.is_not_found() && resource.may_be_missing() {
        // Nobody misses what is not ours: there is nothing to be read of it.
        return Ok(unread(false, "its CRD is not installed").filter(|_| resource.is_ours()));
    }
    if !is_forbidden {
        return Err(error);
    }
    if is_route(kind) && !resource.is_known(client).await {
        return Ok(None);
    }
    let Scope::Namespace(namespace) = scope else { return Ok(unread(false, FORBIDDEN)) };
    if resource.kind == "Namespace" {
        let is_read = read_namespace(client, namespace, inventory, left_out).await;
        return Ok(unread(is_read, FORBIDDEN));
    }
    if !resource.is_namespaced {
        return Ok(unread(false, FORBIDDEN));
    }
    match list(client, resource, Some(namespace), inventory, left_out).await {
        // A route leads nowhere but into its own namespace.
        Ok(()) => Ok(unread(true, FORBIDDEN).filter(|_| !is_route(kind))),
        Err(error) if error.is_forbidden() => Ok(unread(false, FORBIDDEN)),
        Err(error) => Err(error),
    }
}

async fn list(
    client: &Client,
    resource: &'static Resource,
    namespace: Option<&str>,
    inventory: &mut Inventory,
    left_out: &mut Vec<String>,
) -> Result<(), Error> {
    let mut pages = resource.pages(client, namespace);
    while let Some(objects) = pages.next().await? {
        objects.iter().for_each(|object| take(inventory, object, left_out));
    }
    Ok(())
}

/// Which workloads are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those that have a key of ours.
    WithKeyOfOurs,
    /// All of them.
    All,
}

/// Hands `take` each workload of those kinds that is `wanted`, page by page: those of a namespace, or all of them, or, where that
/// is forbidden, those of the namespace `own`; none that another workload makes. Returns what could not be read.
///
/// # Errors
/// [`Error`] where the API server does not answer.
pub async fn read_workloads(
    client: &Client,
    namespace: Option<&str>,
    own: &str,
    kinds: &Kinds,
    wanted: Wanted,
    take: &mut dyn FnMut(&Value),
) -> Result<Vec<Unread>, Error> {
    let mut unread = Vec::new();
    for resource in workloads(kinds) {
        let (name, kind) = (resource.name, resource.kind);
        let mut told = |is_partly_read, reason| {
            unread.push(Unread { resource: name, kind, is_forbidden: true, is_partly_read, reason })
        };
        match each_workload(client, resource, namespace, wanted, take).await {
            Ok(()) => {}
            Err(error) if !error.is_forbidden() => return Err(error),
            Err(_) if namespace.is_some() => told(false, FORBIDDEN_HERE),
            Err(_) => match each_workload(client, resource, Some(own), wanted, take).await {
                Ok(()) => told(true, FORBIDDEN),
                Err(error) if error.is_forbidden() => told(false, FORBIDDEN),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(unread)
}

async fn each_workload(
    client: &Client,
    resource: &'static Resource,
    namespace: Option<&str>,
    wanted: Wanted,
    take: &mut dyn FnMut(&Value),
) -> Result<(), Error> {
    let mut pages = resource.pages(client, namespace);
    while let Some(objects) = pages.next().await? {
        let told = objects.iter().filter(|object| {
            let Some(kind) = Kind::of(object) else { return wanted == Wanted::All };
            !is_made_by_another(kind, object) && (wanted == Wanted::All || has_key_of_ours(kind, object))
        });
        told.for_each(&mut *take);
    }
    Ok(())
}

const FORBIDDEN_HERE: &str = "you have no right to list it in this namespace";
const FORBIDDEN: &str = "you have no right to list it in the whole cluster";

/// The namespace itself, which many may get who may not list all.
async fn read_namespace(
    client: &Client,
    namespace: &str,
    inventory: &mut Inventory,
    left_out: &mut Vec<String>,
) -> bool {
    let request = kube::core::Request::new("/api/v1/namespaces").get(namespace, &Default::default());
    let Ok(request) = request else { return false };
    match timeout(ANSWER, client.request::<Value>(request)).await {
        Ok(Ok(object)) => {
            take(inventory, &object, left_out);
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

fn take(inventory: &mut Inventory, object: &Value, left_out: &mut Vec<String>) {
    if let Err(error) = inventory.apply(object) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        left_out.push(format!("{kind} {namespace}/{name}: {error}"));
    }
}
