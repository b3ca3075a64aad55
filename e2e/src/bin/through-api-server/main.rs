//! What a webhook costs those who wait for the API server: creates of a Deployment of about 8 KB with nothing registered, with a
//! webhook that only parses the review (*parse*), with an in-tree MutatingAdmissionPolicy, and with Opportune, all of which add the
//! same variables. Prints the tables of docs/performance.md.
mod compare;
mod creates;
mod day;
mod forms;
mod hook;

use anyhow::Result;
use clap::{Args, Parser, ValueEnum};
use opportune_e2e::{ControlPlane, Options};

/// Measures, in a cluster of its own, what those who apply wait for
#[derive(Debug, Parser)]
#[command(after_help = "Needs the programs that `e2e/build` makes, and `opportune` from `make build`.")]
struct Arguments {
    /// What is measured
    #[arg(value_enum, default_value_t = What::Compare)]
    what: What,
    #[command(flatten)]
    extent: Extent,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Creates with no webhook, one that only parses, a MutatingAdmissionPolicy, and Opportune, in turns
    Compare,
    /// What of a patch costs the API server time: constant patches of different forms
    Forms,
    /// How many of the writes of a day reach us
    Day,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, Args)]
struct Extent {
    /// How often everything is measured in turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Creates of one kind in one round
    #[arg(long, value_name = "N", default_value_t = 160)]
    creates: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { what, extent } = Arguments::parse();
    let cluster = ControlPlane::start(Options::default())?;
    match what {
        What::Compare => compare::run(&cluster, extent).await?,
        What::Forms => forms::run(&cluster, extent).await?,
        What::Day => day::run(&cluster).await?,
    }
    cluster.stop();
    Ok(())
}
