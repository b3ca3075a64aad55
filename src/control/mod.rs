//! The controller: what must be done once in a cluster, by the one replica that holds the Lease, and what the others see
//! of it.
mod election;
mod presence;

pub use self::election::{Candidate, Times, identity};
pub use self::presence::{Clock, Presence};
