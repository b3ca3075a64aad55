//! Opportune as the chart installs it, with processes outside in place of its pods: the arguments and the ServiceAccounts are
//! the chart's, and the API server calls through the Service.
use crate::{admin::Admin, workload::text};
use anyhow::{Context, Result};
use opportune_e2e::{ControlPlane, Options, Program, Samples, eventually, free_address};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the chart is installed.
pub const SYSTEM: &str = "opportune-system";
/// How long a start may take beside other work.
const SOON: Duration = Duration::from_secs(30);

/// One of the chart's two roles, as processes of ours.
pub struct Role {
    name: &'static str,
    arguments: Vec<String>,
    pub kubeconfig: PathBuf,
}

/// A process in the place of a pod.
pub struct Replica {
    pub program: Program,
    pub admin: SocketAddr,
}

/// A control plane on which the chart is installed, with its controllers and its webhook.
pub struct Installed {
    /// The first one leads until it is killed.
    pub controllers: Vec<Replica>,
    pub webhook: Replica,
    roles: (Role, Role),
    listen: SocketAddr,
    pub admin: Admin,
    pub plane: ControlPlane,
}

// === impl Role ===

impl Role {
    /// What the chart would run in its pods.
    pub fn of(cluster: &ControlPlane, name: &'static str) -> Result<Self> {
        let name_of_all = format!("opportune-{name}");
        let deployment = cluster.kubectl(&["get", "deploy", &name_of_all, "-n", SYSTEM, "-o", "json"])?;
        let deployment: Value = serde_json::from_str(&deployment)?;
        let arguments = deployment
            .pointer("/spec/template/spec/containers/0/args")
            .and_then(Value::as_array)
            .context("the chart gives no arguments")?;
        let arguments = arguments.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let kubeconfig = cluster.service_account_kubeconfig(SYSTEM, &name_of_all)?;
        Ok(Self { name, arguments, kubeconfig })
    }

    pub fn start(&self, cluster: &ControlPlane, listen: SocketAddr) -> Result<Replica> {
        let admin = free_address()?;
        let arguments = self.arguments.iter().map(|argument| match argument.split_once('=') {
            Some(("--listen", _)) => format!("--listen={listen}"),
            Some(("--admin", _)) => format!("--admin={admin}"),
            _ => argument.clone(),
        });
        let program = Program::against(cluster, &self.kubeconfig, arguments)
            .arguments([format!("--namespace={SYSTEM}"), "--settle=0".to_owned()])
            .start_ready(admin, SOON)
            .with_context(|| format!("role {}", self.name))?;
        Ok(Replica { program, admin })
    }
}

// === impl Replica ===

impl Replica {
    pub fn metrics(&self) -> Result<Samples> {
        self.program.metrics(self.admin)
    }
}

// === impl Installed ===

impl Installed {
    /// A new control plane with these namespaces that provide to others, the chart with these values (as in `a=b`), so many
    /// controllers, and a webhook.
    pub async fn start(providers: &[&str], values: &[&str], controllers: usize) -> Result<Self> {
        let plane = ControlPlane::start(Options::default())?;
        let admin = Admin::of(&plane).await?;
        for provider in providers {
            admin.namespace(provider, &[("provider", "true")]).await?;
        }
        install(&plane, values)?;
        let roles = (Role::of(&plane, "controller")?, Role::of(&plane, "webhook")?);
        let listen = free_address()?;
        lead_here(&plane, listen)?;
        let mut replicas = vec![roles.0.start(&plane, listen)?];
        eventually("somebody leads", SOON, async || {
            Ok(Some(()).filter(|()| holder(&plane).is_ok_and(is_there)))
        })
        .await?;
        while replicas.len() < controllers {
            replicas.push(roles.0.start(&plane, listen)?);
        }
        let webhook = roles.1.start(&plane, listen)?;
        Ok(Self { controllers: replicas, webhook, roles, listen, admin, plane })
    }

