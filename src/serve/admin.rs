//! The admin port: is it alive, does it want requests, what did it do. Plain HTTP, and nothing that is secret.
use super::{Readiness, Shared};
use crate::{observe::Metrics, tls::Certificates};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use opportune_core::discover::Catalog;
use std::sync::Arc;

/// What the admin port reports on.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Whether requests are wanted.
    pub readiness: Readiness,
    /// The offers known now.
    pub catalog: Shared<Catalog>,
    /// The certificate in use.
    pub certificates: Certificates,
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
    let expiry = admin.certificates.expiry();
    match admin.metrics.render(&admin.catalog.load(), Some(expiry)) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let (is_ready, lines) = admin.readiness.report();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines)
}
