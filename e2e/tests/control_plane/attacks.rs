//! Attacks on credentials and traffic, as docs/attacks.md lists them, by people who have a persona of the chart and no more. Each
//! has to fail, and to be seen. After all of them every Secret, object and output is searched for what was to be stolen.
use crate::{
    admin::Admin,
    attack_offers, attack_records, attack_texts,
    delivered::{PROMPT, content, directory, idle, together},
    installed::{Installed, SYSTEM},
    offers::{secret, storage_class},
    person::{Answer, DEPLOYMENTS, Person, binding},
    trial::trials,
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use opportune_e2e::{ControlPlane, Tool, eventually};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What every password begins with that is to be stolen.
pub const PLANTED: &str = "planted-5f2d-";
/// What a workload says of what is not there, whoever may have it.
pub const ABSENT: &str = "cache=absent: no offer";

/// A cluster with something to steal, and who wants it.
pub struct Scene {
    pub installed: Installed,
    pub admin: Admin,
    /// Has `edit` and the persona of an app developer in the namespaces of [`Scene::tenant`].
    pub mallory: Person,
    /// Where nothing may ever call.
    pub trap: Trap,
}

/// Somebody listens here, and counts who comes.
pub struct Trap {
    pub address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

// === impl Trap ===

impl Trap {
    async fn open() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, calls) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { address, calls })
    }
}

// === impl Scene ===

impl Scene {
    async fn set() -> Result<Self> {
        let values = ["rollouts=true", "log.level=debug", "providerNamespaces={directory}"];
        let installed = Installed::start(&["directory", "rival"], &values, 1).await?;
        let admin = installed.admin.clone();
        let mallory = Person::of(&installed.plane, "mallory").await?;
        let scene = Self { trap: Trap::open().await?, installed, admin, mallory };
        let admin = &scene.admin;
        admin.namespace("finance", &[("inject", "enabled")]).await?;
        for (namespace, name) in [("finance", "ledger"), ("directory", "reader"), ("directory", "root")] {
            admin.create(&planted(namespace, name)).await?;
        }
        admin.create(&offer("finance", "ledger", Some("ledger"), Value::Null)).await?;
        let mut people = directory("directory");
        let only = "kubernetes.io/metadata.name in (consented, consented-too, reused)";
        people["metadata"]["annotations"]["opportune.libre.sh/consumers"] = only.into();
        admin.create(&people).await?;
        admin.create(&storage_class("files", "rook-ceph.cephfs.csi.ceph.com")).await?;
        Ok(scene)
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.installed.plane
    }

    /// A namespace of mallory's, in which injection is on.
    pub async fn tenant(&self, name: &str) -> Result<String> {
        self.admin.namespace(name, &[("inject", "enabled")]).await?;
        for role in ["edit", "opportune-app-developer"] {
            self.admin.create(&binding(name, role, "mallory")).await?;
        }
        let pods = format!("/api/v1/namespaces/{name}/pods");
        eventually("mallory may work there", PROMPT, async || {
            Ok(self.mallory.ask("get", &pods, &Value::Null).await?.is_fine().then_some(()))
        })
        .await?;
        Ok(name.to_owned())
    }

    /// What becomes of mallory's workload with these wishes.
    pub async fn wishes(&self, namespace: &str, name: &str, wishes: &[(&str, &str)]) -> Result<Answer> {
        self.mallory.create(DEPLOYMENTS, &idle(Kind::Deployment, namespace, name, wishes)).await
    }

    /// A workload as it would be, were all of these objects in the cluster: with the record and the references of a real
    /// injection. Everybody has the program, and may tell it of a cluster what they like.
    pub fn forged(&self, workload: &Value, objects: &[Value]) -> Result<Value> {
        let folder = tempfile::tempdir_in(self.plane().directory())?;
        let (catalog, manifest) = (folder.path().join("catalog.json"), folder.path().join("manifest.json"));
        std::fs::write(&catalog, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
        std::fs::write(&manifest, workload.to_string())?;
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path that is no text");
        let (catalog, manifest) = (path(&catalog)?, path(&manifest)?);
        let said = self.program()?.run(&["inject", "-f", &manifest, "--catalog", &catalog, "-o", "json"])?;
        let list: Value = serde_json::from_str(&said)?;
        let forged = list["items"][0].clone();
        ensure!(!annotation(&forged, "injected").is_empty(), "nothing was forged: {said}");
        Ok(forged)
    }

    /// `opportune` as a program that needs no cluster.
    pub fn program(&self) -> Result<Tool> {
        self.plane().opportune_for(&self.plane().kubeconfig())
    }

    /// The Secrets of a namespace that hold anything that was to be stolen.
    pub async fn stolen(&self, namespace: &str) -> Result<BTreeSet<String>> {
        let secrets = self.admin.list("Secret", namespace).await?;
        let holds = |secret: &&Value| {
            let keys = secret["data"].as_object().into_iter().flatten();
            keys.filter_map(|(key, _)| content(secret, key)).any(|value| value.contains(PLANTED))
        };
        let place =
            |secret: &Value| format!("{}/{}", text(secret, "/metadata/namespace"), text(secret, "/metadata/name"));
        Ok(secrets.iter().filter(holds).map(place).collect())
    }

    /// An error where a namespace has anything that was to be stolen.
    pub async fn has_nothing(&self, namespace: &str) -> Result<()> {
        let stolen = self.stolen(namespace).await?;
        ensure!(stolen.is_empty(), "stolen: {stolen:?}");
        Ok(())
    }
}

/// A Secret that mallory would like to have.
pub fn planted(namespace: &str, name: &str) -> Value {
    secret(namespace, name, json!({"username": "reader", "bind-dn": "cn=reader", "password": format!("{PLANTED}{name}")}))
}

/// An offer of a cache, with the Secret of this name, to these consumers.
pub fn offer(namespace: &str, name: &str, source: Option<&str>, consumers: Value) -> Value {
    let mut offer = json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"intent": "cache", "settings": {"host": format!("{name}.example.org")}},
    });
    if let Some(source) = source {
        offer["spec"]["credentials"] = json!({"secretRef": {"name": source}});
    }
    if !consumers.is_null() {
        offer["spec"]["consumers"] = consumers;
    }
    offer
}

