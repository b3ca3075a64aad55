//! `opportune demo`: a WordPress goes through the real webhook, without a cluster.
use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use opportune_core::{
    admit::{Options, Request, admit},
    discover::Catalog,
    inject::PatchOperation,
    json::Json,
};
use serde_json::{Value, json};

use super::{Failure, catalog, explain, inject, manifest, offline, output, style, with_causes};
use crate::{
    knowledge::Folders,
    serve::{Config, Server, call::post_review},
    tls::Source,
};

/// Options of `opportune demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune demo
  NO_COLOR=1 opportune demo | less")]
pub struct DemoArgs {}

const CLUSTER: &str = include_str!("demo/cluster.yaml");
const WORDPRESS: &str = include_str!("demo/wordpress.yaml");
const NAMESPACE: &str = "blog";

/// Runs the demo; what it returns goes to standard output.
///
/// # Errors
/// When this machine does not let us serve on its loopback address.
pub fn run(_: &DemoArgs) -> Result<String, Failure> {
    let cluster = manifest::read_text("the demo's cluster", CLUSTER)?;
    let workload = manifest::read_text("the demo's WordPress", WORDPRESS)?;
    let Some(wordpress) = workload.first() else { return Err(Failure::input("the demo has no WordPress")) };
    let object = &wordpress.object;
    let catalog = offline::from_manifests(&cluster, &Folders::default())?;
    let table = catalog::table(&catalog);
    let request = Request { namespace: NAMESPACE, object: &Json::from(object), old: None };
    let verdict = admit(&request, &catalog, &Options::default());
    let explained = explain::explained(object, NAMESPACE, (&catalog, &Options::default()), &verdict)?;
    let (address, response) = through_the_webhook(catalog, object)?;
    let after = inject::patched(object, &patch(&response)?)?;
    let diff = output::diff(&inject::name(object), object, &after)?;
    let nothing = offline::from_manifests(&[], &Folders::default())?;
    let bare = admit(&request, &nothing, &Options::default());
    let absent = bare.plan.map(|plan| plan.status()).unwrap_or_default();
    let head = |text: &str| style::paint(style::HEAD, text);
    Ok(format!(
        "{}\n{table}\n{}\n{explained}\n{}\n{diff}\n{}\n  {absent}\n",
        head("1. What this cluster offers (opportune catalog)"),
        head("2. What a WordPress that wants ldap, mail, analytics and storage gets (opportune explain)"),
        head(&format!(
            "3. What the webhook on https://{address}/mutate answered to its AdmissionReview, applied"
        )),
        head("4. The same WordPress in a cluster that offers nothing: it runs, and its status says why"),
    ))
}

/// Serves the real webhook on loopback, with a throw-away authority, for one review.
#[expect(
    clippy::async_yields_async,
    reason = "the server asks for a future that ends in the next one: what aborts it"
)]
fn through_the_webhook(catalog: Catalog, object: &Value) -> Result<(SocketAddr, Value), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::input(with_causes(error));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(loopback, loopback, Source::SelfSigned { names: Vec::new() });
        config.settle = std::time::Duration::ZERO;
        let server = Server::bind(config, Arc::new(ArcSwap::from_pointee(catalog)))
            .await
            .map_err(|error| failed(&error))?;
        let address = server.addresses().webhook;
        let authority = server.ca_pem().unwrap_or_default().to_owned();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(server.run(async move {
            // Whether we were told to stop or forgotten, this is the end; nobody asks twice.
            let _ = stopped.await;
            std::future::pending::<()>()
        }));
        let body = serde_json::to_vec(&review(object)).map_err(|error| failed(&error))?;
        let answer = post_review(address, &authority, body).await.map_err(|error| failed(&error))?;
        drop(stop);
        served.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let review: Value = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
        Ok((address, review.get("response").cloned().unwrap_or_default()))
    })
}

/// The AdmissionReview that an API server would send.
fn review(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-4000-8000-000000000000",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": "wordpress",
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "userInfo": {"username": "demo"},
            "object": object,
        },
    })
}

/// The operations of a response.
fn patch(response: &Value) -> Result<Vec<PatchOperation>, Failure> {
    let Some(text) = response.get("patch").and_then(Value::as_str) else { return Ok(Vec::new()) };
    let bytes = STANDARD.decode(text).map_err(|error| Failure::input(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::input(error.to_string()))
}
