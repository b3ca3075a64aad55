//! The webhook's certificate: where it comes from, when it expires, and how it is offered to a client.
//!
//! What is served is a snapshot that can be swapped while connections are open: a new certificate counts from the next
//! handshake on. Private keys stay in memory and are never printed.
mod files;
mod self_signed;

use arc_swap::ArcSwap;
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
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the serving certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A throw-away certificate can't be made, mostly because of a name that is none.
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
    expiry: SystemTime,
    /// The same for people.
    date: String,
}

/// The certificate in use. Clones share it.
#[derive(Debug, Clone)]
pub struct Certificates {
    current: Arc<ArcSwap<Loaded>>,
    ca_pem: Option<Arc<str>>,
    files: Option<files::Files>,
}

// === impl Certificates ===

impl Certificates {
    /// Makes or reads the certificate and checks it.
    ///
    /// # Errors
    /// [`Error`], which names the file and what is wrong with it.
    pub async fn load(source: &Source) -> Result<Self, Error> {
        let (loaded, ca_pem, files) = match source {
            Source::SelfSigned { names } => {
                let (loaded, ca_pem) = self_signed::make(names, SystemTime::now())?;
                (loaded, Some(ca_pem.into()), None)
            }
            Source::Files { cert, key } => {
                let mut files = files::Files::new(cert, key);
                (files.read(SystemTime::now()).await?, None, Some(files))
            }
        };
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(loaded)), ca_pem, files })
    }

    /// The authority that a client has to trust, in PEM form; none where the certificate came from files.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// When the certificate in use expires.
    pub fn expiry(&self) -> SystemTime {
        self.current.load().expiry
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

    /// Reads the files again every `every` and takes them over when they changed and are good; tells `report` each time
    /// whether the certificate in use is still valid. Never ends.
    pub async fn watch(mut self, every: Duration, report: impl Fn(bool)) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.read_again().await;
            // By the wall clock, at each tick: a paused node or a corrected clock is noticed.
            report(SystemTime::now() < self.expiry());
        }
    }

    async fn read_again(&mut self) {
        let Some(files) = &mut self.files else { return };
        match files.read_changed(SystemTime::now()).await {
            Ok(None) => {}
            Ok(Some(loaded)) => {
                tracing::info!(expires = loaded.date, "serving the new certificate");
                self.current.store(Arc::new(loaded));
            }
            Err(error) => tracing::warn!(%error, "the new certificate can't be used, the old one stays"),
        }
    }
}

/// Gives every handshake the certificate of this moment.
#[derive(Debug)]
struct Resolver {
    current: Arc<ArcSwap<Loaded>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
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
    let not_after = leaf.validity().not_after;
    let date = not_after.to_string();
    // What expired before 1970 expired.
    let seconds = u64::try_from(not_after.timestamp()).unwrap_or(0);
    let expiry = UNIX_EPOCH + Duration::from_secs(seconds);
    Ok(Loaded { certified: Arc::new(certified), expiry, date })
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
