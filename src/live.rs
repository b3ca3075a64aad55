//! The webhook and the controller against a live cluster: what each needs is connected here, and ends together.
use crate::{
    cluster::Cluster,
    control::{self, Candidate, Presence, Scene, Times, identity},
    knowledge::Folders,
    observe::Metrics,
    register::Registration,
    serve::{Admin, AdminPort, Config, Readiness, Server, Shared},
    tls::{Keeper, Lifetimes},
    watch::{Feed, Listener, Pulses},
};
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use opportune_core::{
    admit::{Options, Selection},
    discover::{Catalog, Inventory},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// How long the end of the process waits for the Lease to be released.
const RELEASE: Duration = Duration::from_secs(5);
/// How long the API server may take for each thing that has to be there before we serve.
const START: Duration = Duration::from_secs(15);

/// What one process is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Our own namespace, with the Secret and the Lease.
    pub namespace: String,
    /// The webhook to serve; `None`: this process is no webhook.
    pub webhook: Option<Config>,
    /// What to do while we lead; `None`: this process is no controller.
    pub controller: Option<Leadership>,
    /// Where injection is on.
    pub options: Options,
    /// Where probes and metrics are served.
    pub admin: SocketAddr,
    /// Webhook configurations to write for this webhook.
    pub registration: Option<Registration>,
    /// Recipes and profiles of the operator's own.
    pub folders: Folders,
}

/// What the leader does.
#[derive(Debug, Clone, Copy)]
pub struct Leadership {
    /// How long the authority that it keeps lives; `None`: the certificates are somebody else's.
    pub authority: Option<Lifetimes>,
    /// Whether workloads that ask for it may be restarted when what they use changes.
    pub rollouts: bool,
}

