//! Load on the real HTTPS server, in turns with three programs on the same stack that do less.
#[path = "../../../../core/benches/sample/mod.rs"]
mod sample;

mod client;
mod plan;
mod report;
mod server;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use client::{Load, Measured};
use plan::{Bodies, Kind, Row, Section};
use report::{Held, Line};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;
use server::{Server, Start};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Puts load on Opportune's HTTPS server, in turns with three programs on the same stack: `echo` reads the body and answers
/// fixed bytes, `select` reads no more of it than an injection needs, `parse` makes a tree of all of it.
#[derive(Debug, Parser)]
#[command(after_help = "\
What to look at: the ratios, and the processor time of a request. Times and requests a second are the machine's of the
moment. `to parse` and `to echo` of requests a second: more is better. `parse / it`: how many times the processor time of
a request goes into parse's.

The server has one core, and the client another. Every answer is compared with one that was looked at: the run fails
where another one comes. Nothing leaves loopback; all processes and files are gone at the end, also after Ctrl-C.")]
struct Arguments {
    /// The program, as `make build` makes it [default: `opportune` beside this one].
    #[arg(long, value_name = "FILE", env = "OPPORTUNE_BIN")]
    bin: Option<PathBuf>,
    /// Rounds; medians are told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// For trying: two short rounds, of which nothing is written.
    #[arg(long)]
    quick: bool,
    /// Only tables in whose title this stands, such as HTTP/2, UPDATE, Scale or Changing; nothing is written.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Leave the document as it is.
    #[arg(long)]
    no_write: bool,
    /// The document with the tables.
    #[arg(long, value_name = "FILE", default_value = "docs/performance.md")]
    document: PathBuf,
}

const TIME: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(600);
/// Warm-up, handshakes and the check, for one row.
const AROUND: Duration = Duration::from_millis(350);
const CHANGES: &str = "1000";
/// Of a core, under full load: less means that others used it, too.
const ENOUGH: f64 = 0.8;
const CATALOG: &str = "catalog.json";

