//! The cases of policies that are tried on a real API server, too: what the engine alone makes of them.
#[path = "../../../e2e/cases/policies/case.rs"]
mod case;

use std::{fs, path::PathBuf};

use opportune_core::admit::{AdmissionResult, Inheritance, Options};
use serde_json::Value;

use self::case::{Case, Expected, NAMESPACE, Outcome, expected, policies};

/// Where the cases are played here, and what the names of their policies begin with.
const HERE: &str = "ns-7";
const PREFIX: &str = "ns-7-";
use crate::world::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../e2e/cases/policies")
}

/// The cluster of all cases.
fn cluster() -> Vec<Value> {
    let text = fs::read_to_string(folder().join("cluster.yaml")).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn options() -> Options {
    Options { inheritance: Inheritance::FromNamespace, ..Options::default() }
}

/// What comes of a case, and the world and object that it comes of.
fn play(case: &Case) -> Outcome {
    let world = |specs: &_| {
        let mut world = World(cluster());
        world.0.push(case.namespace(HERE));
        world.0.extend(case.objects(HERE));
        world.0.extend(policies(specs, PREFIX, HERE));
        world.catalog()
    };
    let stored = case.before.as_ref().map(|before| {
        let object = case.workload_before().unwrap().object(HERE);
        admitted(&object, None, &world(&before.policies), &options()).0
    });
    let (catalog, object) = (world(&case.policies), case.workload.object(HERE));
    // Who applies brings the annotations along that the server holds, but for those that he wrote himself.
    let object = stored.as_ref().map_or(object.clone(), |stored| {
        ["injected", "status"].iter().fold(object.clone(), |object, key| {
            let pointer = format!("/metadata/annotations/opportune.libre.sh~1{key}");
            match (stored.pointer(&pointer), object.pointer(&pointer)) {
                (Some(value), None) => with(object, &pointer, value.clone()),
                _ => object,
            }
        })
    });
    let (after, verdict) = admitted(&object, stored.as_ref(), &catalog, &options());
    if !matches!(verdict.result, AdmissionResult::Denied(_)) {
        let (again, second) = admitted(&after, stored.as_ref(), &catalog, &options());
        assert_eq!(again, after, "{}: a second call changes it: {:?}", case.name, second.patch);
        let removed = taken_out(&after);
        let users = taken_out(&object);
        assert_eq!(removed, users, "{}: what is taken out leaves something", case.name);
    }
    let came = match &verdict.result {
        AdmissionResult::Denied(reason) => Outcome::refused(reason),
        _ => Outcome::of(&after, &verdict.warnings),
    };
    came.renamed(&[(PREFIX, ""), (HERE, NAMESPACE)])
}

/// With `UPDATE_CASES=1` what comes of them is written down in place of what has to.
#[test]
fn each_case_comes_out_as_it_has_to() {
    let cases = Case::all(&folder());
    let came: Expected = cases.iter().map(|(_, case)| (case.name.clone(), play(case))).collect();
    if std::env::var_os("UPDATE_CASES").is_some_and(|value| value == "1") {
        let text = format!("{:#}\n", serde_json::to_value(&came).unwrap());
        fs::write(folder().join("expected.json"), text).unwrap();
    }
    let expected = expected(&folder());
    assert!(came.len() >= 40, "{} cases", came.len());
    assert_eq!(came.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (file, case) in &cases {
        assert_eq!(came[&case.name], expected[&case.name], "{file}: {}", case.name);
    }
}

#[test]
fn no_two_cases_have_one_name() {
    let mut names: Vec<String> = Case::all(&folder()).into_iter().map(|(_, case)| case.name).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
