//! What a webhook costs those who wait for the API server: creates of a Deployment of about 8 KB with nothing registered, with a
//! webhook that only parses the review (*parse*), with an in-tree MutatingAdmissionPolicy, and with Opportune, all of which add the
//! same variables. Prints the tables of docs/performance.md.
//!
//! Usage: through-api-server [compare|forms|day] [--rounds N] [--creates N]
//!
//! - `compare`: the above, in turns; dry runs and real creates, by 1 and by 8 clients.
//! - `forms`: what of a patch costs the API server time: constant patches of different forms.
//! - `day`: how many of the writes of a day reach us.
mod compare;
mod creates;
mod day;
mod forms;
mod hook;

use anyhow::{Context, Result, bail};
use opportune_e2e::{ControlPlane, Options};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// How often everything is measured in turn.
    rounds: usize,
    /// Creates of one kind in one round.
    creates: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut extent = Extent { rounds: 5, creates: 160 };
    let mut what = "compare".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<usize> {
            Ok(arguments.next().with_context(|| format!("{argument} needs a number"))?.parse()?)
        };
        match argument.as_str() {
            "--rounds" => extent.rounds = number()?,
            "--creates" => extent.creates = number()?,
            _ => what = argument,
        }
    }
    let cluster = ControlPlane::start(Options::default())?;
    match what.as_str() {
        "compare" => compare::run(&cluster, extent).await?,
        "forms" => forms::run(&cluster, extent).await?,
        "day" => day::run(&cluster).await?,
        other => bail!("{other} is none of compare, forms and day"),
    }
    cluster.stop();
    Ok(())
}
