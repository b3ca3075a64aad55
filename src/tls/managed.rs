//! Each replica's side of the managed certificates: it reads the Secret and the webhook configuration, signs a
//! certificate of its own in memory, and says whether the API servers take it. It writes nothing.
use super::{
    Health, Loaded, configuration,
    lifetimes::Lifetimes,
    replica::Replica,
    store::{Error, Store},
    told::Told,
};
use crate::cluster::CONFIGURATION;
use arc_swap::ArcSwapOption;
use futures_util::{FutureExt, StreamExt, stream};
use http::Uri;
use kube::Client;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::time::sleep;

/// Between a failure and the next try, at most.
const RETRY: Duration = Duration::from_secs(5);

/// Where a managed certificate comes from and whom it names.
#[derive(Clone)]
pub struct Managed {
    /// Speaks to the API server.
    pub client: Client,
    /// Ours, where the Secret lives.
    pub namespace: String,
    /// Host names and IP addresses that the API server calls us by: [`names_of_service`] or [`host_of`].
    pub names: Vec<String>,
    /// How long everything lives; the same as the leader's.
    pub lifetimes: Lifetimes,
}

/// The loop that follows the cluster.
struct Follower {
    store: Store,
    lifetimes: Lifetimes,
    replica: Replica,
    secret: Told,
    configuration: Told,
    trust: Told,
    signing: Told,
}

// === impl Managed ===

impl Managed {
    /// In a cluster: the Service `opportune` in `namespace`, and the lifetimes as they are by default.
    pub fn new(client: Client, namespace: String) -> Self {
        let names = names_of_service("opportune", &namespace);
        Self { client, namespace, names, lifetimes: Lifetimes::default() }
    }

    /// Follows the cluster; puts each new certificate into `current`, and tells `report` after each look. Never ends.
    pub(super) async fn follow(self, current: Arc<ArcSwapOption<Loaded>>, report: impl Fn(Health)) {
        let store = Store::new(self.client, self.namespace);
        let configuration = store.configuration_changes(CONFIGURATION);
        let mut changes = std::pin::pin!(stream::select(store.secret_changes(), configuration));
        let mut follower = Follower::new(store, self.names, self.lifetimes);
        loop {
            let is_read = follower.look().await;
            if let Some(loaded) = follower.renew(SystemTime::now(), Instant::now()) {
                tracing::info!(expires = loaded.date, "serving a new certificate");
                current.store(Some(Arc::new(loaded)));
            }
            report(follower.health(current.load().as_deref()));
            let wait = follower.wait(is_read, Instant::now());
            tokio::select! {
                _ = changes.next() => {}
                () = sleep(wait) => {}
            }
            // One look answers all that happened until now.
            while changes.next().now_or_never().flatten().is_some() {}
        }
    }
}

impl fmt::Debug for Managed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, names, lifetimes, .. } = self;
        formatter
            .debug_struct("Managed")
            .field("namespace", namespace)
            .field("names", names)
            .field("lifetimes", lifetimes)
            .finish_non_exhaustive()
    }
}

// === impl Follower ===

impl Follower {
    fn new(store: Store, names: Vec<String>, lifetimes: Lifetimes) -> Self {
        let replica = Replica::new(names, lifetimes);
        let [secret, configuration, trust, signing] = [(); 4].map(|()| Told::default());
        Self { store, lifetimes, replica, secret, configuration, trust, signing }
    }

    /// Reads both; whether that worked. Nothing is ever signed by old news: an authority signs nothing more from the moment
    /// that a newer one is trusted, and the overlap counts on that.
    async fn look(&mut self) -> bool {
        let entries = match self.store.configuration(CONFIGURATION).await {
            Ok(found) => Ok(found.map(|found| configuration::entries(&found.data))),
            Err(error) => Err(error.to_string()),
        };
        let (mut problem, mut is_read) = (None, true);
        match entries {
            Ok(entries) => self.replica.see_entries(entries, Instant::now()),
            Err(error) => {
                problem = Some(format!("{error}; the certificate in use is served until it expires"));
                is_read = false;
            }
        }
        self.configuration.say(problem, "the webhook configuration can be read again");

        let authorities = self.store.authorities().await;
        let problem = match &authorities {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("there is no Secret {}", self.store.secret_name())),
            Err(error) => Some(error.to_string()),
        };
        let problem = problem.map(|problem| {
            format!(
                "{problem}; the leader of the role controller makes it anew. Until then no certificate is renewed, and \
                 the one in use is served until it expires"
            )
        });
        is_read &= !matches!(authorities, Err(Error::Failed { .. }));
        self.secret.say(problem, "the Secret with the certificate authority is there");
        self.replica.see_authorities(authorities.ok().flatten().filter(|_| is_read));
        is_read
    }

    /// A new certificate, where one is due and can be signed.
    fn renew(&mut self, wall: SystemTime, now: Instant) -> Option<Loaded> {
        let signed = self.replica.due(wall, now).map(|authority| self.replica.sign(&authority, wall));
        let (loaded, problem) = match signed {
            Some(Ok(loaded)) => (Some(loaded), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            // What is about to be trusted signs in a moment.
            None => (None, self.replica.overdue(wall).filter(|_| self.replica.settles(now).is_none())),
        };
        self.signing.say(problem, "the certificate is renewed again");
        loaded
    }

    fn health(&mut self, current: Option<&Loaded>) -> Health {
        let wall = SystemTime::now();
        let problem = self.replica.check(wall, Instant::now()).err();
        let is_trusted = problem.is_none();
        // What is over in a moment is not worth a line.
        let worth = problem.filter(|problem| !problem.is_passing());
        self.trust.say(
            worth.map(|problem| format!("not ready: {problem}")),
            "the caBundle of every webhook trusts our certificate",
        );
        Health { is_valid: current.is_some_and(|current| wall < current.validity.until), is_trusted }
    }

    fn wait(&self, is_read: bool, now: Instant) -> Duration {
        let tick = self.lifetimes.tick();
        let tick = if is_read { tick } else { tick.min(RETRY) };
        let settles = self.replica.settles(now).map(|at| at.duration_since(now));
        settles.map_or(tick, |settles| settles.min(tick))
    }
}

/// The names of a Service. The API server calls `NAME.NAMESPACE.svc`; whoever else looks in from inside the cluster, such
/// as a pod with curl, may write the whole name (the cluster's domain is `cluster.local` nearly everywhere).
pub fn names_of_service(name: &str, namespace: &str) -> Vec<String> {
    ["svc", "svc.cluster.local"].map(|domain| format!("{name}.{namespace}.{domain}")).to_vec()
}

/// The host of a URL, as a certificate names it: an IPv6 address without its brackets.
pub fn host_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    uri.scheme()?;
    let host = uri.host()?;
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Some(address.unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests;
