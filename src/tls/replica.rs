//! What one webhook replica should serve, decided from what it sees of the cluster. Pure: both clocks are arguments.
//!
//! A certificate is signed with the newest authority that every one of our webhooks has trusted for long enough, so that
//! no API server, however late, is shown one that it does not know. How long is measured by this process' own monotonic
//! clock; how long a certificate lives, by the wall clock.
use super::{
    Error, Loaded, authorities::Authorities, authority::Authority, configuration::Entry,
    lifetimes::Lifetimes, provider,
};
use rustls::{
    RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// What a replica knows and what it serves.
#[derive(Debug)]
pub(super) struct Replica {
    names: Vec<String>,
    lifetimes: Lifetimes,
    /// None where there is no Secret that can be used.
    authorities: Option<Authorities>,
    /// None where the webhook configuration isn't there.
    entries: Option<Vec<Entry>>,
    /// Since when every entry trusts what it trusts.
    trusted: Vec<(CertificateDer<'static>, Instant)>,
    serving: Option<Serving>,
}

#[derive(Debug, Clone)]
struct Serving {
    loaded: Loaded,
    by: CertificateDer<'static>,
}

/// Why an API server would not take what is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error(
        "the webhook configuration is not there, so nobody calls us: install the chart, or start with --register"
    )]
    NoConfiguration,
    #[error(
        "the webhook configuration has no webhook of ours, so nobody calls us: install the chart again, or start with \
         --register"
    )]
    NoWebhook,
    #[error(
        "the caBundle of {webhook} is empty: the leader of the role controller writes it; is one running?"
    )]
    NoBundle { webhook: String },
    #[error(
        "there is no certificate yet: waiting for the Secret and the caBundle, which the leader of the role controller \
         writes; is one running?"
    )]
    NoCertificate,
    #[error(
        "{webhook} calls us as {host:?}, which our certificate does not name (it names {names}): the Service has to be \
         called opportune in our own namespace, or start with --register and the URL that is called"
    )]
    WrongName { webhook: String, host: String, names: String },
    #[error(
        "the caBundle of {webhook} does not trust our certificate: the leader of the role controller writes it, unless \
         somebody else keeps changing it; see the metadata.managedFields of the webhook configuration"
    )]
    Untrusted { webhook: String },
    #[error("the caBundle was just written")]
    TooNew,
}

// === impl Problem ===

impl Problem {
    /// Whether it ends by itself in a moment.
    pub(super) fn is_passing(&self) -> bool {
        *self == Self::TooNew
    }
}

// === impl Replica ===

impl Replica {
    pub(super) fn new(names: Vec<String>, lifetimes: Lifetimes) -> Self {
        Self { names, lifetimes, authorities: None, entries: None, trusted: Vec::new(), serving: None }
    }

    /// What the Secret holds now.
    pub(super) fn see_authorities(&mut self, authorities: Option<Authorities>) {
        self.authorities = authorities;
    }

    /// What our webhooks say now; none where there is no webhook configuration.
    pub(super) fn see_entries(&mut self, entries: Option<Vec<Entry>>, now: Instant) {
        let common = common(entries.as_deref().unwrap_or_default());
        let known = std::mem::take(&mut self.trusted);
        let since = |certificate: &CertificateDer<'_>| known.iter().find(|(seen, _)| seen == certificate);
        self.trusted = common
            .into_iter()
            .map(|certificate| (certificate.clone(), since(certificate).map_or(now, |(_, since)| *since)))
            .collect();
        self.entries = entries;
    }

    /// The authority to sign a new certificate with, where that is due.
    pub(super) fn due(&self, wall: SystemTime, now: Instant) -> Option<Arc<Authority>> {
        let authority = self.chosen(wall, now)?;
        let is_due = self.serving.as_ref().is_none_or(|serving| {
            let validity = serving.loaded.validity;
            // Towards an authority's end, a new certificate ends as early as the one before.
            let gains = || authority.leaf_validity(wall, self.lifetimes.leaf()).until > validity.until;
            let is_stale = validity.is_due(wall) && (gains() || !validity.covers(wall));
            serving.by != *authority.certificate() || is_stale
        });
        is_due.then(|| Arc::clone(authority))
    }

