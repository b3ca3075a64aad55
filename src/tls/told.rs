//! Says what is wrong once, not at each look, and that it is over.
use std::time::Duration;

/// What stood in the log last about one thing.
#[derive(Debug, Default)]
pub(super) struct Told(Option<String>);

// === impl Told ===

impl Told {
    /// Logs `problem` where it is another than last time; `over` where there is none any more.
    pub(super) fn say(&mut self, problem: Option<String>, over: &str) {
        if problem == self.0 {
            return;
        }
        match &problem {
            Some(problem) => tracing::warn!("{problem}"),
            None => tracing::info!("{over}"),
        }
        self.0 = problem;
    }
}

/// How long to wait for an answer of the API server.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
