//! Calls a webhook as an API server would: one AdmissionReview over TLS, trusting one authority only.
use crate::tls;
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// As long as an API server waits at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority that should be trusted can't be read.
    #[error("the authority is no certificate in PEM form")]
    Authority,
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Setup(#[source] rustls::Error),
    /// Nobody listens there, or the certificate is not trusted.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// Where the webhook should listen.
        address: SocketAddr,
        /// What the system or the TLS library says.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the call failed: {0}")]
    Call(#[source] hyper::Error),
    /// The request can't be built.
    #[error("the request can't be built: {0}")]
    Request(#[source] axum::http::Error),
    /// The webhook refuses the request.
    #[error("the webhook answered {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason that the webhook gives.
        text: String,
    },
    /// No answer came in time.
    #[error("no answer came within {} s", PATIENCE.as_secs())]
    TooSlow,
}

/// Posts `body` to `/mutate` at `address` over HTTP/1.1 and gives back the answer's body.
///
/// `address` must be an IP address that the webhook's certificate names, `ca_pem` the authority that signed it.
///
/// # Errors
/// [`Error`]: no connection, no trust, or an answer other than 200.
pub async fn post_review(address: SocketAddr, ca_pem: &str, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    timeout(PATIENCE, post(address, ca_pem, body)).await.unwrap_or(Err(Error::TooSlow))
}

async fn post(address: SocketAddr, ca_pem: &str, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    let connector = TlsConnector::from(Arc::new(trusting(ca_pem)?));
    let failed = |source| Error::Connect { address, source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Call)?;
    let request = Request::post(Uri::from_static("/mutate"))
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(Error::Request)?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    let (status, bytes) = tokio::select! {
        answer = answer => answer.map_err(Error::Call)?,
        // The connection carries the answer; it ends by itself only when it breaks.
        Err(error) = connection => return Err(Error::Call(error)),
    };
    if status.is_success() {
        return Ok(bytes.to_vec());
    }
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Err(Error::Refused { status: status.as_u16(), text })
}

fn trusting(ca_pem: &str) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| Error::Authority)?).map_err(Error::Setup)?;
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
