//! The command line: what was typed is parsed and checked here, before anything starts.
mod catalog;
mod crds;
mod demo;
mod doctor;
mod explain;
mod inject;
mod manifest;
mod offline;
mod output;
mod report;
mod serve;
mod source;
mod style;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use opportune_core::{
    admit::{Inheritance, Mode, Options},
    discover::{Catalog, NamespaceLabel},
    name::is_dns_label,
    workload::{Kind, Kinds},
};

use crate::{
    cluster::{
        Cluster,
        look::{Look, with_causes},
    },
    register::{Reach, policies},
};

/// Makes any Kubernetes workload use the directory, mail server, analytics and storage of the cluster it lands in.
///
/// A workload says what it would like by an annotation, such as `opportune.libre.sh/wants: "ldap, mail"`. What the
/// cluster has is configured when the workload is admitted; what it has not is left out, and you can see why.
#[derive(Debug, Parser)]
#[command(
    name = "opportune",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  opportune demo
  opportune inject -f wordpress.yaml --catalog cluster.yaml -o diff
  opportune explain -f wordpress.yaml --catalog cluster.yaml

Exit codes: 0 fine, 1 bad input, 2 wrong usage, 3 a required intent is not satisfied.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job, without a cluster: a WordPress goes through the real webhook on this machine.
    Demo(demo::DemoArgs),
    /// Print manifests as the webhook would leave them.
    Inject(inject::InjectArgs),
    /// Say for each intent which offers there are, and why one was taken or not.
    Explain(explain::ExplainArgs),
    /// List all offers, complete or not, and what each lacks.
    Catalog(catalog::CatalogArgs),
    /// List every workload with its wishes, and what became of each.
    Report(report::ReportArgs),
    /// Check a cluster: webhook, certificates, rights, offers, and the way from the API server to us.
    Doctor(doctor::DoctorArgs),
    /// Serve the webhook.
    Serve(Box<serve::ServeArgs>),
    /// Print the definitions of Opportune's own resources, to be applied to a cluster.
    Crds(crds::CrdsArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  opportune completions bash > /etc/bash_completion.d/opportune")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which manifests.
#[derive(Debug, Args)]
struct ManifestArgs {
    /// Manifests: files, folders, or `-` for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1.., required = true)]
    files: Vec<PathBuf>,
    /// The namespace of manifests that name none.
    #[arg(short, long, default_value = "default", value_parser = namespace)]
    namespace: String,
}

/// The name of a namespace: it becomes a part of addresses.
fn namespace(text: &str) -> Result<String, String> {
    match is_dns_label(text) {
        true => Ok(text.to_owned()),
        false => Err("not a name that Kubernetes allows for a namespace".to_owned()),
    }
}

/// Against which cluster, and where injection is on.
#[derive(Debug, Args)]
struct InjectionArgs {
    #[command(flatten)]
    cluster: source::ClusterArgs,
    #[command(flatten)]
    scope: ScopeArgs,
}

/// Where injection is on, and for what.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// Where injection is on: only in namespaces labelled opportune.libre.sh/inject=enabled, or in all that are not
    /// labelled disabled. A namespace that the catalog does not hold counts as opted in. [default: as the live cluster's
    /// webhook configuration says, else opt-in]
    #[arg(long, value_enum, env = "OPPORTUNE_MODE")]
    mode: Option<ModeArg>,
    /// Namespaces that are never touched, besides kube-system.
    #[arg(long, value_name = "NAMESPACE", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_EXCLUDE_NAMESPACES")]
    exclude_namespaces: Vec<String>,
    /// Which kinds of workloads are injected: deployments, statefulsets, daemonsets, jobs, cronjobs, pods (those that nothing
    /// else makes). [default: as the live cluster's webhook configuration says, else deployments,statefulsets]
    #[arg(long, value_name = "KIND", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_KINDS")]
    kinds: Vec<Kind>,
    /// Let the annotations wants, requires, declines, refresh and env.<intent> of a Namespace be defaults for the workloads in
    /// it. Against a live cluster also where its webhooks say so.
    #[arg(long, env = "OPPORTUNE_NAMESPACE_DEFAULTS")]
    namespace_defaults: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    OptIn,
    ClusterWide,
}

/// Why a command ends without success.
#[derive(Debug)]
pub enum Failure {
    /// Bad input, or something that can't be read: exit code 1.
    Input(String),
    /// Wrong usage: exit code 2.
    Usage(String),
    /// Requirements that are not satisfied, or checks that failed: exit code 3.
    Unsatisfied(Vec<String>),
}

