//! The way to a Kubernetes API server: which one, as whom, and what to say when there is none.
pub mod look;
pub mod objects;

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// In every request, so that an audit log tells who asked.
const PRODUCT: &str = concat!("opportune/", env!("CARGO_PKG_VERSION"));

/// Our own namespace, where nothing says which.
pub const NAMESPACE: &str = "opportune-system";
/// The field manager of everything that we write.
pub const FIELD_MANAGER: &str = "opportune";
/// The Secret with our certificate authority, in our own namespace.
pub const CA_SECRET: &str = "opportune-ca";
/// The Lease of the leader, in our own namespace.
pub const LEASE: &str = "opportune";
/// The ServiceAccount of the chart's controller, in our own namespace.
pub const CONTROLLER_ACCOUNT: &str = "opportune-controller";
/// The webhook configuration for annotated workloads.
pub const CONFIGURATION: &str = "opportune";
/// The webhook configuration for policies, written by the program alone.
pub const POLICIES_CONFIGURATION: &str = "opportune-policies";

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a pod's ServiceAccount.
    #[error("no cluster to talk to: this is no pod of one, and {}", kubeconfig(.0))]
    NoCluster(InferConfigError),
    /// The kubeconfig can't be used, or does not have the context.
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(#[source] KubeconfigError),
    /// The client can't be made, mostly because of a certificate or key.
    #[error("can't talk to the cluster: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// What is wrong with the kubeconfig: in nearly all cases what a person wants to know.
fn kubeconfig(error: &InferConfigError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// One cluster, and where in it we are.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks to its API server.
    pub client: Client,
    /// The namespace of the kubeconfig's context, or the pod's own.
    pub namespace: String,
    /// Whether we run in a pod of this cluster.
    pub is_inside: bool,
    /// How people call it: the context of the kubeconfig, where there is one.
    pub context: Option<String>,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster of the current kubeconfig (`KUBECONFIG`, `~/.kube/config`), else the one that this pod runs in;
    /// `context` names another context of the kubeconfig.
    ///
    /// # Errors
    /// [`Error`]: no cluster is configured, or what configures it can't be used. Nothing is sent yet.
    pub async fn connect(context: Option<&str>) -> Result<Self, Error> {
        let mut config = match context {
            None => Config::infer().await.map_err(Error::NoCluster)?,
            Some(context) => {
                let options = KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
                Config::from_kubeconfig(&options).await.map_err(Error::Kubeconfig)?
            }
        };
        // Whoever asks has a back-off and a time limit of its own, which retries underneath would defeat.
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(PRODUCT)));
        // Only a pod's ServiceAccount comes from a file that is read again.
        let is_inside = config.root_cert_file.is_some();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
        let context = match context {
            Some(context) => Some(context.to_owned()),
            None if is_inside => None,
            None => Kubeconfig::read().ok().and_then(|kubeconfig| kubeconfig.current_context),
        };
        Ok(Self { client, namespace, is_inside, context })
    }
}

/// As in `context kind-kind`, for messages.
impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.context {
            Some(context) => write!(f, "context {context}"),
            None => f.write_str("the cluster that this runs in"),
        }
    }
}
