//! A certificate and its key in PEM files, read again when their contents change.
//!
//! Kubernetes swaps a mounted Secret by a symlink, so the files are read and compared, not watched.
use super::{Error, Loaded, certify};
use rustls::{
    Error as TlsError, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Two files, and what stood in them when they were last looked at.
#[derive(Debug, Clone)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    seen: Seen,
    hasher: RandomState,
}

/// What the last look found, so that a bad state is reported once and not at each look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Unreadable,
    /// A hash of both contents; the key itself is not kept here.
    Contents(u64),
}

// === impl Files ===

impl Files {
    pub(super) fn new(cert: &Path, key: &Path) -> Self {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Self { cert, key, seen: Seen::Nothing, hasher: RandomState::new() }
    }

    /// Reads and checks both files.
    pub(super) async fn read(&mut self, now: SystemTime) -> Result<Loaded, Error> {
        let (cert, key) = (read(&self.cert).await?, read(&self.key).await?);
        self.seen = self.contents(&cert, &key);
        self.check(&cert, &key, now)
    }

    /// The same where something changed since the last look, good or bad.
    pub(super) async fn read_changed(&mut self, now: SystemTime) -> Result<Option<Loaded>, Error> {
        let (cert, key) = match (read(&self.cert).await, read(&self.key).await) {
            (Ok(cert), Ok(key)) => (cert, key),
            _ if self.seen == Seen::Unreadable => return Ok(None),
            (Err(error), _) | (_, Err(error)) => {
                self.seen = Seen::Unreadable;
                return Err(error);
            }
        };
        let found = self.contents(&cert, &key);
        if std::mem::replace(&mut self.seen, found) == found {
            return Ok(None);
        }
        self.check(&cert, &key, now).map(Some)
    }

    fn contents(&self, cert: &[u8], key: &[u8]) -> Seen {
        Seen::Contents(self.hasher.hash_one((cert, key)))
    }

    fn check(&self, cert: &[u8], key: &[u8], now: SystemTime) -> Result<Loaded, Error> {
        let chain = certificates(&self.cert, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::NoKey { path: self.key.clone() })?;
        let loaded = certify(chain, key).map_err(|error| self.why(error))?;
        if loaded.validity.until <= now {
            return Err(Error::Expired { path: self.cert.clone(), date: loaded.date });
        }
        Ok(loaded)
    }

    fn why(&self, error: TlsError) -> Error {
        match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Error::Mismatch { cert: self.cert.clone(), key: self.key.clone() }
            }
            TlsError::InvalidCertificate(_) => {
                Error::Unusable { path: self.cert.clone(), reason: error.to_string() }
            }
            // What is left is about the key; the message never quotes it.
            other => Error::Unusable { path: self.key.clone(), reason: other.to_string() },
        }
    }
}

/// The contents of a file.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// All certificates in `pem`; at least one.
pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Unusable { path: path.to_owned(), reason: error.to_string() })?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}
