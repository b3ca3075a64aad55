//! The command line: what was typed is parsed and checked here, before anything starts.
mod catalog;
mod crds;
mod demo;
mod explain;
mod inject;
mod manifest;
mod offline;
mod output;
mod serve;
mod source;
mod style;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use opportune_core::admit::{Mode, Options};

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
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// Against which cluster, and where injection is on.
#[derive(Debug, Args)]
struct InjectionArgs {
    #[command(flatten)]
    cluster: source::ClusterArgs,
    #[command(flatten)]
    scope: ScopeArgs,
}

/// Where injection is on.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// Where injection is on: only in namespaces labelled opportune.libre.sh/inject=enabled, or in all that are not
    /// labelled disabled. A namespace that the catalog does not hold counts as opted in.
    #[arg(long, value_enum, default_value_t = ModeArg::OptIn, env = "OPPORTUNE_MODE")]
    mode: ModeArg,
    /// Namespaces that are never touched, besides kube-system.
    #[arg(long, value_name = "NAMESPACE", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_EXCLUDE_NAMESPACES")]
    exclude_namespaces: Vec<String>,
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
    /// Requirements that are not satisfied: exit code 3.
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

/// An error with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
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

// === impl InjectionArgs ===

impl InjectionArgs {
    fn options(&self) -> Options {
        self.scope.options()
    }
}

// === impl ScopeArgs ===

impl ScopeArgs {
    fn options(&self) -> Options {
        let mode = match self.mode {
            ModeArg::OptIn => Mode::OptIn,
            ModeArg::ClusterWide => Mode::ClusterWide,
        };
        Options { mode, excluded_namespaces: self.exclude_namespaces.clone(), ..Options::default() }
    }
}

/// Runs the command that was typed.
pub fn run(cli: &Cli) -> ExitCode {
    let text = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Inject(args) => inject::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Catalog(args) => catalog::run(args),
        Command::Serve(args) => serve::run(args).map(|()| String::new()),
        Command::Crds(args) => crds::run(args),
        Command::Completions { shell } => Ok(completions(*shell)),
    };
    match text {
        Ok(text) => print(&text),
        Err(failure) => failure.report(),
    }
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> ExitCode {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Failure::input(format!("standard output: {error}")).report()
        }
        _ => ExitCode::SUCCESS,
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "opportune", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
