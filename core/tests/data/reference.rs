//! Reference files that are generated, and the check that they are current.
use std::{fs, path::PathBuf};

/// Compares a file of `docs/reference` with what it should hold; with `UPDATE_REFERENCE=1` it is written instead.
pub fn check(name: &str, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("UPDATE_REFERENCE").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count() + 1;
    assert!(
        found == expected,
        "docs/reference/{name} is not current (line {line}): UPDATE_REFERENCE=1 cargo test -p opportune-core --test data"
    );
}
