//! Real TLS on loopback: protocols, certificates and who may call.
use crate::served::*;
use http_body_util::BodyExt;
use hyper::StatusCode;
use opportune::{
    serve::{Config, call},
    tls::{Certificates, Health, Source},
};
use rcgen::KeyPair;
use rstest::rstest;
use std::{
    fs,
    time::{Duration, SystemTime},
};
use tempfile::tempdir;
use tokio::{io::AsyncReadExt, sync::mpsc, time::timeout};

#[tokio::test]
async fn a_review_is_posted_over_tls_that_trusts_one_authority() {
    let server = Running::start(config()).await;
    let error =
        call::post_review(server.addresses.webhook, &server.ca_pem, b"{}".to_vec()).await.unwrap_err();
    assert!(matches!(error, call::Error::Refused { status: 400, .. }), "{error}");

    let other = Authority::new().pem();
    let error = call::post_review(server.addresses.webhook, &other, b"{}".to_vec()).await.unwrap_err();
    assert!(matches!(error, call::Error::Connect { .. }), "{error}");
}

#[rstest]
#[case::none(&[])]
#[case::only_http1(&["http/1.1"])]
#[tokio::test]
async fn http1_keeps_its_connection(#[case] protocols: &[&str]) {
    let server = Running::start(config()).await;
    let mut client = http1(server.connect(protocols).await).await;
    for _ in 0..3 {
        let response = client.send_request(review("{}")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(!response.headers().contains_key("connection"));
        response.into_body().collect().await.unwrap();
        client.ready().await.unwrap();
    }
}

#[tokio::test]
async fn http2_is_preferred_and_takes_requests_in_parallel() {
    let server = Running::start(config()).await;
    let stream = server.connect(&["http/1.1", "h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let client = http2(stream).await;
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(client.clone().send_request(review("{}")))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::BAD_REQUEST);
    }
}

#[rstest]
#[case::tls12(&rustls::version::TLS12)]
#[case::tls13(&rustls::version::TLS13)]
#[tokio::test]
async fn both_versions_of_tls_are_spoken(#[case] version: &'static rustls::SupportedProtocolVersion) {
    let server = Running::start(config()).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls::pki_types::pem::PemObject::from_pem_slice(server.ca_pem.as_bytes()).unwrap();
    roots.add(pem).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect(server.addresses.webhook, client).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
}

#[rstest]
#[case("localhost", true)]
#[case("127.0.0.1", true)]
#[case("opportune.opportune-system.svc", true)]
#[case("192.0.2.7", true)]
#[case("elsewhere.example", false)]
#[tokio::test]
async fn a_self_signed_certificate_names_loopback_and_what_was_given(
    #[case] name: &str,
    #[case] is_named: bool,
) {
    let names = vec!["opportune.opportune-system.svc".to_owned(), "192.0.2.7".to_owned()];
    let server = Running::start(Config { certificates: Source::SelfSigned { names }, ..config() }).await;
    let result = connect_as(name, server.addresses.webhook, client(&server.ca_pem, &[])).await;
    assert_eq!(result.is_ok(), is_named);
}

#[tokio::test]
async fn files_are_served_and_read_again_when_they_change() {
    let folder = tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let certificates = old.sign().write(folder.path());
    let reread = Duration::from_millis(5);
    let server = Running::start(Config { certificates, reread, ..config() }).await;
    let address = server.addresses.webhook;
    let open = connect(address, client(&old.pem(), &[])).await.unwrap();

    new.sign().write(folder.path());
    let mut tries = 0;
    while connect(address, client(&new.pem(), &[])).await.is_err() {
        tries += 1;
        assert!(tries < 1000, "the new certificate is never served");
        tokio::time::sleep(reread).await;
    }
    // Who is connected stays connected.
    let response = http1(open).await.send_request(review("{}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

/// A watch over files, which says after each look whether the certificate in use is valid.
async fn watched(source: &Source) -> (Certificates, mpsc::UnboundedReceiver<bool>) {
    let certificates = Certificates::load(source).await.unwrap();
    let (sender, looks) = mpsc::unbounded_channel();
    let report = move |health: Health| {
        // Fails once the test is over.
        let _ = sender.send(health.is_valid);
    };
    tokio::spawn(certificates.clone().watch(Duration::from_millis(1), report));
    (certificates, looks)
}

/// Waits for a look that began after this call.
async fn look(looks: &mut mpsc::UnboundedReceiver<bool>) -> bool {
    while looks.try_recv().is_ok() {}
    looks.recv().await.unwrap();
    looks.recv().await.unwrap()
}

#[tokio::test]
async fn bad_new_files_leave_the_old_certificate_in_use() {
    let folder = tempdir().unwrap();
    let authority = Authority::new();
    let source = authority.sign().write(folder.path());
    let (certificates, mut looks) = watched(&source).await;
    let first = certificates.expiry();
    let [cert, key] = files(folder.path());

    let longer = authority.sign_until(SystemTime::now() + Duration::from_secs(7200));
    fs::write(&cert, &longer.cert).unwrap();
    assert!(look(&mut looks).await, "mismatched, so the old one stays");
    assert_eq!(certificates.expiry(), first);
    fs::remove_file(&key).unwrap();
    assert!(look(&mut looks).await, "gone, so the old one stays");
    assert_eq!(certificates.expiry(), first);
    fs::write(&key, &longer.key).unwrap();
    assert!(look(&mut looks).await);
    assert!(certificates.expiry() > first, "complete again, so the new one is taken");
}

#[tokio::test]
async fn a_certificate_that_expires_while_in_use_is_reported() {
    let folder = tempdir().unwrap();
    let source = Authority::new().sign_until(SystemTime::now() + Duration::from_secs(2)).write(folder.path());
    let (_certificates, mut looks) = watched(&source).await;
    assert!(look(&mut looks).await);
    let expired = async { while looks.recv().await.unwrap() {} };
    timeout(PATIENCE, expired).await.unwrap();
}

#[tokio::test]
async fn a_sec1_key_is_read_as_well() {
    let folder = tempdir().unwrap();
    let authority = Authority::new();
    let pem = authority.sign();
    let source = pem.write(folder.path());
    // A PKCS#8 key of P-256 holds its SEC1 form behind this header.
    let pkcs8 = KeyPair::from_pem(&pem.key).unwrap().serialize_der();
    let inner = pkcs8.windows(3).position(|bytes| bytes == [0x04, 0x6d, 0x30]).unwrap() + 2;
    let [_, key] = files(folder.path());
    fs::write(key, as_pem("EC PRIVATE KEY", &pkcs8[inner..])).unwrap();
    Certificates::load(&source).await.unwrap();
}

fn as_pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

enum Fault {
    NoCert,
    NoKey,
    EmptyCert,
    GarbledCert,
    KeyIsCert,
    GarbledKey,
    OtherKey,
    Expired,
}

#[rstest]
#[case(Fault::NoCert, &["can't read ", "tls.crt: No such file"])]
#[case(Fault::NoKey, &["can't read ", "tls.key: No such file"])]
#[case(Fault::EmptyCert, &["tls.crt holds no certificate in PEM form"])]
#[case(Fault::GarbledCert, &["tls.crt can't be used: "])]
#[case(Fault::KeyIsCert, &["tls.key holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)"])]
#[case(Fault::GarbledKey, &["tls.key can't be used: "])]
#[case(Fault::OtherKey, &["the key in ", "tls.key does not belong to the certificate in ", "tls.crt"])]
#[case(Fault::Expired, &["the certificate in ", "tls.crt expired on ", " 2001 "])]
#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_found_at_start(#[case] fault: Fault, #[case] expected: &[&str]) {
    let folder = tempdir().unwrap();
    let authority = Authority::new();
    let pem = authority.sign();
    let certificates = pem.write(folder.path());
    let [cert, key] = files(folder.path());
    match fault {
        Fault::NoCert => fs::remove_file(cert),
        Fault::NoKey => fs::remove_file(key),
        Fault::EmptyCert => fs::write(cert, ""),
        Fault::GarbledCert => fs::write(cert, as_pem("CERTIFICATE", b"no certificate")),
        Fault::KeyIsCert => fs::write(key, &pem.cert),
        Fault::GarbledKey => fs::write(key, as_pem("PRIVATE KEY", b"no key")),
        Fault::OtherKey => fs::write(key, authority.sign().key),
        Fault::Expired => {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            authority.sign_until(then).write(folder.path());
            Ok(())
        }
    }
    .unwrap();
    let config = Config { certificates, ..config() };
    let error = opportune::serve::Server::bind(config, catalog()).await.err().unwrap().to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert!(!error.contains(&pem.key), "a key is never printed");
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_may_call() {
    let folder = tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let path = folder.path().join("client-ca.pem");
    fs::write(&path, authority.pem()).unwrap();
    let server = Running::start(Config { client_ca: Some(path), ..config() }).await;
    let address = server.addresses.webhook;

    let known = client_with(&server.ca_pem, &authority.sign());
    let mut client1 = http1(connect(address, known).await.unwrap()).await;
    let response = client1.send_request(review("{}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);

    for stranger in [client(&server.ca_pem, &[]), client_with(&server.ca_pem, &other.sign())] {
        // With TLS 1.3 the client is done before the server refuses: it learns by reading.
        let refused = match connect(address, stranger).await {
            Ok(mut stream) => timeout(PATIENCE, stream.read_u8()).await.unwrap().map(drop),
            Err(error) => Err(error),
        };
        assert!(refused.is_err());
    }
}

#[rstest]
#[case(None, "client-ca.pem: No such file")]
#[case(Some("nothing"), "client-ca.pem holds no certificate in PEM form")]
#[tokio::test]
async fn a_bad_client_authority_is_found_at_start(#[case] contents: Option<&str>, #[case] expected: &str) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("client-ca.pem");
    if let Some(contents) = contents {
        fs::write(&path, contents).unwrap();
    }
    let config = Config { client_ca: Some(path), ..config() };
    let error = opportune::serve::Server::bind(config, catalog()).await.err().unwrap().to_string();
    assert!(error.contains(expected), "{error}");
}
