//! What the fuzz targets share: a catalog with something of everything, and workloads as somebody hostile would write
//! them.
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use opportune_core::{
    discover::{Catalog, Inventory, Recipes},
    inject::profile::Profiles,
};
use serde_json::{Map, Value, json};

/// The namespace that workloads are in.
pub const NAMESPACE: &str = "blog";
/// The prefix of our keys.
pub const PREFIX: &str = "opportune.libre.sh/";

/// Offers of every intent: with and without credentials, with values that need an encoding, complete or not.
pub static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let recipes = Arc::new(Recipes::built_in().expect("the recipes are tested"));
    let profiles = Profiles::built_in().expect("the profiles are tested");
    let mut inventory = Inventory::new(recipes, profiles);
    for object in objects() {
        inventory.apply(&object).expect("the catalog's own objects can be read");
    }
    inventory.snapshot()
});

fn objects() -> Vec<Value> {
    let offer = |name: &str, spec: Value| {
        json!({
            "apiVersion": "opportune.libre.sh/v1alpha1",
            "kind": "ServiceOffer",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        })
    };
    let class = |name: &str, provisioner: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": provisioner,
        })
    };
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"opportune.libre.sh/inject": "enabled"}},
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "openldap",
                "namespace": NAMESPACE,
                "labels": {"opportune.libre.sh/offers": "ldap"},
                "annotations": {
                    "opportune.libre.sh/settings": "base-dn: dc=example,dc=org\nuser-filter: (uid=$(USER))",
                    "opportune.libre.sh/credentials": "reader",
                },
            },
            "spec": {"ports": [{"port": 636}], "selector": {"app": "openldap"}},
        }),
        offer(
            "smtp",
            json!({
                "intent": "mail",
                "settings": {"host": "smtp", "port": 587, "from": "a'\"b<$(X)>@example.org"},
                "credentials": {"secretRef": {"name": "account"}},
            }),
        ),
        offer("plain", json!({"intent": "mail", "settings": {"host": "mx", "port": 25, "from": "a@b"}})),
        offer(
            "statistics",
            json!({
                "intent": "analytics",
                "provider": "matomo",
                "settings": {"url": "https://stats.example.org/", "site-id": 7},
            }),
        ),
        offer(
            "redis",
            json!({"intent": "cache", "settings": {"host": "$(HOST)", "db": 0, "odd-one": "\u{e9}"}}),
        ),
        offer("half", json!({"intent": "queue", "settings": {"port": 5672}})),
        class("rook-cephfs", "rook-ceph.cephfs.csi.ceph.com"),
        class("rook-ceph-block", "rook-ceph.rbd.csi.ceph.com"),
    ]
}

const NAMES: [&str; 16] = [
    "app",
    "worker",
    "init",
    "",
    "data",
    "a/b",
    "~0~1",
    "\u{e9}",
    "LDAP_HOST",
    "LDAP_BIND_PASSWORD",
    "SMTP_HOST",
    "CACHE_HOST",
    "SERVICE_BINDING_ROOT",
    "opportune-ldap-0e2d4e",
    "data-651f33",
    "USER",
];
const PATHS: [&str; 8] =
    ["/data", "/data/", "/data/sub", "/", "", "/var/www/html", "/bindings/ldap", "relative"];
const TEXTS: [&str; 12] = [
    "",
    "1",
    "$(HOST)",
    "$$(X)",
    "ldap://x",
    "openldap.blog.svc",
    "\u{0}\n\u{7f}",
    "\u{2028}",
    "/bindings",
    "true",
    "ReadWriteMany",
    "rook-cephfs",
];
const IMAGES: [&str; 9] = [
    "",
    "nginx",
    "vaultwarden/server:1.34",
    "bitnami/wordpress@sha256:0",
    "gitea/gitea:1-rootless",
    "nextcloud",
    "docker.io/grafana/grafana",
    "::@@//",
    "localhost:5000/x",
];
/// Annotations, with values in and out of their grammar.
const ANNOTATIONS: [(&str, &[&str]); 16] = [
    (
        "wants",
        &["ldap", "ldap, mail analytics", "storage cache", "queue,nothing", "App", "ldap mail storage cache"],
    ),
    ("requires", &["ldap", "storage", "nothing", "queue", "", "mail,,cache"]),
    ("declines", &["*", "ldap", "* mail", "-"]),
    ("use.ldap", &["openldap", "blog/openldap", "other/openldap", "../x"]),
    ("use.mail", &["plain", "smtp", ""]),
    ("profile", &["none", "grafana", "nextcloud", "missing", ".."]),
    ("containers", &["app", "app,init", "worker", "nobody", ""]),
    (
        "env.ldap",
        &[
            "A=[[ldap.host]]",
            "A=[[ldap.user-filter|json]]\nB=$(A)[[ldap.password]]",
            "A=x[[ldap.user-filter]]",
        ],
    ),
    ("env.mail", &["FROM=[[mail.from|shell]]", "URL=[[mail.uri]]\nFROM=[[mail.from]]", "=", "#\n\n"]),
    ("env.cache", &["URL=redis://[[cache.host|uri]]/[[cache.db]]", "N=[[app.name]]", "N=[[app.url]]"]),
    ("files", &["true", "false", "yes"]),
    ("storage", &["/data=1Gi", "/data, /data/sub=2Gi", "/var/www/html=5Gi /cache", "/..", "/data=0"]),
    ("retain", &["true", "false", "maybe"]),
    ("refresh", &["never", "rollout", "now"]),
    ("inject", &["true", "false", "enabled"]),
    ("status", &["ldap=absent: no offer", "", "x"]),
];

