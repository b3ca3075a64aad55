//! Binds, runs and ends the server.
use super::{
    Admin, Condition, Config, Error, Limits, Readiness, Shared, Webhook, admin_router,
    connections::{Port, Served},
    webhook_router,
};
use crate::{observe::Metrics, tls::Certificates};
use arc_swap::ArcSwap;
use opportune_core::{admit::Options, discover::Catalog};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use tokio_rustls::TlsAcceptor;

/// Open connections of the admin port: a few probes and scrapers.
const ADMIN_CONNECTIONS: usize = 64;

/// The bound ports; where port 0 was asked for, the ones that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The webhook's.
    pub webhook: SocketAddr,
    /// The admin port's.
    pub admin: SocketAddr,
}

/// A server that has its ports and its certificate, and does not serve yet.
pub struct Server {
    webhook: Port,
    admin: Port,
    state: Admin,
    is_certificate_valid: Condition,
    options: Shared<Options>,
    times: Times,
}

struct Times {
    reread: Duration,
    settle: Duration,
    drain: Duration,
}

// === impl Server ===

impl Server {
    /// Loads the certificate and takes both ports: what is wrong with them is found before anything starts.
    ///
    /// # Errors
    /// [`Error`], which names the option or the file.
    pub async fn bind(config: Config, catalog: Shared<Catalog>) -> Result<Self, Error> {
        let Config { limits, reread, settle, drain, .. } = config;
        let certificates = Certificates::load(&config.certificates).await.map_err(Error::Certificate)?;
        let tls = certificates.server_config(config.client_ca.as_deref()).await;
        let tls = Some(TlsAcceptor::from(Arc::new(tls.map_err(Error::Certificate)?)));
        let metrics = Arc::new(Metrics::new().map_err(Error::Metrics)?);
        let readiness = Readiness::default();
        let is_certificate_valid = readiness.register("certificate loaded");
        is_certificate_valid.set(true);
        let options: Shared<Options> = Arc::new(ArcSwap::from_pointee(config.options));
        let (of_catalog, of_options) = (Arc::clone(&catalog), Arc::clone(&options));
        let webhook = Webhook::with_core(of_catalog, of_options, Arc::clone(&metrics), limits);
        let router = webhook_router(Arc::new(webhook));
        let served = Served { tls, router, readiness: readiness.clone(), limits };
        let webhook = Port::bind("--listen", config.listen, served).await?;
        let state = Admin { metrics, readiness: readiness.clone(), catalog, certificates };
        let limits = Limits { connections: ADMIN_CONNECTIONS, ..limits };
        let served = Served { tls: None, router: admin_router(state.clone()), readiness, limits };
        let admin = Port::bind("--admin", config.admin, served).await?;
        let times = Times { reread, settle, drain };
        Ok(Self { webhook, admin, state, is_certificate_valid, options, times })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        Addresses { webhook: self.webhook.address(), admin: self.admin.address() }
    }

    /// The authority that a client has to trust, in PEM form; none where the certificate came from files.
    pub fn ca_pem(&self) -> Option<&str> {
        self.state.certificates.ca_pem()
    }

    /// To register more conditions that have to hold before requests are wanted.
    pub fn readiness(&self) -> Readiness {
        self.state.readiness.clone()
    }

    /// What was counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.metrics)
    }

    /// What the core is told: swapped when it changes, such as when nobody delivers any more.
    pub fn options(&self) -> Shared<Options> {
        Arc::clone(&self.options)
    }

    /// Serves until `shutdown` ends; then becomes unready, serves on for a moment, accepts no more and lets requests in
    /// flight finish. `shutdown` gives a second future, which cuts that short when it ends too: see [`super::signals`].
    ///
    /// # Errors
    /// [`Error::Ended`] when a task ended that should not, [`Error::Aborted`] when the second future ended.
    pub async fn run<A>(self, shutdown: impl Future<Output = A>) -> Result<(), Error>
    where
        A: Future<Output = ()>,
    {
        let Self { webhook, admin, state, is_certificate_valid, times, .. } = self;
        tracing::info!(webhook = %webhook.address(), admin = %admin.address(), "serving");
        let (stop, stopped) = watch::channel(false);
        // The admin port answers until the very end.
        let (_end, never) = watch::channel(false);
        let report = |is_valid| is_certificate_valid.set(is_valid);
        let serving = async {
            tokio::select! {
                () = webhook.serve(stopped.clone(), times.drain) => Ok(()),
                () = admin.serve(never, Duration::ZERO) => Err(Error::Ended("the admin port")),
                () = state.certificates.watch(times.reread, report) => {
                    Err(Error::Ended("the watch of the certificate"))
                }
            }
        };
        tokio::select! {
            // The end of the serving first, when both are ready.
            biased;
            result = serving => match result {
                Ok(()) if !*stopped.borrow() => Err(Error::Ended("the webhook")),
                result => result,
            },
            () = stopping(shutdown, &state.readiness, &stop, times.settle) => Err(Error::Aborted),
        }
    }
}

/// Leads the shutdown; ends only when it is cut short.
async fn stopping<A: Future<Output = ()>>(
    shutdown: impl Future<Output = A>,
    readiness: &Readiness,
    stop: &watch::Sender<bool>,
    settle: Duration,
) {
    let mut abort = std::pin::pin!(shutdown.await);
    readiness.drain();
    tracing::info!("shutting down");
    tokio::select! {
        () = sleep(settle) => {}
        () = abort.as_mut() => return,
    }
    stop.send_replace(true);
    abort.await;
}
