//! A webhook of the same stack as ours that parses the review as a tree and answers with a constant patch.
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Patches by the name of the webhook that answers with them, base64; none: it is allowed as it came.
type Patches = BTreeMap<String, Option<String>>;

/// What answers for the namespace of its name.
pub struct Hook {
    pub name: &'static str,
    /// None: it is allowed as it came.
    pub patch: Option<Value>,
    /// The `matchConditions` of each of its webhooks.
    pub conditions: Vec<Value>,
}

/// Registers and serves them.
pub async fn serve(cluster: &ControlPlane, hooks: &[Hook]) -> Result<()> {
    let certified = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let encoded = |patch: &Value| STANDARD.encode(patch.to_string());
    let known: Patches =
        hooks.iter().map(|hook| (hook.name.to_owned(), hook.patch.as_ref().map(encoded))).collect();
    tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::new(known)));
    for hook in hooks {
        register(cluster, hook, address, &certified.cert.pem())?;
    }
    Ok(())
}

fn register(cluster: &ControlPlane, hook: &Hook, address: SocketAddr, authority: &str) -> Result<()> {
    let name = hook.name;
    let webhook = |(number, conditions): (usize, &Value)| {
        json!({
            "name": format!("{number}.{name}.example.org"),
            "clientConfig": {"url": format!("https://{address}/{name}"), "caBundle": STANDARD.encode(authority)},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["deployments", "statefulsets"]}],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "reinvocationPolicy": "IfNeeded",
            "matchConditions": conditions,
        })
    };
    let webhooks: Vec<Value> = hook.conditions.iter().enumerate().map(webhook).collect();
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": webhooks,
    });
    cluster.apply(&configuration.to_string())?;
    Ok(())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, patches: Arc<Patches>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, patches) = (acceptor.clone(), Arc::clone(&patches));
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            let service = service_fn(move |request| answer(request, Arc::clone(&patches)));
            let served = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
            served.map_err(|error| anyhow::anyhow!("{error}"))
        });
    }
}

async fn answer(request: Request<Incoming>, patches: Arc<Patches>) -> Result<Response<Full<Bytes>>> {
    let patch = patches.get(request.uri().path().trim_start_matches('/')).context("no such webhook")?;
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body)?;
    let uid = review.pointer("/request/uid").context("not a review")?;
    let mut response = json!({"uid": uid, "allowed": true});
    if let (Some(patch), Some(response)) = (patch, response.as_object_mut()) {
        response.insert("patchType".to_owned(), "JSONPatch".into());
        response.insert("patch".to_owned(), patch.as_str().into());
    }
    let answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(Full::from(answer.to_string()))?)
}
