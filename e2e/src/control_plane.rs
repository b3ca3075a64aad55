//! The control plane as a whole: its files, its programs, and who may speak with it.
use crate::{
    Assets, AuditEvent, Component, Namespace, Samples, Tool, audit,
    certificates::{Authority, Identity, signing_key},
    component::Setting,
    free_address,
    kubeconfig::{self, Credential},
    logs,
    process::Process,
    program,
};
use anyhow::{Context, Result, bail};
use kube::{Client, Config, config::Kubeconfig};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a start may take: 4 s alone on 2 cores, many times that beside a build.
const START: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// The API server's names, and its addresses but that of a node.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "kubernetes.default.svc", "10.96.0.1"];

/// What may differ from one control plane to the next.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further flags of kube-apiserver, each in the form `--flag=value`.
    pub api_server_flags: Vec<String>,
    /// The address of this machine on which nodes and pods reach the API server; none: it serves on loopback only.
    pub node_address: Option<Ipv4Addr>,
}

/// A control plane on loopback, stopped and removed when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    processes: Mutex<BTreeMap<Component, Process>>,
    assets: Assets,
    options: Options,
    authority: Authority,
    etcd: SocketAddr,
    etcd_peers: SocketAddr,
    address: SocketAddr,
    names: AtomicU32,
    // Last, so that it is removed when nobody writes into it any more.
    directory: TempDir,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts one, and waits until it serves.
    ///
    /// # Errors
    /// A program is missing, or did not start: then with the end of its log.
    pub fn start(options: Options) -> Result<Self> {
        let plane = Self {
            processes: Mutex::default(),
            assets: Assets::find()?,
            options,
            authority: Authority::new()?,
            etcd: free_address()?,
            etcd_peers: free_address()?,
            address: free_address()?,
            names: AtomicU32::new(0),
            directory: tempfile::Builder::new().prefix("opportune-e2e-").tempdir()?,
        };
        plane.write_files()?;
        plane.start_again()?;
        Ok(plane)
    }

    /// The programs that it runs.
    #[must_use]
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Its folder: logs, certificates, kubeconfigs, and what tests write there. Removed at the end.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the API server listens, as in `https://127.0.0.1:20443`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where nodes and pods find it: the node's address, or loopback where there is none.
    #[must_use]
    pub fn node_url(&self) -> String {
        match self.options.node_address {
            Some(address) => format!("https://{address}:{}", self.address.port()),
            None => self.url(),
        }
    }

    /// The kubeconfig of the administrator (the group `system:masters`).
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }

    /// What `kubectl` prints for the administrator.
    ///
    /// # Errors
    /// It failed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_for(&self.kubeconfig())?.run(arguments)
    }

    /// Applies a manifest (YAML or JSON) as the administrator; what `kubectl apply` prints.
    ///
    /// # Errors
    /// It was refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_for(&self.kubeconfig())?.feed(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl` for the user of this kubeconfig.
    ///
    /// # Errors
    /// The program is missing.
    pub fn kubectl_for(&self, kubeconfig: &Path) -> Result<Tool> {
        let environment = vec![
            ("KUBECONFIG".into(), kubeconfig.into()),
            ("KUBECACHEDIR".into(), self.file("kubectl-cache").into()),
            // A run is over before it pays to look for garbage: a quarter of its time.
            ("GOGC".into(), "off".into()),
            ("GOMEMLIMIT".into(), "512MiB".into()),
        ];
        Ok(Tool::new(self.assets.program("kubectl")?, environment))
    }

    /// `helm` for the user of this kubeconfig, with folders of its own.
    ///
    /// # Errors
    /// The program is missing.
    pub fn helm_for(&self, kubeconfig: &Path) -> Result<Tool> {
        let mut environment = vec![("KUBECONFIG".into(), kubeconfig.into())];
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "helm/cache"),
            ("HELM_CONFIG_HOME", "helm/config"),
            ("HELM_DATA_HOME", "helm/data"),
        ] {
            environment.push((variable.into(), self.file(folder).into()));
        }
        Ok(Tool::new(self.assets.helm()?, environment))
    }

    /// `opportune`, run to its end, for the user of this kubeconfig.
    ///
    /// # Errors
    /// It was not built.
    pub fn opportune_for(&self, kubeconfig: &Path) -> Result<Tool> {
        Ok(Tool::new(program::binary()?, vec![("KUBECONFIG".into(), kubeconfig.into())]))
    }

    /// A client for the administrator.
    ///
    /// # Errors
    /// The kubeconfig can't be read.
    pub async fn client(&self) -> Result<Client> {
        self.client_for(&self.kubeconfig()).await
    }

    /// A client for the user of this kubeconfig.
    ///
    /// # Errors
    /// The kubeconfig can't be read.
    pub async fn client_for(&self, kubeconfig: &Path) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// A namespace for one test, in which pods can be made at once.
    ///
    /// # Errors
    /// It was refused, or has no ServiceAccount after some time.
    pub fn namespace(&self, prefix: &str) -> Result<Namespace> {
        self.labelled_namespace(prefix, &[])
    }

    /// Likewise, with these labels from its first moment on: what selects namespaces never sees it without.
    ///
    /// # Errors
    /// It was refused, or has no ServiceAccount after some time.
    pub fn labelled_namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> Result<Namespace> {
        let name = format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let manifest =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let kubectl = self.kubectl_for(&self.kubeconfig())?;
        kubectl.feed(&["create", "-f", "-"], &manifest.to_string())?;
        let namespace = Namespace::new(name, kubectl);
        self.wait_for_service_account(&namespace)?;
        Ok(namespace)
    }

    /// The kubeconfig of a ServiceAccount that exists, with a token for an hour.
    ///
    /// # Errors
    /// There is no such ServiceAccount.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration=1h"])?;
        let path = self.file(&format!("service-account-{namespace}-{name}.kubeconfig"));
        self.write_kubeconfig(&path, &Credential::Token(token.trim()))?;
        Ok(path)
    }

    /// The kubeconfig of a user in two groups at most, by a client certificate.
    ///
    /// # Errors
    /// More groups.
    pub fn user_kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let path = self.file(&format!("user-{number}.kubeconfig"));
        let identity = self.authority.client(user, groups)?;
        self.write_kubeconfig(&path, &Credential::Certificate(&identity))?;
        Ok(path)
    }

    /// The API server's figures.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<Samples> {
        Ok(Samples::parse(&self.kubectl(&["get", "--raw", "/metrics"])?))
    }

    /// How often the API server called this webhook since it started. `webhook` is the name in the list `webhooks` of a
    /// configuration, not the name of the configuration.
    ///
    /// # Errors
    /// It does not answer.
    pub fn webhook_calls(&self, webhook: &str) -> Result<u64> {
        let sum = self.metrics()?.sum("apiserver_admission_webhook_request_total", &[("name", webhook)]);
        // A count of calls: whole, not negative, and far below 2^52.
        Ok(sum as u64)
    }

    /// All writes that the API server answered so far, in order.
    ///
    /// # Errors
    /// There is no audit log.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.file("audit.log"))
    }

    /// Kills the API server; etcd and the others go on.
    pub fn stop_api_server(&self) {
        self.stop_component(Component::ApiServer);
    }

    /// Starts the API server again, at the same address, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start: then with the end of its log.
    pub fn start_api_server(&self) -> Result<()> {
        self.start_component(Component::ApiServer)?;
        self.wait_for_api_server()?;
        self.wait_for_controllers()
    }

    /// Kills the API server and starts it again. Its figures begin at zero, its audit log goes on.
    ///
    /// # Errors
    /// It does not start: then with the end of its log.
    pub fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server();
        self.start_api_server()
    }

    /// Starts all programs again, with the data that they had, and waits until they serve.
    ///
    /// # Errors
    /// One does not start: then with the end of its log.
    pub fn start_again(&self) -> Result<()> {
        for component in Component::ALL {
            self.start_component(component)?;
            if component == Component::ApiServer {
                // The controller manager waits 10 s for it, and ends; on a node, it would be started again.
                self.wait_for_api_server()?;
            }
        }
        self.wait_for_controllers()
    }

    /// The ids of the processes that were started and not stopped.
    #[must_use]
    pub fn processes(&self) -> Vec<(Component, u32)> {
        self.running().iter().map(|(component, process)| (*component, process.id())).collect()
    }

    /// Kills all programs. Nothing happens where it is stopped already.
    pub fn stop(&self) {
        // The clients first, or their logs end with complaints that hide what matters.
        for component in Component::ALL.into_iter().rev() {
            self.stop_component(component);
        }
    }

    /// Copies the logs to a folder, which is made.
    ///
    /// # Errors
    /// That failed.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(self.directory())? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "log"))
            {
                fs::copy(&path, folder.join(name))?;
            }
        }
        Ok(())
    }

    fn write_files(&self) -> Result<()> {
        let mut names: Vec<String> = NAMES.map(str::to_owned).into();
        names.extend(self.options.node_address.map(|address| address.to_string()));
        let server = self.authority.server(&names)?;
        let kubelets = self.authority.client("kube-apiserver", &["system:masters"])?;
        let (private, public) = signing_key()?;
        for (name, text) in [
            ("authority.crt", self.authority.certificate()),
            ("authority.key", self.authority.key()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("kubelets.crt", kubelets.certificate),
            ("kubelets.key", kubelets.key),
            ("tokens.key", private),
            ("tokens.pub", public),
            ("audit-policy.yaml", audit::POLICY.to_owned()),
        ] {
            fs::write(self.file(name), text).with_context(|| format!("writing {name}"))?;
        }
        for (name, user, groups) in [
            ("admin", "e2e-admin", vec!["system:masters"]),
            ("kube-controller-manager", "system:kube-controller-manager", vec![]),
            ("kube-scheduler", "system:kube-scheduler", vec![]),
        ] {
            let identity: Identity = self.authority.client(user, &groups)?;
            self.write_kubeconfig(
                &self.file(&format!("{name}.kubeconfig")),
                &Credential::Certificate(&identity),
            )?;
        }
        Ok(())
    }

    fn write_kubeconfig(&self, path: &Path, credential: &Credential<'_>) -> Result<()> {
        kubeconfig::write(path, &self.url(), &self.authority.certificate(), credential)
    }

    /// `NAME.kubeconfig`, for a part of a node.
    pub(crate) fn write_node_kubeconfig(&self, name: &str, user: &str, groups: &[&str]) -> Result<()> {
        let identity = self.authority.client(user, groups)?;
        let path = self.file(&format!("{name}.kubeconfig"));
        let credential = Credential::Certificate(&identity);
        kubeconfig::write(&path, &self.node_url(), &self.authority.certificate(), &credential)
    }

    fn start_component(&self, component: Component) -> Result<()> {
        let setting = Setting {
            directory: self.directory(),
            etcd: &format!("http://{}", self.etcd),
            etcd_peers: &format!("http://{}", self.etcd_peers),
            port: self.address.port(),
            node_address: self.options.node_address,
            api_server_flags: &self.options.api_server_flags,
        };
        let name = component.name();
        let process = Process::start(
            name,
            &self.assets.program(name)?,
            component.flags(&setting),
            [],
            self.file(&format!("{name}.log")),
        )?;
        self.running().insert(component, process);
        Ok(())
    }

    fn stop_component(&self, component: Component) {
        // Dropping kills.
        let _ = self.running().remove(&component);
    }

    fn wait_for_api_server(&self) -> Result<()> {
        let start = Instant::now();
        let kubectl = self.kubectl_for(&self.kubeconfig())?;
        loop {
            self.running().values_mut().try_for_each(Process::ensure_running)?;
            match kubectl.run(&["get", "--raw", "/readyz", "--request-timeout=5s"]) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > START => {
                    let server = self.running().get(&Component::ApiServer).map(Process::tail);
                    bail!(
                        "the API server is not ready after {START:?}: {error}; {}",
                        server.unwrap_or_default()
                    );
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn wait_for_controllers(&self) -> Result<()> {
        // Made by the controller manager, so that it is known to be at work.
        self.wait_for_service_account("default")?;
        self.running().values_mut().try_for_each(Process::ensure_running)
    }

    fn wait_for_service_account(&self, namespace: &str) -> Result<()> {
        let start = Instant::now();
        while self.kubectl(&["get", "serviceaccount", "default", "--namespace", namespace]).is_err() {
            if start.elapsed() > START {
                let manager = self.running().get(&Component::ControllerManager).map(Process::tail);
                let tail = manager.unwrap_or_default();
                bail!("the controller manager gave {namespace} no ServiceAccount in {START:?}; {tail}");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop();
        if let Some(folder) = logs::folder()
            && let Err(error) = self.keep_logs(&folder)
        {
            println!("{error:#}");
        }
    }
}
