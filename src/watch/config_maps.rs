//! The few ConfigMaps that recipes name, read by name: the right to list all of a cluster's is not needed.
use super::Change;
use futures_util::{StreamExt as _, stream};
use kube::{Client, api::GetParams, core::Request};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

/// How many are asked for at once.
const AT_ONCE: usize = 4;
/// How long one may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Namespace and name.
pub(super) type Place = (String, String);

/// What stands at each of `places`: a ConfigMap that is not there, or that we may not read, is removed; one that could
/// not be read this time is left as it was known.
pub(super) async fn read(client: &Client, places: BTreeSet<Place>) -> Vec<Change> {
    let reads = stream::iter(places).map(|place| read_one(client, place)).buffer_unordered(AT_ONCE);
    reads.filter_map(async |change| change).collect().await
}

async fn read_one(client: &Client, (namespace, name): Place) -> Option<Change> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let request = Request::new(path).get(&name, &GetParams::default()).ok()?;
    let Ok(answer) = timeout(ANSWER, client.request::<Value>(request)).await else {
        tracing::debug!(namespace, name, "a ConfigMap was not read in time");
        return None;
    };
    match answer {
        Ok(object) => Some(Change::Applied(object)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::debug!(
                namespace,
                name,
                code = status.code,
                "a ConfigMap beside a service can't be read"
            );
            Some(Change::Removed(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace}})))
        }
        Err(error) => {
            tracing::debug!(namespace, name, %error, "a ConfigMap was not read");
            None
        }
    }
}
