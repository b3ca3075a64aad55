//! A real server on loopback, certificates for it, and clients that call it.
use arc_swap::ArcSwap;
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opportune::{
    serve::{Addresses, Config, Error, Server},
    tls::Source,
};
use opportune_core::discover::Catalog;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A throw-away certificate, any port, and no time lost when shutting down.
pub fn config() -> Config {
    let source = Source::SelfSigned { names: Vec::new() };
    Config { settle: Duration::ZERO, ..Config::new(loopback(), loopback(), source) }
}

pub fn catalog() -> Arc<ArcSwap<Catalog>> {
    Arc::default()
}

/// A server that runs until it is told to stop.
pub struct Running {
    pub addresses: Addresses,
    pub ca_pem: String,
    stop: Option<oneshot::Sender<()>>,
    abort: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub async fn start(config: Config) -> Self {
        let server = Server::bind(config, catalog()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (abort, aborted) = oneshot::channel::<()>();
        let (addresses, ca_pem) = (server.addresses(), server.ca_pem().unwrap_or_default().to_owned());
        let first = stop_signal(stopped, aborted);
        let task = tokio::spawn(server.run(first));
        Self { addresses, ca_pem, stop: Some(stop), abort: Some(abort), task }
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub fn abort(&mut self) {
        self.abort.take().unwrap().send(()).unwrap();
    }

    pub async fn ended(self) -> Result<(), Error> {
        timeout(PATIENCE, self.task).await.expect("the server ends").unwrap()
    }

    /// A TLS connection to the webhook that trusts its throw-away authority.
    pub async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        connect(self.addresses.webhook, client(&self.ca_pem, protocols)).await.unwrap()
    }
}

async fn stop_signal(
    first: oneshot::Receiver<()>,
    second: oneshot::Receiver<()>,
) -> impl Future<Output = ()> {
    first.await.unwrap();
    async move { second.await.unwrap() }
}

pub fn client(ca_pem: &str, protocols: &[&str]) -> ClientConfig {
    let mut config = trusting(ca_pem).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub fn client_with(ca_pem: &str, own: &Pem) -> ClientConfig {
    let chain = vec![CertificateDer::from_pem_slice(own.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    trusting(ca_pem).with_client_auth_cert(chain, key).unwrap()
}

fn trusting(ca_pem: &str) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

pub async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    connect_as("localhost", address, config).await
}

pub async fn connect_as(
    name: &str,
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
}

pub type Http1 = conn::http1::SendRequest<Full<Bytes>>;
pub type Http2 = conn::http2::SendRequest<Full<Bytes>>;

pub async fn http1(stream: TlsStream<TcpStream>) -> Http1 {
    let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub async fn http2(stream: TlsStream<TcpStream>) -> Http2 {
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn review(body: &str) -> Request<Full<Bytes>> {
    Request::post("https://localhost/mutate")
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// Status and body of a plain GET.
pub async fn get(address: SocketAddr, path: &str) -> (StatusCode, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// A certificate and its key.
pub struct Pem {
    pub cert: String,
    pub key: String,
}

/// An authority that signs what a test needs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` that is good for an hour.
    pub fn sign(&self) -> Pem {
        self.sign_until(SystemTime::now() + Duration::from_secs(3600))
    }

    pub fn sign_until(&self, until: SystemTime) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = (until - Duration::from_secs(7200)).into();
        params.not_after = until.into();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pem { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Pem {
    /// Writes `tls.crt` and `tls.key` into `folder`.
    pub fn write(&self, folder: &Path) -> Source {
        let [cert, key] = files(folder);
        std::fs::write(&cert, &self.cert).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        Source::Files { cert, key }
    }
}

pub fn files(folder: &Path) -> [PathBuf; 2] {
    ["tls.crt", "tls.key"].map(|name| folder.join(name))
}
