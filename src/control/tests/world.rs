//! A cluster with one tenant and one provider, a controller that leads in it, and what people do there.
use super::api::Api;
use crate::{
    control::{Scene, work},
    knowledge::Folders,
    observe::Metrics,
    watch::{Listener, Pulses},
};
use arc_swap::ArcSwap;
use opportune_core::{
    admit::{AdmissionResult, Options, Request, admit},
    discover::{Catalog, Inventory},
    inject::standard,
    json::Json,
    workload::Kinds,
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const BLOG: &str = "/api/v1/namespaces/blog";
pub(super) const SOURCE: &str = "/api/v1/namespaces/directory/secrets/reader";
pub(super) const OFFER: &str =
    "/apis/opportune.libre.sh/v1alpha1/namespaces/directory/serviceoffers/openldap";

/// Everything; clones share it.
#[derive(Clone)]
pub(super) struct World {
    pub api: Api,
    pub scene: Scene,
    inventory: Arc<Mutex<Inventory>>,
}

/// A replica that leads until it is dropped.
pub(super) struct Leader(JoinHandle<()>);

impl Drop for Leader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl World {
    /// A directory is offered to everybody; there is nobody in the namespace `blog` yet, and nobody leads.
    pub(super) fn new() -> Self {
        let api = Api::default();
        let catalog = Arc::new(ArcSwap::<Catalog>::default());
        let options = Options { kinds: Kinds::all(), ..Options::default() };
        let options = Arc::new(ArcSwap::from_pointee(options));
        let (listener, metrics) = (Listener::default(), Arc::new(Metrics::new().unwrap()));
        api.telling(listener.workloads.clone(), Duration::ZERO);
        let scene = Scene { client: api.client(), catalog, options, listener, metrics };
        let inventory = Arc::new(Mutex::new(Folders::default().inventory().unwrap()));
        let world = Self { api, scene, inventory };
        let admitting = world.clone();
        world.api.admitting(move |new, old| admitting.admitted(new, Some(old)));
        world.know("/api/v1/namespaces/blog", namespace("blog", "inject", "enabled"));
        world.know("/api/v1/namespaces/directory", namespace("directory", "provider", "true"));
        world.api.put(SOURCE, credentials("hunter2"));
        world.know(OFFER, offer("openldap"));
        world
    }

    /// An object that a catalog is made of is there, in this state.
    pub(super) fn know(&self, path: &str, object: Value) {
        self.inventory.lock().unwrap().apply(&object).unwrap();
        self.api.put(path, object);
        self.publish();
    }

    pub(super) fn forget(&self, path: &str) {
        self.inventory.lock().unwrap().remove(&self.api.get(path).unwrap()).unwrap();
        self.api.delete(path);
        self.publish();
    }

    fn publish(&self) {
        if let Some(catalog) = self.inventory.lock().unwrap().changed() {
            self.scene.catalog.store(Arc::new(catalog));
            self.scene.listener.catalog.notify_one();
        }
    }

    pub(super) fn admitted(&self, mut new: Value, old: Option<&Value>) -> Value {
        let old = old.map(Json::from);
        let request = Request { namespace: "blog", object: &Json::from(&new), old: old.as_ref() };
        let verdict = admit(&request, &self.scene.catalog.load(), &self.scene.options.load());
        json_patch::patch(&mut new, &standard(&verdict.patch)).unwrap();
        new
    }

    /// Somebody makes a Deployment; its pods are there at once.
    pub(super) fn create(&self, name: &str, annotations: &[(&str, &str)]) {
        let made = self.admitted(deployment(name, annotations), None);
        self.api.put(&workload(name), made);
    }

    /// As [`World::create`], of an app that is known.
    pub(super) fn create_of(&self, name: &str, image: &str, annotations: &[(&str, &str)]) {
        let mut object = deployment(name, annotations);
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let made = self.admitted(object, None);
        self.api.put(&workload(name), made);
    }

    /// As [`World::create`], where the webhook may refuse it; returns whether it did not.
    pub(super) fn may_create(&self, name: &str, annotations: &[(&str, &str)]) -> bool {
        let object = deployment(name, annotations);
        let request = Request { namespace: "blog", object: &Json::from(&object), old: None };
        let verdict = admit(&request, &self.scene.catalog.load(), &self.scene.options.load());
        let is_allowed = !matches!(verdict.result, AdmissionResult::Denied(_));
        if is_allowed {
            self.create(name, annotations);
        }
        is_allowed
    }

    /// Whether any workload points at a Secret of that name.
    pub(super) fn is_named(&self, secret: &str) -> bool {
        let workloads = self.api.paths("/deployments/").into_iter().filter_map(|path| self.api.get(&path));
        workloads.into_iter().any(|workload| workload["spec"].to_string().contains(secret))
    }

    /// Somebody changes it.
    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let old = self.api.get(&workload(name)).unwrap();
        let mut new = old.clone();
        change(&mut new);
        self.api.put(&workload(name), self.admitted(new, Some(&old)));
    }

    pub(super) fn delete(&self, name: &str) {
        self.api.delete(&workload(name));
        self.api.collect_garbage();
    }

    pub(super) fn lead(&self) -> Leader {
        Leader(tokio::spawn(work(self.scene.clone(), false, "us".to_owned())))
    }

    /// As [`World::lead`], where rollouts are allowed.
    pub(super) fn lead_with_rollouts(&self) -> Leader {
        Leader(tokio::spawn(work(self.scene.clone(), true, "us".to_owned())))
    }

    /// A leader, some seconds after it began and all is quiet.
    pub(super) async fn led(&self) -> Leader {
        let leader = self.lead();
        sleep(10 * SECOND).await;
        self.api.asked();
        leader
    }

    /// The delivered Secret's path, where one is there.
    pub(super) fn secret(&self) -> Option<String> {
        self.api.paths("/blog/secrets/opportune-ldap-openldap").into_iter().next()
    }

    /// A value of the delivered Secret.
    pub(super) fn delivered(&self, key: &str) -> Option<String> {
        let secret = self.api.get(&self.secret()?)?;
        let text = secret["data"][key].as_str()?.to_owned();
        String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap())
            .ok()
    }

    pub(super) fn workload(&self, name: &str) -> Value {
        self.api.get(&workload(name)).unwrap()
    }

    /// One intent's part of a workload's status.
    pub(super) fn status(&self, name: &str, intent: &str) -> String {
        let workload = self.workload(name);
        let status = workload["metadata"]["annotations"]["opportune.libre.sh/status"].as_str();
        let mut parts = status.unwrap_or_default().split("; ");
        parts.find_map(|part| part.strip_prefix(intent)?.strip_prefix('=')).unwrap_or_default().to_owned()
    }

    /// How often `opportune_deliveries_total` counted a result.
    pub(super) fn counted(&self, result: &str) -> u64 {
        let text =
            self.scene.metrics.render(&self.scene.catalog.load(), None, &Pulses::of_discovery()).unwrap();
        let start = format!("opportune_deliveries_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or_default()
    }

    /// The reasons of all Events about a workload.
    pub(super) fn events(&self, name: &str) -> Vec<String> {
        let events = self.api.paths("/events/").into_iter().filter_map(|path| self.api.get(&path));
        let about = events.filter(|event| event["regarding"]["name"] == name);
        let mut reasons: Vec<String> =
            about.map(|event| event["reason"].as_str().unwrap().to_owned()).collect();
        reasons.sort();
        reasons
    }
}

