//! Reading and writing single objects as raw JSON, with the answers told apart that a controller acts on.
use super::{FIELD_MANAGER, look::Kind};
use http::{Method, Request};
use json_patch::PatchOperation;
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the client gives as the reason of an answer that is no Status.
const UNREADABLE: &str = "Failed to parse error data";

/// Reads and writes objects.
#[derive(Clone)]
pub struct Objects {
    client: Client,
}

/// Why the API server did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// It is there already, or somebody else wrote it in between.
    #[error("it was written by somebody else")]
    Conflict,
    /// For good, as things stand: no right, a quota, another admission webhook, an invalid object.
    #[error("{0}")]
    Refused(String),
    /// The namespace is being deleted, or is gone already.
    #[error("its namespace is being deleted")]
    Terminating,
    /// Not now: too many requests, an internal error, or no answer at all. Says nothing of the object.
    #[error("the API server is away: {0}")]
    Away(String),
}

/// How a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is done.
    Real,
    /// It goes through admission and is not stored.
    Dry,
}

// === impl Refusal ===

impl Refusal {
    fn of(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Away(error.to_string()) };
        // What stands between us and the API server, or that one before it is ready, answers by other words than a Status.
        if status.reason == UNREADABLE {
            return Self::Away(format!("code {} without a reason", status.code));
        }
        let is_terminating = status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
        match status.code {
            // An admission webhook refuses with any code that it likes: the API server's own have these reasons.
            404 if status.reason == "NotFound" => Self::NotFound,
            409 if matches!(status.reason.as_str(), "Conflict" | "AlreadyExists") => Self::Conflict,
            403 if is_terminating => Self::Terminating,
            400..=499 if !matches!(status.code, 401 | 408 | 429) => Self::Refused(status.message.clone()),
            _ => Self::Away(status.message.clone()),
        }
    }
}

// === impl Objects ===

impl Objects {
    /// Speaks by `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// An object by name; `None` where it is not there.
    ///
    /// # Errors
    /// [`Refusal`], never [`Refusal::NotFound`].
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>, Refusal> {
        let path = format!("{}/{name}", kind.path(Some(namespace)));
        match self.ask(Method::GET, &path, "application/json", None).await {
            Err(Refusal::NotFound) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] where one of its name is there.
    pub async fn create(&self, kind: Kind, namespace: &str, object: &Value) -> Result<Value, Refusal> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", kind.path(Some(namespace)));
        match self.ask(Method::POST, &path, "application/json", Some(object)).await {
            Err(Refusal::NotFound) => Err(Refusal::Terminating),
            answer => answer,
        }
    }

    /// Writes an object, unless it changed since it was read: its resourceVersion goes along.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] where it did, or is no more; never [`Refusal::NotFound`].
    pub async fn replace(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: &Value,
    ) -> Result<Value, Refusal> {
        let path = format!("{}/{name}?fieldManager={FIELD_MANAGER}", kind.path(Some(namespace)));
        match self.ask(Method::PUT, &path, "application/json", Some(object)).await {
            Err(Refusal::NotFound) => Err(Refusal::Conflict),
            answer => answer,
        }
    }

    /// Changes an object by RFC 6902 operations, unless it changed since it had that resourceVersion.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] where it did.
    pub async fn change(
        &self,
        kind: Kind,
        (namespace, name, version): (&str, &str, &str),
        operations: &[PatchOperation],
        run: Run,
    ) -> Result<Value, Refusal> {
        // Replacing the version by the one that we saw is refused as a conflict where it is another by now.
        let mut all = vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
        all.extend(operations.iter().filter_map(|operation| serde_json::to_value(operation).ok()));
        let dry = if run == Run::Dry { "&dryRun=All" } else { "" };
        let path = format!("{}/{name}?fieldManager={FIELD_MANAGER}{dry}", kind.path(Some(namespace)));
        self.ask(Method::PATCH, &path, "application/json-patch+json", Some(&Value::Array(all))).await
    }

    /// An object that stands in no namespace; `None` where it is not there.
    ///
    /// # Errors
    /// [`Refusal`], never [`Refusal::NotFound`].
    pub async fn get_cluster(&self, kind: Kind, name: &str) -> Result<Option<Value>, Refusal> {
        let path = format!("{}/{name}", kind.path(None));
        match self.ask(Method::GET, &path, "application/json", None).await {
            Err(Refusal::NotFound) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Writes an object that stands in no namespace, unless it changed since it was read: its resourceVersion goes along.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] where it did, [`Refusal::NotFound`] where it is no more.
    pub async fn replace_cluster(&self, kind: Kind, name: &str, object: &Value) -> Result<Value, Refusal> {
        let path = format!("{}/{name}?fieldManager={FIELD_MANAGER}", kind.path(None));
        self.ask(Method::PUT, &path, "application/json", Some(object)).await
    }

    /// Merges `patch` into the subresource `status` of an object that stands in no namespace.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn merge_cluster_status(
        &self,
        kind: Kind,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let path = format!("{}/{name}/status?fieldManager={FIELD_MANAGER}", kind.path(None));
        self.ask(Method::PATCH, &path, "application/merge-patch+json", Some(patch)).await
    }

    /// Merges `patch` into the object's subresource `status`.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn merge_status(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let path = format!("{}/{name}/status?fieldManager={FIELD_MANAGER}", kind.path(Some(namespace)));
        self.ask(Method::PATCH, &path, "application/merge-patch+json", Some(patch)).await
    }

    /// Deletes an object where it is still the one that was read. That it is gone already is fine.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] where it is another by now.
    pub async fn delete(&self, kind: Kind, namespace: &str, read: &Value) -> Result<(), Refusal> {
        let of = |field: &str| read.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
        let name = of("name").unwrap_or_default();
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": of("uid"), "resourceVersion": of("resourceVersion")},
        });
        let path = format!("{}/{name}", kind.path(Some(namespace)));
        match self.ask(Method::DELETE, &path, "application/json", Some(&options)).await {
            Ok(_) | Err(Refusal::NotFound) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|error| Refusal::Refused(error.to_string()))?;
        match timeout(PATIENCE, self.client.request::<Value>(request)).await {
            Ok(answer) => answer.map_err(Refusal::of),
            Err(_) => Err(Refusal::Away(format!("no answer in {} s", PATIENCE.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use rstest::rstest;

    #[rstest]
    #[case::gone(404, "NotFound", Refusal::NotFound)]
    #[case::there_already(409, "AlreadyExists", Refusal::Conflict)]
    #[case::written_in_between(409, "Conflict", Refusal::Conflict)]
    #[case::denied_by_a_webhook_as_a_conflict(409, "", Refusal::Refused("why".into()))]
    #[case::denied_by_a_webhook_as_not_found(404, "", Refusal::Refused("why".into()))]
    #[case::quota(403, "Forbidden", Refusal::Refused("why".into()))]
    #[case::busy(429, "TooManyRequests", Refusal::Away("why".into()))]
    #[case::broken(500, "InternalError", Refusal::Away("why".into()))]
    #[case::who_we_are_is_not_known_yet(401, "Unauthorized", Refusal::Away("why".into()))]
    #[case::a_proxy(404, UNREADABLE, Refusal::Away("code 404 without a reason".into()))]
    fn refusals_are_told_apart_by_what_can_be_done(
        #[case] code: u16,
        #[case] reason: &str,
        #[case] expected: Refusal,
    ) {
        let status = Status::failure("why", reason).with_code(code);
        assert_eq!(Refusal::of(kube::Error::Api(Box::new(status))), expected);
    }
}
