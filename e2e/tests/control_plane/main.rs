//! Tests against a real control plane, one for all of them.
//!
//! Each theme is a file in this folder, with a table of its trials at its end. A trial that is in no table is dead code,
//! and a file that is not named below is found when the tests start: both are errors.
#![deny(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "these are tests, which the compiler does not know without its own harness"
)]
mod admin;
mod attack_offers;
mod attack_records;
mod attack_texts;
mod delivered;
mod installed;
mod offers;
mod person;
mod sidecar;
mod trial;
mod webhook;
mod workload;
mod writer;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Conclusion, Trial};
use opportune_e2e::Assets;
use std::{collections::BTreeSet, fs, path::Path, process::ExitCode, sync::Arc};
use trial::{Run, themes};

themes![
    attacks,
    away,
    callers,
    calls,
    credentials,
    crowd,
    custom,
    delivery,
    doctor,
    escapes,
    explain,
    gitops,
    install,
    kinds,
    life,
    lifetimes,
    merges,
    modes,
    notes,
    objects,
    others,
    overload,
    personas,
    policies,
    policy_cases,
    programs,
    quiet,
    refresh,
    report,
    resources,
    rotation,
    routes,
    timeliness,
    trouble,
    undo,
    users,
    writers,
];

/// Files of this folder that hold no trials.
const NO_THEMES: [&str; 14] = [
    "admin",
    "attack_offers",
    "attack_records",
    "attack_texts",
    "delivered",
    "installed",
    "main",
    "offers",
    "person",
    "sidecar",
    "trial",
    "webhook",
    "workload",
    "writer",
];

/// Trials that are at work at once on the shared control plane, and as many with one of their own: they wait more than they
/// compute.
const AT_ONCE: u32 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(conclusion) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Conclusion> {
    let mut arguments = Arguments::from_args();
    let at_once = arguments.test_threads.map_or(Ok(AT_ONCE), u32::try_from)?;
    ensure_every_file_is_a_theme()?;
    let run = Arc::new(Run::new(at_once, logs()?)?);
    let mut cases: Vec<_> =
        themes().into_iter().flat_map(|(theme, cases)| cases.iter().map(move |c| (theme, c))).collect();
    cases.sort_by_key(|(_, case)| case.rank());
    // Each has a thread, so that nobody is kept from their turn by those that wait for theirs.
    arguments.test_threads = Some(cases.len());
    let trials: Vec<Trial> = cases.into_iter().map(|(theme, case)| case.trial(theme, &run)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    run.finish(conclusion.has_failed())?;
    Ok(conclusion)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the logs of a control plane on which a trial failed are kept.
fn logs() -> Result<std::path::PathBuf> {
    let root = here().parent().context("e2e/ lies in no folder")?;
    Ok(root.join(".cache/tests").join(format!("e2e-{}", Assets::find()?.version())))
}

fn ensure_every_file_is_a_theme() -> Result<()> {
    let known: BTreeSet<_> = themes().into_iter().map(|(theme, _)| theme.to_owned()).collect();
    for entry in fs::read_dir(here().join("tests/control_plane"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        ensure!(
            NO_THEMES.contains(&name.as_str()) || known.contains(&name),
            "{} is not run: add {name} to `themes!` in tests/control_plane/main.rs",
            path.display()
        );
    }
    Ok(())
}
