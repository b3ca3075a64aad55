//! A throw-away authority and the certificate that it signs, for the demo and for tests: nothing is written anywhere.
use super::{Error, Loaded, certify, issue, lifetimes::Validity};
use rcgen::Issuer;
use std::time::{Duration, SystemTime};

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The certificate for loopback and `names`, and its authority in PEM form. The authority's key is dropped at once.
pub(super) fn make(names: &[String], now: SystemTime) -> Result<(Loaded, String), Error> {
    let all: Vec<String> = NAMES.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
    let failed = |source| Error::Make { names: all.join(", "), source };
    let validity = Validity::starting(now, LIFETIME);
    let (authority, key) = issue::authority("opportune throw-away authority", validity).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_der(authority.der(), key).map_err(failed)?;
    let (leaf, key) = issue::leaf(&all, validity, &issuer).map_err(failed)?;
    let loaded = certify(vec![leaf.der().clone()], key).map_err(Error::Setup)?;
    Ok((loaded, authority.pem()))
}
