//! What trials stand on: each part is made by the first trial that asks for it, and stays.
use crate::{cache, here, trial::until};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Options, node::Node};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How long pods may take to start on 2 busy cores.
pub const SOON: Duration = Duration::from_secs(180);

/// Where the chart is installed.
pub const SYSTEM: &str = "opportune-system";

/// What was made so far.
#[derive(Default)]
pub struct Stage {
    cluster: OnceLock<Result<Cluster, String>>,
    opportune: OnceLock<Result<(), String>>,
}

/// A control plane with one node.
pub struct Cluster {
    _node: Node,
    pub plane: ControlPlane,
}

// === impl Stage ===

impl Stage {
    /// The control plane with its node, on which names resolve.
    pub fn cluster(&self) -> Result<&Cluster> {
        made(&self.cluster, "a control plane with a node", Cluster::start)
    }

    /// The cluster on which Opportune's chart is installed as by its documentation.
    pub fn opportune(&self) -> Result<&Cluster> {
        let cluster = self.cluster()?;
        made(&self.opportune, "Opportune by its chart", || {
            let helm = cluster.plane.helm_for(&cluster.plane.kubeconfig())?;
            let chart = here().join("../manifests/chart");
            let chart = chart.to_str().context("a path that is no text")?;
            let arguments = ["install", "opportune", chart, "--namespace", SYSTEM, "--create-namespace"];
            let options = ["--set", "rollouts=true", "--wait", "--timeout=3m"];
            helm.run(&[&arguments[..], &options].concat()).with_context(|| cluster.troubles(SYSTEM))?;
            Ok(())
        })?;
        Ok(cluster)
    }

    /// What helps to understand a failure.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        let Some(Ok(cluster)) = self.cluster.get() else { return Ok(()) };
        cluster.plane.keep_logs(folder)?;
        for (name, arguments) in [
            ("pods.txt", &["get", "pods", "-A", "-o", "wide"][..]),
            ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
            ("described.txt", &["describe", "pods", "-A"]),
            (
                "workloads.yaml",
                &["get", "deployments,statefulsets,persistentvolumeclaims,services", "-A", "-o", "yaml"],
            ),
        ] {
            let printed = cluster.plane.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
            fs::write(folder.join(name), printed)?;
        }
        for pod in cluster.list("pods", &["-A"])? {
            let (namespace, name) = (text(&pod, "/metadata/namespace"), text(&pod, "/metadata/name"));
            let arguments = ["logs", "-n", namespace, name, "--all-containers", "--prefix"];
            let printed = cluster.plane.kubectl(&arguments).unwrap_or_else(|error| format!("{error:#}"));
            fs::write(folder.join(format!("{namespace}-{name}.log")), printed)?;
        }
        Ok(())
    }
}

/// The part, made once; where that failed, with the same error for each who asks.
fn made<'a, T>(
    part: &'a OnceLock<Result<T, String>>,
    what: &str,
    make: impl FnOnce() -> Result<T>,
) -> Result<&'a T> {
    part.get_or_init(|| {
        let start = Instant::now();
        let result = make().map_err(|error| format!("{error:#}"));
        println!("{what}: {:.1} s", start.elapsed().as_secs_f32());
        result
    })
    .as_ref()
    .map_err(|error| anyhow::anyhow!("no {what}: {error}"))
}

// === impl Cluster ===

impl Cluster {
    fn start() -> Result<Self> {
        let node_address = Some(opportune_e2e::node::ADDRESS);
        let plane = ControlPlane::start(Options { node_address, ..Options::default() })?;
        let node = Node::start(&plane, &cache("node/images")?)?;
        let cluster = Self { _node: node, plane };
        cluster.apply(include_str!("manifests/dns.yaml"))?;
        cluster.wait_for("kube-system", "deployment/coredns")?;
        Ok(cluster)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(arguments)
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.plane.apply(manifest)
    }

    /// Waits until the newest generation of a workload runs, in all its replicas.
    pub fn wait_for(&self, namespace: &str, workload: &str) -> Result<()> {
        let limit = format!("--timeout={}s", SOON.as_secs());
        self.kubectl(&["rollout", "status", workload, "-n", namespace, &limit])
            .with_context(|| format!("{workload} in {namespace}: {}", self.troubles(namespace)))?;
        Ok(())
    }

    /// What a command in a workload's pod prints.
    pub fn exec(&self, namespace: &str, workload: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", "-n", namespace, workload, "--"], command].concat())
    }

    /// The objects of a kind.
    pub fn list(&self, kind: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        let printed = self.kubectl(&[&["get", kind, "-o", "json"], arguments].concat())?;
        let list: Value = serde_json::from_str(&printed)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", name, "-n", namespace, "-o", "json"])?)?)
    }

    /// Why pods of a namespace do not run, in their own words.
    fn troubles(&self, namespace: &str) -> String {
        let events = self.kubectl(&["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"]);
        let events = events.unwrap_or_default();
        let last: Vec<_> = events.lines().rev().filter(|line| line.contains("Warning")).take(3).collect();
        last.join("; ")
    }

    /// Runs a pod of Debian's image to its end, and gives what it printed.
    pub fn run(&self, namespace: &str, name: &str, script: &str) -> Result<String> {
        let pod = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "main",
                    "image": "opportune.invalid/debian:1",
                    "imagePullPolicy": "Never",
                    "command": ["bash", "-euc", script],
                }],
            },
        });
        self.apply(&pod.to_string())?;
        let phase = until(&format!("the pod {namespace}/{name} ends"), SOON, || {
            let pod = self.get(namespace, &format!("pod/{name}"))?;
            let phase = text(&pod, "/status/phase").to_owned();
            Ok(Some(phase).filter(|phase| ["Succeeded", "Failed"].contains(&phase.as_str())))
        })?;
        let printed = self.kubectl(&["logs", "-n", namespace, name])?;
        self.kubectl(&["delete", "pod", name, "-n", namespace, "--wait=false"])?;
        ensure!(phase == "Succeeded", "the pod {namespace}/{name} failed: {printed}");
        Ok(printed)
    }
}

/// A text in an object; empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