/// Writes JSON that is almost a workload.
pub struct Writer<'a, 'b> {
    u: &'a mut Unstructured<'b>,
}

impl<'a, 'b> Writer<'a, 'b> {
    /// Writes by what `u` holds.
    pub fn new(u: &'a mut Unstructured<'b>) -> Self {
        Self { u }
    }

    /// Any JSON value.
    pub fn value(&mut self, depth: u8) -> Result<Value> {
        Ok(match self.u.int_in_range(0..=if depth == 0 { 4 } else { 6 })? {
            0 => Value::Null,
            1 => Value::Bool(self.u.arbitrary()?),
            2 => Value::from(self.u.arbitrary::<i64>()?),
            3 => Value::from(*self.u.choose(&TEXTS)?),
            4 => Value::from(self.u.arbitrary::<&str>()?),
            5 => {
                let length = self.u.int_in_range(0..=3)?;
                (0..length).map(|_| self.value(depth - 1)).collect::<Result<Vec<_>>>()?.into()
            }
            _ => {
                let length = self.u.int_in_range(0..=3)?;
                let mut map = Map::new();
                for _ in 0..length {
                    let key = self.name()?;
                    map.insert(key, self.value(depth - 1)?);
                }
                Value::Object(map)
            }
        })
    }

    /// A name from a small pool, so that names meet.
    pub fn name(&mut self) -> Result<String> {
        Ok((*self.u.choose(&NAMES)?).to_owned())
    }

    fn text(&mut self) -> Result<Value> {
        Ok((*self.u.choose(&TEXTS)?).into())
    }

    /// `value`, or something else in its place, or nothing.
    fn put(&mut self, map: &mut Map<String, Value>, key: &str, value: Value) -> Result<()> {
        match self.u.int_in_range(0..=23)? {
            0 => {}
            1 => {
                map.insert(key.into(), self.value(2)?);
            }
            _ => {
                map.insert(key.into(), value);
            }
        }
        Ok(())
    }

    fn list(&mut self, most: usize, one: impl Fn(&mut Self) -> Result<Value>) -> Result<Value> {
        let length = self.u.int_in_range(0..=most)?;
        (0..length).map(|_| one(self)).collect::<Result<Vec<_>>>().map(Value::from)
    }

    /// A map of annotations, some of them ours.
    pub fn annotations(&mut self) -> Result<Value> {
        let mut map = Map::new();
        for _ in 0..self.u.int_in_range(0..=5)? {
            let (key, values) = self.u.choose(&ANNOTATIONS)?;
            let value = match self.u.ratio(1, 12)? {
                true => self.value(1)?,
                false => (*self.u.choose(values)?).into(),
            };
            map.insert(format!("{PREFIX}{key}"), value);
        }
        if self.u.ratio(1, 8)? {
            let key = format!("{PREFIX}{}", self.name()?);
            map.insert(key, self.text()?);
        }
        Ok(Value::Object(map))
    }

    fn variable(&mut self) -> Result<Value> {
        let mut map = Map::new();
        let name = self.name()?;
        self.put(&mut map, "name", name.into())?;
        if self.u.ratio(2, 3)? {
            let text = self.text()?;
            self.put(&mut map, "value", text)?;
        }
        if self.u.ratio(1, 3)? {
            let from = json!({"secretKeyRef": {"name": self.name()?, "key": "password"}});
            self.put(&mut map, "valueFrom", from)?;
        }
        Ok(Value::Object(map))
    }

