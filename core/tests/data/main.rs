//! Recipes and profiles as data: what the files hold, and what each of them does.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, in its helpers too, and its name is its documentation"
)]
mod apps_page;
mod bad;
mod encodings;
mod guide;
mod markdown;
mod order;
mod profiles;
mod recipes;
mod reference;
mod resources;
mod resources_page;
mod schema;
mod services_page;

/// The names of the goldens in a folder of `snapshots`.
fn snapshots_of(folder: &str) -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/snapshots").join(folder);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".snap")?.to_owned()));
    let sorted: std::collections::BTreeSet<String> = names.collect();
    sorted.into_iter().collect()
}