    /// The newest authority that every webhook trusts. None while it is not trusted for long enough: nothing is signed
    /// with an older one any more from the moment that a newer one is seen, or it could outlive the overlap.
    fn chosen(&self, wall: SystemTime, now: Instant) -> Option<&Arc<Authority>> {
        let mut authorities = self.authorities.iter().flat_map(Authorities::newest_first);
        let (authority, since) = authorities.find_map(|authority| {
            let since = self.since(authority.certificate())?;
            authority.validity().covers(wall).then_some((authority, since))
        })?;
        self.is_settled(since, now).then_some(authority)
    }

    fn is_settled(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) >= self.lifetimes.settle()
    }

    /// What to say where the certificate should have been renewed by now.
    pub(super) fn overdue(&self, wall: SystemTime) -> Option<String> {
        let Loaded { validity, date, .. } = &self.serving.as_ref()?.loaded;
        let end = if validity.until <= wall { "expired" } else { "expires" };
        validity.is_due(wall).then(|| {
            format!(
                "the certificate {end} on {date} and can't be renewed: by our clock there is no certificate authority that \
                 every caBundle trusts and that lives longer; is a leader of the role controller running, and is the \
                 clock right?"
            )
        })
    }

    /// Signs a certificate and takes it as the one that is served.
    pub(super) fn sign(&mut self, authority: &Authority, wall: SystemTime) -> Result<Loaded, Error> {
        let loaded = authority.sign(&self.names, wall, self.lifetimes.leaf())?;
        self.serving = Some(Serving { loaded: loaded.clone(), by: authority.certificate().clone() });
        Ok(loaded)
    }

    /// Whether an API server takes what is served, as far as trust goes: whether it expired is not asked here.
    pub(super) fn check(&self, wall: SystemTime, now: Instant) -> Result<(), Problem> {
        let entries = self.entries.as_ref().ok_or(Problem::NoConfiguration)?;
        if entries.is_empty() {
            return Err(Problem::NoWebhook);
        }
        if let Some(Entry { webhook, .. }) = entries.iter().find(|entry| entry.trusted.is_empty()) {
            return Err(Problem::NoBundle { webhook: webhook.clone() });
        }
        let is_new = |(_, since): &(_, Instant)| !self.is_settled(*since, now);
        let Some(serving) = &self.serving else {
            let is_waiting = self.trusted.iter().any(is_new);
            return Err(if is_waiting { Problem::TooNew } else { Problem::NoCertificate });
        };
        for entry in entries {
            self.check_entry(serving, entry, wall)?;
        }
        // A bundle may trust us by something else than the authority itself; then there is nothing to wait for.
        let by = self.trusted.iter().find(|(trusted, _)| *trusted == serving.by);
        if by.is_some_and(is_new) { Err(Problem::TooNew) } else { Ok(()) }
    }

    /// When something will be old enough that is not yet.
    pub(super) fn settles(&self, now: Instant) -> Option<Instant> {
        let settle = self.lifetimes.settle();
        self.trusted.iter().map(|(_, since)| *since + settle).filter(|at| *at > now).min()
    }

    fn since(&self, certificate: &CertificateDer<'_>) -> Option<Instant> {
        self.trusted.iter().find(|(trusted, _)| trusted == certificate).map(|(_, since)| *since)
    }

    fn check_entry(&self, serving: &Serving, entry: &Entry, wall: SystemTime) -> Result<(), Problem> {
        let untrusted = || Problem::Untrusted { webhook: entry.webhook.clone() };
        let certificate = serving.loaded.certified.end_entity_cert().map_err(|_| untrusted())?;
        let parsed = ParsedCertificate::try_from(certificate).map_err(|_| untrusted())?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(entry.trusted.iter().cloned());
        let time = serving.loaded.validity.nearest(wall).duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(time);
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], time, algorithms)
            .map_err(|_| untrusted())?;
        let name = ServerName::try_from(entry.host.as_str()).ok();
        if name.is_none_or(|name| verify_server_name(&parsed, &name).is_err()) {
            let (webhook, host) = (entry.webhook.clone(), entry.host.clone());
            return Err(Problem::WrongName { webhook, host, names: self.names.join(", ") });
        }
        Ok(())
    }
}

/// What every entry trusts.
fn common(entries: &[Entry]) -> Vec<&CertificateDer<'static>> {
    let Some((first, rest)) = entries.split_first() else { return Vec::new() };
    let by_all =
        |certificate: &&CertificateDer<'static>| rest.iter().all(|entry| entry.trusted.contains(certificate));
    first.trusted.iter().filter(by_all).collect()
}

#[cfg(test)]
mod tests;
