//! The program `opportune` as a library: the IO around the pure engine of [`opportune_core`].
//!
//! What talks to the network, reads files, looks at the clock or logs lives here; what decides lives in the core.
pub mod cli;
pub mod cluster;
pub mod control;
pub mod doctor;
pub mod knowledge;
pub mod live;
pub mod observe;
pub mod register;
pub mod serve;
pub mod tls;
pub mod watch;
