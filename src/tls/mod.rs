//! The webhook's certificate: where it comes from, when it expires, and how it is offered to a client.
//!
//! What is served is a snapshot that can be swapped while connections are open: a new certificate counts from the next
//! handshake on. Private keys stay in memory and are never printed.
mod authorities;
mod authority;
mod configuration;
#[cfg(test)]
mod fake;
mod files;
mod issue;
mod keeper;
mod lifetimes;
mod managed;
mod replica;
mod self_signed;
#[cfg(test)]
mod simulation;
mod store;
mod told;

pub use self::keeper::Keeper;
pub use self::lifetimes::Lifetimes;
pub use self::managed::{Managed, host_of, names_of_service};

use self::lifetimes::Validity;
use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the serving certificate comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A throw-away authority and its certificate, in memory only.
    SelfSigned {
        /// Host names and IP addresses besides `localhost`, `127.0.0.1` and `::1`.
        names: Vec<String>,
    },
    /// PEM files that somebody else keeps up to date (cert-manager), read again when they change.
    Files {
        /// The certificate, followed by its chain.
        cert: PathBuf,
        /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: PathBuf,
    },
    /// Signed here, with an authority of ours that lives in the cluster and that a [`Keeper`] keeps.
    Managed(Managed),
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there or not readable.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no certificate in PEM form.
    #[error("{} holds no certificate in PEM form (BEGIN CERTIFICATE)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key in PEM form.
    #[error("{} holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A file holds something that is no valid certificate or key.
    #[error("{} can't be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate in {} expired on {date}; renew it", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Its last moment.
        date: String,
    },
    /// Lifetimes that don't go together.
    #[error("these lifetimes don't work: {reason}")]
    Lifetimes {
        /// Which rule they break.
        reason: &'static str,
    },
    /// A certificate can't be made, mostly because of a name that is none.
    #[error("can't make a certificate for {names}: {source}")]
    Make {
        /// The names asked for.
        names: String,
        /// What the maker says.
        #[source]
        source: rcgen::Error,
    },
    /// The TLS library refuses what it was given.
    #[error("TLS can't be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// One certificate with its key, checked.
#[derive(Debug, Clone)]
struct Loaded {
    certified: Arc<CertifiedKey>,
    validity: Validity,
    /// Its end, for people.
    date: String,
}

/// Whether what is served now serves its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// There is a certificate, and it has not expired by the wall clock.
    pub is_valid: bool,
    /// The `caBundle` of each of our webhooks trusts it, by the name that the API server calls, and was written long enough
    /// ago. Always so where the certificate is not managed: then it is somebody else's affair.
    pub is_trusted: bool,
}

/// The certificate in use. Clones share it.
#[derive(Debug, Clone)]
pub struct Certificates {
    current: Arc<ArcSwapOption<Loaded>>,
    ca_pem: Option<Arc<str>>,
    origin: Origin,
}

/// Where the next certificate comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// There is none.
    Nowhere,
    Files(files::Files),
    Managed(Managed),
}

// === impl Certificates ===

impl Certificates {
    /// Makes or reads the certificate and checks it. A managed one comes only with [`watch`](Self::watch): until then,
    /// every handshake fails.
    ///
    /// # Errors
    /// [`Error`], which names the file and what is wrong with it.
    pub async fn load(source: &Source) -> Result<Self, Error> {
        let (loaded, ca_pem, origin) = match source {
            Source::SelfSigned { names } => {
                let (loaded, ca_pem) = self_signed::make(names, SystemTime::now())?;
                (Some(loaded), Some(ca_pem.into()), Origin::Nowhere)
            }
            Source::Files { cert, key } => {
                let mut files = files::Files::new(cert, key);
                (Some(files.read(SystemTime::now()).await?), None, Origin::Files(files))
            }
            Source::Managed(managed) => (None, None, Origin::Managed(managed.clone())),
        };
        Ok(Self { current: Arc::new(ArcSwapOption::from_pointee(loaded)), ca_pem, origin })
    }

    /// The authority that a client has to trust, in PEM form; none where the certificate came from elsewhere.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Whether we ourselves see to it that the API servers trust the certificate.
    pub fn is_managed(&self) -> bool {
        matches!(self.origin, Origin::Managed(_))
    }

    /// When the certificate in use expires; none while there is no certificate.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.current.load().as_ref().map(|current| current.validity.until)
    }

    /// The TLS side of the webhook: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, and with `client_ca` only callers whose
    /// certificate that authority signed.
    ///
    /// # Errors
    /// [`Error`], when `client_ca` can't be read or holds no authority.
    pub async fn server_config(&self, client_ca: Option<&Path>) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(Error::Setup)?;
        let builder = match client_ca {
            Some(path) => builder.with_client_cert_verifier(client_verifier(path).await?),
            None => builder.with_no_client_auth(),
        };
        let resolver = Resolver { current: Arc::clone(&self.current) };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Keeps the certificate up to date, and tells `report` after each look whether it is fine. Never ends.
    ///
    /// Files are read again every `every` and taken over when they changed and are good. For a managed certificate, the
    /// cluster is followed, and its lifetimes say how often to look.
    pub async fn watch(self, every: Duration, report: impl Fn(Health)) {
        let Self { current, origin, .. } = self;
        let mut files = match origin {
            Origin::Managed(managed) => return managed.follow(current, report).await,
            Origin::Files(files) => Some(files),
            Origin::Nowhere => None,
        };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(files) = &mut files {
                read_again(files, &current).await;
            }
            // By the wall clock, at each tick: a paused node or a corrected clock is noticed.
            let now = SystemTime::now();
            let is_valid = current.load().as_ref().is_some_and(|current| now < current.validity.until);
            report(Health { is_valid, is_trusted: true });
        }
    }
}

async fn read_again(files: &mut files::Files, current: &ArcSwapOption<Loaded>) {
    match files.read_changed(SystemTime::now()).await {
        Ok(None) => {}
        Ok(Some(loaded)) => {
            tracing::info!(expires = loaded.date, "serving the new certificate");
            current.store(Some(Arc::new(loaded)));
        }
        Err(error) => tracing::warn!(%error, "the new certificate can't be used, the old one stays"),
    }
}

/// Gives every handshake the certificate of this moment.
#[derive(Debug)]
struct Resolver {
    current: Arc<ArcSwapOption<Loaded>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|current| Arc::clone(&current.certified))
    }
}

/// The one crypto provider of the program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Puts a chain and its key together, checks that they match, and reads the expiry.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Loaded, rustls::Error> {
    let certified = CertifiedKey::from_der(chain, key, &provider())?;
    let (_, leaf) = X509Certificate::from_der(certified.end_entity_cert()?)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let (validity, date) = (Validity::of(&leaf), leaf.validity().not_after.to_string());
    Ok(Loaded { certified: Arc::new(certified), validity, date })
}

async fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unusable = |reason: String| Error::Unusable { path: path.to_owned(), reason };
    let pem = files::read(path).await?;
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(path, &pem)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| unusable(error.to_string()))
}
