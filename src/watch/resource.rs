//! The resources that discovery reads, and the workloads that a controller looks after.
use super::{Error, told::Told};
use kube::{api::ListParams, core::Request};
use opportune_core::{keys, workload::Kinds};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Objects of one listing at a time: a bound on memory while a cluster is read.
const PAGE: u32 = 250;
/// How long one page may take.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// One resource that offers, what decides over them, or the addresses of apps come from.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its plural name with its group, as in `kubectl get`; also the label in metrics.
    pub name: &'static str,
    /// The kind of its objects.
    pub kind: &'static str,
    /// `v1`, or group and version.
    pub api_version: &'static str,
    plural: &'static str,
    /// Whether its objects stand in namespaces.
    pub is_namespaced: bool,
}

macro_rules! resource {
    ($name:literal, $kind:literal, $api_version:expr, $plural:literal, $is_namespaced:literal) => {
        Resource {
            name: $name,
            kind: $kind,
            api_version: $api_version,
            plural: $plural,
            is_namespaced: $is_namespaced,
        }
    };
}

/// The Gateway API, which not every cluster has.
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

/// What discovery reads; the right to list and watch each is needed.
pub static RESOURCES: [Resource; 10] = [
    resource!("namespaces", "Namespace", "v1", "namespaces", false),
    resource!("services", "Service", "v1", "services", true),
    resource!("storageclasses.storage.k8s.io", "StorageClass", "storage.k8s.io/v1", "storageclasses", false),
    resource!("deployments.apps", "Deployment", "apps/v1", "deployments", true),
    resource!("statefulsets.apps", "StatefulSet", "apps/v1", "statefulsets", true),
    resource!("ingresses.networking.k8s.io", "Ingress", "networking.k8s.io/v1", "ingresses", true),
    resource!("httproutes.gateway.networking.k8s.io", "HTTPRoute", GATEWAY, "httproutes", true),
    resource!("serviceoffers.opportune.libre.sh", "ServiceOffer", keys::API_VERSION, "serviceoffers", true),
    resource!("appprofiles.opportune.libre.sh", "AppProfile", keys::API_VERSION, "appprofiles", false),
    resource!(
        "injectionpolicies.opportune.libre.sh",
        "InjectionPolicy",
        keys::API_VERSION,
        "injectionpolicies",
        false
    ),
];

/// The workloads that may be injected besides those that discovery reads; only a controller reads them, and only those that
/// are switched on.
static FURTHER: [Resource; 4] = [
    resource!("daemonsets.apps", "DaemonSet", "apps/v1", "daemonsets", true),
    resource!("jobs.batch", "Job", "batch/v1", "jobs", true),
    resource!("cronjobs.batch", "CronJob", "batch/v1", "cronjobs", true),
    resource!("pods", "Pod", "v1", "pods", true),
];

/// The resources of those kinds.
pub(super) fn workloads(kinds: &Kinds) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain(&FURTHER).filter(|resource| resource.is_among(kinds))
}

/// The resources of those kinds that discovery does not read.
pub fn further(kinds: &Kinds) -> impl Iterator<Item = &'static Resource> {
    FURTHER.iter().filter(|resource| resource.is_among(kinds))
}

/// Whether discovery reads nothing of such an object: all that decide have to see the same offers, and who only answers does
/// not watch every pod for that.
pub(super) fn is_further(object: &Value) -> bool {
    let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    FURTHER.iter().any(|further| further.kind == field("kind") && further.api_version == field("apiVersion"))
}

/// Whether objects of this kind tell the addresses of apps in their own namespace, and nothing of offers.
pub(super) fn is_route(kind: &str) -> bool {
    matches!(kind, "Ingress" | "HTTPRoute")
}

/// One page of a listing.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Told>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

/// A listing under way.
pub(super) struct Pages {
    resource: &'static Resource,
    client: kube::Client,
    request: Request,
    params: ListParams,
    version: Option<String>,
}

// === impl Pages ===

impl Pages {
    /// The objects of the next page; `None` after the last.
    ///
    /// # Errors
    /// [`Error`] where the page can't be had.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        if self.version.is_some() {
            return Ok(None);
        }
        let request = self.request.list(&self.params).map_err(|error| self.resource.broken(error))?;
        let answer =
            timeout(ANSWER, self.client.request(request)).await.map_err(|_| self.resource.unanswered())?;
        let page: Page = answer.map_err(|error| self.resource.failed(error))?;
        if page.metadata.r#continue.is_empty() {
            self.version = Some(page.metadata.resource_version);
        } else {
            self.params.continue_token = Some(page.metadata.r#continue);
        }
        Ok(Some(page.items.into_iter().map(|Told(object)| self.resource.complete(object)).collect()))
    }

    /// The version of the whole listing, from which a watch goes on; there after the last page.
    pub(super) fn version(self) -> Option<String> {
        self.version
    }
}

// === impl Resource ===

impl Resource {
    fn is_among(&self, kinds: &Kinds) -> bool {
        kinds.iter().any(|kind| kind.name() == self.kind && kind.api_version() == self.api_version)
    }

    /// Whether it is defined by a CRD of ours.
    pub(super) fn is_ours(&self) -> bool {
        self.api_version == keys::API_VERSION
    }

    /// Whether a cluster may do without it: that it is not there is an answer then.
    pub(super) fn may_be_missing(&self) -> bool {
        self.is_ours() || self.api_version == GATEWAY
    }

    /// Whether the API server knows it, as far as everybody may ask: where it does not, rights to it say nothing.
    pub(super) async fn is_known(&self, client: &kube::Client) -> bool {
        let Ok(request) = http::Request::get(format!("/apis/{}", self.api_version)).body(Vec::new()) else {
            return true;
        };
        let answer = timeout(ANSWER, client.request::<Value>(request)).await;
        !matches!(answer, Ok(Err(kube::Error::Api(status))) if status.code == 404)
    }

    /// Requests for all objects, or those of one namespace.
    pub(super) fn request(&self, namespace: Option<&str>) -> Request {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let (version, plural) = (self.api_version, self.plural);
        match namespace {
            Some(namespace) => Request::new(format!("/{root}/{version}/namespaces/{namespace}/{plural}")),
            None => Request::new(format!("/{root}/{version}/{plural}")),
        }
    }

    /// An object as a listing or a watch tells it, fit for the inventory: with its kind, which a listing leaves out, and
    /// without what nobody reads.
    pub(super) fn complete(&self, mut object: Value) -> Value {
        if let Some(map) = object.as_object_mut() {
            map.insert("kind".to_owned(), self.kind.into());
            map.insert("apiVersion".to_owned(), self.api_version.into());
        }
        object
    }

    /// All objects, or those of one namespace, page by page.
    pub(super) fn pages(&'static self, client: &kube::Client, namespace: Option<&str>) -> Pages {
        let params = ListParams::default().limit(PAGE);
        Pages {
            resource: self,
            client: client.clone(),
            request: self.request(namespace),
            params,
            version: None,
        }
    }

    pub(super) fn failed(&'static self, source: kube::Error) -> Error {
        Error::Api { resource: self.name, source: Box::new(source) }
    }

    fn unanswered(&'static self) -> Error {
        let reason = format!("no answer in {} s", ANSWER.as_secs());
        Error::Ended { resource: self.name, reason, code: None }
    }

    pub(super) fn broken(&'static self, error: kube::core::request::Error) -> Error {
        self.failed(kube::Error::BuildRequest(error))
    }
}
