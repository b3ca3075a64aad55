//! The administrator, who reads and writes objects without a process for each.
use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};

use crate::workload::text;

#[derive(Clone)]
pub struct Admin {
    client: Client,
}

// === impl Admin ===

impl Admin {
    pub async fn of(plane: &ControlPlane) -> Result<Self> {
        Ok(Self { client: plane.client().await? })
    }

    /// Where objects of this kind are: in one namespace, or in all where that is empty.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = match kind {
            "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => ("apps", "v1"),
            "CronJob" | "Job" => ("batch", "v1"),
            "Event" => ("events.k8s.io", "v1"),
            "ServiceOffer" | "InjectionPolicy" => ("opportune.libre.sh", "v1alpha1"),
            "StorageClass" => ("storage.k8s.io", "v1"),
            "ClusterRole" | "Role" | "RoleBinding" => ("rbac.authorization.k8s.io", "v1"),
            _ => ("", "v1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        }
    }

    /// A namespace of this very name, with these labels below our prefix.
    pub async fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| (format!("opportune.libre.sh/{key}"), json!(value))).collect();
        let metadata = json!({"name": name, "labels": labels});
        self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        Ok(())
    }

    /// Makes an object where it says that it is; what the API server stored.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        self.post(object, false).await
    }

    /// What the API server would store.
    pub async fn try_out(&self, object: &Value) -> Result<Value> {
        self.post(object, true).await
    }

    async fn post(&self, object: &Value, dry_run: bool) -> Result<Value> {
        let (kind, namespace) = (text(object, "/kind"), text(object, "/metadata/namespace"));
        let name = text(object, "/metadata/name");
        let parameters = PostParams { dry_run, ..PostParams::default() };
        let object = serde_json::from_value(object.clone())?;
        let made = self.api(kind, namespace).create(&parameters, &object).await;
        Ok(serde_json::to_value(made.with_context(|| format!("creating {kind} {namespace}/{name}"))?)?)
    }

    pub async fn find(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let found = self.api(kind, namespace).get_opt(name).await?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        self.find(kind, namespace, name).await?.with_context(|| format!("no {kind} {namespace}/{name}"))
    }

    pub async fn list(&self, kind: &str, namespace: &str) -> Result<Vec<Value>> {
        let list = self.api(kind, namespace).list(&ListParams::default()).await?;
        Ok(list.items.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
    }

    /// Changes an object by a merge patch.
    pub async fn merge(&self, kind: &str, namespace: &str, name: &str, change: &Value) -> Result<Value> {
        let api = self.api(kind, namespace);
        let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        Ok(serde_json::to_value(changed.with_context(|| format!("changing {kind} {namespace}/{name}"))?)?)
    }

    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let parameters = DeleteParams::background();
        let deleted = self.api(kind, namespace).delete(name, &parameters).await;
        deleted.with_context(|| format!("deleting {kind} {namespace}/{name}"))?;
        Ok(())
    }
}
