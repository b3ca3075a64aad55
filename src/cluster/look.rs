//! Looking at objects one by one as raw JSON, with whatever rights the person who asks has.
use http::{Request, StatusCode};
use kube::Client;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects of one page of a listing.
const PAGE: usize = 250;

/// What came of one look.
#[derive(Debug, Clone, PartialEq)]
pub enum Look<T> {
    /// It is there.
    Found(T),
    /// It is not there, or the API server does not know its kind.
    Missing,
    /// We may not look: what right is missing.
    Forbidden(String),
    /// No useful answer: why.
    Failed(String),
}

/// One resource of the API: its address, and its name as in a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The group, empty for the core one.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The plural.
    pub plural: &'static str,
}

// === impl Kind ===

impl Kind {
    /// A resource of a group.
    pub const fn of(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural }
    }

    /// As in `kubectl get`.
    pub fn name(self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The address of all objects, or those of a namespace.
    pub fn path(self, namespace: Option<&str>) -> String {
        let root = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    fn right(self, verb: &str, namespace: Option<&str>, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        match namespace {
            Some(namespace) => format!("{verb} {}{name} in namespace {namespace}", self.name()),
            None if name.is_empty() => format!("{verb} {} in the whole cluster", self.name()),
            None => format!("{verb} {}{name}", self.name()),
        }
    }

    /// One object by name. Namespace and name have to be names that Kubernetes allows.
    pub async fn get(self, client: &Client, namespace: Option<&str>, name: &str) -> Look<Value> {
        let path = format!("{}/{name}", self.path(namespace));
        read(client, &path).await.naming(|| self.right("get", namespace, Some(name)))
    }

    /// The metadata of one object by name: what else is in it is not sent.
    pub async fn metadata(self, client: &Client, namespace: Option<&str>, name: &str) -> Look<Value> {
        let path = format!("{}/{name}", self.path(namespace));
        let request = Request::get(path)
            .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        answered(client, request.body(Vec::new())).await.naming(|| self.right("get", namespace, Some(name)))
    }

    /// All objects that a query such as `labelSelector=app%3Dweb` leaves, page by page.
    pub async fn list(self, client: &Client, namespace: Option<&str>, query: &str) -> Look<Vec<Value>> {
        let (mut items, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("{}?limit={PAGE}&{query}&continue={token}", self.path(namespace));
            let mut page = match read(client, &path).await.naming(|| self.right("list", namespace, None)) {
                Look::Found(page) => page,
                other => return other.map(|_| Vec::new()),
            };
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Look::Found(items),
            }
        }
    }
}

/// What stands at an address of the API.
pub async fn read(client: &Client, path: &str) -> Look<Value> {
    answered(client, Request::get(path).body(Vec::new())).await.naming(|| format!("get {path}"))
}

/// What the API server answers to an object that is only a question, such as an access review.
pub async fn post(client: &Client, path: &str, object: &Value) -> Look<Value> {
    let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    answered(client, request.body(object.to_string().into_bytes())).await.naming(|| format!("create {path}"))
}

async fn answered(client: &Client, request: http::Result<Request<Vec<u8>>>) -> Look<Value> {
    let request = match request {
        Ok(request) => request,
        Err(error) => return Look::Failed(error.to_string()),
    };
    match timeout(PATIENCE, client.request::<Value>(request)).await {
        Ok(Ok(object)) => Look::Found(object),
        Ok(Err(error)) => Look::failed(&error),
        Err(_) => Look::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

// === impl Look ===

impl<T> Look<T> {
    /// What an error of the client means.
    pub fn failed(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == StatusCode::NOT_FOUND.as_u16() => Self::Missing,
            kube::Error::Api(status) if status.code == StatusCode::FORBIDDEN.as_u16() => {
                Self::Forbidden(String::new())
            }
            kube::Error::Api(status) if !status.message.is_empty() => Self::Failed(status.message.clone()),
            error => Self::Failed(with_causes(error)),
        }
    }

    /// The same of something else.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::Found(found) => Look::Found(change(found)),
            Self::Missing => Look::Missing,
            Self::Forbidden(right) => Look::Forbidden(right),
            Self::Failed(reason) => Look::Failed(reason),
        }
    }

    /// What was found, where something was.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Missing | Self::Forbidden(_) | Self::Failed(_) => None,
        }
    }

    /// Why nothing is known, where that is so.
    pub fn blocked(&self) -> Option<String> {
        match self {
            Self::Found(_) | Self::Missing => None,
            Self::Forbidden(right) => Some(format!("no right to {right}")),
            Self::Failed(reason) => Some(reason.clone()),
        }
    }

    fn naming(self, right: impl FnOnce() -> String) -> Self {
        match self {
            Self::Forbidden(_) => Self::Forbidden(right()),
            other => other,
        }
    }
}

/// An error with what caused it.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text += &format!(": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_right_name_the_same_thing() {
        let pods = Kind::of("", "v1", "pods");
        assert_eq!(pods.path(Some("blog")), "/api/v1/namespaces/blog/pods");
        assert_eq!(pods.right("list", Some("blog"), None), "list pods in namespace blog");
        let classes = Kind::of("storage.k8s.io", "v1", "storageclasses");
        assert_eq!(classes.path(None), "/apis/storage.k8s.io/v1/storageclasses");
        assert_eq!(
            classes.right("list", None, None),
            "list storageclasses.storage.k8s.io in the whole cluster"
        );
        assert_eq!(classes.right("get", None, Some("a")), "get storageclasses.storage.k8s.io a");
    }
}
