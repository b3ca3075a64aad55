//! All our authorities: what the Secret holds, when a new one is due, and when an old one may go.
//!
//! A rotation takes three steps, of which each may be seen late by anybody:
//! 1. [`rotate`](Authorities::rotate): the Secret gets a new authority; nobody signs with it yet, nobody trusts it yet.
//! 2. Every `caBundle` gets it, beside the old one; a replica that sees that signs with the newest authority so trusted.
//! 3. [`retire`](Authorities::retire): what the old one signed has expired, so it leaves the Secret and every `caBundle`.
//!
//! The Secret's keys:
//! - `ca.crt`: every authority to trust, PEM, newest first; it is the `caBundle`, byte for byte.
//! - `ca.key`: their private keys, PEM (PKCS#8), in the same order. An older key is needed as long as an API server may
//!   not trust the newest: a replica that starts just then has nothing else to sign with. Where the Secret was lost, keys
//!   are fewer: what a lost one signed is still served somewhere.
//! - `trusted-since`: since when every `caBundle` holds the newest, in seconds since 1970; only while there is an older
//!   one. It stands here, so that a new leader goes on with the overlap instead of beginning it anew.
use super::{Error, authority::Authority, lifetimes::Lifetimes};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::ByteString;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::prelude::{FromDer, X509Certificate};

const CERTIFICATES: &str = "ca.crt";
const KEYS: &str = "ca.key";
const TRUSTED_SINCE: &str = "trusted-since";
/// More come together only where a clock jumps about; a `caBundle` must not grow without end.
const MOST: usize = 4;

/// What is in a Secret.
pub(super) type Data = BTreeMap<String, ByteString>;

/// At least one authority.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    newest: Arc<Authority>,
    /// Newest first.
    older: Vec<Arc<Authority>>,
    /// Older still; their keys are lost.
    keyless: Vec<CertificateDer<'static>>,
    trusted_since: Option<SystemTime>,
}

/// Why a Secret's content can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {key} can't be used: {reason}")]
    Unusable { key: &'static str, reason: String },
}

// === impl Authorities ===

impl Authorities {
    pub(super) fn new(now: SystemTime, lifetimes: &Lifetimes) -> Result<Self, Error> {
        let newest = Arc::new(Authority::new(now, lifetimes.authority())?);
        Ok(Self { newest, older: Vec::new(), keyless: Vec::new(), trusted_since: None })
    }

    /// A new one where the Secret was lost; what a `caBundle` trusts is trusted on for the overlap.
    pub(super) fn instead_of(
        lost: impl IntoIterator<Item = CertificateDer<'static>>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, Error> {
        let mut authorities = Self::new(now, lifetimes)?;
        for certificate in lost.into_iter().filter(is_authority) {
            let is_new = !authorities.keyless.contains(&certificate);
            if is_new && authorities.keyless.len() < MOST - 1 {
                authorities.keyless.push(certificate);
            }
        }
        Ok(authorities)
    }

    /// Whether it is time for a new one: by the wall clock, also where that jumped out of the newest one's life.
    pub(super) fn needs_rotation(&self, now: SystemTime) -> bool {
        self.newest.validity().is_due(now)
    }

    /// The same with a new authority before the others.
    pub(super) fn rotate(&self, now: SystemTime, lifetimes: &Lifetimes) -> Result<Self, Error> {
        let mut rotated = Self::new(now, lifetimes)?;
        rotated.older = self.newest_first().take(MOST - 1).cloned().collect();
        rotated.keyless = self.keyless.iter().take(MOST - 1 - rotated.older.len()).cloned().collect();
        Ok(rotated)
    }

    /// Every `caBundle` holds all of them `now`. `None`: that was known, or is of no interest.
    pub(super) fn trusted(&self, now: SystemTime) -> Option<Self> {
        // What was noted by a clock that was ahead would hold the retirement up for as long.
        let is_known = self.trusted_since.is_some_and(|since| since <= now + Duration::from_secs(1));
        let is_news = self.has_others() && !is_known;
        is_news.then(|| Self { trusted_since: Some(now), ..self.clone() })
    }

