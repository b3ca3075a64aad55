//! The program `opportune`, also found as `kubectl-opportune`.
use std::process::ExitCode;

use clap::Parser as _;
use opportune::cli::{Cli, run};

fn main() -> ExitCode {
    run(&Cli::parse())
}
