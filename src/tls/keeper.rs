//! The leader's side: keeps the authorities in the Secret, and every `caBundle` of ours as the Secret says.
//!
//! Each check reads, decides and writes; nothing is remembered that a decision depends on, so that it can be stopped at
//! any point and that two leaders end in the same state. The order makes that safe: the configurations are read before
//! the Secret, so that what is written into them is never older than what somebody else wrote.
use super::{
    authorities::Authorities,
    configuration,
    lifetimes::Lifetimes,
    store::{Changes, Error, Store},
    told::Told,
};
use crate::cluster::{CONFIGURATION, POLICIES_CONFIGURATION};
use futures_util::{FutureExt, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, api::DynamicObject};
use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// How often to look again at once, such as after a lost race, before the next tick.
const ROUNDS: u32 = 5;
/// Between a failure and the next try, at most.
const RETRY: Duration = Duration::from_secs(5);
/// How long to let somebody else's `caBundle` stand that replaced ours: at first, and at most.
const TRUCE: Duration = Duration::from_millis(250);
const LONGEST_TRUCE: Duration = Duration::from_secs(60);

/// Makes and rotates the certificate authority and writes `caBundle`: to be run by the leader, and by nobody else.
pub struct Keeper {
    store: Store,
    lifetimes: Lifetimes,
    configurations: [Kept; 2],
    /// When and how often in a row somebody else replaced what we wrote.
    replaced: Option<(Instant, u32)>,
    told: Told,
}

/// One webhook configuration, and what to say about it.
struct Kept {
    name: &'static str,
    /// What we wrote into it last.
    written: Option<String>,
    told: Told,
}

/// A webhook configuration as it was found.
#[derive(Default)]
struct Found(Option<DynamicObject>);

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checked {
    Settled,
    /// Something was written that calls for another look at once.
    Again,
}

// === impl Keeper ===

impl Keeper {
    /// `namespace`: ours, where the Secret lives.
    pub fn new(client: Client, namespace: String, lifetimes: Lifetimes) -> Self {
        // The policies' first: replicas go by the other one, and may sign anew once that is written.
        let configurations = [POLICIES_CONFIGURATION, CONFIGURATION].map(|name| Kept {
            name,
            written: None,
            told: Told::default(),
        });
        let store = Store::new(client, namespace);
        Self { store, lifetimes, configurations, replaced: None, told: Told::default() }
    }

    /// Keeps them until it is dropped, which it may be at any point; never ends by itself.
    pub async fn keep(mut self) {
        let mut changes = self.changes();
        loop {
            let result = self.check_until_settled(SystemTime::now()).await;
            let wait = match &result {
                Ok(()) => self.lifetimes.tick(),
                Err(_) => self.lifetimes.tick().min(RETRY),
            };
            self.told.say(
                result.err().map(advice),
                "the certificate authority and every caBundle are as they should be",
            );
            sleep(self.truce()).await;
            tokio::select! {
                _ = changes.next() => {}
                () = sleep(wait) => {}
            }
            // One look answers all that happened until now.
            while changes.next().now_or_never().flatten().is_some() {}
        }
    }

    fn changes(&self) -> Changes {
        let [one, other] = &self.configurations;
        let configurations = stream::select(
            self.store.configuration_changes(one.name),
            self.store.configuration_changes(other.name),
        );
        Box::pin(stream::select(self.store.secret_changes(), configurations))
    }

    /// Checks again while that is called for, or somebody else writes at the same time.
    async fn check_until_settled(&mut self, now: SystemTime) -> Result<(), Error> {
        let mut rounds = 0;
        loop {
            match self.check(now).await {
                Ok(Checked::Settled) => return Ok(()),
                Ok(Checked::Again) if rounds < ROUNDS => {}
                Err(Error::Lost(what)) if rounds < ROUNDS => {
                    tracing::debug!("{what} was changed by somebody else at the same time: looking again");
                }
                result => return result.map(drop),
            }
            rounds += 1;
        }
    }

    /// One look at everything, and what has to be written.
    async fn check(&mut self, now: SystemTime) -> Result<Checked, Error> {
        let [one, other] = &self.configurations;
        let found = [self.find(one).await?, self.find(other).await?];
        let (secret, authorities) = self.authorities(&found, now).await?;
        let newest = authorities.newest().certificate();
        if found.iter().any(|found| found.lacks(newest))
            && let Some(distrusted) = authorities.distrusted()
        {
            // Before the bundle is put right, so that who takes over after us counts from there.
            self.store.update(secret, &distrusted).await?;
            return Ok(Checked::Again);
        }
        if !self.trust(found, &authorities).await? {
            return Ok(Checked::Settled);
        }
        if let Some(noted) = authorities.trusted(now) {
            self.store.update(secret, &noted).await?;
        } else if let Some(last) = authorities.retire(now, &self.lifetimes) {
            self.store.update(secret, &last).await?;
            tracing::info!("the old certificate authority is no longer needed");
            return Ok(Checked::Again);
        }
        Ok(Checked::Settled)
    }

