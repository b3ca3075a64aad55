//! The controller: what must be done once in a cluster, by the one replica that holds the Lease, and what the others see
//! of it.
//!
//! The leader's loop is `work`. What a change concerns is looked at (`look`); what workloads use is made (`deliver`, `claims`)
//! from the Secrets beside offers (`sources`); what came late or failed is told or taken back (`refresh`, `rollouts`); `events`
//! and `offers` say so. `uses` is the index of it all, and `controller` what all of these share.
mod adopt;
mod claims;
mod content;
mod controller;
mod deliver;
mod election;
mod events;
mod look;
mod offers;
mod pace;
mod policies;
mod presence;
mod queue;
mod refresh;
mod rollouts;
mod sources;
#[cfg(test)]
mod tests;
mod uses;
mod work;

pub use self::election::{Candidate, Times, identity};
pub use self::presence::{Clock, Presence};
pub use self::work::{Scene, work};
