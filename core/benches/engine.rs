//! What a review costs: parsing, deciding and patching a WordPress Deployment of 16.8 KB, with catalogs of any size.
//!
//! `cargo bench --bench engine` measures each part; `cargo bench --bench engine -- --check` compares a large catalog with a
//! small one, in turns, and fails where the large one costs more than 1.2 times as much.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may panic when its own input is wrong"
)]
mod sample;

use std::{
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use mimalloc::MiMalloc;
use opportune_core::{
    admit::{Options, Request, admit},
    discover::Catalog,
    json::Json,
    review,
};
use sample::{ASKED, INTENTS, LARGE, Others, catalog};
use serde_json::Value;

/// The program's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SIZES: [usize; 3] = [10, 1000, LARGE];
/// How much more a large catalog may cost than a small one.
const ALLOWED: f64 = 1.2;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--check") {
        return check();
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn measure(criterion: &mut Criterion) {
    let body = sample::create(&INTENTS);
    let review: Value = serde_json::from_slice(&body).unwrap();
    let object = Json::from(&review["request"]["object"]);
    criterion.bench_function("parse", |bench| {
        bench.iter(|| serde_json::from_slice::<Value>(black_box(&body)).unwrap());
    });
    for (name, others) in [("for others", Others::ForOthers), ("for everyone", Others::ForEveryone)] {
        let catalogs = SIZES.map(|size| (size, catalog(size, others)));
        let mut group = criterion.benchmark_group(format!("decide and patch, offers {name}"));
        for (size, catalog) in &catalogs {
            group.bench_with_input(BenchmarkId::from_parameter(size), catalog, |bench, catalog| {
                bench.iter(|| decide(black_box(&object), catalog));
            });
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("answer, offers {name}"));
        for (size, catalog) in &catalogs {
            group.bench_with_input(BenchmarkId::from_parameter(size), catalog, |bench, catalog| {
                bench.iter(|| answer(black_box(&body), catalog));
            });
        }
        group.finish();
    }
}

/// Compares the smallest catalog with the largest ones, in turns, so that a slow moment of the machine hits all alike.
fn check() -> ExitCode {
    let body = sample::create(&INTENTS);
    let review: Value = serde_json::from_slice(&body).unwrap();
    let object = Json::from(&review["request"]["object"]);
    let (small, large) = (SIZES[0], SIZES[2]);
    let catalogs = [
        (format!("{small} offers"), catalog(small, Others::ForOthers)),
        (format!("{large} offers for others"), catalog(large, Others::ForOthers)),
        (format!("{large} offers for everyone"), catalog(large, Others::ForEveryone)),
    ];
    let mut is_fine = true;
    for (part, run) in [
        ("decide and patch", &(|catalog: &Catalog| decide(&object, catalog)) as &dyn Fn(&Catalog) -> usize),
        ("answer", &|catalog: &Catalog| answer(&body, catalog)),
    ] {
        let means = means(&catalogs.each_ref().map(|(_, catalog)| catalog), run);
        for ((name, _), mean) in catalogs.iter().zip(means) {
            let ratio = mean / means[0];
            let verdict = if ratio <= ALLOWED { "fine" } else { "TOO MUCH" };
            is_fine &= ratio <= ALLOWED;
            println!("{part:<16}  {name:<28}{:>8.1} µs, ratio {ratio:.2} ({verdict})", mean * 1e6);
        }
    }
    println!("allowed ratio: {ALLOWED}");
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds for one run with each catalog: means over many rounds, without the slowest tenth, which is mostly the machine.
fn means<const N: usize>(catalogs: &[&Catalog; N], run: &dyn Fn(&Catalog) -> usize) -> [f64; N] {
    const ROUNDS: usize = 300;
    const RUNS: u32 = 20;
    let mut times = [const { Vec::<Duration>::new() }; N];
    for round in 0..ROUNDS + ROUNDS / 10 {
        for turn in 0..N {
            // Another one begins each round.
            let index = (turn + round) % N;
            let begun = Instant::now();
            for _ in 0..RUNS {
                black_box(run(black_box(catalogs[index])));
            }
            // The first rounds warm up.
            if round >= ROUNDS / 10 {
                times[index].push(begun.elapsed() / RUNS);
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times.truncate(ROUNDS - ROUNDS / 10);
        times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64
    })
}

/// Decides on an object that is parsed already, and gives the number of operations.
fn decide(object: &Json<'_>, catalog: &Catalog) -> usize {
    let request = Request { namespace: ASKED, object, old: None };
    admit(&request, catalog, &Options::default()).patch.len()
}

/// Answers the bytes of a review, and gives the length of the answer.
fn answer(body: &[u8], catalog: &Catalog) -> usize {
    review::answer(body, catalog, &Options::default()).unwrap().body.len()
}
