//! An API server for tests: objects by their path, with resourceVersions; it can be told to refuse, to be silent, to let
//! somebody else write in between, and it says what it was asked.
use crate::watch::Workloads;
use http::{Method, Request, Response};
use json_patch::{Patch, patch};
use kube::client::{Body, Client};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Api(Arc<Mutex<State>>);

/// What is answered in place of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// This code, as the API server words it.
    Code(u16),
    /// A 403 of a quota.
    Quota,
    /// A 403 of a namespace that is being deleted.
    Terminating,
    /// Something between us and the API server says 404.
    Proxy404,
    /// None.
    Silence,
    /// It is done, and the answer is lost.
    Lost,
}

type Meanwhile = Box<dyn FnOnce(&Api) + Send>;
/// What an update of a workload becomes by admission: new object, old one.
type Admission = Box<dyn Fn(Value, &Value) -> Value + Send>;

struct Rule {
    method: Option<Method>,
    part: String,
    answer: Answer,
    left: usize,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<String>,
    rules: Vec<Rule>,
    meanwhile: Option<(String, Meanwhile)>,
    admission: Option<Admission>,
    workloads: Option<(Workloads, Duration)>,
    uids: u64,
}

impl Api {
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Workloads are told of what becomes of theirs, so much later.
    pub(super) fn telling(&self, workloads: Workloads, lag: Duration) {
        self.with(|state| state.workloads = Some((workloads, lag)));
    }

    pub(super) fn admitting(&self, admission: impl Fn(Value, &Value) -> Value + Send + 'static) {
        self.with(|state| state.admission = Some(Box::new(admission)));
    }