    /// A `caBundle` lacks the newest: somebody put an old one back. `None`: nobody thought otherwise.
    pub(super) fn distrusted(&self) -> Option<Self> {
        self.trusted_since.map(|_| Self { trusted_since: None, ..self.clone() })
    }

    /// The newest alone, once the others are of no use to anybody any more. `None`: not yet, or there are no others.
    pub(super) fn retire(&self, now: SystemTime, lifetimes: &Lifetimes) -> Option<Self> {
        let over = self.trusted_since?.checked_add(lifetimes.overlap())?;
        let newest = Arc::clone(&self.newest);
        let last = Self { newest, older: Vec::new(), keyless: Vec::new(), trusted_since: None };
        (self.has_others() && over <= now).then_some(last)
    }

    fn has_others(&self) -> bool {
        !self.older.is_empty() || !self.keyless.is_empty()
    }

    /// Those that can sign.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Authority>> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    pub(super) fn newest(&self) -> &Authority {
        &self.newest
    }

    /// All certificates, PEM: what a `caBundle` has to hold.
    pub(super) fn bundle(&self) -> String {
        self.newest_first().map(|authority| authority.certificate()).chain(&self.keyless).map(pem).collect()
    }

    pub(super) fn encode(&self) -> Data {
        let keys: String =
            self.newest_first().map(|authority| authority.key_pem().expose().to_owned()).collect();
        let since = self.trusted_since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        // Rounded up: the overlap is no shorter for being stored.
        let since = since.map(|since| (TRUSTED_SINCE, (since.as_secs() + 1).to_string()));
        [(CERTIFICATES, self.bundle()), (KEYS, keys)]
            .into_iter()
            .chain(since)
            .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
            .collect()
    }

    /// Reads what [`encode`](Self::encode) wrote, or what somebody else did.
    pub(super) fn decode(data: &Data) -> Result<Self, Broken> {
        let mut certificates: Vec<CertificateDer<'static>> = items(data, CERTIFICATES)?;
        let keys: Vec<PrivateKeyDer<'static>> = items(data, KEYS)?;
        if certificates.len() < keys.len() {
            let reason = format!("{} keys for {} certificates", keys.len(), certificates.len());
            return Err(Broken::Unusable { key: KEYS, reason });
        }
        let unusable = |reason| Broken::Unusable { key: CERTIFICATES, reason };
        let keyless = certificates.split_off(keys.len());
        if !keyless.iter().all(is_authority) {
            return Err(unusable("a certificate without a key is not that of an authority".to_owned()));
        }
        let mut authorities = certificates
            .into_iter()
            .zip(&keys)
            .map(|(certificate, key)| Authority::stored(certificate, key).map(Arc::new).map_err(unusable));
        let newest = authorities.next().ok_or(Broken::Missing(CERTIFICATES))??;
        let older = authorities.collect::<Result<_, _>>()?;
        Ok(Self { newest, older, keyless, trusted_since: data.get(TRUSTED_SINCE).and_then(time) })
    }
}

fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// Where it can't be read, nothing is known, and the overlap begins anew.
fn time(text: &ByteString) -> Option<SystemTime> {
    let seconds = std::str::from_utf8(&text.0).ok()?.trim().parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn items<T: PemObject>(data: &Data, key: &'static str) -> Result<Vec<T>, Broken> {
    let text = data.get(key).ok_or(Broken::Missing(key))?;
    let unusable = |reason: String| Broken::Unusable { key, reason };
    // The error of a private key's PEM could quote it.
    let items: Vec<T> = T::pem_slice_iter(&text.0)
        .collect::<Result<_, _>>()
        .map_err(|_| unusable("it is not in PEM form".to_owned()))?;
    match items.len() {
        0 => Err(unusable("nothing in PEM form is in it".to_owned())),
        1..=MOST => Ok(items),
        more => Err(unusable(format!("{more} entries, at most {MOST} are expected"))),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // 64 letters a line, as PEM wants it.
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text += line;
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text += rest;
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests;
