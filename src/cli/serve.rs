//! `opportune serve`: the webhook and the controller.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use clap::{Args, ValueEnum};

use super::{Failure, ScopeArgs, source::ClusterArgs, with_causes};
use crate::{
    cluster::{Cluster, NAMESPACE},
    live::{self, Leadership, Plan},
    observe::{self, Format},
    register::Registration,
    serve::{Config, Server, signals},
    tls::{Lifetimes, Managed, Source, host_of},
};

/// Options of `opportune serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune serve                                       (in a cluster, as the chart runs it)
  opportune serve --register https://192.0.2.7:8443     (outside, for the cluster of the current kubeconfig)
  opportune serve --catalog cluster.yaml --ca-out ca.pem     (without a cluster)

The API server posts AdmissionReviews to https://HOST:8443/mutate; /metrics, /healthz and /readyz are on port 9090.

Without --catalog the live cluster is followed. Its roles: `webhook` answers the API server; `controller` takes part in
the election of a leader by the Lease `opportune`; the leader delivers the Secrets, files and claims that workloads point at,
tells of offers that come late (`--rollouts`: restarts what asks for it), takes back what can't be delivered, and keeps the
certificate authority and `caBundle`.")]
pub struct ServeArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    /// What this process does in a live cluster.
    #[arg(long, value_enum, value_name = "ROLE", value_delimiter = ',', num_args = 1..,
        default_values_t = [RoleArg::Webhook, RoleArg::Controller], env = "OPPORTUNE_ROLES")]
    roles: Vec<RoleArg>,
    /// Our own namespace, with the Secret `opportune-ca` and the Lease `opportune`: by default the pod's, outside a cluster
    /// opportune-system (made when missing).
    #[arg(long, value_name = "NAMESPACE", env = "OPPORTUNE_NAMESPACE")]
    namespace: Option<String>,
    /// Create both webhook configurations, pointing at this address (/mutate is appended): for running outside the cluster.
    /// They stay when the process ends.
    #[arg(long, value_name = "https://HOST:PORT", value_parser = https, conflicts_with = "catalog",
        env = "OPPORTUNE_REGISTER")]
    register: Option<String>,
    /// With --register: let a workload on a claim of ours be updated while the webhook is away, at the risk of an empty
    /// disk.
    #[arg(long, requires = "register")]
    no_protect_storage: bool,
    /// Allow `refresh: rollout`: workloads that ask for it are restarted when what they use changes.
    #[arg(long, env = "OPPORTUNE_ROLLOUTS")]
    rollouts: bool,
    /// Where the webhook listens (path /mutate).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443", env = "OPPORTUNE_LISTEN")]
    listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090", env = "OPPORTUNE_ADMIN")]
    admin: SocketAddr,
    /// Where the certificate comes from [default: managed, or self-signed with --catalog].
    #[arg(long, value_enum, env = "OPPORTUNE_TLS")]
    tls: Option<TlsArg>,
    /// How long our own authority lives, for `--tls managed`, such as 365d.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = humantime::parse_duration, env = "OPPORTUNE_CA_LIFETIME")]
    ca_lifetime: Duration,
    /// How long a certificate that it signs lives; renewed at two thirds.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration,
        env = "OPPORTUNE_CERTIFICATE_LIFETIME")]
    certificate_lifetime: Duration,
    /// The certificate chain, PEM, for `--tls files`; read again when it changes.
    #[arg(long, value_name = "FILE", env = "OPPORTUNE_TLS_CERT", required_if_eq("tls", "files"))]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM, for `--tls files`.
    #[arg(long, value_name = "FILE", env = "OPPORTUNE_TLS_KEY", required_if_eq("tls", "files"))]
    tls_key: Option<PathBuf>,
    /// Names and addresses in a self-signed certificate, besides localhost.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_TLS_NAMES")]
    tls_names: Vec<String>,
    /// Where to write the authority of a self-signed certificate, for the `caBundle` of a webhook configuration.
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Only clients with a certificate of this authority (PEM) may call.
    #[arg(long, value_name = "FILE", env = "OPPORTUNE_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// How long to go on serving after SIGTERM, in seconds: the time that a Service needs to forget us.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, env = "OPPORTUNE_SETTLE")]
    settle: u64,
    /// What to log: a level, or filters as in `opportune=debug,hyper=warn`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "RUST_LOG")]
    log: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = Format::Text, env = "OPPORTUNE_LOG_FORMAT")]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsArg {
    /// An authority of our own in the Secret opportune-ca, certificates in memory, rotated; caBundle is written.
    Managed,
    /// An authority and a certificate that live as long as this process.
    SelfSigned,
    /// A certificate from files, as cert-manager writes them.
    Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Answers the API server.
    Webhook,
    /// Does, as the leader, what must be done once in a cluster.
    Controller,
}

