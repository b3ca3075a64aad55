//! How a process is told to stop.
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT, with a future that ends at the second: what [`super::Server::run`] takes.
///
/// Signals count from this call on, not from the first poll.
///
/// # Errors
/// When the process can't listen for signals.
#[expect(
    clippy::async_yields_async,
    reason = "the second future is awaited after the first, by who runs the server"
)]
pub fn signals() -> io::Result<impl Future<Output = impl Future<Output = ()>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        async move { either(&mut terminate, &mut interrupt).await }
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
