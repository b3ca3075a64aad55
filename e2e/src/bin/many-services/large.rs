//! Makes a cluster large.
use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Secret, Service},
    },
};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt::Debug, ops::Range};

/// Requests to the API server at once.
const AT_ONCE: usize = 16;
/// Objects of one kind in one namespace; many more Secrets, as it is they that are to be measured and not their namespaces.
const IN_ONE: usize = 100;
const SECRETS_IN_ONE: usize = 10_000;

/// Makes the Services `from..to`.
pub async fn services(client: &Client, from: usize, to: usize) -> Result<()> {
    make::<Service>(client, "n", "", from..to, IN_ONE, |number| {
        let labels = if number.is_multiple_of(10) {
            json!({"opportune.libre.sh/offers": "ldap", "app": "openldap"})
        } else {
            json!({"app": "shop", "app.kubernetes.io/name": "shop", "helm.sh/chart": "shop-1.2.3"})
        };
        service(&format!("s{number}"), labels)
    })
    .await
}

pub fn service(name: &str, labels: Value) -> Result<Service> {
    let (annotations, ports) = match labels.get("opportune.libre.sh/offers") {
        Some(_) => {
            let settings = json!({"opportune.libre.sh/settings": "base-dn: dc=example,dc=org"});
            (settings, json!([{"name": "ldap", "port": 389}]))
        }
        None => {
            let release =
                json!({"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "shop"});
            (release, json!([{"name": "http", "port": 80, "targetPort": "http"}]))
        }
    };
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"selector": {"app": name}, "ports": ports},
    }))?)
}

/// Makes Deployments of the usual size in namespaces in which injection is on; one in four wants something.
pub async fn deployments(client: &Client, count: usize) -> Result<()> {
    make::<Deployment>(client, "d", "enabled", 0..count, IN_ONE, |number| {
        let name = format!("app{number}");
        let labels = json!({"app": name, "app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": name,
            "helm.sh/chart": "shop-1.2.3"});
        let wants = if number.is_multiple_of(4) { json!({"opportune.libre.sh/wants": "ldap, mail"}) } else { json!({}) };
        let variables: Vec<Value> =
            (0..30).map(|n| json!({"name": format!("SHOP_OPTION_{n}"), "value": format!("value number {n}")})).collect();
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": wants},
                    "spec": {"containers": [{"name": "app", "image": "registry.example.org/shop/app:1.2.3", "env": variables}]},
                },
            },
        }))?)
    })
    .await
}

/// Makes Secrets of the size of a small certificate.
pub async fn secrets(client: &Client, count: usize) -> Result<()> {
    make::<Secret>(client, "k", "", 0..count, SECRETS_IN_ONE, |number| {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": format!("secret{number}")},
            "stringData": {"tls.key": "k".repeat(300)},
        }))?)
    })
    .await
}

/// Makes objects in namespaces of this prefix, with this value of the label by which injection is switched on.
async fn make<K>(
    client: &Client,
    prefix: &str,
    inject: &str,
    numbers: Range<usize>,
    in_one: usize,
    object: impl Fn(usize) -> Result<K>,
) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    if numbers.is_empty() {
        return Ok(());
    }
    eprintln!("making {} objects of kind {}", numbers.len(), K::kind(&()));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for number in numbers.start.div_ceil(in_one)..numbers.end.div_ceil(in_one) {
        let labels = if inject.is_empty() { json!({}) } else { json!({"opportune.libre.sh/inject": inject}) };
        let namespace = json!({"metadata": {"name": format!("{prefix}{number}"), "labels": labels}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    }
    stream::iter(numbers)
        .map(|number| {
            let api: Api<K> = Api::namespaced(client.clone(), &format!("{prefix}{}", number / in_one));
            let object = object(number);
            async move {
                api.create(&PostParams::default(), &object?).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}
