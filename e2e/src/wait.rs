//! Waiting for what a cluster does in its own time.
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);

/// Asks until there is an answer, and gives up after `limit`: then the error says `what` was waited for, and with which
/// error the last question failed, if it did. A failure on the way counts as "not yet".
///
/// # Errors
/// No answer within `limit`.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let failure = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => String::new(),
            Err(error) => format!("; the last look failed: {error:#}"),
        };
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for this: {what}{failure}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
