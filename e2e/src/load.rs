//! Calls a webhook directly, as an API server does behind a Service: HTTP/1.1 over TLS, on connections that are kept.
use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// A review as large as what API servers send.
const REVIEW: &str = include_str!("../../core/tests/engine/reviews/deployment-create-ssa.json");
/// Variables of its own that each further container has.
const VARIABLES: usize = 10;
/// What stands in the place of its workload's name.
const NAME: &str = "NAME-OF-THE-WORKLOAD";

/// Reviews of new workloads, each of which has to be decided on.
#[derive(Debug, Clone)]
pub struct Reviews {
    text: Arc<str>,
    made: Arc<AtomicUsize>,
}

/// One connection to a webhook.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

// === impl Reviews ===

impl Reviews {
    /// Of workloads in a namespace, with these annotations below our prefix.
    ///
    /// # Errors
    /// The sample is no review.
    pub fn new(namespace: &str, annotations: &[(&str, &str)]) -> Result<Self> {
        let mut review: Value = serde_json::from_str(REVIEW)?;
        let request = review.get_mut("request").and_then(Value::as_object_mut).context("no request")?;
        request.insert("namespace".to_owned(), namespace.into());
        let metadata = request.get_mut("object").and_then(|object| object.get_mut("metadata"));
        let metadata = metadata.and_then(Value::as_object_mut).context("no metadata")?;
        metadata.insert("name".to_owned(), NAME.into());
        let written = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let written = written.context("no annotations")?;
        for (key, value) in annotations {
            written.insert(format!("opportune.libre.sh/{key}"), (*value).into());
        }
        Ok(Self { text: review.to_string().into(), made: Arc::default() })
    }

    /// The same with so many further containers, each with many variables of its own: a decision takes as much longer.
    ///
    /// # Errors
    /// The sample has no containers.
    pub fn with_containers(self, further: usize) -> Result<Self> {
        let mut review: Value = serde_json::from_str(&self.text)?;
        let containers = review.pointer_mut("/request/object/spec/template/spec/containers");
        let containers = containers.and_then(Value::as_array_mut).context("no containers")?;
        let variable = |number| json!({"name": format!("VARIABLE_{number}"), "value": "of its own"});
        let variables: Vec<_> = (0..VARIABLES).map(variable).collect();
        containers.extend((0..further).map(|number| {
            let name = format!("further-{number}");
            json!({"name": name, "image": "example.org/further:1", "env": variables})
        }));
        Ok(Self { text: review.to_string().into(), made: Arc::default() })
    }

    /// Another one.
    pub fn another(&self) -> Bytes {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.text.replace(NAME, &format!("app-{number}")).into()
    }
}

// === impl Caller ===

impl Caller {
    /// Connects, trusting this authority (PEM) only. The certificate has to name the address.
    ///
    /// # Errors
    /// Nobody listens there, or the certificate is not trusted.
    pub async fn connect(address: SocketAddr, authority: &str) -> Result<Self> {
        Self::connect_to(ServerName::IpAddress(address.ip().into()), address, authority).await
    }

    /// Connects to whom this is the address of, trusting this authority (PEM) only.
    ///
    /// # Errors
    /// Nobody listens there, or the certificate is not trusted, or not of that name.
    pub async fn connect_to(name: ServerName<'static>, address: SocketAddr, authority: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// Posts a review; the status and the body of the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn post(&mut self, path: &str, review: Bytes) -> Result<(u16, Bytes)> {
        let request = Request::post(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(review))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// Posts a review that has to be answered with 200; the body of the answer.
    ///
    /// # Errors
    /// The connection broke, or another answer came.
    pub async fn ask(&mut self, review: Bytes) -> Result<Bytes> {
        let (status, body) = self.post("/mutate", review).await?;
        ensure!(status == 200, "{} answers {status}: {}", self.address, String::from_utf8_lossy(&body));
        Ok(body)
    }
}
