//! One real node: containerd, kubelet and kube-proxy on this machine, which has to be one of its own (`e2e/machine`).
//!
//! Nothing here is cleaned up: with the machine's first process, all others end, and its mounts and networks vanish.
use crate::{ControlPlane, process::Process};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The node's address, on a bridge that `e2e/machine` makes.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
/// Its name, in the API.
pub const NAME: &str = "node";
const PODS: &str = "10.244.0.0/24";
const DNS: &str = "10.96.0.10";
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Everything that the kubelet puts into control groups is below this one.
const CONTROL_GROUP: &str = "/opportune-e2e";
const READY: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// In the order in which they start.
const PARTS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// A node that runs pods.
#[derive(Debug)]
pub struct Node {
    processes: Mutex<BTreeMap<&'static str, Process>>,
    directory: PathBuf,
    programs: BTreeMap<&'static str, PathBuf>,
}

/// An image in the manifest of an archive, as `docker save` writes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(rename = "RepoTags")]
    names: Vec<String>,
    layers: Vec<String>,
}

// === impl Node ===

impl Node {
    /// Starts containerd, gives it the images of this folder (which `e2e/images/build` makes), then starts the others and waits
    /// until the node is ready.
    ///
    /// # Errors
    /// This is no machine of our own, a program is missing, or did not start: then with the end of its log.
    pub fn start(plane: &ControlPlane, images: &Path) -> Result<Self> {
        ensure!(
            std::env::var_os("OPPORTUNE_E2E_MACHINE").is_some(),
            "a node is started in a machine of its own only: run this by e2e/machine"
        );
        let mut programs = BTreeMap::from([("containerd", PathBuf::from("/usr/bin/containerd"))]);
        for name in ["kubelet", "kube-proxy"] {
            programs.insert(name, plane.assets().program(name)?);
        }
        let node = Self { processes: Mutex::default(), directory: plane.directory().to_owned(), programs };
        node.write_files(plane)?;
        node.start_part("containerd")?;
        node.wait_for_containerd()?;
        node.import(images, None)?;
        node.start_part("kubelet")?;
        node.start_part("kube-proxy")?;
        node.wait_until_ready(plane)?;
        Ok(node)
    }

