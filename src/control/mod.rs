//! The controller: what must be done once in a cluster, by the one replica that holds the Lease, and what the others see
//! of it.
//!
//! The leader's work in `controller`: what workloads use is `deliver`ed (`claims` likewise) from `sources`, what came late or
//! failed is told or taken back (`refresh`, `rollouts`), and `events` and `offers` say so.
mod claims;
mod content;
mod controller;
mod deliver;
mod election;
mod events;
mod offers;
mod presence;
mod queue;
mod refresh;
mod rollouts;
mod sources;
#[cfg(test)]
mod tests;
mod uses;

pub use self::controller::{Scene, work};
pub use self::election::{Candidate, Times, identity};
pub use self::presence::{Clock, Presence};
