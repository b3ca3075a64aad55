//! Tests on a real node: pods run, and real apps use the real services that they found.
//!
//! The trials run one after the other, in the order of `themes!` and of the tables, on one cluster (see `stage.rs`): each asks for
//! what it needs, so that one alone runs, too. Run by `make e2e`, in a machine of its own (`e2e/machine`).
#![deny(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "these are tests, which the compiler does not know without its own harness"
)]
mod browser;
mod stage;
mod trial;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Conclusion};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use trial::themes;

themes![machine, installed, wordpress, storage, directus, life];

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
    // In their order, on one thread.
    arguments.test_threads = Some(1);
    trial::ensure_every_file_is_named(
        &here().join("tests/node"),
        &[&["browser", "main", "stage", "trial"], &themes().map(|(name, _)| name)],
    )?;
    let stage = Arc::new(stage::Stage::default());
    let trials = themes().into_iter().flat_map(|(theme, cases)| cases.iter().map(move |case| (theme, case)));
    let images = std::fs::read_to_string(cache("node/images/manifest.json")?).unwrap_or_default();
    // `images/build` says why where it makes no image of it.
    let is_left_out = |theme| theme == "directus" && !images.contains("directus/directus");
    let trials =
        trials.map(|(theme, case)| case.trial(theme, &stage).with_ignored_flag(is_left_out(theme))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        let logs = logs()?;
        std::fs::remove_dir_all(&logs).ok();
        stage.keep_logs(&logs)?;
        println!("the logs of the control plane, the node and the pods are in {}", logs.display());
    }
    if let Some(command) = std::env::var_os("OPPORTUNE_E2E_THEN") {
        stage.then(&command)?;
    }
    Ok(conclusion)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file in the cache of this repository, whose folder is made.
fn cache(name: &str) -> Result<PathBuf> {
    let path = here().parent().context("e2e/ lies in no folder")?.join(".cache").join(name);
    path.parent().map(std::fs::create_dir_all).transpose()?;
    Ok(path)
}

fn logs() -> Result<PathBuf> {
    cache("tests/node")
}