/// Serves until it is told to stop.
///
/// # Errors
/// A bad catalog, certificate or port, before anything is served; or a task that ended unasked.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    observe::init(args.log_format, &args.log).map_err(|error| Failure::Usage(error.to_string()))?;
    observe::report_panics();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::input(error.to_string()))?;
    match args.cluster.is_live() {
        true => runtime.block_on(run_live(args)),
        false => runtime.block_on(run_with_catalog(args)),
    }
}

/// Serves by a catalog that never changes.
async fn run_with_catalog(args: &ServeArgs) -> Result<(), Failure> {
    let certificates = match args.tls {
        Some(TlsArg::Managed) => {
            return Err(Failure::Usage("--tls managed needs a live cluster: leave --catalog out".into()));
        }
        Some(TlsArg::Files) => args.files()?,
        Some(TlsArg::SelfSigned) | None => args.self_signed(),
    };
    let catalog = args.cluster.read(None)?;
    let config = args.config(certificates);
    let server = Server::bind(config, Arc::new(ArcSwap::from_pointee(catalog))).await.map_err(failed)?;
    if let (Some(path), Some(pem)) = (&args.ca_out, server.ca_pem()) {
        std::fs::write(path, pem).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    }
    let signals = signals().map_err(failed)?;
    server.run(signals).await.map_err(failed)
}

async fn run_live(args: &ServeArgs) -> Result<(), Failure> {
    let cluster = args.cluster.connect().await?;
    let plan = args.plan(&cluster)?;
    let signals = signals().map_err(failed)?;
    live::run(cluster, plan, signals).await.map_err(failed)
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::input(with_causes(&error))
}

// === impl ServeArgs ===

impl ServeArgs {
    fn plan(&self, cluster: &Cluster) -> Result<Plan, Failure> {
        if self.register.is_some() && !self.roles.contains(&RoleArg::Webhook) {
            return Err(Failure::Usage(
                "--register needs the role webhook: it points at this process".into(),
            ));
        }
        let default = if cluster.is_inside { &cluster.namespace } else { NAMESPACE };
        let namespace = self.namespace.clone().unwrap_or_else(|| default.to_owned());
        let lifetimes = Lifetimes::new(self.ca_lifetime, self.certificate_lifetime).map_err(failed)?;
        let tls = self.tls.unwrap_or(TlsArg::Managed);
        let certificates = match tls {
            TlsArg::Files => self.files()?,
            TlsArg::SelfSigned => self.self_signed(),
            TlsArg::Managed => {
                let mut managed = Managed::new(cluster.client.clone(), namespace.clone());
                managed.lifetimes = lifetimes;
                if let Some(host) = self.register.as_deref().and_then(host_of) {
                    managed.names = vec![host];
                }
                Source::Managed(managed)
            }
        };
        let mut config = self.config(certificates);
        config.options.excluded_namespaces.push(namespace.clone());
        let registration = self.register.clone().map(|url| Registration {
            url,
            mode: config.options.mode,
            kinds: config.options.kinds.clone(),
            excluded_namespaces: config.options.excluded_namespaces.clone(),
            protect_storage: !self.no_protect_storage,
        });
        let options = config.options.clone();
        let authority = (tls == TlsArg::Managed).then_some(lifetimes);
        Ok(Plan {
            namespace,
            webhook: self.roles.contains(&RoleArg::Webhook).then_some(config),
            controller: self
                .roles
                .contains(&RoleArg::Controller)
                .then_some(Leadership { authority, rollouts: self.rollouts }),
            options,
            admin: self.admin,
            registration,
            folders: self.cluster.folders.clone(),
        })
    }

    fn config(&self, certificates: Source) -> Config {
        let mut config = Config::new(self.listen, self.admin, certificates);
        config.client_ca.clone_from(&self.client_ca);
        config.options = self.scope.options();
        config.settle = Duration::from_secs(self.settle);
        config
    }

    fn self_signed(&self) -> Source {
        Source::SelfSigned { names: self.tls_names.clone() }
    }

    fn files(&self) -> Result<Source, Failure> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Ok(Source::Files { cert: cert.clone(), key: key.clone() }),
            _ => Err(Failure::Usage("--tls files needs --tls-cert and --tls-key".into())),
        }
    }
}

/// `https://HOST:PORT`, as an API server can call it.
fn https(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|_| "not an address".to_owned())?;
    let has_path = !matches!(uri.path(), "" | "/") || uri.query().is_some();
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) if !has_path => Ok(text.trim_end_matches('/').to_owned()),
        (Some("https"), Some(_)) => Err("leave the path out: /mutate is appended".to_owned()),
        _ => Err("expected https://HOST:PORT: an API server calls a webhook by HTTPS only".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_register_is_https_without_a_path() {
        assert_eq!(https("https://192.0.2.7:8443/"), Ok("https://192.0.2.7:8443".to_owned()));
        assert_eq!(https("https://[2001:db8::1]:8443"), Ok("https://[2001:db8::1]:8443".to_owned()));
        for wrong in ["http://192.0.2.7", "192.0.2.7:8443", "https://h/mutate", "https://h/?q", ""] {
            assert!(https(wrong).is_err(), "{wrong}");
        }
    }
}
