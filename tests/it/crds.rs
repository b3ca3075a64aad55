//! `opportune crds`, and the copy of what it prints that the chart brings.
use std::{fs, path::Path};

use assert_cmd::Command;
use serde_json::Value;

fn printed(args: &[&str]) -> String {
    let output = Command::cargo_bin("opportune").unwrap().arg("crds").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_definitions_in_the_chart_are_current() {
    let name = "manifests/chart/files/crds.yaml";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let expected = printed(&[]);
    if std::env::var_os("UPDATE_REFERENCE").is_some_and(|value| value == "1") {
        fs::write(&path, &expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count() + 1;
    assert!(found == expected, "{name} is not current (line {line}): cargo run -- crds > {name}");
}

#[test]
fn yaml_and_json_hold_the_same_three() {
    let list: Value = serde_json::from_str(&printed(&["-o", "json"])).unwrap();
    let yaml: Vec<Value> = serde_saphyr::from_multiple(&printed(&[])).unwrap();
    assert_eq!(list["items"], Value::Array(yaml));
    let names =
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap());
    let expected = ["appprofiles", "injectionpolicies", "serviceoffers"];
    assert!(names.eq(expected.map(|plural| format!("{plural}.opportune.libre.sh"))));
}
