//! The four programs of a control plane, and the flags with which they run.
use std::{net::Ipv4Addr, path::Path};

/// A program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Keeps all objects.
    Etcd,
    /// Serves them, and calls webhooks.
    ApiServer,
    /// Makes pods out of workloads, among much else.
    ControllerManager,
    /// Looks for nodes for pods; here are none.
    Scheduler,
}

/// What the flags name.
pub(crate) struct Setting<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) etcd: &'a str,
    pub(crate) etcd_peers: &'a str,
    pub(crate) port: u16,
    pub(crate) node_address: Option<Ipv4Addr>,
    pub(crate) api_server_flags: &'a [String],
}

// === impl Component ===

impl Component {
    /// In the order in which they start.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// The name of its program, and of its log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    pub(crate) fn flags(self, setting: &Setting<'_>) -> Vec<String> {
        match self {
            Self::Etcd => etcd(setting),
            Self::ApiServer => api_server(setting),
            Self::ControllerManager => controller_manager(setting),
            Self::Scheduler => scheduler(setting),
        }
    }
}

// === impl Setting ===

impl Setting<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

fn etcd(setting: &Setting<'_>) -> Vec<String> {
    vec![
        "--name=e2e".to_owned(),
        format!("--data-dir={}", setting.file("etcd")),
        format!("--listen-client-urls={}", setting.etcd),
        format!("--advertise-client-urls={}", setting.etcd),
        format!("--listen-peer-urls={}", setting.etcd_peers),
        format!("--initial-advertise-peer-urls={}", setting.etcd_peers),
        format!("--initial-cluster=e2e={}", setting.etcd_peers),
        // Nothing here outlives the machine, and waiting for the disk is most of a start.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server(setting: &Setting<'_>) -> Vec<String> {
    let mut flags = vec![
        format!("--etcd-servers={}", setting.etcd),
        format!("--secure-port={}", setting.port),
        // All addresses, where there is a node: of the machine that a node's tests have for themselves.
        format!("--bind-address={}", setting.node_address.map_or("127.0.0.1", |_| "0.0.0.0")),
        format!("--advertise-address={}", setting.node_address.unwrap_or(Ipv4Addr::LOCALHOST)),
        format!("--kubelet-client-certificate={}", setting.file("kubelets.crt")),
        format!("--kubelet-client-key={}", setting.file("kubelets.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--tls-cert-file={}", setting.file("server.crt")),
        format!("--tls-private-key-file={}", setting.file("server.key")),
        format!("--client-ca-file={}", setting.file("authority.crt")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", setting.file("tokens.pub")),
        format!("--service-account-signing-key-file={}", setting.file("tokens.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", setting.file("audit-policy.yaml")),
        format!("--audit-log-path={}", setting.file("audit.log")),
    ];
    flags.extend(setting.api_server_flags.iter().cloned());
    flags
}

fn controller_manager(setting: &Setting<'_>) -> Vec<String> {
    let mut flags = client(setting, "kube-controller-manager.kubeconfig");
    flags.extend([
        format!("--service-account-private-key-file={}", setting.file("tokens.key")),
        format!("--root-ca-file={}", setting.file("authority.crt")),
        format!("--cluster-signing-cert-file={}", setting.file("authority.crt")),
        format!("--cluster-signing-key-file={}", setting.file("authority.key")),
        // Each controller with the rights of its own, as in clusters that people run.
        "--use-service-account-credentials=true".to_owned(),
    ]);
    flags
}

fn scheduler(setting: &Setting<'_>) -> Vec<String> {
    client(setting, "kube-scheduler.kubeconfig")
}

fn client(setting: &Setting<'_>, kubeconfig: &str) -> Vec<String> {
    let kubeconfig = setting.file(kubeconfig);
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        // Their own ports are fixed, so that two control planes on one machine would collide, without a word.
        "--secure-port=0".to_owned(),
    ]
}