    /// Kills all that runs on this machine but us, every pod and the control plane, as a power cut does, and takes away what a start
    /// finds no more: mounts, networks, packet filters and `/run`. What is on the disk stays.
    ///
    /// # Errors
    /// Something can't be taken away.
    pub fn cut_power(&self) -> Result<()> {
        // The kubelet first, or it starts again what we kill.
        for part in PARTS.into_iter().rev() {
            // Dropping kills.
            let _ = self.running().remove(part);
        }
        let ended = Command::new("bash").args(["-euc", CUT]).output().context("running bash")?;
        ensure!(ended.status.success(), "the power stays on: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(())
    }

    /// Starts it again with the disk that it had, but without this image, and waits until it is ready.
    ///
    /// # Errors
    /// A program does not start: then with the end of its log.
    pub fn start_again(&self, plane: &ControlPlane, without: &str) -> Result<()> {
        self.start_part("containerd")?;
        self.wait_for_containerd()?;
        let arguments = ["--namespace", "k8s.io", "images", "rm", "--sync", without];
        let removed = Command::new("ctr").args(arguments).output().context("running ctr")?;
        ensure!(removed.status.success(), "{without} stays: {}", String::from_utf8_lossy(&removed.stderr));
        self.start_part("kubelet")?;
        self.start_part("kube-proxy")?;
        self.wait_until_ready(plane)
    }

    /// Waits until the API server calls it ready.
    ///
    /// # Errors
    /// It isn't after some time: then with the end of the kubelet's log.
    pub fn wait_until_ready(&self, plane: &ControlPlane) -> Result<()> {
        let start = Instant::now();
        loop {
            self.running().values_mut().try_for_each(Process::ensure_running)?;
            let query = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            let last = plane.kubectl(&["get", "node", NAME, "-o", query]);
            if last.as_ref().is_ok_and(|status| status == "True") {
                return Ok(());
            }
            if start.elapsed() > READY {
                let tail = self.running().get("kubelet").map(Process::tail).unwrap_or_default();
                last.with_context(|| format!("the node is not ready after {READY:?}; {tail}"))?;
                anyhow::bail!("the node is not ready after {READY:?}; {tail}");
            }
            thread::sleep(PAUSE);
        }
    }

    fn write_files(&self, plane: &ControlPlane) -> Result<()> {
        let user = format!("system:node:{NAME}");
        plane.write_node_kubeconfig("kubelet", &user, &["system:nodes"])?;
        plane.write_node_kubeconfig("kube-proxy", "system:kube-proxy", &[])?;
        let authority = self.file("authority.crt");
        for (path, text) in [
            (self.file("containerd.toml"), CONTAINERD.to_owned()),
            (self.file("kubelet.yaml"), kubelet(&authority).to_string()),
            (self.file("resolv.conf"), String::new()),
            ("/etc/cni/net.d/10-node.conflist".into(), network().to_string()),
        ] {
            path.parent().map(fs::create_dir_all).transpose()?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    fn start_part(&self, part: &'static str) -> Result<()> {
        let path = |name: &str| self.file(name).display().to_string();
        let flags = match part {
            "containerd" => vec!["--config".to_owned(), path("containerd.toml")],
            "kubelet" => vec![
                format!("--config={}", path("kubelet.yaml")),
                format!("--kubeconfig={}", path("kubelet.kubeconfig")),
                format!("--hostname-override={NAME}"),
                format!("--node-ip={ADDRESS}"),
            ],
            _ => vec![
                format!("--kubeconfig={}", path("kube-proxy.kubeconfig")),
                format!("--hostname-override={NAME}"),
                "--proxy-mode=iptables".to_owned(),
                format!("--cluster-cidr={PODS}"),
                // Settings of the whole machine, which we leave alone.
                "--conntrack-max-per-core=0".to_owned(),
                "--conntrack-tcp-timeout-established=0".to_owned(),
                "--conntrack-tcp-timeout-close-wait=0".to_owned(),
            ],
        };
        let program = self.programs.get(part).with_context(|| format!("{part} has no program"))?;
        let process = Process::start(part, program, flags, [], self.file(&format!("{part}.log")))?;
        self.running().insert(part, process);
        Ok(())
    }

    /// Gives containerd the images of this folder; of them only the one of this name, where there is one.
    ///
    /// # Errors
    /// It does not take them.
    pub fn import(&self, images: &Path, only: Option<&str>) -> Result<()> {
        let manifest: Vec<Image> = serde_json::from_slice(&fs::read(images.join("manifest.json"))?)?;
        let is_wanted = |image: &&Image| only.is_none_or(|only| image.names.iter().any(|name| name == only));
        let wanted: Vec<&Image> = manifest.iter().filter(is_wanted).collect();
        // A folder of links to what they need.
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("manifest.json"), serde_json::to_vec(&wanted)?)?;
        for image in wanted {
            for file in image.layers.iter().chain([&image.config]) {
                let link = folder.path().join(file);
                if !link.is_symlink() {
                    symlink(images.join(file), link)?;
                }
            }
        }
        let pipe = r#"tar -C "$0" --dereference -c . | ctr --namespace k8s.io images import -"#;
        let output =
            Command::new("bash").args(["-euo", "pipefail", "-c", pipe]).arg(folder.path()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "containerd did not take the images of {}: {said}",
            images.display()
        );
        Ok(())
    }

    fn wait_for_containerd(&self) -> Result<()> {
        let start = Instant::now();
        while !Path::new(SOCKET).exists() {
            self.running().values_mut().try_for_each(Process::ensure_running)?;
            ensure!(start.elapsed() < READY, "containerd does not listen at {SOCKET} after {READY:?}");
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "opportune.invalid/pause:1"
  # Without CAP_SYS_RESOURCE, no sandbox starts otherwise.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#;

/// Kills all processes of this machine but its first one, and us, and takes away what lives in memory.
const CUT: &str = r#"
for _ in $(seq 100); do
    left=
    for process in /proc/[0-9]*; do
        id=${process#/proc/}
        case $id in 1 | $$ | "$PPID") continue ;; esac
        # Those of the kernel, and the dead that nobody has collected yet.
        [ -e "$process/exe" ] || continue
        kill -9 "$id" 2> /dev/null && left=true
    done
    [ -n "$left" ] || break
    sleep 0.1
done
cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '^/run/|^/var/lib/kubelet/|^/var/lib/ceph/e2e/mnt$' | sort -r | while read -r mount; do
    umount -l "$mount" 2> /dev/null || true
done
for controller in /sys/fs/cgroup/*/; do
    [ ! -d "$controller/opportune-e2e" ] || find "$controller/opportune-e2e" -mindepth 1 -depth -type d -exec rmdir {} +
done
rm -rf /run/* /var/lib/cni/*
ip -o link show type veth | sed 's/^[0-9]*: \([^@:]*\).*/\1/' | while read -r link; do ip link del "$link" 2> /dev/null || true; done
for table in nat filter mangle; do iptables -t "$table" -F; iptables -t "$table" -X; done
"#;

fn kubelet(authority: &Path) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": CONTROL_GROUP,
        "failSwapOn": false,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": authority.with_file_name("resolv.conf"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // A changed Secret is in its pod after seconds, not after a minute.
        "syncFrequency": "5s",
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "enforceNodeAllocatable": [],
        "authentication": {
            "anonymous": { "enabled": false },
            "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "Webhook" },
    })
}

/// Every pod has a link of its own to the machine, so that all goes through its packet filter, as in clusters with many nodes.
fn network() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "node",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}
