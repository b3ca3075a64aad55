//! How many instructions a review takes, counted by callgrind: a measure that no other load on the machine moves.
//!
//! It compares the counts with those in the file `limits`, and fails above one; with `--record` it writes new limits. The
//! counts are those of this machine's kind of processor and of the toolchain in `rust-toolchain.toml`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may panic when its own input is wrong"
)]
#[path = "../../../core/benches/sample/mod.rs"]
mod sample;

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
};

use mimalloc::MiMalloc;
use opportune_core::{
    admit::Options,
    discover::{Catalog, Inventory},
    review,
};
use sample::{Others, WANTED};
use serde_json::Value;

/// The program's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The catalog's size plays no part (`make bench-check`); one that is made quickly, then.
const OFFERS: usize = 1000;
const RUNS: u64 = 10;
/// A limit is this much above what was measured when it was recorded: the seeds of hash maps differ from run to run, and the
/// C library takes other ways on other processors.
const MARGIN: f64 = 1.08;
/// Limits further than this above what is measured are to be recorded anew.
const SLACK: f64 = 0.85;
const REVIEWS: [&str; 6] = [
    "full-injection",
    "nothing-to-do",
    "update-without-change",
    "update-of-image",
    "update-not-asking",
    "scale",
];
/// One offer of [`sample::LARGE`] changes: it is taken, another catalog is made, and the last one is dropped.
const CHANGE: &str = "catalog-after-a-change";
const HEAD: &str = "\
# Instructions that one review may take, by what it is about, or the next catalog. `.ci/instructions` compares; after a change
# that is worth its price, or that makes one cheaper, `.ci/instructions --record` writes this file.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(index) = arguments.iter().position(|argument| argument == "--one") {
        run(&arguments[index + 1]);
        return ExitCode::SUCCESS;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("limits");
    let counts: Vec<_> = REVIEWS.into_iter().chain([CHANGE]).map(|case| (case, count(case))).collect();
    if arguments.iter().any(|argument| argument == "--record") {
        let lines: String =
            counts.iter().map(|(case, count)| format!("{case} {}\n", limit_for(*count))).collect();
        fs::write(&file, HEAD.to_owned() + &lines).unwrap();
        println!("{} has new limits:\n{}", file.display(), lines.trim_end());
        return ExitCode::SUCCESS;
    }
    compare(&counts, &fs::read_to_string(&file).unwrap())
}

fn compare(counts: &[(&str, u64)], limits: &str) -> ExitCode {
    let limit_of = |case: &str| {
        let mut lines = limits.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == case).map(|(_, limit)| limit.trim().parse::<u64>().unwrap())
    };
    let mut is_fine = true;
    println!("{:<24}{:>12}{:>12}{:>8}", "instructions", "measured", "limit", "ratio");
    for (case, count) in counts {
        let Some(limit) = limit_of(case) else {
            println!("{case:<24}{count:>12}        none          NO LIMIT");
            is_fine = false;
            continue;
        };
        let ratio = *count as f64 / limit as f64;
        let verdict = match ratio {
            _ if ratio > 1.0 => "TOO MANY",
            _ if ratio < SLACK => "fine; tighten the limit: .ci/instructions --record",
            _ => "fine",
        };
        is_fine &= ratio <= 1.0;
        println!("{case:<24}{count:>12}{limit:>12}{ratio:>8.2}  {verdict}");
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Three digits that count, so that a new record moves the limits that have to move.
fn limit_for(count: u64) -> u64 {
    let limit = (count as f64 * MARGIN).ceil() as u64;
    let step = 10_u64.pow(limit.ilog10().saturating_sub(2));
    limit.div_ceil(step) * step
}

/// Instructions of one review, told by callgrind.
fn count(case: &str) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=*instructions::measured*",
    ]);
    valgrind.arg(env::current_exe().unwrap()).args(["--one", case]);
    let output = valgrind.output().expect("valgrind is missing: `.ci/instructions` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {said}");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    let collected: u64 =
        collected.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{case}: {said}"));
    assert!(collected > 0, "{case}: nothing was counted: {said}");
    collected / RUNS
}

/// Runs one case, under callgrind.
fn run(case: &str) {
    if case == CHANGE {
        return run_changes();
    }
    let catalog = sample::catalog(OFFERS, Others::ForOthers);
    let (body, is_patched) = match case {
        "full-injection" => (sample::create(&WANTED), true),
        "nothing-to-do" => (sample::CREATE.to_vec(), false),
        "update-without-change" => (sample::update_without_change(&WANTED, &catalog), false),
        "update-of-image" => (sample::update_of_image(&WANTED, &catalog), false),
        "update-not-asking" => (sample::UPDATE.to_vec(), false),
        "scale" => (sample::SCALE.to_vec(), false),
        _ => panic!("there is no case {case}: {REVIEWS:?}, {CHANGE}"),
    };
    let options = Options::default();
    // What is made once is made here.
    let answer = review::answer(&body, &catalog, &options).unwrap().body;
    assert_eq!(
        sample::patch_of(&answer).is_some(),
        is_patched,
        "{case}: {}",
        String::from_utf8_lossy(&answer)
    );
    for _ in 0..RUNS {
        measured(&body, &catalog, &options);
    }
}

/// What callgrind counts, by the name of this function.
#[inline(never)]
fn measured(body: &[u8], catalog: &Catalog, options: &Options) {
    let _ = black_box(review::answer(black_box(body), catalog, options));
}

fn run_changes() {
    let mut inventory = sample::inventory(sample::LARGE, Others::ForOthers);
    let before = inventory.snapshot();
    let mut objects = sample::cluster(sample::LARGE, Others::ForOthers);
    objects.retain(|object| object["kind"] == "ServiceOffer");
    // Offers from all over the cluster, of each intent and for each kind of consumers.
    let step = objects.len() / (RUNS as usize + 1);
    let objects = objects.into_iter().rev().step_by(step).map(|mut object| {
        object["spec"]["priority"] = (-1).into();
        object
    });
    let mut objects = objects.collect::<Vec<_>>().into_iter();
    // The first has the allocator tidy up what the making of all this left.
    inventory.apply(&objects.next().unwrap()).unwrap();
    let mut catalog = inventory.changed().unwrap();
    drop(before);
    for object in objects.as_slice().iter().take(RUNS as usize) {
        measured_change(&mut inventory, &mut catalog, object);
    }
}

/// Counted like [`measured`], by its name.
#[inline(never)]
fn measured_change(inventory: &mut Inventory, catalog: &mut Catalog, object: &Value) {
    inventory.apply(black_box(object)).unwrap();
    *catalog = inventory.changed().unwrap();
}
