//! What people see of a running process: logs and metrics.
//!
//! No global state but the one tracing subscriber; never the body of an object, never a Secret's value.
mod log;
mod metrics;
mod recent;

pub use self::log::{BadFilter, Format, init, report_panics};
pub use self::metrics::Metrics;
