//! The admin port: is it alive, does it want requests, what did it do. Plain HTTP, and nothing that is secret.
use super::{
    Error, Limits, Readiness, Shared,
    connections::{Port, Served},
};
use crate::{observe::Metrics, tls::Certificates, watch::Pulses};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use opportune_core::discover::Catalog;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Open connections: a few probes and scrapers.
const CONNECTIONS: usize = 64;

/// What the admin port reports on.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Whether requests are wanted.
    pub readiness: Readiness,
    /// The offers known now.
    pub catalog: Shared<Catalog>,
    /// The certificate in use; none where no webhook is served.
    pub certificates: Option<Certificates>,
    /// The watches that the catalog comes from; none where it comes from files.
    pub pulses: Pulses,
}

/// The admin port of a process without a webhook.
pub struct AdminPort(Port);

// === impl AdminPort ===

impl AdminPort {
    /// Takes the port.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(address: SocketAddr, admin: Admin) -> Result<Self, Error> {
        let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
        let readiness = admin.readiness.clone();
        let served = Served { tls: None, router: admin_router(admin), readiness, limits };
        Port::bind("--admin", address, served).await.map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers as long as the process lives.
    pub async fn serve(self) {
        let (_end, never) = watch::channel(false);
        self.0.serve(never, Duration::ZERO).await;
    }
}

/// `/metrics`, `/healthz` and `/readyz`.
pub fn admin_router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let expiry = admin.certificates.as_ref().and_then(Certificates::expiry);
    match admin.metrics.render(&admin.catalog.load(), expiry, &admin.pulses) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let (is_ready, lines) = admin.readiness.report();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines)
}
