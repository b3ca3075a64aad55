//! Binds, runs and ends the server.
use super::{
    Admin, AdminPort, Condition, Config, Error, Readiness, Shared, Webhook,
    connections::{Port, Served},
    webhook_router,
};
use crate::{
    observe::Metrics,
    tls::{Certificates, Health},
};
use arc_swap::ArcSwap;
use opportune_core::{admit::Options, discover::Catalog};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use tokio_rustls::TlsAcceptor;

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
    admin: AdminPort,
    state: Admin,
    certificates: Certificates,
    is_certificate_valid: Condition,
    /// Where the certificate is managed.
    is_bundle_written: Option<Condition>,
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
        is_certificate_valid.set(certificates.expiry().is_some());
        let is_bundle_written = certificates.is_managed().then(|| readiness.register("caBundle written"));
        let options: Shared<Options> = Arc::new(ArcSwap::from_pointee(config.options));
        let (of_catalog, of_options) = (Arc::clone(&catalog), Arc::clone(&options));
        let webhook = Webhook::with_core(of_catalog, of_options, Arc::clone(&metrics), limits);
        let router = webhook_router(Arc::new(webhook));
        let served = Served { tls, router, readiness: readiness.clone(), limits };
        let webhook = Port::bind("--listen", config.listen, served).await?;
        let in_use = Some(certificates.clone());
        let state = Admin { metrics, readiness, catalog, certificates: in_use, pulses: config.pulses };
        let admin = AdminPort::bind(config.admin, state.clone()).await?;
        let times = Times { reread, settle, drain };
        Ok(Self {
            webhook,
            admin,
            state,
            certificates,
            is_certificate_valid,
            is_bundle_written,
            options,
            times,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        Addresses { webhook: self.webhook.address(), admin: self.admin.address() }
    }

    /// The authority that a client has to trust, in PEM form; none where the certificate came from files.
    pub fn ca_pem(&self) -> Option<&str> {
        self.certificates.ca_pem()
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
        let Self {
            webhook, admin, state, certificates, is_certificate_valid, is_bundle_written, times, ..
        } = self;
        tracing::info!(webhook = %webhook.address(), admin = %admin.address(), "serving");
        let (stop, stopped) = watch::channel(false);
        let report = |health: Health| {
            is_certificate_valid.set(health.is_valid);
            if let Some(is_written) = &is_bundle_written {
                is_written.set(health.is_trusted);
            }
        };
        let serving = async {
            tokio::select! {
                () = webhook.serve(stopped.clone(), times.drain) => Ok(()),
                // It answers until the very end.
                () = admin.serve() => Err(Error::Ended("the admin port")),
                () = certificates.watch(times.reread, report) => {
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