/// Why the process can't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Recipes or profiles can't be used.
    #[error(transparent)]
    Knowledge(#[from] crate::knowledge::Error),
    /// A configuration could not be registered.
    #[error(transparent)]
    Register(#[from] crate::register::Error),
    /// The server can't start, or ended.
    #[error(transparent)]
    Serve(#[from] crate::serve::Error),
    /// The namespace is not there and can't be made.
    #[error("namespace {name}: {source}")]
    Namespace {
        /// Its name.
        name: String,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("{0}: the API server did not answer in 15 s")]
    Slow(&'static str),
    /// A task that should run as long as the process ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

#[expect(
    clippy::async_yields_async,
    reason = "the server asks for a future that ends in the next one: what aborts it"
)]
/// Does what `plan` says until `shutdown` ends; `shutdown` gives a second future that cuts the end short.
///
/// # Errors
/// [`Error`]: what kept it from starting, or the first task that ended unasked.
pub async fn run<A>(cluster: Cluster, plan: Plan, shutdown: impl Future<Output = A>) -> Result<(), Error>
where
    A: Future<Output = ()>,
{
    if !cluster.is_inside {
        in_time("our namespace", ensure_namespace(&cluster.client, &plan.namespace)).await?;
    }
    let stop = Arc::new(watch::Sender::new(false));
    let told = Arc::clone(&stop);
    let shutdown = async move {
        let abort = shutdown.await;
        told.send_replace(true);
        abort
    };
    let inventory = plan.folders.inventory()?;
    let Plan { namespace, webhook: Some(config), controller, options, registration, .. } = plan else {
        return control_only(cluster.client, plan, inventory, shutdown, stop).await;
    };
    let (client, listener) = (cluster.client, Listener::default());
    let (catalog, pulses) = (Shared::<Catalog>::default(), followed(&options, controller.is_some()));
    let options = Options { selection: Selection::Caller, ..options };
    let config = Config { pulses: pulses.clone(), options, ..config };
    let server = Server::bind(config, Arc::clone(&catalog)).await?;
    // Not before the port is ours: who registers, answers.
    if let Some(registration) = &registration {
        let applied = async { Ok(registration.apply(&client, server.ca_pem()).await?) };
        in_time("the webhook configurations", applied).await?;
    }
    let (readiness, options) = (server.readiness(), server.options());
    let looked_up = readiness.register("lease looked up");
    let presence = Presence::new(client.clone(), &namespace, Arc::clone(&options), looked_up);
    let scene = Scene { client, catalog, options, listener, metrics: server.metrics() };
    let feed = scene.feed(inventory, &readiness, pulses, controller.is_some());
    let mut election = Election::join(&scene, &namespace, controller, &readiness, stop);
    let result = tokio::select! {
        // The end of the serving first, when others are ready too.
        biased;
        result = server.run(shutdown) => result.map_err(Error::from),
        () = feed.run() => Err(Error::Ended("the watch of the cluster")),
        () = presence.watch() => Err(Error::Ended("the watch of the lease")),
        () = election.broke() => Err(Error::Ended("the election")),
    };
    election.end().await;
    result
}

/// A process without a webhook: probes, metrics, and the election.
async fn control_only<A: Future<Output = ()>>(
    client: Client,
    plan: Plan,
    inventory: Inventory,
    shutdown: impl Future<Output = A>,
    stop: Arc<watch::Sender<bool>>,
) -> Result<(), Error> {
    let (readiness, pulses) = (Readiness::default(), followed(&plan.options, plan.controller.is_some()));
    let scene = Scene {
        client,
        catalog: Shared::default(),
        options: Arc::new(ArcSwap::from_pointee(plan.options)),
        listener: Listener::default(),
        metrics: Arc::new(Metrics::new().map_err(crate::serve::Error::Metrics)?),
    };
    let state = Admin {
        metrics: Arc::clone(&scene.metrics),
        readiness: readiness.clone(),
        catalog: Arc::clone(&scene.catalog),
        certificates: None,
        pulses: pulses.clone(),
    };
    let port = AdminPort::bind(plan.admin, state).await?;
    tracing::info!(admin = %port.address(), "no webhook here");
    let feed = scene.feed(inventory, &readiness, pulses, plan.controller.is_some());
    let mut election = Election::join(&scene, &plan.namespace, plan.controller, &readiness, stop);
    let result = tokio::select! {
        abort = shutdown => {
            readiness.drain();
            drop(abort);
            Ok(())
        }
        () = port.serve() => Err(Error::Ended("the admin port")),
        () = feed.run() => Err(Error::Ended("the watch of the cluster")),
        () = election.broke() => Err(Error::Ended("the election")),
    };
    election.end().await;
    result
}

/// What is followed: who only answers needs no more than what discovery reads.
fn followed(options: &Options, is_controller: bool) -> Pulses {
    if is_controller { Pulses::of(&options.kinds) } else { Pulses::of_discovery() }
}

/// The part that this process takes in the election, in a task of its own; none where it is no controller.
struct Election {
    task: Option<JoinHandle<()>>,
    stop: Arc<watch::Sender<bool>>,
}

// === impl Election ===

impl Election {
    fn join(
        scene: &Scene,
        namespace: &str,
        controller: Option<Leadership>,
        readiness: &Readiness,
        stop: Arc<watch::Sender<bool>>,
    ) -> Self {
        let task = controller.map(|leadership| {
            let joined = readiness.register("election joined");
            let (client, identity) = (scene.client.clone(), identity());
            let candidate = Candidate::new(client, namespace, identity.clone(), Times::default(), joined);
            let (scene, namespace) = (scene.clone(), namespace.to_owned());
            let lead = move || leadership.lead(scene.clone(), namespace.clone(), identity.clone());
            tokio::spawn(candidate.run(lead, stop.subscribe()))
        });
        Self { task, stop }
    }

    /// Ends when the task ended though nobody told it to.
    async fn broke(&mut self) {
        if let Some(task) = &mut self.task {
            // Ended or panicked: nobody runs for the Lease any more.
            let _ = task.await;
            self.task = None;
            if !*self.stop.borrow() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Stops, and waits until the Lease is released.
    async fn end(self) {
        self.stop.send_replace(true);
        let Some(task) = self.task else { return };
        if timeout(RELEASE, task).await.is_err() {
            tracing::warn!("the lease was not released in time: another replica will wait for it");
        }
    }
}

// === impl Leadership ===

impl Leadership {
    async fn lead(self, scene: Scene, namespace: String, identity: String) {
        tracing::info!(rollouts = self.rollouts, "the leader's work begins");
        let keep = async {
            match self.authority {
                Some(lifetimes) => Keeper::new(scene.client.clone(), namespace, lifetimes).keep().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = keep => tracing::error!("the keeping of the authority ended"),
            () = control::work(scene.clone(), self.rollouts, identity) => {
                tracing::error!("delivery ended");
            }
        }
    }
}

// === impl Scene ===

impl Scene {
    /// What follows the cluster for all that this process does; a controller is told of workloads, too.
    fn feed(&self, inventory: Inventory, readiness: &Readiness, pulses: Pulses, is_controller: bool) -> Feed {
        let (client, catalog, options) = (self.client.clone(), self.catalog.clone(), self.options.clone());
        let feed = Feed::new(client, inventory, catalog, options, readiness, pulses);
        feed.telling(is_controller.then(|| self.listener.clone()))
    }
}

/// What has to be done before anything is served must not wait for ever.
async fn in_time(what: &'static str, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    timeout(START, work).await.unwrap_or(Err(Error::Slow(what)))
}

/// Outside a cluster nobody else makes our namespace.
async fn ensure_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let failed = |source| Error::Namespace { name: name.to_owned(), source: Box::new(source) };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_opt(name).await {
        Ok(None) => {}
        // Who may not look, as our own ServiceAccounts, may not make it either: it is there, or the Lease tells.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(()),
        Ok(Some(_)) => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => tracing::info!(namespace = name, "made our namespace"),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}
