//! How a server starts, what a bad client may do to it, and how it ends.
use crate::served::*;
use http_body_util::BodyExt;
use hyper::StatusCode;
use opportune::serve::{self, Config, Error, Limits, Server};
use rstest::rstest;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SHORT: Duration = Duration::from_millis(100);

/// So long that no test passes because of them.
fn no_limits() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { handshake: hour, head: hour, request: hour, idle: hour, ..Limits::default() }
}

fn limited(limits: Limits) -> Config {
    Config { limits, ..config() }
}

/// Reads until the server closes; fails when it does not.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // However it closes, in order or not.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    bytes
}

#[rstest]
#[case("--listen")]
#[case("--admin")]
#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_the_option(#[case] option: &str) {
    let taken = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let config = match option {
        "--listen" => Config { listen: address, ..config() },
        _ => Config { admin: address, ..config() },
    };
    let error = Server::bind(config, catalog()).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("can't listen on {option} {address}: ")), "{error}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut_off() {
    let server = Running::start(limited(Limits { handshake: SHORT, ..no_limits() })).await;
    let mut stream = TcpStream::connect(server.addresses.webhook).await.unwrap();
    closed(&mut stream).await;
}

#[rstest]
#[case::http1(&["http/1.1"], b"POST /mutate HTTP/1.1\r\nhost: local".as_slice())]
#[case::http2_in_its_preface(&["h2"], b"PRI * HTTP/2.0\r\n".as_slice())]
#[case::http2_without_a_request(&["h2"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice())]
#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off(#[case] protocols: &[&str], #[case] start: &[u8]) {
    let server = Running::start(limited(Limits { head: SHORT, ..no_limits() })).await;
    let mut stream = server.connect(protocols).await;
    stream.write_all(start).await.unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_yet_has_longer() {
    let limits = Limits { head: SHORT, idle: 4 * SHORT, ..no_limits() };
    let server = Running::start(limited(limits)).await;
    let begun = Instant::now();
    closed(&mut server.connect(&[]).await).await;
    assert!(begun.elapsed() >= 4 * SHORT);
}

#[rstest]
#[case::http1(&["http/1.1"])]
#[case::http2(&["h2"])]
#[tokio::test]
async fn a_connection_without_requests_is_closed_in_the_end(#[case] protocols: &[&str]) {
    let limits = Limits { head: SHORT, idle: SHORT, ..no_limits() };
    let server = Running::start(limited(limits)).await;
    let stream = server.connect(protocols).await;
    let begun = Instant::now();
    match protocols {
        ["h2"] => {
            let mut client = http2(stream).await;
            assert_eq!(client.send_request(review("{}")).await.unwrap().status(), StatusCode::BAD_REQUEST);
            until(|| client.is_closed()).await;
        }
        _ => {
            let mut client = http1(stream).await;
            assert_eq!(client.send_request(review("{}")).await.unwrap().status(), StatusCode::BAD_REQUEST);
            until(|| client.is_closed()).await;
        }
    }
    assert!(begun.elapsed() >= SHORT);
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_with_408() {
    let server = Running::start(limited(Limits { request: SHORT, ..no_limits() })).await;
    let mut stream = server.connect(&[]).await;
    stream
        .write_all(b"POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    let answer = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn one_connection_more_than_allowed_waits() {
    let server = Running::start(limited(Limits { connections: 1, ..no_limits() })).await;
    let mut first = server.connect(&[]).await;
    let mut second = Box::pin(server.connect(&[]));
    assert!(timeout(SHORT, &mut second).await.is_err());
    first.shutdown().await.unwrap();
    drop(first);
    timeout(PATIENCE, second).await.expect("its turn comes");
}

/// Sends a request up to the middle of its body.
async fn half_a_request(server: &Running) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut stream = server.connect(&["http/1.1"]).await;
    stream.write_all(b"POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n").await.unwrap();
    // With this header the server says when it began to read the body.
    stream.write_all(b"expect: 100-continue\r\n\r\n").await.unwrap();
    let mut expected = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut expected)).await.unwrap().unwrap();
    assert_eq!(&expected, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"half").await.unwrap();
    stream
}

#[tokio::test]
async fn a_shutdown_lets_a_request_in_flight_finish_and_takes_no_new_one() {
    let mut server = Running::start(config()).await;
    let address = server.addresses.webhook;
    let mut stream = half_a_request(&server).await;
    let idle = http1(server.connect(&[]).await).await;
    server.stop();
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("the port is closed");
    until(|| idle.is_closed()).await;
    stream.write_all(b" done").await.unwrap();
    let answer = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_request_in_flight_can_not_hold_up_the_shutdown_for_ever() {
    let mut server = Running::start(Config { drain: SHORT, ..config() }).await;
    let mut stream = half_a_request(&server).await;
    server.stop();
    server.ended().await.unwrap();
    assert!(closed(&mut stream).await.is_empty());
}

#[tokio::test]
async fn a_shutdown_begins_unready_and_serving_and_a_second_signal_cuts_it_short() {
    let mut server = Running::start(Config { settle: Duration::from_secs(3600), ..config() }).await;
    let admin = server.addresses.admin;
    assert_eq!(get(admin, "/readyz").await.0, StatusCode::OK);
    server.stop();
    let unready = async { while get(admin, "/readyz").await.0 == StatusCode::OK {} };
    timeout(PATIENCE, unready).await.unwrap();

    let mut client = http1(server.connect(&[]).await).await;
    let response = client.send_request(review("{}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["connection"], "close");
    response.into_body().collect().await.unwrap();

    server.abort();
    assert!(matches!(server.ended().await, Err(Error::Aborted)));
}

#[tokio::test]
async fn metrics_are_served_in_the_clear_and_reviews_are_not() {
    let server = Running::start(config()).await;
    let (status, text) = get(server.addresses.admin, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("opportune_certificate_expiry_timestamp_seconds "), "{text}");
    let mut plain = TcpStream::connect(server.addresses.webhook).await.unwrap();
    plain.write_all(b"POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(!closed(&mut plain).await.starts_with(b"HTTP"));
}

#[tokio::test]
async fn signals_are_counted_from_the_call_on() {
    let first = serve::signals().unwrap();
    signal("-TERM");
    let second = timeout(PATIENCE, first).await.unwrap();
    signal("-INT");
    timeout(PATIENCE, second).await.unwrap();
}

fn signal(name: &str) {
    let own = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args([name, &own]).status().unwrap().success());
}

#[tokio::test]
async fn too_large_a_body_is_refused_on_the_wire_before_it_is_read() {
    let server = Running::start(config()).await;
    let body = "x".repeat(9_000_000);
    let mut client = http2(server.connect(&["h2"]).await).await;
    let response = client.send_request(review(&body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "the body is larger than 8388608 bytes\n");
}
