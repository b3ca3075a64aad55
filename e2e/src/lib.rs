//! A Kubernetes control plane on loopback, without containers and without root: etcd, API server, controller manager and
//! scheduler, as [`ControlPlane`]; and the real `opportune` run against it, as [`Program`].
//!
//! There is no node: pods stay Pending, but on the machine that the tests of a node make for themselves, see [`node`]. What runs dies with the process that started it, also where that is killed.
//!
//! Most functions here block. That is meant: a trial runs on a thread of its own (see `tests/control_plane/main.rs`), so
//! it holds up nobody but itself. Only the [`kube::Client`] and [`eventually`] are asynchronous.
mod assets;
mod audit;
mod certificates;
mod component;
mod control_plane;
mod kubeconfig;
mod load;
mod logs;
mod metrics;
mod namespace;
pub mod node;
mod ports;
mod process;
mod program;
mod share;
mod tool;
mod wait;

pub use assets::Assets;
pub use audit::AuditEvent;
pub use certificates::{Authority, Identity};
pub use component::Component;
pub use control_plane::{ControlPlane, Options};
pub use load::{Caller, Reviews};
pub use logs::KeptLogs;
pub use metrics::Samples;
pub use namespace::Namespace;
pub use ports::free_address;
pub use process::Process;
pub use program::{Program, ProgramBuilder, binary, cpu};
pub use share::Share;
pub use tool::Tool;
pub use wait::eventually;
