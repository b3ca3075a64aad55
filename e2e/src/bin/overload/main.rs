//! What happens when far more is asked than can be answered: measures how much a share of a processor answers, asks ten times as
//! much for some seconds, and looks how soon it is as before. Prints the table of docs/performance.md.
use anyhow::{Result, ensure};
use clap::Parser;
use opportune_e2e::{Caller, Process, Reviews, Share, binary, free_address};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Requests on their way at once, as many as one API server has by default: it refuses further ones itself.
const IN_FLIGHT: usize = 500;
const TIMES: u32 = 10;
const LONG: Duration = Duration::from_secs(5);
/// After this the API server no longer waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Measures what a share of a processor answers, then asks ten times as much for 5 s
#[derive(Debug, Parser)]
#[command(after_help = "Needs root, for the share, and `opportune` from `make build`.")]
struct Arguments {
    /// The share of `opportune serve`, in hundredths of a processor
    #[arg(value_name = "HUNDREDTHS", default_value_t = 20)]
    hundredths: u32,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Injected,
    Shed,
    Failed,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { hundredths } = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let (listen, admin) = (free_address()?, free_address()?);
    let (catalog, authority) = (folder.path().join("catalog.json"), folder.path().join("authority.pem"));
    fs::write(&catalog, offers().to_string())?;
    let mut arguments: Vec<OsString> =
        ["serve", "--mode", "cluster-wide", "--settle", "0"].map(Into::into).into();
    for (option, value) in [
        ("--catalog", catalog.into_os_string()),
        ("--ca-out", authority.clone().into_os_string()),
        ("--listen", listen.to_string().into()),
        ("--admin", admin.to_string().into()),
    ] {
        arguments.extend([option.into(), value]);
    }
    let share = Share::new(hundredths)?;
    let mut process =
        Process::start("opportune", &binary()?, arguments, [], folder.path().join("opportune.log"))?;
    share.give(process.id())?;
    let authority = eventually_read(&authority).await?;
    let reviews = Reviews::new("default", &[("wants", "ldap"), ("profile", "none")])?;
    let mut callers = Vec::new();
    for _ in 0..IN_FLIGHT {
        callers.push(connect(listen, &authority).await?);
    }
    println!(
        "| {hundredths} hundredths of a processor | a second | injected | shed | failed | p50 | p99 | longest |\n|---|---|---|---|---|---|---|---|"
    );
    let (callers, before) = ask(callers, 4, None, &reviews).await?;
    let capacity = tell("what it can", &before);
    let (callers, during) = ask(callers, IN_FLIGHT, Some(TIMES * capacity), &reviews).await?;
    tell("ten times as much", &during);
    let over = Instant::now();
    let mut one = connect(listen, &authority).await?;
    while call(&mut one, &reviews).await.0 != Outcome::Injected {
        ensure!(over.elapsed() < LONG, "it does not recover");
    }
    let recovered = over.elapsed();
    let (_, after) = ask(callers, 4, None, &reviews).await?;
    tell("what it can, again", &after);
    println!("\nThe first workload was injected {} ms after the end.", recovered.as_millis());
    process.kill();
    drop(process);
    drop(share);
    Ok(())
}

type Answers = Vec<(Outcome, Duration)>;

/// Asks so often in a second, or as fast as the answers come, on as many of the connections.
async fn ask(
    callers: Vec<Caller>,
    at_once: usize,
    rate: Option<u32>,
    reviews: &Reviews,
) -> Result<(Vec<Caller>, Answers)> {
    let (give_back, mut free) = mpsc::unbounded_channel();
    let mut spare = Vec::new();
    for (number, caller) in callers.into_iter().enumerate() {
        if number < at_once { give_back.send(caller)? } else { spare.push(caller) }
    }
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    // Some at a time, as no timer is so fine.
    let mut pace = interval(Duration::from_millis(5));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while begun.elapsed() < LONG {
        let burst = match rate {
            Some(rate) => {
                pace.tick().await;
                (rate / 200).max(1)
            }
            None => 1,
        };
        for _ in 0..burst {
            // With none left, an API server refuses by itself.
            let caller = match rate {
                Some(_) => free.try_recv().ok(),
                None => free.recv().await,
            };
            let Some(mut caller) = caller else { break };
            let (reviews, give_back) = (reviews.clone(), give_back.clone());
            asking.spawn(async move {
                let (outcome, took) = call(&mut caller, &reviews).await;
                let _ = give_back.send(caller);
                (outcome, took)
            });
        }
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.push(answer?);
    }
    while let Ok(caller) = free.try_recv() {
        spare.push(caller);
    }
    spare.reverse();
    Ok((spare, answers))
}

async fn call(caller: &mut Caller, reviews: &Reviews) -> (Outcome, Duration) {
    let begun = Instant::now();
    let outcome = match timeout(TIMEOUT, caller.post("/mutate", reviews.another())).await {
        Ok(Ok((200, answer))) => match answer.windows(7).any(|window| window == b"\"patch\"") {
            true => Outcome::Injected,
            false => Outcome::Shed,
        },
        Ok(Ok((503, _))) => Outcome::Shed,
        _ => Outcome::Failed,
    };
    (outcome, begun.elapsed())
}

/// Prints a line of the table; how many were answered in a second.
fn tell(what: &str, answers: &Answers) -> u32 {
    let of = |outcome| answers.iter().filter(|(other, _)| *other == outcome).count();
    let mut took: Vec<Duration> = answers.iter().map(|(_, took)| *took).collect();
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 100).or(took.last()).map_or(0, Duration::as_millis);
    let a_second =
        u32::try_from(answers.len()).unwrap_or(u32::MAX) / u32::try_from(LONG.as_secs()).unwrap_or(1);
    println!(
        "| {what} | {a_second} | {} | {} | {} | {} ms | {} ms | {} ms |",
        of(Outcome::Injected),
        of(Outcome::Shed),
        of(Outcome::Failed),
        at(50),
        at(99),
        at(100)
    );
    a_second
}

async fn connect(address: SocketAddr, authority: &str) -> Result<Caller> {
    Caller::connect(address, authority).await
}

async fn eventually_read(path: &std::path::Path) -> Result<String> {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.contains("END CERTIFICATE") => return Ok(text),
            _ => ensure!(begun.elapsed() < Duration::from_secs(30), "opportune does not start"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn offers() -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}},
        {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "directory", "labels": {"opportune.libre.sh/provider": "true"}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "openldap", "namespace": "directory",
            "labels": {"opportune.libre.sh/offers": "ldap"},
            "annotations": {"opportune.libre.sh/settings": "base-dn: dc=example,dc=org"}},
            "spec": {"ports": [{"port": 389}]}}]})
}
