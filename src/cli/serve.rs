//! `opportune serve`: the webhook.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use clap::{Args, ValueEnum};

use super::{Failure, ScopeArgs, missing_catalog, offline};
use crate::{
    observe::{self, Format},
    serve::{Config, Server, signals},
    tls::Source,
};

/// Options of `opportune serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune serve --catalog cluster.yaml --tls self-signed --ca-out ca.pem
  opportune serve --catalog cluster/ --tls files --tls-cert tls.crt --tls-key tls.key

The API server posts AdmissionReviews to https://HOST:8443/mutate; /metrics, /healthz and /readyz are on port 9090.")]
pub struct ServeArgs {
    /// The cluster's objects: files and folders.
    #[arg(long, value_name = "PATH", num_args = 1.., env = "OPPORTUNE_CATALOG", value_delimiter = ',')]
    catalog: Vec<PathBuf>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Where the webhook listens (path /mutate).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443", env = "OPPORTUNE_LISTEN")]
    listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090", env = "OPPORTUNE_ADMIN")]
    admin: SocketAddr,
    /// Where the certificate comes from.
    #[arg(long, value_enum, env = "OPPORTUNE_TLS")]
    tls: TlsArg,
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
    /// An authority and a certificate that live as long as this process.
    SelfSigned,
    /// A certificate from files, as cert-manager writes them.
    Files,
}

/// Serves until it is told to stop.
///
/// # Errors
/// A bad catalog, certificate or port, before anything is served; or a task that ended unasked.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    if args.catalog.is_empty() {
        return Err(missing_catalog());
    }
    observe::init(args.log_format, &args.log).map_err(|error| Failure::Usage(error.to_string()))?;
    observe::report_panics();
    let catalog = offline::catalog(&args.catalog)?;
    let config = config(args)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::input(error.to_string()))?;
    runtime.block_on(async {
        let server = Server::bind(config, Arc::new(ArcSwap::from_pointee(catalog)))
            .await
            .map_err(|error| Failure::input(with_causes(&error)))?;
        if let (Some(path), Some(pem)) = (&args.ca_out, server.ca_pem()) {
            std::fs::write(path, pem)
                .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        }
        let signals = signals().map_err(|error| Failure::input(error.to_string()))?;
        server.run(signals).await.map_err(|error| Failure::input(with_causes(&error)))
    })
}

fn config(args: &ServeArgs) -> Result<Config, Failure> {
    let certificates = match (args.tls, &args.tls_cert, &args.tls_key) {
        (TlsArg::SelfSigned, ..) => Source::SelfSigned { names: args.tls_names.clone() },
        (TlsArg::Files, Some(cert), Some(key)) => Source::Files { cert: cert.clone(), key: key.clone() },
        (TlsArg::Files, ..) => {
            return Err(Failure::Usage("--tls files needs --tls-cert and --tls-key".into()));
        }
    };
    let mut config = Config::new(args.listen, args.admin, certificates);
    config.client_ca.clone_from(&args.client_ca);
    config.options = args.scope.options();
    config.settle = Duration::from_secs(args.settle);
    Ok(config)
}

/// An error with what caused it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text += &format!(": {next}");
        }
        cause = error.source();
    }
    text
}
