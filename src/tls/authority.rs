//! One certificate authority of ours, and what it signs. It speaks to nobody, and its key leaves it only for the Secret.
use super::{Error, Loaded, certify, issue, lifetimes::Validity};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, X509Certificate};

const NAME: &str = "opportune authority";

/// A certificate that may sign others, and its key.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

/// A private key in PEM form, for the Secret and nothing else.
pub(super) struct PrivatePem(String);

// === impl Authority ===

impl Authority {
    /// A new one, valid from `now` on (and a little before).
    pub(super) fn new(now: SystemTime, lifetime: Duration) -> Result<Self, Error> {
        let validity = Validity::starting(now, lifetime);
        let failed = |source| Error::Make { names: NAME.to_owned(), source };
        let (certificate, key) = issue::authority(NAME, validity).map_err(failed)?;
        let certificate = certificate.der().clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(failed)?;
        Ok(Self { certificate, validity, issuer })
    }

    /// One that was stored. The error says what is wrong with it, and never quotes the key.
    pub(super) fn stored(
        certificate: CertificateDer<'static>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, String> {
        let (rest, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| format!("no certificate: {error}"))?;
        let may_sign = parsed.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        if !rest.is_empty() || !parsed.is_ca() || !may_sign {
            return Err("the certificate is not that of an authority".to_owned());
        }
        let key =
            KeyPair::try_from(key).map_err(|_| "the key is no PKCS#8 key that we can use".to_owned())?;
        if key.subject_public_key_info() != parsed.tbs_certificate.subject_pki.raw {
            return Err("the key belongs to another certificate".to_owned());
        }
        let validity = Validity::of(&parsed);
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { certificate, validity, issuer })
    }

    /// A certificate for `names` with a new key, valid from `now` on, but no longer than its authority.
    pub(super) fn sign(
        &self,
        names: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Loaded, Error> {
        let validity = self.leaf_validity(now, lifetime);
        let failed = |source| Error::Make { names: names.join(", "), source };
        let (leaf, key) = issue::leaf(names, validity, &self.issuer).map_err(failed)?;
        certify(vec![leaf.der().clone()], key).map_err(Error::Setup)
    }

    /// When a certificate signed `now` would be valid.
    pub(super) fn leaf_validity(&self, now: SystemTime, lifetime: Duration) -> Validity {
        let Validity { from, until } = Validity::starting(now, lifetime);
        Validity { from, until: until.min(self.validity.until) }
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn key_pem(&self) -> PrivatePem {
        PrivatePem(self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

// === impl PrivatePem ===

impl PrivatePem {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivatePem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivatePem(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use rustls::pki_types::pem::PemObject;
    use std::time::UNIX_EPOCH;
    use x509_parser::prelude::GeneralName;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn authority() -> Authority {
        Authority::new(now(), DAY * 365).unwrap()
    }

    #[test]
    fn a_leaf_names_hosts_and_addresses_and_ends_with_its_authority() {
        let names = ["opportune.opportune-system.svc".to_owned(), "192.0.2.7".to_owned()];
        let authority = authority();
        let leaf = authority.sign(&names, now(), DAY).unwrap();
        assert_eq!(leaf.validity.until, now() + DAY);
        let (_, parsed) = X509Certificate::from_der(leaf.certified.end_entity_cert().unwrap()).unwrap();
        let san = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(san, &[GeneralName::DNSName(&names[0]), GeneralName::IPAddress(&[192, 0, 2, 7])]);
        assert!(!parsed.is_ca());

        let late = authority.sign(&names, now() + DAY * 365 - DAY / 2, DAY).unwrap();
        assert_eq!(late.validity.until, authority.validity().until);
    }

    #[test]
    fn what_was_stored_signs_as_before_and_shows_no_key() {
        let authority = authority();
        let pem = authority.key_pem();
        let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).unwrap();
        let stored = Authority::stored(authority.certificate().clone(), &key).unwrap();
        assert_eq!(stored.validity(), authority.validity());
        stored.sign(&["a.example".to_owned()], now(), DAY).unwrap();
        assert!(!format!("{stored:?} {pem:?}").contains("PRIVATE"));
        assert_eq!(format!("{pem:?}"), "PrivatePem(redacted)");
    }

    #[rstest]
    #[case::other_key("the key belongs to another certificate")]
    #[case::leaf("the certificate is not that of an authority")]
    #[case::garbage("no certificate: ")]
    fn what_can_not_sign_is_refused(#[case] reason: &str) {
        let (one, other) = (authority(), authority());
        let key = |authority: &Authority| {
            PrivateKeyDer::from_pem_slice(authority.key_pem().expose().as_bytes()).unwrap()
        };
        let leaf = one.sign(&["a.example".to_owned()], now(), DAY).unwrap();
        let leaf = leaf.certified.end_entity_cert().unwrap().clone().into_owned();
        let result = match reason {
            "the key belongs to another certificate" => {
                Authority::stored(one.certificate().clone(), &key(&other))
            }
            "no certificate: " => Authority::stored(vec![48, 3, 2, 1].into(), &key(&one)),
            _ => Authority::stored(leaf, &key(&one)),
        };
        assert!(result.unwrap_err().starts_with(reason));
    }
}