/// The rounds of each measurement: by section, requests at once, and row.
type Results = BTreeMap<(usize, usize, usize), Vec<Measured>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("starting").and_then(|runtime| runtime.block_on(run_until_told(&arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is done or told to stop; the folder and the servers are gone then.
async fn run_until_told(arguments: &Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = TempDir::with_prefix("opportune-bench-").context("making a temporary folder")?;
    tokio::select! {
        result = run(arguments, folder.path()) => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}

async fn run(arguments: &Arguments, folder: &Path) -> Result<()> {
    let (rounds, time) = if arguments.quick { (2, SHORT) } else { (arguments.rounds, TIME) };
    let sections = plan::sections(arguments.only.as_deref());
    ensure!(!sections.is_empty(), "no table has {:?} in its title", arguments.only);
    let measurements: u32 =
        sections.iter().map(|section| (section.rows.len() * section.at_once.len()) as u32).sum();
    let minutes = (time + AROUND).as_secs_f64() * f64::from(measurements * rounds) / 60.0;
    println!(
        "{measurements} measurements in {rounds} rounds: {minutes:.0} to {:.0} minutes",
        minutes.mul_add(1.2, 1.0)
    );
    let core = pin()?;
    let bodies = Bodies::new();
    write_catalog(folder)?;
    let start = |kind| start(kind, arguments, folder, core);
    let is_used =
        |kind: &Kind| sections.iter().flat_map(|section| &section.rows).any(|row| row.server == *kind);
    let kinds = Kind::AT_REST.into_iter().filter(is_used);
    let servers: BTreeMap<Kind, Server> =
        kinds.map(|kind| Ok((kind, start(kind)?))).collect::<Result<_>>()?;
    let mut results: Results = BTreeMap::new();
    for round in 0..rounds as usize {
        println!("Round {} of {rounds}", round + 1);
        for (number, section) in sections.iter().enumerate() {
            for &at_once in section.at_once {
                for turn in 0..section.rows.len() {
                    // Another one begins each round.
                    let index = (turn + round) % section.rows.len();
                    let row = section.rows.get(index).context("a row")?;
                    // What works all the time would take it from the others.
                    let own = (row.server == Kind::Changing).then(|| start(row.server)).transpose()?;
                    let server = own.as_ref().or(servers.get(&row.server)).context("a server")?;
                    let body = bodies.get(row.body);
                    let expected =
                        look(row, server, body, round == 0 && Some(&at_once) == section.at_once.first())
                            .await?;
                    let load = Load { protocol: section.protocol, at_once, time, body, expected: &expected };
                    let measured = client::measure(server, &load).await?;
                    results.entry((number, at_once, index)).or_default().push(measured);
                }
            }
        }
    }
    let mut tables = tables(&sections, &results, &servers)?;
    tables.iter().for_each(|table| println!("\n{}", report::markdown(table).trim_end()));
    let share = share_of_core(&sections, &results);
    if share < ENOUGH {
        println!(
            "\nThe machine was busy: under full load, parse had {:.0} % of its core. Trust the columns of processor time alone;\n\
             the document gets no others.",
            share * 100.0
        );
        report::forget_times(&mut tables);
    }
    let is_whole = !arguments.quick && arguments.only.is_none();
    if is_whole && !arguments.no_write {
        report::write(&arguments.document, tables)?;
        println!(
            "\n{} has these tables now; figures that changed by a tenth or less were left.",
            arguments.document.display()
        );
    }
    Ok(())
}

/// How much of its core parse had at most under the most requests at once: all of it, but for what others took.
fn share_of_core(sections: &[Section], results: &Results) -> f64 {
    let shares = results.iter().filter_map(|((number, at_once, index), rounds)| {
        let section = sections.get(*number)?;
        let is_full =
            section.rows.get(*index)?.server == Kind::Parse && Some(at_once) == section.at_once.last();
        let median = report::median(rounds).filter(|_| is_full)?;
        Some(median.rate * median.cpu / 1e6)
    });
    // Where parse is not measured, nothing is known.
    shares.reduce(f64::max).unwrap_or(1.0)
}

/// Keeps this process on the last core that it may use, and gives the first, for the servers.
fn pin() -> Result<usize> {
    let may = sched_getaffinity(None).context("asking for the cores")?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| may.is_set(*core)).collect();
    let (Some(first), Some(last)) = (cores.first(), cores.last()) else { bail!("no core to run on") };
    ensure!(first != last, "two cores are needed: one for the server, one for the client");
    let mut set = CpuSet::new();
    set.set(*last);
    sched_setaffinity(None, &set).context("choosing a core")?;
    Ok(*first)
}

/// The cluster that the program is to know.
fn write_catalog(folder: &Path) -> Result<()> {
    let objects = sample::cluster(sample::LARGE, sample::Others::ForOthers);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(folder.join(CATALOG), serde_json::to_vec(&list)?).context("writing the catalog")
}

fn start(kind: Kind, arguments: &Arguments, folder: &Path, core: usize) -> Result<Server> {
    let own = std::env::current_exe()?;
    let beside = |name: &str| own.with_file_name(name);
    let [baseline, product] = ["baseline", "product"].map(beside);
    let program = arguments.bin.clone().unwrap_or_else(|| beside("opportune"));
    for path in [&baseline, &product, &program] {
        ensure!(path.exists(), "{} is missing: `make bench-load` builds all that is needed", path.display());
    }
    let catalog = folder.join(CATALOG);
    let (program, arguments): (&Path, Vec<&str>) = match kind {
        Kind::Opportune => {
            let path = catalog.to_str().context("the temporary folder's name is not UTF-8")?;
            (&program, vec!["serve", "--admin", "127.0.0.1:0", "--catalog", path])
        }
        Kind::Still => (&product, vec![]),
        Kind::Changing => (&product, vec!["--changes", CHANGES]),
        kind => (&baseline, vec![kind.name()]),
    };
    let arguments = arguments.into_iter().map(Into::into).collect();
    Server::start(&Start { name: kind.name(), program, arguments, core, folder })
}

/// Asks once, and looks at the answer.
async fn look(row: &Row, server: &Server, body: &[u8], tell: bool) -> Result<Vec<u8>> {
    let answer = client::ask(server, body).await;
    let answer = answer.with_context(|| format!("asking {}", server.name))?;
    let (operations, bytes) = row.check(body, &answer)?;
    if tell {
        let (asked, answered) = (body.len(), answer.len());
        println!(
            "  {}: {asked} bytes in, {answered} out; {operations} operations of {bytes} bytes",
            row.name
        );
    }
    Ok(answer)
}

fn tables(
    sections: &[Section],
    results: &Results,
    servers: &BTreeMap<Kind, Server>,
) -> Result<Vec<Vec<Vec<String>>>> {
    let mut tables = Vec::new();
    for (number, section) in sections.iter().enumerate() {
        let mut lines = Vec::new();
        for ((_, at_once, index), rounds) in results.iter().filter(|((of, ..), _)| *of == number) {
            let row = section.rows.get(*index).context("a row")?;
            let median = report::median(rounds).context("no round")?;
            lines.push(Line { name: row.name, at_once: *at_once, median });
        }
        tables.push(report::table(section, &lines));
    }
    let held = servers
        .values()
        .map(|server| Ok(Held { name: server.name, at_start: server.at_start, after: server.memory()? }));
    tables.push(report::memory(&held.collect::<Result<Vec<_>>>()?));
    Ok(tables)
}
