//! What the API server sent, answered by the real server over TLS, against what `inject` prints for the same object.
use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use assert_cmd::Command;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use opportune::serve::{Config, Server, call::post_review};
use opportune_core::{
    discover::{Catalog, Inventory, Recipes},
    inject::profile::Profiles,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::served;

const CLUSTER: &str = include_str!("../../src/cli/demo/cluster.yaml");

fn catalog() -> Catalog {
    let mut inventory = Inventory::new(Arc::new(Recipes::built_in().unwrap()), Profiles::built_in().unwrap());
    for object in serde_saphyr::from_multiple::<Value>(CLUSTER).unwrap() {
        inventory.apply(&object).unwrap();
    }
    inventory.snapshot()
}

/// Posts a review to a server of its own.
async fn answered(body: Vec<u8>) -> Value {
    let config: Config = served::config();
    let server = Server::bind(config, Arc::new(ArcSwap::from_pointee(catalog()))).await.unwrap();
    let (address, authority) = (server.addresses().webhook, server.ca_pem().unwrap().to_owned());
    let running = tokio::spawn(server.run(std::future::pending::<std::future::Pending<()>>()));
    let answer = post_review(address, &authority, body).await.unwrap();
    running.abort();
    serde_json::from_slice(&answer).unwrap()
}

fn patched(mut object: Value, response: &Value) -> Value {
    if let Some(patch) = response["patch"].as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

fn injected(object: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let cluster = folder.path().join("cluster.yaml");
    std::fs::write(&cluster, CLUSTER).unwrap();
    let mut command = Command::cargo_bin("opportune").unwrap();
    command.args(["inject", "-f", "-", "-o", "json", "--catalog", cluster.to_str().unwrap()]);
    let output = command.write_stdin(object.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["items"][0].take()
}

#[rstest]
#[tokio::test]
async fn what_serve_answers_is_what_inject_prints(
    #[values(
        "deployment-create",
        "deployment-create-ssa",
        "deployment-create-kubectl-apply",
        "deployment-update-ssa",
        "deployment-update-kubectl-apply",
        "deployment-scale-update"
    )]
    name: &str,
    #[values(None, Some("ldap, mail, analytics, storage"))] wants: Option<&str>,
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/tests/engine/reviews");
    let text = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let mut review: Value = serde_json::from_slice(&text).unwrap();
    if let Some(wants) = wants {
        let metadata = &mut review["request"]["object"]["metadata"];
        metadata["annotations"]["opportune.libre.sh/wants"] = json!(wants);
    }
    let object = review["request"]["object"].clone();
    let uid = review["request"]["uid"].clone();
    let answer = answered(serde_json::to_vec(&review).unwrap()).await;
    let response = &answer["response"];
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!((&response["uid"], &response["allowed"]), (&uid, &json!(true)));
    let after = patched(object.clone(), response);
    assert_eq!(after, injected(&object));
    let is_ours = wants.is_some() && object["kind"] == "Deployment";
    assert_eq!(after != object, is_ours, "a patch only where something is asked for");
}
