//! A throw-away authority and the certificate that it signs, for the demo and for tests: nothing is written anywhere.
use super::{Error, Loaded, certify};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::time::{Duration, SystemTime};

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Back-dated, for clients whose clock is behind.
const BEFORE: Duration = Duration::from_secs(60 * 60);
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The certificate for loopback and `names`, and its authority in PEM form. The authority's key is dropped at once.
pub(super) fn make(names: &[String], now: SystemTime) -> Result<(Loaded, String), Error> {
    let all: Vec<String> = NAMES.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
    let failed = |source| Error::Make { names: all.join(", "), source };
    let authority = authority(now).map_err(failed)?;
    let (leaf, key) = leaf(&all, now, &authority).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let loaded = certify(vec![leaf.der().clone()], key).map_err(Error::Setup)?;
    Ok((loaded, authority.pem()))
}

fn authority(now: SystemTime) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "opportune throw-away authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, now);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(
    names: &[String],
    now: SystemTime,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "opportune");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, now);
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate, key))
}

fn live(params: &mut CertificateParams, now: SystemTime) {
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + LIFETIME).into();
}