/// Where all of it may be: with those who own it, and with those who were given it.
const RIGHTFUL: [&str; 7] = [
    "finance/",
    "directory/",
    "rival/",
    "consented/",
    "consented-too/",
    "kiosk/private",
    "shared/opportune-cache-shared-cache-of-",
];

/// Every Secret of the cluster, every other object, and all that we print.
async fn nothing_is_found_anywhere(scene: &Scene) -> Result<()> {
    let is_rightful = |place: &String| RIGHTFUL.iter().any(|rightful| place.starts_with(rightful));
    let stolen: Vec<String> = scene.stolen("").await?.into_iter().filter(|place| !is_rightful(place)).collect();
    ensure!(stolen.is_empty(), "stolen: {stolen:?}");

    // In base64, the same text looks different by where it begins.
    let encoded = |skip: usize| STANDARD_NO_PAD.encode(&PLANTED[skip..skip + 9]);
    let needles = [PLANTED.to_owned(), encoded(0), encoded(1), encoded(2)];
    // Where it is, it would be found.
    let secrets = serde_json::to_string(&scene.admin.list("Secret", "finance").await?)?;
    ensure!(needles.iter().any(|needle| secrets.contains(needle)), "nothing can be found");
    let mut outputs = Vec::new();
    let Installed { controllers, webhook, .. } = &scene.installed;
    for replica in controllers.iter().chain([webhook]) {
        outputs.push(("a log", replica.program.log()?));
        outputs.push(("metrics", replica.program.get(replica.admin, "/metrics")?.1));
    }
    for kind in ["Deployment", "StatefulSet", "ReplicaSet", "Event", "ServiceOffer", "Service", "ConfigMap", "PersistentVolumeClaim", "Namespace"] {
        outputs.push((kind, serde_json::to_string(&scene.admin.list(kind, "").await?)?));
    }
    let audit = scene.plane().audit()?.into_iter();
    let audit = audit.filter(|event| text(event.json(), "/objectRef/resource") != "secrets");
    outputs.push(("the audit log", audit.map(|event| event.json().to_string()).collect()));
    for arguments in [&["report"][..], &["report", "-o=json"], &["catalog", "-o=json"], &["explain", "deploy/app", "-n=consented"], &["doctor"]] {
        let output = scene.program()?.output(arguments, "")?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        outputs.push(("a command", said.concat()));
    }
    let mut length = 0;
    for (name, output) in &outputs {
        length += output.len();
        ensure!(!output.is_empty(), "{name} is empty");
        for needle in &needles {
            let found = output.find(needle.as_str()).map(|at| output.get(at.saturating_sub(200)..at + 60));
            ensure!(found.is_none(), "{name} holds it: {found:?}");
        }
    }
    println!("    {} outputs, {} KiB: nothing of it", outputs.len(), length / 1024);
    let calls = scene.trap.calls.load(Ordering::Relaxed);
    ensure!(calls == 0, "{calls} calls to an address that an offer named");
    // Somebody listened.
    tokio::net::TcpStream::connect(scene.trap.address).await?;
    eventually("the trap works", PROMPT, async || Ok((scene.trap.calls.load(Ordering::Relaxed) == 1).then_some(()))).await
}

async fn every_attack_on_credentials_fails_and_is_seen() -> Result<()> {
    let scene = Scene::set().await?;
    let mut attacks = attack_offers::all(&scene);
    attacks.extend(attack_records::all(&scene));
    attacks.extend(attack_texts::all(&scene));
    println!("    {} attacks", attacks.len());
    together(attacks).await.with_context(|| format!("{SYSTEM}: {}", scene.installed.complaints().unwrap_or_default()))?;
    nothing_is_found_anywhere(&scene).await
}

trials![patient every_attack_on_credentials_fails_and_is_seen];
