//! The authority that the API server is told to trust, and whether it signed what is served.
//!
//! Only certificates are read: of the Secret with the authority's key, nothing but that it is there.
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Finding, Subject, counted, list, text};
use crate::{
    cluster::{
        CA_SECRET,
        look::{Kind, Look},
    },
    tls::{host_of, provider},
};

const CHECK: &str = "certificate";
const SECRETS: Kind = Kind::of("", "v1", "secrets");
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// An authority that is renewed in time never has so little left.
const SOON: i64 = 14 * 24 * 60 * 60;
const WHO: &str = "with managed certificates the leader of the controller writes it: see the lease below; else whoever keeps \
                   the certificates";

/// Looks at the authorities of the configuration, and at what is served where that can be reached from here.
pub(super) async fn look(subject: &Subject<'_>, configuration: Option<&Value>) -> Vec<Finding> {
    let mut findings = vec![secret(subject).await];
    let now = Timestamp::now().as_second();
    let mut seen: Vec<&Value> = Vec::new();
    for webhook in configuration.map_or(&[][..], |object| list(object, "/webhooks")) {
        let Some(way) = webhook.get("clientConfig").filter(|way| !seen.contains(way)) else { continue };
        seen.push(way);
        let name = text(webhook, "/name");
        let (finding, trusted) = judge_bundle(name, text(way, "/caBundle"), now);
        let is_usable = !trusted.is_empty();
        findings.push(finding);
        if is_usable {
            findings.push(served(subject, name, way, trusted).await);
        }
    }
    findings
}

async fn secret(subject: &Subject<'_>) -> Finding {
    let Subject { cluster, namespace, .. } = subject;
    let look = SECRETS.metadata(&cluster.client, Some(namespace), CA_SECRET).await;
    match &look {
        Look::Found(_) => Finding::ok(
            CHECK,
            format!("the Secret {namespace}/{CA_SECRET} with our authority is there (not read)"),
        ),
        Look::Missing => Finding::skip(
            CHECK,
            format!("no Secret {namespace}/{CA_SECRET}: fine where somebody else makes the certificates"),
        ),
        Look::Forbidden(right) => Finding::skip(
            CHECK,
            format!("whether the Secret with our authority is there: no right to {right}"),
        ),
        Look::Failed(reason) => Finding::warn(CHECK, format!("can't look: {reason}"), "try again"),
    }
}

/// What a `caBundle` is worth at `now` (seconds), and the authorities in it that count.
fn judge_bundle(webhook: &str, bundle: &str, now: i64) -> (Finding, Vec<CertificateDer<'static>>) {
    let fail = |what: String| (Finding::fail(CHECK, format!("{webhook}: {what}"), WHO), Vec::new());
    if bundle.is_empty() {
        return fail("no caBundle: the API server trusts only public authorities here".to_owned());
    }
    let Ok(pem) = STANDARD.decode(bundle) else { return fail("its caBundle is not base64".to_owned()) };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    let mut valid = Vec::new();
    let mut ends = Vec::new();
    for certificate in &certificates {
        let Ok((_, read)) = X509Certificate::from_der(certificate) else { continue };
        let validity = read.validity();
        ends.push(validity.not_after.timestamp());
        if validity.not_before.timestamp() <= now && now < validity.not_after.timestamp() {
            valid.push(certificate.clone());
        }
    }
    let Some(last) = ends.iter().max().copied() else {
        return fail("its caBundle holds no certificate in PEM form".to_owned());
    };
    if valid.is_empty() {
        return fail(format!("no authority in its caBundle is valid now; the last one ends {}", date(last)));
    }
    let what = format!(
        "{webhook}: caBundle holds {}, until {}",
        counted(valid.len(), "valid authority", "valid authorities"),
        date(last)
    );
    let finding = match last - now < SOON {
        true => Finding::warn(CHECK, what, "it should have been renewed by now: see the lease below"),
        false => Finding::ok(CHECK, what),
    };
    (finding, valid)
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "some day".to_owned(), |time| time.to_string())
}

