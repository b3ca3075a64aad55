//! Recipes and profiles as data: what the files hold, and what each of them does.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, in its helpers too, and its name is its documentation"
)]
mod bad;
mod order;
mod reference;
mod schema;