    fn mount(&mut self) -> Result<Value> {
        let mut map = Map::new();
        let name = self.name()?;
        self.put(&mut map, "name", name.into())?;
        let path = *self.u.choose(&PATHS)?;
        self.put(&mut map, "mountPath", path.into())?;
        if self.u.ratio(1, 6)? {
            map.insert("subPath".into(), self.text()?);
        }
        Ok(Value::Object(map))
    }

    fn volume(&mut self) -> Result<Value> {
        let mut map = Map::new();
        let name = self.name()?;
        self.put(&mut map, "name", name.into())?;
        if self.u.ratio(2, 3)? {
            let medium = if self.u.ratio(1, 4)? { json!({"medium": "Memory"}) } else { json!({}) };
            self.put(&mut map, "emptyDir", medium)?;
        }
        if self.u.ratio(1, 3)? {
            map.insert("persistentVolumeClaim".into(), json!({"claimName": self.name()?}));
        }
        Ok(Value::Object(map))
    }

    fn container(&mut self) -> Result<Value> {
        let mut map = Map::new();
        let name = self.name()?;
        self.put(&mut map, "name", name.into())?;
        let image = *self.u.choose(&IMAGES)?;
        self.put(&mut map, "image", image.into())?;
        if self.u.ratio(3, 4)? {
            let env = self.list(4, Self::variable)?;
            self.put(&mut map, "env", env)?;
        }
        if self.u.ratio(2, 3)? {
            let mounts = self.list(3, Self::mount)?;
            self.put(&mut map, "volumeMounts", mounts)?;
        }
        Ok(Value::Object(map))
    }

    fn claim_template(&mut self) -> Result<Value> {
        let mut spec = Map::new();
        let modes = json!(["ReadWriteOnce"]);
        self.put(&mut spec, "accessModes", modes)?;
        if self.u.ratio(1, 2)? {
            let class = self.text()?;
            self.put(&mut spec, "storageClassName", class)?;
        }
        spec.insert("resources".into(), json!({"requests": {"storage": "1Gi"}}));
        let mut map = Map::new();
        let name = self.name()?;
        self.put(&mut map, "metadata", json!({"name": name}))?;
        self.put(&mut map, "spec", Value::Object(spec))?;
        Ok(Value::Object(map))
    }

    /// A Deployment or StatefulSet, or almost one.
    pub fn workload(&mut self) -> Result<Value> {
        let is_set = self.u.ratio(1, 3)?;
        let mut pod = Map::new();
        let containers = self.list(3, Self::container)?;
        self.put(&mut pod, "containers", containers)?;
        if self.u.ratio(1, 3)? {
            let containers = self.list(2, Self::container)?;
            self.put(&mut pod, "initContainers", containers)?;
        }
        if self.u.ratio(2, 3)? {
            let volumes = self.list(3, Self::volume)?;
            self.put(&mut pod, "volumes", volumes)?;
        }
        if self.u.ratio(1, 4)? {
            self.put(&mut pod, "securityContext", json!({"runAsUser": 1}))?;
        }
        let mut template = Map::new();
        let annotations = self.annotations()?;
        let labels = json!({"app": *self.u.choose(&["openldap", "app"])?});
        self.put(&mut template, "metadata", json!({"labels": labels, "annotations": annotations}))?;
        self.put(&mut template, "spec", Value::Object(pod))?;
        let mut spec = Map::new();
        self.put(&mut spec, "template", Value::Object(template))?;
        if self.u.ratio(1, 4)? {
            self.put(&mut spec, "strategy", json!({"type": "Recreate"}))?;
        }
        if is_set {
            let templates = self.list(2, Self::claim_template)?;
            self.put(&mut spec, "volumeClaimTemplates", templates)?;
        }
        let mut metadata = Map::new();
        self.put(&mut metadata, "name", "shop".into())?;
        if self.u.ratio(1, 2)? {
            let annotations = self.annotations()?;
            self.put(&mut metadata, "annotations", annotations)?;
        }
        let mut object = Map::new();
        object.insert("apiVersion".into(), "apps/v1".into());
        object.insert("kind".into(), if is_set { "StatefulSet" } else { "Deployment" }.into());
        self.put(&mut object, "metadata", Value::Object(metadata))?;
        self.put(&mut object, "spec", Value::Object(spec))?;
        Ok(Value::Object(object))
    }
}

/// Whether an object has an annotation, on itself or on its pod template.
pub fn has_annotation(object: &Value, name: &str) -> bool {
    let key = format!("{PREFIX}{name}");
    ["/metadata/annotations", "/spec/template/metadata/annotations"]
        .iter()
        .any(|pointer| object.pointer(pointer).and_then(|map| map.get(&key)).is_some())
}
