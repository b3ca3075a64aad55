//! The controller against an API server that refuses, is silent or lets others write in between. Time is paused: what takes
//! minutes in a cluster takes none here.
mod api;
mod claims;
mod files;
mod kinds;
mod offers;
mod policies;
mod rollouts;
mod secrets;
mod simulation;
mod withdrawals;
mod world;
