//! The webhook server: HTTPS for the API server, plain HTTP for probes and Prometheus.
//!
//! The request path does no IO and awaits no lock: it takes one snapshot of the catalog and calls the core.
mod admin;
pub mod call;
mod connections;
mod memory;
mod readiness;
mod server;
mod shed;
mod signals;
mod turns;
mod webhook;

pub use self::admin::{Admin, AdminPort, admin_router};
pub use self::readiness::{Condition, Readiness};
pub use self::server::{Addresses, Server};
pub use self::signals::signals;
pub use self::webhook::{Unanswered, Webhook, webhook_router};

use crate::{tls, watch::Pulses};
use arc_swap::ArcSwap;
use opportune_core::admit::Options;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// A snapshot that is swapped whole: readers keep the one they took.
pub type Shared<T> = Arc<ArcSwap<T>>;

/// Everything that is decided before the server starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the webhook listens (`--listen`).
    pub listen: SocketAddr,
    /// Where probes and metrics are served (`--admin`).
    pub admin: SocketAddr,
    /// Where the certificate comes from.
    pub certificates: tls::Source,
    /// PEM file with the authority of the only clients that may call (`--client-ca`).
    pub client_ca: Option<PathBuf>,
    /// How often certificate files are looked at.
    pub reread: Duration,
    /// What the core is told at first; [`Server::options`] changes it.
    pub options: Options,
    /// How long to go on serving, unready, after the shutdown began: the time that endpoints need to forget us.
    pub settle: Duration,
    /// How long requests in flight may then take to finish.
    pub drain: Duration,
    /// What one client or all of them together may use.
    pub limits: Limits,
    /// The watches that the catalog comes from, for the metrics; none where it comes from files.
    pub pulses: Pulses,
}

// === impl Config ===

impl Config {
    /// Everything but the addresses and the certificate as it is by default.
    pub fn new(listen: SocketAddr, admin: SocketAddr, certificates: tls::Source) -> Self {
        Self {
            listen,
            admin,
            certificates,
            client_ca: None,
            reread: Duration::from_secs(10),
            options: Options::default(),
            settle: Duration::from_secs(5),
            drain: Duration::from_secs(15),
            limits: Limits::default(),
            pulses: Pulses::default(),
        }
    }
}

/// What one client or all of them together may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the first request's head, from its first byte on.
    pub head: Duration,
    /// Time for a request to arrive and to get its turn, after which it is answered with 408.
    pub request: Duration,
    /// Time after which a connection without requests is closed, between once and twice this long. Longer than the
    /// 90 s after which the API server closes its own, so that it never writes into one that we are closing.
    pub idle: Duration,
    /// Bytes that a request's body may have.
    pub body: usize,
    /// Requests answered at once: as many as there are processors, or none would be answered sooner.
    pub at_once: usize,
    /// How long a request may wait for its turn; one that would wait longer is answered without a decision, at once.
    pub wait: Duration,
    /// Requests in work at once; others wait.
    pub in_work: usize,
    /// Of these, the ones that are, or may be, larger than 256 KiB: with `in_work` and `body`, the bound on memory.
    pub large_in_work: usize,
    /// Open connections; others wait to be accepted.
    pub connections: usize,
    /// HTTP/2 streams of one connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            body: 8 * 1024 * 1024,
            at_once: std::thread::available_parallelism().map_or(1, usize::from),
            // Well below the 5 s after which the API server gives up, with which it would do the same, but later; and longer than
            // it takes to answer all that one API server asks at once, which is about 600.
            wait: Duration::from_secs(1),
            in_work: 256,
            large_in_work: 8,
            connections: 512,
            streams: 128,
        }
    }
}

/// Why the server can't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port can't be had.
    #[error("can't listen on {option} {address}: {source}")]
    Listen {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The certificate can't be used.
    #[error(transparent)]
    Certificate(tls::Error),
    /// The metrics can't be registered.
    #[error("metrics can't be set up: {0}")]
    Metrics(#[source] prometheus::Error),
    /// A task that should run as long as the process ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// A second signal came before the requests in flight were finished.
    #[error("stopped before the requests in flight were finished")]
    Aborted,
}