/// The path of a Deployment.
pub(super) fn workload(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/blog/deployments/{name}")
}

pub(super) fn deployment(name: &str, annotations: &[(&str, &str)]) -> Value {
    let keyed = annotations.iter().map(|(key, value)| (format!("opportune.libre.sh/{key}"), json!(value)));
    let keyed: serde_json::Map<_, _> = keyed.collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "blog"},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": keyed},
                "spec": {"containers": [{"name": "app", "image": "example.org/unknown:1"}]}}},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}})
}

pub(super) fn namespace(name: &str, key: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
        "labels": {"kubernetes.io/metadata.name": name, format!("opportune.libre.sh/{key}"): value}}})
}

/// A directory that is offered to all namespaces, with credentials.
pub(super) fn offer(name: &str) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": "directory", "generation": 1},
        "spec": {"intent": "ldap", "consumers": {"namespaceSelector": {}},
            "settings": {"host": name, "port": 636, "tls": "tls", "base-dn": "dc=x", "uid-attribute": "uid"},
            "credentials": {"secretRef": {"name": "reader"}}}})
}

pub(super) fn credentials(password: &str) -> Value {
    let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reader", "namespace": "directory"},
        "type": "Opaque", "data": {"username": encoded("cn=reader"), "password": encoded(password)}})
}
