//! Keeps a control plane up for trying things by hand.
//!
//! Usage: control-plane                until Ctrl-C; prints how to reach it
//!        control-plane COMMAND ARG... as long as the command runs, with KUBECONFIG and KUBECTL set; ends as it ends
use anyhow::{Context, Result};
use opportune_e2e::{ControlPlane, Options};
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let cluster = ControlPlane::start(Options::default())?;
    let mut arguments = std::env::args_os().skip(1);
    let code = match arguments.next() {
        Some(program) => {
            let mut command = Command::new(&program);
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
