//! The load: as many requests at once as asked for, each as soon as the one before is answered; every answer is compared.
//!
//! HTTP/1.1 has a connection for each request at once, as an API server calls a Service; HTTP/2 has one for all, as it calls
//! a URL.
use super::server::Server;
use crate::sample::NUMBER;
use anyhow::{Context, Result, bail, ensure};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2, header::CONTENT_TYPE};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
    time::sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Before anything is counted: handshakes, and the first requests of each connection.
const WARM_UP: Duration = Duration::from_millis(300);
/// How many digits a numbered body has for its number.
const DIGITS: usize = 8;
/// What is still on its way at the end.
const LAST: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What to send for how long, and what must come back each time.
pub(super) struct Load<'a> {
    pub(super) protocol: Protocol,
    pub(super) at_once: usize,
    pub(super) time: Duration,
    pub(super) body: &'a [u8],
    pub(super) expected: &'a [u8],
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// Requests a second.
    pub(super) rate: f64,
    /// Processor time of the server for one request, µs.
    pub(super) cpu: f64,
    /// Milliseconds that half of the answers, 99 and 99.9 % of them, and all took at most.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) worst: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Counted,
    Over,
}

/// What all clients share; they live on one thread.
struct Course {
    phase: Cell<Phase>,
    /// The next number of a numbered body.
    number: Cell<u32>,
    times: RefCell<Vec<Duration>>,
    body: Bytes,
    expected: Vec<u8>,
}

/// Puts the load on the server.
///
/// # Errors
/// An answer is not the expected one, or the server broke a connection.
pub(super) async fn measure(server: &Server, load: &Load<'_>) -> Result<Measured> {
    let course = Rc::new(Course {
        phase: Cell::new(Phase::WarmUp),
        number: Cell::new(1),
        times: RefCell::default(),
        body: Bytes::copy_from_slice(load.body),
        expected: load.expected.to_owned(),
    });
    let local = LocalSet::new();
    let run = run(server, load, Rc::clone(&course));
    let (elapsed, cpu) = local.run_until(run).await.with_context(|| format!("load on {}", server.name))?;
    let mut times = course.times.take();
    times.sort_unstable();
    let count = times.len();
    ensure!(count > 0, "{} answered nothing", server.name);
    let at = |share: f64| {
        let index = (count as f64 * share) as usize;
        times.get(index.min(count - 1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Ok(Measured {
        rate: count as f64 / elapsed.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / count as f64,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        worst: at(1.0),
    })
}

async fn run(server: &Server, load: &Load<'_>, course: Rc<Course>) -> Result<(Duration, Duration)> {
    let mut clients = JoinSet::new();
    let connector = Connector::new(server, load.protocol)?;
    match load.protocol {
        Protocol::Http1 => {
            for _ in 0..load.at_once {
                let stream = connector.connect().await?;
                clients.spawn_local(post_over_http1(stream, Rc::clone(&course)));
            }
        }
        Protocol::Http2 => {
            let stream = TokioIo::new(connector.connect().await?);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            // It breaks only with the requests on it.
            tokio::spawn(connection);
            for _ in 0..load.at_once {
                clients.spawn_local(post_over_http2(sender.clone(), Rc::clone(&course)));
            }
        }
    }
    let times = async {
        sleep(WARM_UP).await;
        let (begun, before) = (Instant::now(), server.cpu()?);
        course.phase.set(Phase::Counted);
        sleep(load.time).await;
        course.phase.set(Phase::Over);
        Ok((begun.elapsed(), server.cpu()?.saturating_sub(before)))
    };
    let measured = tokio::select! {
        measured = times => measured,
        // Before the end, clients only end by an error.
        Some(ended) = clients.join_next() => {
            ended??;
            bail!("a client ended too early");
        }
    };
    let rest = async {
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        measured
    };
    tokio::time::timeout(LAST, rest).await.context("the last requests are not answered")?
}

async fn post_over_http1(mut stream: TlsStream<TcpStream>, course: Rc<Course>) -> Result<()> {
    let mut request = over_http1(&course.body);
    let mut answer = Vec::with_capacity(64 * 1024);
    let place = place_of_number(&request);
    while course.phase.get() != Phase::Over {
        course.number(&mut request, place.clone());
        let begun = Instant::now();
        let body = post(&mut stream, &request, &mut answer).await?;
        course.take(begun, body)?;
    }
    Ok(())
}

/// Sends one body, and gives what is answered.
///
/// # Errors
/// There is no answer, or one other than 200.
pub(super) async fn ask(server: &Server, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = Connector::new(server, Protocol::Http1)?.connect().await?;
    let mut answer = Vec::new();
    Ok(post(&mut stream, &over_http1(body), &mut answer).await?.to_owned())
}

/// The whole request, with the head that an API server sends.
fn over_http1(body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: opportune.opportune-system.svc\r\n\
         User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

async fn post<'a>(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
    answer: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    stream.write_all(request).await?;
    stream.flush().await?;
    answer.clear();
    while whole_body(answer)?.is_none() {
        ensure!(stream.read_buf(answer).await? > 0, "the connection was closed");
    }
    whole_body(answer)?.context("no answer")
}

/// The body of an answer, as soon as all of it is there.
fn whole_body(answer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "answered {}", String::from_utf8_lossy(answer));
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length: usize = length.context("an answer without content-length")?.parse()?;
    Ok((body.len() >= length).then_some(body))
}

async fn post_over_http2(mut sender: http2::SendRequest<Full<Bytes>>, course: Rc<Course>) -> Result<()> {
    let place = place_of_number(&course.body);
    while course.phase.get() != Phase::Over {
        let body = match place.clone() {
            None => course.body.clone(),
            place => {
                let mut body = course.body.to_vec();
                course.number(&mut body, place);
                Bytes::from(body)
            }
        };
        let request = Request::post("https://opportune.opportune-system.svc/mutate?timeout=10s")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let begun = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "answered {status}");
        course.take(begun, &body)?;
    }
    Ok(())
}

/// Where the digits of a numbered body stand.
fn place_of_number(body: &[u8]) -> Option<Range<usize>> {
    let (mark, digits) = NUMBER.split_at(NUMBER.len() - DIGITS);
    let at = body.windows(NUMBER.len()).position(|bytes| bytes == NUMBER.as_bytes())?;
    Some(at + mark.len()..at + mark.len() + digits.len())
}

// === impl Course ===

impl Course {
    /// Gives a numbered body its number.
    fn number(&self, body: &mut [u8], place: Option<Range<usize>>) {
        let Some(digits) = place.and_then(|place| body.get_mut(place)) else { return };
        let number = self.number.replace(self.number.get().wrapping_add(1)) % 10_u32.pow(DIGITS as u32);
        digits.copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
    }

    fn take(&self, begun: Instant, body: &[u8]) -> Result<()> {
        let took = begun.elapsed();
        ensure!(body == self.expected, "another answer came: {}", String::from_utf8_lossy(body));
        if self.phase.get() == Phase::Counted {
            self.times.borrow_mut().push(took);
        }
        Ok(())
    }
}

struct Connector {
    server: std::net::SocketAddr,
    tls: TlsConnector,
}

// === impl Connector ===

impl Connector {
    fn new(server: &Server, protocol: Protocol) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(server.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocol: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { server: server.address, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::IpAddress(self.server.ip().into()), stream).await?)
    }
}
