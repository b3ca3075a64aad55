//! What is tested through the program's own interfaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, in its helpers too"
)]
mod cli;
mod crds;
mod knowledge;
mod lifecycle;
mod policies;
mod report;
mod reviews;
mod router;
mod served;
mod tls;
