//! Another mutating webhook, of the kind that a mesh brings: into each pod template that lacks it, it puts a container of
//! its own before the others, a variable into each, and a volume.
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// The container's name, and its volume's.
pub const NAME: &str = "sidecar";

/// The webhook, gone when dropped.
pub struct Sidecar {
    address: SocketAddr,
    authority: String,
    task: JoinHandle<()>,
}

/// Its registration, removed when dropped.
pub struct Registered<'a> {
    plane: &'a ControlPlane,
    name: String,
}

// === impl Sidecar ===

impl Sidecar {
    /// Serves on loopback.
    pub async fn start() -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = TokioIo::new(acceptor.accept(stream).await?);
                    http1::Builder::new().serve_connection(stream, service_fn(answer)).await?;
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { address, authority: certified.cert.pem(), task })
    }

    /// Registers it for one namespace, as `name`: configurations are called in the order of their names.
    pub fn register<'a>(
        &self,
        plane: &'a ControlPlane,
        name: &str,
        namespace: &str,
    ) -> Result<Registered<'a>> {
        let name = format!("{name}-{namespace}");
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "sidecar.example.org",
                "clientConfig": {
                    "url": format!("https://{}/", self.address),
                    "caBundle": STANDARD.encode(&self.authority),
                },
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{
                    "apiGroups": ["apps"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments", "statefulsets"],
                }],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
            }],
        });
        plane.apply(&configuration.to_string())?;
        Ok(Registered { plane, name })
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // Where the API server is gone already, so is the configuration.
        let _ = self.plane.kubectl(&["delete", "mutatingwebhookconfiguration", &self.name]);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut review: Value = serde_json::from_slice(&body)?;
    let request = review["request"].take();
    let patch = serde_json::to_vec(&patch(&request["object"]).context("not a workload")?)?;
    review["response"] = json!({
        "uid": request["uid"],
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(patch),
    });
    Ok(Response::new(Full::from(review.to_string())))
}

/// What it adds; nothing where all of it is there.
fn patch(object: &Value) -> Option<Vec<Value>> {
    let pod = object.pointer("/spec/template/spec")?;
    let at = |path: &str| format!("/spec/template/spec/{path}");
    let add = |path: String, value: Value| json!({"op": "add", "path": path, "value": value});
    let mut patch = Vec::new();
    let containers = pod["containers"].as_array()?;
    for (index, container) in containers.iter().enumerate() {
        let env = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
        if env.iter().any(|entry| entry["name"] == "SIDECAR") {
            continue;
        }
        let entry = json!({"name": "SIDECAR", "value": "on"});
        // The first in the list, so that all others move.
        match container.get("env") {
            Some(_) => patch.push(add(at(&format!("containers/{index}/env/0")), entry)),
            None => patch.push(add(at(&format!("containers/{index}/env")), json!([entry]))),
        }
    }
    if !containers.iter().any(|container| container["name"] == NAME) {
        match pod.get("volumes") {
            Some(_) => patch.push(add(at("volumes/0"), json!({"name": NAME, "emptyDir": {}}))),
            None => patch.push(add(at("volumes"), json!([{"name": NAME, "emptyDir": {}}]))),
        }
        let container = json!({
            "name": NAME,
            "image": "example.invalid/sidecar:1",
            "env": [{"name": "SIDECAR", "value": "on"}],
            "volumeMounts": [{"name": NAME, "mountPath": "/var/run/sidecar"}],
        });
        patch.push(add(at("containers/0"), container));
    }
    Some(patch)
}
