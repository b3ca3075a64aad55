//! The program `opportune`, also found as `kubectl-opportune`.
use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use opportune::cli::{Cli, run};

/// A third of a decision's time went into the C library's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(&Cli::parse())
}
