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
//!   not trust the newest: a replica that starts just then has nothing else to sign with.
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
        Ok(Self { newest, older: Vec::new(), trusted_since: None })
    }

    /// Whether it is time for a new one: by the wall clock, also where that jumped out of the newest one's life.
    pub(super) fn needs_rotation(&self, now: SystemTime) -> bool {
        self.newest.validity().is_due(now)
    }

    /// The same with a new authority before the others.
    pub(super) fn rotate(&self, now: SystemTime, lifetimes: &Lifetimes) -> Result<Self, Error> {
        let mut rotated = Self::new(now, lifetimes)?;
        rotated.older = self.newest_first().take(MOST - 1).cloned().collect();
        Ok(rotated)
    }

    /// Every `caBundle` holds all of them `now`. `None`: that was known, or is of no interest.
    pub(super) fn trusted(&self, now: SystemTime) -> Option<Self> {
        // What was noted by a clock that was ahead would hold the retirement up for as long.
        let is_known = self.trusted_since.is_some_and(|since| since <= now + Duration::from_secs(1));
        let is_news = !self.older.is_empty() && !is_known;
        is_news.then(|| Self { trusted_since: Some(now), ..self.clone() })
    }

    /// A `caBundle` lacks the newest: somebody put an old one back. `None`: nobody thought otherwise.
    pub(super) fn distrusted(&self) -> Option<Self> {
        self.trusted_since.map(|_| Self { trusted_since: None, ..self.clone() })
    }

    /// The newest alone, once the others are of no use to anybody any more. `None`: not yet, or there are no others.
    pub(super) fn retire(&self, now: SystemTime, lifetimes: &Lifetimes) -> Option<Self> {
        let over = self.trusted_since?.checked_add(lifetimes.overlap())?;
        let is_over = !self.older.is_empty() && over <= now;
        let newest = Arc::clone(&self.newest);
        is_over.then_some(Self { newest, older: Vec::new(), trusted_since: None })
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Authority>> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    pub(super) fn newest(&self) -> &Authority {
        &self.newest
    }

    /// All certificates, PEM: what a `caBundle` has to hold.
    pub(super) fn bundle(&self) -> String {
        self.newest_first().map(|authority| pem(authority.certificate())).collect()
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
        let certificates: Vec<CertificateDer<'static>> = items(data, CERTIFICATES)?;
        let keys: Vec<PrivateKeyDer<'static>> = items(data, KEYS)?;
        if certificates.len() != keys.len() {
            let reason = format!("{} keys for {} certificates", keys.len(), certificates.len());
            return Err(Broken::Unusable { key: KEYS, reason });
        }
        let mut authorities = certificates.into_iter().zip(&keys).map(|(certificate, key)| {
            let unusable = |reason| Broken::Unusable { key: CERTIFICATES, reason };
            Authority::stored(certificate, key).map(Arc::new).map_err(unusable)
        });
        let newest = authorities.next().ok_or(Broken::Missing(CERTIFICATES))??;
        let older = authorities.collect::<Result<_, _>>()?;
        Ok(Self { newest, older, trusted_since: data.get(TRUSTED_SINCE).and_then(time) })
    }
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
mod tests {
    use super::*;
    use rstest::rstest;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn start() -> SystemTime {
        UNIX_EPOCH + seconds(1_800_000_000)
    }

    fn lifetimes() -> Lifetimes {
        Lifetimes::new(seconds(300), seconds(100)).unwrap()
    }

    fn first() -> Authorities {
        Authorities::new(start(), &lifetimes()).unwrap()
    }

    fn serials(authorities: &Authorities) -> Vec<CertificateDer<'static>> {
        authorities.newest_first().map(|authority| authority.certificate().clone()).collect()
    }

    #[rstest]
    #[case::new(0, false)]
    #[case::before_two_thirds(180, false)]
    #[case::two_thirds(200, true)]
    #[case::expired(301, true)]
    #[case::clock_far_ahead(1_000_000_000, true)]
    #[case::clock_behind(-100, true)]
    fn an_authority_is_replaced_at_two_thirds_and_when_the_clock_jumped(
        #[case] at: i64,
        #[case] is_due: bool,
    ) {
        let at = match u64::try_from(at) {
            Ok(after) => start() + seconds(after),
            Err(_) => start() - seconds(at.unsigned_abs()),
        };
        assert_eq!(first().needs_rotation(at), is_due);
    }

    #[test]
    fn an_old_authority_goes_only_when_the_new_one_was_trusted_for_the_overlap() {
        let lifetimes = lifetimes();
        let (first, now) = (first(), start() + seconds(200));
        let both = first.rotate(now, &lifetimes).unwrap();
        assert_eq!(serials(&both)[1..], serials(&first), "the new one before the old one");
        assert!(!both.needs_rotation(now));
        assert!(
            both.retire(now + lifetimes.overlap() * 9, &lifetimes).is_none(),
            "nobody trusts the new one yet"
        );

        let trusted = both.trusted(now + seconds(1)).unwrap();
        assert!(trusted.trusted(now + seconds(50)).is_none(), "that is known");
        let over = now + seconds(1) + lifetimes.overlap();
        assert!(trusted.retire(over - seconds(1), &lifetimes).is_none());
        let last = trusted.retire(over, &lifetimes).unwrap();
        assert_eq!(serials(&last), serials(&both)[..1]);
        assert!(last.retire(over, &lifetimes).is_none());
        assert!(last.trusted(over).is_none(), "there is nothing to retire");
    }

    #[test]
    fn the_overlap_begins_anew_where_the_new_authority_was_taken_out_or_the_clock_was_ahead() {
        let lifetimes = lifetimes();
        let now = start() + seconds(200);
        let both = first().rotate(now, &lifetimes).unwrap().trusted(now).unwrap();
        let again = both.distrusted().unwrap().trusted(now + seconds(100)).unwrap();
        assert!(both.retire(now + lifetimes.overlap(), &lifetimes).is_some());
        assert!(again.retire(now + lifetimes.overlap(), &lifetimes).is_none());

        let ahead = both.distrusted().unwrap().trusted(now + seconds(1_000_000)).unwrap();
        let corrected = ahead.trusted(now + seconds(10)).unwrap();
        assert!(corrected.retire(now + seconds(10) + lifetimes.overlap(), &lifetimes).is_some());
    }

    #[test]
    fn a_clock_that_jumps_about_makes_no_endless_bundle() {
        let lifetimes = lifetimes();
        let mut authorities = first();
        for _ in 0..10 {
            authorities = authorities.rotate(start(), &lifetimes).unwrap();
        }
        assert_eq!(authorities.newest_first().count(), MOST);
        assert_eq!(serials(&Authorities::decode(&authorities.encode()).unwrap()), serials(&authorities));
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let now = start() + seconds(200);
        let both = first().rotate(now, &lifetimes()).unwrap().trusted(now).unwrap();
        let read = Authorities::decode(&both.encode()).unwrap();
        assert_eq!(serials(&read), serials(&both));
        assert_eq!(read.trusted_since, Some(now + seconds(1)), "rounded up");
        assert_eq!(read.bundle().into_bytes(), both.encode()[CERTIFICATES].0, "the bundle is ca.crt");
        assert!(!format!("{read:?}").contains("PRIVATE"));
        let known = CertificateDer::pem_slice_iter(read.bundle().as_bytes()).collect::<Result<Vec<_>, _>>();
        assert_eq!(known.unwrap(), serials(&both));
    }

    fn with(key: &str, value: &str) -> Data {
        let mut data = first().encode();
        data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        data
    }

    #[rstest]
    #[case::empty(Data::new(), "it has no ca.crt")]
    #[case::no_key(first().encode().into_iter().filter(|(key, _)| key != KEYS).collect(), "it has no ca.key")]
    #[case::nothing(with(CERTIFICATES, ""), "its ca.crt can't be used: nothing in PEM form is in it")]
    #[case::text(with(KEYS, "secret"), "its ca.key can't be used: nothing in PEM form is in it")]
    #[case::cut_off(
        with(KEYS, "-----BEGIN PRIVATE KEY-----\nsecret"),
        "its ca.key can't be used: it is not in PEM form"
    )]
    #[case::other_key(
        with(KEYS, first().newest.key_pem().expose()),
        "its ca.crt can't be used: the key belongs to another certificate"
    )]
    #[case::too_few_keys(
        with(CERTIFICATES, &first().bundle().repeat(2)),
        "its ca.key can't be used: 1 keys for 2 certificates"
    )]
    #[case::too_many(
        with(CERTIFICATES, &first().bundle().repeat(5)),
        "its ca.crt can't be used: 5 entries, at most 4 are expected"
    )]
    fn a_broken_secret_is_explained_and_not_quoted(#[case] data: Data, #[case] expected: &str) {
        let error = Authorities::decode(&data).unwrap_err().to_string();
        assert_eq!(error, expected);
    }

    #[rstest]
    #[case("soon")]
    #[case("-1")]
    #[case("99999999999999999999")]
    #[case("18446744073709551615")]
    fn an_unreadable_time_is_no_time(#[case] text: &str) {
        assert_eq!(Authorities::decode(&with(TRUSTED_SINCE, text)).unwrap().trusted_since, None);
    }
}
