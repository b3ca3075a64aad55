//! The pure engine of Opportune.
//!
//! One flow: cluster objects are *discovered* into a [`discover::Catalog`], a workload's wishes are *decided* against it,
//! and the outcome is *injected* as a JSON patch and *delivered* as Secrets and claims. Nothing here does IO, reads a
//! clock or holds state: the same input gives the same bytes.
pub mod admit;
pub mod api;
pub mod data;
pub mod decide;
pub mod deliver;
pub mod discover;
pub mod encode;
pub mod inject;
pub mod intent;
pub mod json;
pub mod keys;
pub mod name;
pub mod review;
pub mod settings;
mod size;
pub mod template;
mod warning;
pub mod workload;
