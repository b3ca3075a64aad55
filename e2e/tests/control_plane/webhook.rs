//! The webhook under trial: `opportune serve` beside a control plane, which calls it on loopback.
use crate::{offers, trial::Cluster, workload};
use anyhow::Result;
use opportune_e2e::{ControlPlane, Namespace, Program, eventually, free_address};
use std::{net::SocketAddr, sync::OnceLock, time::Duration};

/// The configuration in which both webhooks stand.
pub const CONFIGURATION: &str = "opportune";
/// The webhook for what may be missed.
pub const WANTS: &str = "wants.opportune.libre.sh";
/// The webhook for what must not be missed.
pub const REQUIRES: &str = "requires.opportune.libre.sh";
/// How long a start, or a recovery, may take beside other work.
pub const SOON: Duration = Duration::from_secs(30);

/// A webhook that answers, with offers to choose from.
pub struct Webhook {
    pub program: Program,
    pub admin: SocketAddr,
    listen: SocketAddr,
    /// Where the offers are.
    pub services: Namespace,
}

/// The one on the shared control plane, started by the first trial that asks.
pub async fn shared(cluster: &Cluster) -> Result<&'static Webhook> {
    static SHARED: OnceLock<Result<Webhook, String>> = OnceLock::new();
    let webhook = SHARED.get_or_init(|| Webhook::start(cluster, &[]).map_err(|error| format!("{error:#}")));
    let webhook = webhook.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    webhook.is_at_work(cluster).await?;
    Ok(webhook)
}

/// A namespace in which injection is on.
pub fn namespace(plane: &ControlPlane, prefix: &str) -> Result<Namespace> {
    plane.labelled_namespace(prefix, &[("opportune.libre.sh/inject", "enabled")])
}

// === impl Webhook ===

impl Webhook {
    /// Starts one, with these further options, and offers for it.
    pub fn start(plane: &ControlPlane, options: &[&str]) -> Result<Self> {
        let services = offers::install(plane)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let program = serve(plane, listen, admin, options)?;
        Ok(Self { program, admin, listen, services })
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self, plane: &ControlPlane) -> Result<()> {
        self.program.kill();
        self.program = serve(plane, self.listen, self.admin, &[])?;
        Ok(())
    }

    /// Waits until a workload gets all that it may want: a Secret and a claim too, for which a leader has to be there.
    pub async fn is_at_work(&self, plane: &ControlPlane) -> Result<()> {
        let namespace = namespace(plane, "probe")?;
        let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
        let arguments = ["-n", &namespace, "create", "--dry-run=server", "-o=json", "-f", "-"];
        let manifest = workload::manifest(workload::Kind::Deployment, "probe").to_string();
        eventually("a workload gets all that it wants", SOON, async || {
            let answer = serde_json::from_str(&kubectl.feed(&arguments, &manifest)?)?;
            Ok(workload::fault(&answer).is_none().then_some(()))
        })
        .await
    }
}

/// Starts the program and its webhook at these addresses, with these further options.
pub fn serve(
    plane: &ControlPlane,
    listen: SocketAddr,
    admin: SocketAddr,
    options: &[&str],
) -> Result<Program> {
    let arguments = [
        "serve",
        "--register",
        &format!("https://{listen}"),
        "--listen",
        &listen.to_string(),
        "--admin",
        &admin.to_string(),
        "--settle=0",
    ]
    .map(str::to_owned);
    Program::against(plane, &plane.kubeconfig(), arguments).arguments(options).start_ready(admin, SOON)
}
