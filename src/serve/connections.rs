//! Accepts connections and drives each to its end, with a bound on their number and on the time each may waste.
//!
//! Time is bounded by what the client does: a handshake, the first head, then a request every now and then. What
//! happens inside a request is the router's to bound.
use super::{Error, Limits, Readiness};
use axum::{
    Router,
    http::{HeaderValue, Request, Version, header::CONNECTION},
    response::Response,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::Service;

/// How often a dead peer of an HTTP/2 connection is looked for.
const PING: Duration = Duration::from_secs(30);
/// What is read of a TLS connection at once, in bytes: a review of most workloads, where rustls alone asks for 4 KiB each time. As
/// many connections as there may be hold 16 MiB.
const BUFFER: usize = 32 * 1024;
/// The pause after a failed accept, which mostly means that the process has no file descriptor left.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// One bound port with what is served there.
pub(super) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    served: Served,
}

/// What is served on each connection of a port, and how.
#[derive(Clone)]
pub(super) struct Served {
    /// None: plain HTTP.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) router: Router,
    pub(super) readiness: Readiness,
    pub(super) limits: Limits,
}

// === impl Port ===

impl Port {
    /// Takes the port that `option` names.
    pub(super) async fn bind(
        option: &'static str,
        address: SocketAddr,
        served: Served,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Listen { option, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, served })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is true; then accepts no more and lets requests in flight finish within `drain`.
    pub(super) async fn serve(self, mut stop: watch::Receiver<bool>, drain: Duration) {
        let Self { listener, served, .. } = self;
        let http = Arc::new(http(served.limits));
        let slots = Arc::new(Semaphore::new(served.limits.connections));
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(_) = open.join_next() => {}
                Some((stream, slot)) = accept(&listener, &slots) => {
                    let connection = served.clone().connection(stream, Arc::clone(&http), stop.clone());
                    open.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
            }
        }
        drop(listener);
        if timeout(drain, async { while open.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(
                connections = open.len(),
                "requests were cut off: they took longer than the shutdown may"
            );
        }
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// Ends when the server stops, or went away.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|is_stopped| *is_stopped).await;
}

fn http(limits: Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    // Time is bounded below, for both protocols alike: hyper's limit would count an idle connection as a slow head.
    http.http1().timer(TokioTimer::new()).header_read_timeout(None);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    http
}

// === impl Served ===

impl Served {
    async fn connection(
        self,
        stream: TcpStream,
        http: Arc<Builder<TokioExecutor>>,
        mut stop: watch::Receiver<bool>,
    ) {
        // An answer is one small write; it must not wait for more.
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            Some(acceptor) => {
                let accepted = tokio::select! {
                    accepted = self.handshake(acceptor, stream) => accepted,
                    () = stopped(&mut stop) => None,
                };
                if let Some(stream) = accepted {
                    self.drive(stream, &http, stop).await;
                }
            }
            None => self.drive(stream, &http, stop).await,
        }
    }

    /// The TLS stream, once its first byte came: a client may open a connection before it has something to say.
    async fn handshake(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
    ) -> Option<TlsStream<BufReader<TcpStream>>> {
        let stream = BufReader::with_capacity(BUFFER, stream);
        match timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(mut stream)) => match timeout(self.limits.idle, stream.fill_buf()).await {
                Ok(Ok(bytes)) if !bytes.is_empty() => Some(stream),
                _ => None,
            },
            Ok(Err(error)) => {
                log_refused(&error);
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }

    /// Serves requests until the client goes, the server stops, or nothing happens for too long.
    async fn drive(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http: &Builder<TokioExecutor>,
        mut stop: watch::Receiver<bool>,
    ) {
        let begun = Arc::new(AtomicU64::new(0));
        let service = {
            let begun = Arc::clone(&begun);
            hyper::service::service_fn(move |request: Request<Incoming>| {
                begun.fetch_add(1, Ordering::Relaxed);
                serve(self.router.clone(), self.readiness.clone(), request)
            })
        };
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            is_head_late = idle(&begun, self.limits) => if is_head_late { return },
            () = stopped(&mut stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A client that is idle is gone now; one that reads its answer slowly, or not at all, has this long.
        let last = self.limits.request + self.limits.head;
        let _ = timeout(last, connection).await;
    }
}

/// Ends when the first head is late (true), or when no request began for a while (false).
async fn idle(begun: &AtomicU64, limits: Limits) -> bool {
    sleep(limits.head).await;
    let mut seen = begun.load(Ordering::Relaxed);
    if seen == 0 {
        return true;
    }
    loop {
        sleep(limits.idle).await;
        let now = begun.load(Ordering::Relaxed);
        if now == seen {
            return false;
        }
        seen = now;
    }
}

async fn serve(
    mut router: Router,
    readiness: Readiness,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = router.call(request).await?;
    if is_http1 && readiness.is_draining() {
        // Behind a Service a client keeps the connections it has: it leaves when it is told with an answer, not when
        // the connection closes under its next request. HTTP/2 has its own way, at the end.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A client that refuses our certificate should be seen to; one that only went away should not.
fn log_refused(error: &std::io::Error) {
    use rustls::{AlertDescription as Alert, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateExpired | Alert::CertificateUnknown,
        )) => {
            tracing::warn!(%error, "a client does not trust this certificate: check caBundle, names and expiry");
        }
        _ => tracing::debug!(%error, "a TLS handshake failed"),
    }
}
