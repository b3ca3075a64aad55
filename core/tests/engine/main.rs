//! The engine against its contract: a cluster's objects and one workload in, a patch, a plan and warnings out.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, in its helpers too, and its name is its documentation"
)]
mod again;
mod claims;
mod conflicts;
mod decision;
mod departure;
mod difference;
mod discovery;
mod generate;
mod gradual;
mod hostile;
mod injection;
mod kinds;
mod lasting;
mod merge;
mod policies;
mod policy_cases;
mod properties;
mod reviews;
mod routes;
mod security;
mod stateful;
mod storage;
mod updates;
mod world;
