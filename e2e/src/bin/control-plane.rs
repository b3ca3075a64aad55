//! Keeps a control plane up for trying things by hand.
use anyhow::{Context, Result};
use clap::Parser;
use opportune_e2e::{ControlPlane, Options};
use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps a control plane up until Ctrl-C, and prints how to reach it
#[derive(Debug, Parser)]
#[command(after_help = "Needs the programs that `e2e/build` makes.")]
struct Arguments {
    /// Keeps it up as long as this command runs, with KUBECONFIG and KUBECTL set, and ends as it ends
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let Arguments { command } = Arguments::parse();
    let cluster = ControlPlane::start(Options::default())?;
    let code = match command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).env("KUBECONFIG", cluster.kubeconfig());
            command.env("KUBECTL", cluster.assets().program("kubectl")?);
            let status = command.status().with_context(|| format!("can't run {}", program.display()))?;
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        None => {
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => {}
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            ExitCode::SUCCESS
        }
    };
    cluster.stop();
    Ok(code)
}
