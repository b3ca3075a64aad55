//! Keeps a control plane up for trying things by hand, until Ctrl-C; prints how to reach it.
use opportune_e2e::{ControlPlane, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = ControlPlane::start(Options::default())?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    })?;
    cluster.stop();
    Ok(())
}
