//! An API server for tests: keeps objects by their path, with resourceVersions, and lets others write in between.
use super::authorities::Data;
use http::{Method, Request, Response};
use kube::client::{Body, Client};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

pub(super) const SECRET: &str = "/api/v1/namespaces/opportune-system/secrets/opportune-ca";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

type Meanwhile = Box<dyn FnOnce(&Fake) + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    refused: Option<(u16, String)>,
    meanwhile: Option<Meanwhile>,
}

pub(super) fn configuration(name: &str) -> String {
    format!("{CONFIGURATIONS}/{name}")
}

/// A Secret with `data`, as somebody else would make it.
pub(super) fn secret(data: &Data) -> Value {
    let metadata =
        json!({"name": "opportune-ca", "namespace": "opportune-system", "labels": {"kept": "yes"}});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
}

impl Fake {
    pub(super) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// As somebody else would: nothing is recorded.
    pub(super) fn put(&self, path: &str, mut object: Value) {
        self.with(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.objects.insert(path.to_owned(), object);
        });
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.with(|state| state.objects.get(path).cloned())
    }

    pub(super) fn delete(&self, path: &str) {
        self.with(|state| state.objects.remove(path));
    }

    /// What was written since the last call: method and name.
    pub(super) fn writes(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.writes))
    }

    /// Runs once, between what is read and what is written next.
    pub(super) fn meanwhile(&self, other: impl FnOnce(&Fake) + Send + 'static) {
        self.with(|state| state.meanwhile = Some(Box::new(other)));
    }

    /// Every request whose path ends so is answered with `code`; none with an empty path.
    pub(super) fn refuse(&self, code: u16, path: &str) {
        self.with(|state| state.refused = Some((code, path.to_owned())).filter(|_| !path.is_empty()));
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let (code, answer) = self.decide(&parts.method, parts.uri.path(), &body);
        Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap()
    }

    fn decide(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let refused = self.with(|state| state.refused.clone());
        if let Some((code, _)) = refused.filter(|(_, end)| path.ends_with(end.as_str())) {
            return failure(code);
        }
        if *method == Method::GET {
            return self.get(path).map_or_else(|| failure(404), |object| (200, object));
        }
        if let Some(meanwhile) = self.with(|state| state.meanwhile.take()) {
            meanwhile(self);
        }
        let object: Value = serde_json::from_slice(body).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let path = if *method == Method::POST { format!("{path}/{name}") } else { path.to_owned() };
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        match (method.as_str(), self.get(&path)) {
            ("POST", Some(_)) => return failure(409),
            ("PUT", None) => return failure(404),
            ("PUT", Some(found)) if version(&found) != version(&object) => return failure(409),
            ("POST" | "PUT", _) => self.put(&path, object),
            (other, _) => panic!("nobody should {other} {path}"),
        }
        self.with(|state| state.writes.push(format!("{method} {name}")));
        (200, self.get(&path).unwrap())
    }
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let message = format!("refused with {code}");
    let status = json!({"status": "Failure", "code": code, "reason": reason, "message": message});
    (code, status)
}