    /// As somebody else would; it keeps its uid.
    pub(super) fn put(&self, path: &str, mut object: Value) -> Value {
        let told = self.with(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let uid = state.objects.get(path).map(|old| old["metadata"]["uid"].clone());
            state.uids += 1;
            object["metadata"]["uid"] = uid.unwrap_or_else(|| json!(format!("uid-{}", state.uids)));
            state.objects.insert(path.to_owned(), object.clone());
            state.workloads.clone()
        });
        tell(told, path, object.clone(), Workloads::told);
        object
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.with(|state| state.objects.get(path).cloned())
    }

    pub(super) fn delete(&self, path: &str) {
        let (removed, told) = self.with(|state| (state.objects.remove(path), state.workloads.clone()));
        if let Some(object) = removed {
            tell(told, path, object, Workloads::told_gone);
        }
    }

    /// Changes an object, as somebody else would.
    pub(super) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    /// The paths of all objects that have `part` in them.
    pub(super) fn paths(&self, part: &str) -> Vec<String> {
        self.with(|state| state.objects.keys().filter(|path| path.contains(part)).cloned().collect())
    }

    /// Removes what belongs to objects that are no more, as Kubernetes does.
    pub(super) fn collect_garbage(&self) {
        let uids: BTreeSet<String> = self.with(|state| {
            state.objects.values().map(|object| object["metadata"]["uid"].to_string()).collect()
        });
        for path in self.paths("") {
            let Some(object) = self.get(&path) else { continue };
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if !owners.is_empty() && owners.iter().all(|owner| !uids.contains(&owner["uid"].to_string())) {
                self.delete(&path);
            }
        }
    }

    /// What was asked since the last call and is not an Event, as `METHOD plural/name`.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = self.with(|state| std::mem::take(&mut state.asked));
        asked.into_iter().filter(|asked| !asked.contains("events")).collect()
    }

    /// What was written since the last call and is not an Event.
    pub(super) fn written(&self) -> Vec<String> {
        self.asked().into_iter().filter(|asked| !asked.starts_with("GET")).collect()
    }

    /// The next `times` requests with that method (any: `""`) and a path that holds `part` are answered so.
    pub(super) fn refuse(&self, method: &str, part: &str, answer: Answer, times: usize) {
        let method = (!method.is_empty()).then(|| method.parse().unwrap());
        self.with(|state| state.rules.push(Rule { method, part: part.to_owned(), answer, left: times }));
    }

    pub(super) fn refuse_nothing(&self) {
        self.with(|state| state.rules.clear());
    }

    /// Runs once, before the next write to a path that holds `part`.
    pub(super) fn meanwhile(&self, part: &str, other: impl FnOnce(&Api) + Send + 'static) {
        self.with(|state| state.meanwhile = Some((part.to_owned(), Box::new(other))));
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let (method, path, query) = (parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
        let (code, answer) = match self.rule(&method, path, query) {
            Some(Answer::Silence) => std::future::pending().await,
            Some(Answer::Lost) => {
                self.decide(&method, path, query, &body);
                std::future::pending().await
            }
            Some(Answer::Code(code)) => failure(code),
            Some(Answer::Quota) => quota(),
            Some(Answer::Terminating) => terminating(),
            Some(Answer::Proxy404) => (404, json!("404 page not found")),
            None => self.decide(&method, path, query, &body),
        };
        Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap()
    }

    fn rule(&self, method: &Method, path: &str, query: &str) -> Option<Answer> {
        self.with(|state| {
            let dry = if query.contains("dryRun") { " dry" } else { "" };
            let short = path.rsplit_once("/namespaces/").map_or(path, |(_, rest)| rest);
            let short = short.split_once('/').map_or(short, |(_, rest)| rest);
            if !query.contains("watch=") {
                state.asked.push(format!("{method} {short}{dry}"));
            }
            let rule = state.rules.iter_mut().find(|rule| {
                rule.left > 0
                    && path.contains(&rule.part)
                    && rule.method.as_ref().is_none_or(|wanted| wanted == method)
            })?;
            rule.left -= 1;
            Some(rule.answer)
        })
    }

    fn decide(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        if query.contains("watch=") {
            return failure(403);
        }
        if *method == Method::GET {
            return self.get(path).map_or_else(|| failure(404), |object| (200, object));
        }
        let is_awaited =
            |state: &State| state.meanwhile.as_ref().is_some_and(|(part, _)| path.contains(part));
        if let Some((_, meanwhile)) =
            self.with(|state| if is_awaited(state) { state.meanwhile.take() } else { None })
        {
            meanwhile(self);
        }
        let sent: Value = serde_json::from_slice(body).unwrap();
        match method.as_str() {
            "POST" => self.create(path, sent),
            "PUT" => self.replace(path, sent, false),
            "PATCH" => self.patched(path, sent, query.contains("dryRun")),
            "DELETE" => self.deleted(path, &sent),
            other => panic!("nobody should {other} {path}"),
        }
    }

    fn create(&self, path: &str, object: Value) -> (u16, Value) {
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.get(&path).is_some() {
            return failure(409);
        }
        match self.get(&format!("/api/v1/namespaces/{namespace}")) {
            None => failure(404),
            Some(namespace) if !namespace["metadata"]["deletionTimestamp"].is_null() => terminating(),
            Some(_) => (201, self.put(&path, object)),
        }
    }

    fn replace(&self, path: &str, object: Value, is_dry: bool) -> (u16, Value) {
        let Some(stored) = self.get(path) else { return failure(404) };
        if object["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
            return failure(409);
        }
        let is_template_changed = object.pointer("/spec/template") != stored.pointer("/spec/template");
        let object = self.with(|state| match &state.admission {
            Some(admission) if is_template_changed => admission(object, &stored),
            _ => object,
        });
        if is_dry || object == stored { (200, object) } else { (200, self.put(path, object)) }
    }

    fn patched(&self, path: &str, sent: Value, is_dry: bool) -> (u16, Value) {
        let path = path.trim_end_matches("/status");
        let Some(mut object) = self.get(path) else { return failure(404) };
        match sent {
            Value::Array(_) => {
                let operations: Patch = serde_json::from_value(sent).unwrap();
                if patch(&mut object, &operations).is_err() {
                    return failure(422);
                }
            }
            merged => json_patch::merge(&mut object, &merged),
        }
        self.replace(path, object, is_dry)
    }

    fn deleted(&self, path: &str, options: &Value) -> (u16, Value) {
        let Some(mut stored) = self.get(path) else { return failure(404) };
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            assert!(wanted.is_string(), "{path} was to be deleted whatever its {field} is");
            if *wanted != stored["metadata"][field] {
                return failure(409);
            }
        }
        if stored["metadata"]["finalizers"].is_array() {
            stored["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return (200, self.put(path, stored));
        }
        self.delete(path);
        (200, json!({"kind": "Status", "status": "Success"}))
    }
}

fn tell(told: Option<(Workloads, Duration)>, path: &str, object: Value, tell: fn(&Workloads, Value)) {
    let is_workload = ["/apis/apps/", "/apis/batch/", "/api/v1/namespaces/blog/pods/"];
    let is_workload = is_workload.iter().any(|start| path.starts_with(start));
    let Some((workloads, lag)) = told.filter(|_| is_workload) else { return };
    if lag.is_zero() {
        tell(&workloads, object);
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(lag).await;
        tell(&workloads, object);
    });
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let message = format!("refused with {code}");
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}))
}

fn quota() -> (u16, Value) {
    let (code, mut status) = failure(403);
    status["message"] =
        json!("exceeded quota: small, requested: secrets=1, used: secrets=3, limited: secrets=3");
    (code, status)
}

fn terminating() -> (u16, Value) {
    let (code, mut status) = failure(403);
    status["details"] = json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]});
    (code, status)
}