/// Whether what is served is signed by one of `trusted`.
async fn served(
    subject: &Subject<'_>,
    webhook: &str,
    way: &Value,
    trusted: Vec<CertificateDer<'static>>,
) -> Finding {
    let Some((host, port)) = address(subject, way) else {
        let service = format!("{}/{}", text(way, "/service/namespace"), text(way, "/service/name"));
        let what = format!(
            "{webhook}: what {service} serves: a Service can't be reached from outside the cluster; the dry runs below tell"
        );
        return Finding::skip(CHECK, what);
    };
    let place = format!("{host}:{port}");
    match timeout(PATIENCE, shake_hands(&host, port, trusted)).await {
        Ok(Ok(until)) => Finding::ok(
            CHECK,
            format!("{webhook}: {place} serves a certificate that caBundle trusts, until {until}"),
        ),
        Ok(Err(Broken::Unreachable(error))) => Finding::warn(
            CHECK,
            format!("{webhook}: nothing answers at {place} from here ({error})"),
            "see that the webhook runs there; the API server may reach what we can't, the dry runs below tell",
        ),
        Ok(Err(Broken::Distrusted(error))) => Finding::fail(
            CHECK,
            format!("{webhook}: what {place} serves is not trusted: {error}"),
            format!("the API server will not call it: the caBundle or the certificate is wrong; {WHO}"),
        ),
        Err(_) => Finding::warn(
            CHECK,
            format!("{webhook}: no answer from {place} within {} s", PATIENCE.as_secs()),
            "see that the webhook runs there and that no firewall or NetworkPolicy is between",
        ),
    }
}

/// Where it is served, if that can be reached from here.
fn address(subject: &Subject<'_>, way: &Value) -> Option<(String, u16)> {
    if let Some(host) = host_of(text(way, "/url")) {
        return Some((host, port_of(text(way, "/url"))));
    }
    let port = way.pointer("/service/port").and_then(Value::as_u64).and_then(|port| port.try_into().ok());
    let host = format!("{}.{}.svc", text(way, "/service/name"), text(way, "/service/namespace"));
    subject.cluster.is_inside.then(|| (host, port.unwrap_or(443)))
}

fn port_of(url: &str) -> u16 {
    url.parse::<http::Uri>().ok().and_then(|uri| uri.port_u16()).unwrap_or(443)
}

enum Broken {
    Unreachable(io::Error),
    Distrusted(String),
}

/// The end of the certificate that is served, where it is trusted.
async fn shake_hands(host: &str, port: u16, trusted: Vec<CertificateDer<'static>>) -> Result<String, Broken> {
    let distrusted = |error: &dyn std::error::Error| Broken::Distrusted(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| distrusted(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| distrusted(&error))?;
    let stream = TcpStream::connect((host, port)).await.map_err(Broken::Unreachable)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| distrusted(&error))?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok());
    Ok(leaf.map_or_else(|| "some day".to_owned(), |(_, leaf)| date(leaf.validity().not_after.timestamp())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;
    use rstest::rstest;

    fn authority(from: i64, until: i64) -> String {
        let at = |seconds: i64| {
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
            time.into()
        };
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        (params.not_before, params.not_after) = (at(from), at(until));
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[rstest]
    #[case("", Mark::Fail, "no caBundle")]
    #[case("%", Mark::Fail, "not base64")]
    #[case("Cg==", Mark::Fail, "no certificate")]
    fn a_bundle_that_holds_nothing_is_broken(#[case] bundle: &str, #[case] mark: Mark, #[case] says: &str) {
        let (finding, trusted) = judge_bundle("w", bundle, 0);
        assert!(finding.result == mark && finding.what.contains(says), "{finding:?}");
        assert!(trusted.is_empty());
    }

    #[test]
    fn a_bundle_is_as_good_as_the_authorities_in_it_that_are_valid() {
        let now = 1_800_000_000;
        let bundle = |ends: &[i64]| {
            STANDARD.encode(ends.iter().map(|end| authority(now - 1000, now + end)).collect::<String>())
        };
        let judged = |ends: &[i64]| {
            let (finding, trusted) = judge_bundle("w", &bundle(ends), now);
            (finding.result, trusted.len())
        };
        assert_eq!(judged(&[SOON + 60]), (Mark::Ok, 1));
        assert_eq!(judged(&[-60, SOON + 60]), (Mark::Ok, 1));
        assert_eq!(judged(&[60]), (Mark::Warn, 1));
        assert_eq!(judged(&[-60]), (Mark::Fail, 0));
    }

    #[test]
    fn a_port_is_that_of_the_url() {
        assert_eq!(port_of("https://[::1]:8443/mutate"), 8443);
        assert_eq!(port_of("https://hook.example/mutate"), 443);
    }
}