    async fn find(&self, kept: &Kept) -> Result<Found, Error> {
        self.store.configuration(kept.name).await.map(Found)
    }

    /// What the Secret holds, made, replaced or rotated where that is needed.
    async fn authorities(&self, found: &[Found], now: SystemTime) -> Result<(Secret, Authorities), Error> {
        let anew = || {
            // Replicas serve what a lost authority signed until they see the new one.
            let trusted = found.iter().flat_map(Found::entries).flat_map(|entry| entry.trusted);
            Authorities::instead_of(trusted, now, &self.lifetimes)
        };
        let Some(secret) = self.store.secret().await? else {
            let authorities = anew().map_err(Error::Make)?;
            let secret = self.store.create(&authorities).await?;
            tracing::info!(secret = self.store.secret_name(), "made a certificate authority");
            return Ok((secret, authorities));
        };
        let held = Authorities::decode(&secret.data.clone().unwrap_or_default());
        let authorities = match &held {
            Ok(authorities) if authorities.needs_rotation(now) => authorities.rotate(now, &self.lifetimes),
            Ok(authorities) => return Ok((secret, authorities.clone())),
            Err(_) => anew(),
        };
        let authorities = authorities.map_err(Error::Make)?;
        let secret = self.store.update(secret, &authorities).await?;
        match held {
            Ok(_) => {
                tracing::info!("added a new certificate authority: two thirds of the old one's life are over")
            }
            Err(broken) => {
                let secret = self.store.secret_name();
                tracing::warn!(
                    "the Secret {secret} could not be used, a new certificate authority replaces it: {broken}"
                );
            }
        }
        Ok((secret, authorities))
    }

    /// Writes every `caBundle` that is another. Whether our webhooks trust every authority then, and there are some.
    async fn trust(&mut self, found: [Found; 2], authorities: &Authorities) -> Result<bool, Error> {
        let bundle = authorities.bundle();
        let mut is_trusted = true;
        let mut failed = None;
        let mut is_replaced = false;
        for (kept, found) in self.configurations.iter_mut().zip(found) {
            kept.tell(&found);
            is_trusted &= kept.name != CONFIGURATION || !found.entries().is_empty();
            let Some(mut configuration) = found.0 else { continue };
            if !configuration::trust(&mut configuration.data, &bundle) {
                continue;
            }
            // One that can't be written must not keep the other from being written.
            match self.store.configure(kept.name, &configuration).await {
                Ok(()) => {
                    tracing::info!(configuration = kept.name, "wrote caBundle");
                    is_replaced |= kept.written.replace(bundle.clone()).as_ref() == Some(&bundle);
                }
                Err(error) => failed = Some(error),
            }
        }
        if is_replaced {
            self.replaced();
        }
        failed.map_or(Ok(is_trusted), Err)
    }

    fn replaced(&mut self) {
        let lately = self.replaced.filter(|(last, _)| last.elapsed() < LONGEST_TRUCE * 2);
        self.replaced = Some((Instant::now(), lately.map_or(0, |(_, times)| times + 1)));
        if self.truce() >= Duration::from_secs(2) {
            tracing::warn!(
                "somebody else keeps changing our caBundle; see who in the metadata.managedFields of the \
                 MutatingWebhookConfigurations {CONFIGURATION} and {POLICIES_CONFIGURATION}"
            );
        }
    }

    /// How long to let somebody else's `caBundle` stand. Two that write against each other go on for ever, so we wait
    /// longer each time.
    fn truce(&self) -> Duration {
        let lately = self.replaced.filter(|(last, _)| last.elapsed() < LONGEST_TRUCE * 2);
        let longer = |times: u32| TRUCE.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_TRUCE);
        lately.map_or(Duration::ZERO, |(_, times)| longer(times))
    }
}

// === impl Kept ===

impl Kept {
    fn tell(&mut self, found: &Found) {
        let name = self.name;
        let problem = match (&found.0, name) {
            (Some(_), _) => None,
            (None, CONFIGURATION) => Some(format!(
                "there is no MutatingWebhookConfiguration {name}, so nobody calls us: install the chart, or start with \
                 --register"
            )),
            (None, _) => Some(format!(
                "there is no MutatingWebhookConfiguration {name}, so policies act on annotated workloads only: install \
                 the chart, or start with --register"
            )),
        };
        self.told.say(problem, &format!("the MutatingWebhookConfiguration {name} is there now"));
    }
}

// === impl Found ===

impl Found {
    fn entries(&self) -> Vec<configuration::Entry> {
        self.0.as_ref().map(|found| configuration::entries(&found.data)).unwrap_or_default()
    }

    /// Whether a webhook of ours does not trust `certificate`.
    fn lacks(&self, certificate: &CertificateDer<'static>) -> bool {
        self.entries().iter().any(|entry| !entry.trusted.contains(certificate))
    }
}

/// What went wrong and what to do about it.
fn advice(error: Error) -> String {
    match error {
        Error::Failed { .. } => {
            format!("{error}; trying again (does our ServiceAccount have the chart's rights?)")
        }
        error => format!("{error}; trying again"),
    }
}

#[cfg(test)]
mod tests;
