//! What keeper and replicas read and write in the cluster: the Secret with our authorities and our webhook configurations.
//!
//! Both go by what they read just now. Watches only tell when to look.
use super::{
    authorities::Authorities,
    authorities::Broken,
    told::{PATIENCE, Told},
};
use crate::cluster::{CA_SECRET, FIELD_MANAGER};
use futures_util::{Stream, StreamExt, future};
use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::Pin};
use tokio::time::timeout;

/// The way to both.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    namespace: String,
}

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Somebody else wrote first: read again and decide anew.
    #[error("{0} was changed by somebody else at the same time")]
    Lost(String),
    #[error("can't {doing} {what}: {reason}")]
    Failed { doing: &'static str, what: String, reason: String },
    #[error("the Secret {secret} can't be used: {broken}")]
    Broken { secret: String, broken: Broken },
    #[error("a certificate authority can't be made: {0}")]
    Make(#[source] super::Error),
}

/// Moments at which something may have changed.
pub(super) type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

// === impl Store ===

impl Store {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// The Secret's name, for people.
    pub(super) fn secret_name(&self) -> String {
        format!("{}/{CA_SECRET}", self.namespace)
    }

    /// The Secret, if it is there.
    pub(super) async fn secret(&self) -> Result<Option<Secret>, Error> {
        self.ask("read", self.what(), self.secrets().get_opt(CA_SECRET)).await
    }

    /// What the Secret holds, if it is there.
    pub(super) async fn authorities(&self) -> Result<Option<Authorities>, Error> {
        let Some(secret) = self.secret().await? else { return Ok(None) };
        let broken = |broken| Error::Broken { secret: self.secret_name(), broken };
        Authorities::decode(&secret.data.unwrap_or_default()).map(Some).map_err(broken)
    }

    /// Makes the Secret.
    pub(super) async fn create(&self, authorities: &Authorities) -> Result<Secret, Error> {
        let labels = [("app.kubernetes.io/name", "opportune"), ("app.kubernetes.io/managed-by", "opportune")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata =
            ObjectMeta { name: Some(CA_SECRET.into()), labels: Some(labels.into()), ..ObjectMeta::default() };
        let data = Some(authorities.encode());
        let secret = Secret { metadata, data, type_: Some("Opaque".into()), ..Secret::default() };
        self.ask("create", self.what(), self.secrets().create(&params(), &secret)).await
    }

    /// Puts `authorities` into the Secret, unless it changed since it was read: its resourceVersion goes along.
    pub(super) async fn update(&self, secret: Secret, authorities: &Authorities) -> Result<Secret, Error> {
        let secret = Secret { data: Some(authorities.encode()), ..secret };
        self.ask("update", self.what(), self.secrets().replace(CA_SECRET, &params(), &secret)).await
    }

    /// A webhook configuration as raw JSON, if it is there.
    pub(super) async fn configuration(&self, name: &str) -> Result<Option<DynamicObject>, Error> {
        self.ask("read", webhooks(name), self.configurations().get_opt(name)).await
    }

    /// Writes a webhook configuration, unless it changed since it was read.
    pub(super) async fn configure(&self, name: &str, configuration: &DynamicObject) -> Result<(), Error> {
        let configurations = self.configurations();
        let params = params();
        let request = configurations.replace(name, &params, configuration);
        self.ask("update", webhooks(name), request).await.map(drop)
    }

    /// When the Secret changes.
    pub(super) fn secret_changes(&self) -> Changes {
        let metadata: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &self.namespace);
        changes(metadata, CA_SECRET, self.what())
    }

    /// When a webhook configuration changes.
    pub(super) fn configuration_changes(&self, name: &str) -> Changes {
        let metadata: Api<PartialObjectMeta<MutatingWebhookConfiguration>> = Api::all(self.client.clone());
        changes(metadata, name, webhooks(name))
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn configurations(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        Api::all_with(self.client.clone(), &resource)
    }

    fn what(&self) -> String {
        format!("the Secret {}", self.secret_name())
    }

    async fn ask<T>(
        &self,
        doing: &'static str,
        what: String,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match timeout(PATIENCE, request).await {
            Ok(Ok(answer)) => Ok(answer),
            // Not found is a lost race where it was read a moment ago; else its namespace is missing.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && doing == "update") =>
            {
                Err(Error::Lost(what))
            }
            Ok(Err(kube::Error::Api(status))) => Err(Error::Failed { doing, what, reason: status.message }),
            Ok(Err(error)) => Err(Error::Failed { doing, what, reason: error.to_string() }),
            Err(_) => {
                let reason = format!("no answer within {} seconds", PATIENCE.as_secs());
                Err(Error::Failed { doing, what, reason })
            }
        }
    }
}

fn webhooks(name: &str) -> String {
    format!("the MutatingWebhookConfiguration {name}")
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// Watches the metadata of one object by its name, which a right that is limited to that name (resourceNames) allows.
fn changes<K>(metadata: Api<PartialObjectMeta<K>>, name: &str, what: String) -> Changes
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(metadata, watcher::Config::default().fields(&format!("metadata.name={name}")));
    let mut told = Told::default();
    let events = events.default_backoff().filter_map(move |event| {
        let problem = event.as_ref().err().map(|error| {
            format!(
                "can't watch {what}, so that changes are seen late (the next try follows): {}",
                brief(error)
            )
        });
        told.say(problem, &format!("{what} is watched again"));
        future::ready(event.is_ok().then_some(()))
    });
    Box::pin(events)
}

/// The API server's own words where there are any.
fn brief(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        WatchError(status) => status.message.clone(),
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}
