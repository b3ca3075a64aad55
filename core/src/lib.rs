//! The pure engine of Opportune.
//!
//! One flow: cluster objects are *discovered* into a [`discover::Catalog`], a workload's wishes are *decided* against it,
//! and the outcome is *injected* as a JSON patch and *delivered* as Secrets and claims. Nothing here does IO, reads a
//! clock or holds state: the same input gives the same bytes.
pub mod admit;
pub mod discover;
pub mod review;