// === impl Failure ===

impl Failure {
    fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    fn report(&self) -> ExitCode {
        let (code, lines): (u8, &[String]) = match self {
            Self::Input(message) => (1, std::slice::from_ref(message)),
            Self::Usage(message) => (2, std::slice::from_ref(message)),
            Self::Unsatisfied(reasons) => (3, reasons),
        };
        for line in lines {
            anstream::eprintln!("{}: {line}", style::paint(style::BAD, "error"));
        }
        ExitCode::from(code)
    }
}

// === impl InjectionArgs ===

impl InjectionArgs {
    /// The catalog, and where injection is on; what stands in `namespace` is read where not all may be.
    fn read(&self, namespace: &str) -> Result<(Catalog, Options), Failure> {
        if !self.cluster.is_live() {
            return Ok((self.cluster.read(Some(namespace))?, self.scope.options()));
        }
        source::block_on(async {
            let cluster = self.cluster.connect().await?;
            let (catalog, unread) = self.cluster.read_from(&cluster, namespace).await?;
            if unread.iter().any(|unread| unread.is_forbidden) {
                style::warn(
                    "the webhook sees what you may not: it may decide otherwise (a dump of the cluster by somebody who may, given \
                     by --catalog, is exact)",
                );
            }
            let (options, reach) = self.scope.live_options(&cluster).await;
            self.scope.warn_of_mode(&reach, &catalog, [namespace]);
            Ok((catalog, options))
        })
    }
}

// === impl ScopeArgs ===

impl ScopeArgs {
    fn options(&self) -> Options {
        let mode = match self.mode {
            Some(ModeArg::OptIn) | None => Mode::OptIn,
            Some(ModeArg::ClusterWide) => Mode::ClusterWide,
        };
        let excluded_namespaces = self.exclude_namespaces.clone();
        let inheritance = if self.namespace_defaults { Inheritance::FromNamespace } else { Inheritance::Off };
        Options { mode, kinds: self.kinds(), excluded_namespaces, inheritance, ..Options::default() }
    }

    fn kinds(&self) -> Kinds {
        match self.kinds.is_empty() {
            true => Kinds::default(),
            false => self.kinds.iter().copied().collect(),
        }
    }

    /// What the live cluster's webhook configuration says, but for what was typed; and what came of reading it.
    async fn live_options(&self, cluster: &Cluster) -> (Options, Look<Reach>) {
        let mut options = self.options();
        let reach = Reach::read(&cluster.client).await;
        if let Look::Found(reach) = &reach {
            options.mode = if self.mode.is_some() { options.mode } else { reach.mode };
            if self.kinds.is_empty() {
                options.kinds = reach.kinds.clone();
            }
            options.excluded_namespaces.extend(reach.excluded_namespaces.iter().cloned());
        }
        if policies::has_namespaces(&cluster.client).await {
            options.inheritance = Inheritance::FromNamespace;
        }
        (options, reach)
    }

    /// Warns where nothing but that configuration tells whether injection is on in one of these namespaces, and it can't be
    /// read.
    fn warn_of_mode<'a>(
        &self,
        reach: &Look<Reach>,
        catalog: &Catalog,
        namespaces: impl IntoIterator<Item = &'a str>,
    ) {
        let Some(why) = reach.blocked().filter(|_| self.mode.is_none()) else { return };
        // The label decides alone where there is one.
        let depends_on_mode = |namespace| catalog.namespace_label(namespace) == NamespaceLabel::Absent;
        if namespaces.into_iter().any(depends_on_mode) {
            style::warn(&format!(
                "{}: opt-in is assumed, `--mode cluster-wide` says otherwise",
                style::plain(&why)
            ));
        }
    }
}

/// Runs the command that was typed.
pub fn run(cli: &Cli) -> ExitCode {
    let done = match &cli.command {
        Command::Demo(args) => demo::run(args).and_then(|text| print(&text)),
        Command::Inject(args) => inject::run(args).and_then(|text| print(&text)),
        Command::Explain(args) => explain::run(args).and_then(|text| print(&text)),
        Command::Catalog(args) => catalog::run(args).and_then(|text| print(&text)),
        Command::Report(args) => report::run(args).and_then(|(text, check)| print(&text).and(check)),
        Command::Doctor(args) => doctor::run(args).and_then(|(text, health)| print(&text).and(health)),
        Command::Serve(args) => serve::run(args),
        Command::Crds(args) => crds::run(args).and_then(|text| print(&text)),
        Command::Completions { shell } => print(&completions(*shell)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::input(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "opportune", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
