//! What trials stand on: each part is made by the first trial that asks for it, and stays.
use crate::{cache, here, trial::until, wordpress};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{Authority, ControlPlane, Options, node::Node};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How long pods may take to start on 2 busy cores.
pub const SOON: Duration = Duration::from_secs(180);

/// Where the chart is installed.
pub const SYSTEM: &str = "opportune-system";

const PROVIDERS: [(&str, &str); 3] = [
    ("directory", include_str!("manifests/directory.yaml")),
    ("mail", include_str!("manifests/mail.yaml")),
    ("statistics", include_str!("manifests/statistics.yaml")),
];

/// Where the node has mounted the CephFS on which volumes are.
pub const CEPHFS: &str = "/var/lib/ceph/e2e/mnt";

/// What was made so far.
#[derive(Default)]
pub struct Stage {
    cluster: OnceLock<Result<Cluster, String>>,
    opportune: OnceLock<Result<(), String>>,
    storage: OnceLock<Result<(), String>>,
    providers: OnceLock<Result<(), String>>,
    blog: OnceLock<Result<(), String>>,
    alone: OnceLock<Result<(), String>>,
    directus: OnceLock<Result<(), String>>,
}

/// A control plane with one node.
pub struct Cluster {
    pub node: Node,
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

    /// Besides, a StorageClass whose volumes are on a real CephFS.
    pub fn storage(&self) -> Result<&Cluster> {
        let cluster = self.opportune()?;
        made(&self.storage, "a Ceph and its StorageClass", || {
            start_ceph()?;
            cluster.apply(include_str!("manifests/storage.yaml"))?;
            cluster.wait_for("rook-ceph", "deployment/provisioner")
        })?;
        Ok(cluster)
    }

    /// Besides, a directory, a mail server and analytics that are offered to the blog.
    pub fn providers(&self) -> Result<&Cluster> {
        let cluster = self.storage()?;
        made(&self.providers, "the providers", || {
            let authority = Authority::new()?;
            fs::write(cluster.authority(), authority.certificate())?;
            for (namespace, manifest) in PROVIDERS {
                cluster.namespace(namespace, &["provider=true"])?;
                cluster.provide(namespace, namespace, manifest, &authority)?;
            }
            for (namespace, workload) in [
                ("directory", "deployment/openldap"),
                ("mail", "deployment/mail"),
                ("statistics", "deployment/matomo"),
            ] {
                cluster.wait_for(namespace, workload)?;
            }
            Ok(())
        })?;
        Ok(cluster)
    }

    /// Besides, the blog, a WordPress to which they are offered.
    pub fn blog(&self) -> Result<&Cluster> {
        let cluster = self.providers()?;
        made(&self.blog, "the blog", || {
            cluster.namespace("blog", &["inject=enabled"])?;
            wordpress::deploy(cluster, "blog", "")
        })?;
        Ok(cluster)
    }

    /// Besides the providers, a Directus to which they are offered.
    pub fn directus(&self) -> Result<&Cluster> {
        let cluster = self.providers()?;
        made(&self.directus, "Directus", || {
            cluster.namespace("wiki", &["inject=enabled"])?;
            let authority = serde_json::to_string(&fs::read_to_string(cluster.authority())?)?;
            cluster.apply(&include_str!("manifests/directus.yaml").replace("@AUTHORITY@", &authority))?;
            cluster.wait_for("wiki", "deployment/mariadb")?;
            cluster.wait_for("wiki", "deployment/directus")
        })?;
        Ok(cluster)
    }

    /// A WordPress in a namespace that is offered nothing, on the cluster with Opportune. It takes what comes later.
    pub fn alone(&self) -> Result<&Cluster> {
        let cluster = self.opportune()?;
        made(&self.alone, "the WordPress that is offered nothing", || {
            cluster.namespace("alone", &["inject=enabled"])?;
            wordpress::deploy(cluster, "alone", "opportune.libre.sh/refresh: rollout")
        })?;
        Ok(cluster)
    }

    /// Runs a command of somebody who looks around, with KUBECONFIG, and kubectl, helm and opportune on the path.
    pub fn then(&self, command: &OsStr) -> Result<()> {
        let plane = &self.cluster()?.plane;
        let programs = [
            plane.assets().program("kubectl")?,
            cache("tools/helm")?,
            here().join("..").join(std::env::var("OPPORTUNE_BIN").unwrap_or_default()),
        ];
        let folders = programs.iter().filter_map(|program| program.parent()).map(|folder| folder.to_owned());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)))?;
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(command).env("PATH", path).env("KUBECONFIG", plane.kubeconfig());
        println!("{command:?} ended: {}", shell.status().context("running bash")?);
        Ok(())
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

/// Makes a Ceph on this machine, or starts the one that it has.
pub fn start_ceph() -> Result<()> {
    let output = Command::new(here().join("ceph/run")).output().context("running e2e/ceph/run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no Ceph: {said}");
    Ok(())
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
        let cluster = Self { node, plane };
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

    /// The file that holds the certificate of the providers' authority.
    fn authority(&self) -> PathBuf {
        self.plane.directory().join("providers.crt")
    }

    /// Makes a namespace with these labels of ours, where it is not yet.
    pub fn namespace(&self, name: &str, labels: &[&str]) -> Result<()> {
        let labels = labels.iter().filter_map(|label| label.split_once('='));
        let labels: BTreeMap<_, _> =
            labels.map(|(key, value)| (format!("opportune.libre.sh/{key}"), value)).collect();
        let metadata = json!({ "name": name, "labels": labels });
        self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string())?;
        Ok(())
    }

    /// Makes the provider of a manifest, which stands for the namespace `written`, in another one, with a certificate of its own.
    pub fn provide(
        &self,
        namespace: &str,
        written: &str,
        manifest: &str,
        authority: &Authority,
    ) -> Result<()> {
        let names = ["openldap", "mail"].map(|service| format!("{service}.{namespace}.svc"));
        let server = authority.server(&[&names[..], &["stats.example.org".to_owned()]].concat())?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "tls", "namespace": namespace },
            "stringData": { "tls.crt": server.certificate, "tls.key": server.key },
        });
        self.apply(&secret.to_string())?;
        let manifest = manifest
            .replace(&format!("namespace: {written}"), &format!("namespace: {namespace}"))
            .replace("@AUTHORITY@", &serde_json::to_string(&authority.certificate())?);
        self.apply(&manifest)?;
        Ok(())
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
        let pod = json!({
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