    /// A webhook in the place of the one that was killed.
    pub fn start_webhook(&mut self) -> Result<()> {
        self.webhook.program.kill();
        self.webhook = self.roles.1.start(&self.plane, self.listen)?;
        Ok(())
    }

    /// Another replica of the webhook, which nobody calls yet.
    pub fn another_webhook(&self, listen: SocketAddr) -> Result<Replica> {
        self.roles.1.start(&self.plane, listen)
    }

    /// Has the API server call this address instead.
    pub fn lead_to(&self, address: SocketAddr) -> Result<()> {
        lead_here(&self.plane, address)
    }

    /// Another controller in the place of the first one, which ends in order and gives its Lease back.
    pub fn replace_controller(&mut self) -> Result<()> {
        let mut old = self.controllers.remove(0);
        old.program.terminate(SOON)?;
        self.controllers.push(self.roles.0.start(&self.plane, self.listen)?);
        Ok(())
    }

    /// Where the webhook listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What the webhook's ServiceAccount may do, another process may.
    pub fn webhook_kubeconfig(&self) -> &Path {
        &self.roles.1.kubeconfig
    }

    /// The sum of a figure's series that carry these labels, over all controllers that run.
    pub fn figure(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.controllers.iter().filter_map(|replica| Some(replica.metrics().ok()?.sum(name, labels))).sum()
    }

    /// What the leader complains of, for the error of a trial that waits in vain.
    pub fn complaints(&self) -> Result<String> {
        let mut lines = Vec::new();
        for replica in self.controllers.iter().chain([&self.webhook]) {
            let log = replica.program.log()?;
            lines.extend(
                log.lines()
                    .filter(|line| {
                        ![r#""level":"INFO""#, r#""level":"DEBUG""#].iter().any(|level| line.contains(level))
                            && !line.contains("trying again")
                    })
                    .map(str::to_owned),
            );
        }
        Ok(lines.join("\n"))
    }
}

/// Installs the chart with these values.
pub fn install(cluster: &ControlPlane, values: &[&str]) -> Result<()> {
    let helm = cluster.helm_for(&cluster.kubeconfig())?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/chart");
    let chart = chart.to_str().context("a path that is no text")?;
    let mut arguments = vec!["install", "opportune", chart, "--namespace", SYSTEM, "--create-namespace"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    helm.run(&arguments)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    Ok(())
}

/// Without a node there are no endpoints: the Service is led to this machine, and to the process's port.
pub fn lead_here(cluster: &ControlPlane, listen: SocketAddr) -> Result<()> {
    let external = r#"{"spec": {"type": "ExternalName", "externalName": "localhost", "selector": null, "clusterIP": null, "clusterIPs": null}}"#;
    cluster.kubectl(&["patch", "service", "opportune", "-n", SYSTEM, "--type=merge", "-p", external])?;
    let port = |index| {
        let (op, value) = ("replace", listen.port());
        format!(
            r#"{{"op": "{op}", "path": "/webhooks/{index}/clientConfig/service/port", "value": {value}}}"#
        )
    };
    let names = ["get", "mutatingwebhookconfiguration", "opportune", "-o", "jsonpath={.webhooks[*].name}"];
    let count = cluster.kubectl(&names)?.split_whitespace().count();
    let ports = format!("[{}]", (0..count).map(port).collect::<Vec<_>>().join(", "));
    cluster.kubectl(&["patch", "mutatingwebhookconfiguration", "opportune", "--type=json", "-p", &ports])?;
    Ok(())
}

/// Who leads; empty where nobody does.
pub fn holder(cluster: &ControlPlane) -> Result<String> {
    cluster.kubectl(&["get", "lease", "opportune", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"])
}

fn is_there(holder: String) -> bool {
    !holder.is_empty()
}

/// What the condition `Ready` of a ServiceOffer says: its status, its reason and its message.
pub fn readiness(offer: &Value) -> (String, String, String) {
    let conditions = offer.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| text(condition, "/type") == "Ready");
    let part = |pointer| ready.map(|ready| text(ready, pointer)).unwrap_or_default().to_owned();
    (part("/status"), part("/reason"), part("/message"))
}
