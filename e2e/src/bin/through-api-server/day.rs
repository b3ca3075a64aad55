//! How many of the writes of a day reach us: what happens to workloads in a day, scaled down, made against the API server with
//! the webhooks as they are shipped, and its own count of calls.
use super::{compare, creates::deployment};
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::Request;
use kube::{Client, client::Body};
use opportune_e2e::ControlPlane;
use serde_json::{Value, json};
use std::time::Duration;

/// Workloads that want something, and as many that do not.
const WORKLOADS: usize = 10;
/// In a namespace in which injection is on.
const NAMESPACE: &str = "blog";

/// One kind of write.
struct Write {
    what: &'static str,
    /// Of one workload, in one day.
    a_day: f64,
    /// Method, subresource, and content type; the body is made for each.
    method: &'static str,
    subresource: &'static str,
    body: fn(&str, usize) -> Result<Value>,
}

/// Merge patches, but for applies. Without a node there are no controllers that write so much: all are made here.
const DAY: [Write; 8] = [
    Write {
        what: "GitOps applies the same again, every 3 minutes",
        a_day: 480.0,
        method: "apply",
        subresource: "",
        body: same,
    },
    Write {
        what: "status, by its controller",
        a_day: 60.0,
        method: "merge",
        subresource: "/status",
        body: status,
    },
    Write {
        what: "scale, by an autoscaler",
        a_day: 24.0,
        method: "merge",
        subresource: "/scale",
        body: scale,
    },
    Write {
        what: "`replicas`, by a person or an operator",
        a_day: 2.0,
        method: "merge",
        subresource: "",
        body: scale,
    },
    Write {
        what: "an annotation, by a tool that keeps its state there",
        a_day: 144.0,
        method: "merge",
        subresource: "",
        body: note,
    },
    Write { what: "a label", a_day: 2.0, method: "merge", subresource: "", body: label },
    Write {
        what: "how many revisions are kept",
        a_day: 1.0,
        method: "merge",
        subresource: "",
        body: revisions,
    },
    Write { what: "a new template", a_day: 2.0, method: "merge", subresource: "", body: template },
];

pub async fn run(cluster: &ControlPlane) -> Result<()> {
    let client = cluster.client().await?;
    cluster.kubectl(&["create", "namespace", NAMESPACE])?;
    cluster.kubectl(&["label", "namespace", NAMESPACE, "opportune.libre.sh/inject=enabled"])?;
    let mut program = compare::serve(cluster)?;
    println!(
        "| what happens | a day, of one workload | made | calls, with a wish | calls, without | in a day of 100 with and 900 without |"
    );
    println!("|---|---|---|---|---|---|");
    let mut writes = 0.0;
    let mut all = 0.0;
    let new = Write { what: "a new workload", a_day: 0.1, method: "apply", subresource: "", body: same };
    for kind in [new].into_iter().chain(DAY) {
        let (with, without) =
            (kind.make(cluster, &client, true).await?, kind.make(cluster, &client, false).await?);
        let share = |calls: u64| calls as f64 / WORKLOADS as f64;
        let day = kind.a_day * (100.0 * share(with) + 900.0 * share(without));
        writes += kind.a_day * 1000.0;
        all += day;
        println!("| {} | {} | {} | {with} | {without} | {day:.0} |", kind.what, kind.a_day, 2 * WORKLOADS);
    }
    println!("| all | | | | | {all:.0} of {writes:.0} writes |");
    program.terminate(Duration::from_secs(20))?;
    Ok(())
}

// === impl Write ===

impl Write {
    /// Makes one for each workload; how many calls that were.
    async fn make(&self, cluster: &ControlPlane, client: &Client, wants: bool) -> Result<u64> {
        let before = count(cluster)?;
        for number in 0..WORKLOADS {
            let name = name(wants, number);
            write(client, &name, self.method, self.subresource, &(self.body)(&name, number)?).await?;
        }
        Ok(count(cluster)? - before)
    }
}

/// All calls of ours so far.
fn count(cluster: &ControlPlane) -> Result<u64> {
    ["wants", "requires"]
        .into_iter()
        .map(|name| cluster.webhook_calls(&format!("{name}.opportune.libre.sh")))
        .sum()
}

async fn write(client: &Client, name: &str, method: &str, subresource: &str, body: &Value) -> Result<()> {
    let (content, query) = match method {
        "apply" => ("application/apply-patch+yaml", "?fieldManager=gitops&force=true"),
        _ => ("application/merge-patch+json", ""),
    };
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}{subresource}{query}");
    let request = Request::patch(path)
        .header("content-type", content)
        .body(Body::from(body.to_string().into_bytes()))?;
    let answer = client.send(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{name}{subresource}: {status}: {}", String::from_utf8_lossy(&bytes));
    Ok(())
}

fn name(wants: bool, number: usize) -> String {
    format!("{}{number}", if wants { "wants" } else { "plain" })
}

fn same(name: &str, _: usize) -> Result<Value> {
    let mut object = deployment(name)?;
    if name.starts_with("plain") {
        let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        annotations.context("no annotations")?.retain(|key, _| !key.starts_with("opportune.libre.sh/"));
    }
    // Left to the autoscaler, as everybody is told to.
    object.pointer_mut("/spec").and_then(Value::as_object_mut).context("no spec")?.remove("replicas");
    Ok(object)
}

fn status(_: &str, number: usize) -> Result<Value> {
    Ok(
        json!({"status": {"observedGeneration": number, "conditions": [{"type": "Progressing", "status": "True",
        "reason": "NewReplicaSetAvailable", "message": format!("look {number}")}]}}),
    )
}

fn scale(_: &str, number: usize) -> Result<Value> {
    Ok(json!({"spec": {"replicas": 2 + number % 2}}))
}

fn note(_: &str, number: usize) -> Result<Value> {
    Ok(json!({"metadata": {"annotations": {"tool.example.org/state": format!("state {number}")}}}))
}

fn label(_: &str, number: usize) -> Result<Value> {
    Ok(json!({"metadata": {"labels": {"team": format!("team{number}")}}}))
}

fn revisions(_: &str, number: usize) -> Result<Value> {
    Ok(json!({"spec": {"revisionHistoryLimit": 3 + number}}))
}

fn template(_: &str, number: usize) -> Result<Value> {
    Ok(json!({"spec": {"template": {"metadata": {"annotations": {"checksum/config": format!("{number}")}}}}}))
}
