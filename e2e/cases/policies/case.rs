//! One case of a policy: what stands in the cluster, what is applied, and what has to come of it. The engine's tests and those
//! on a real API server read the same files.
use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The namespace that expectations name.
pub const NAMESPACE: &str = "blog";
const PREFIX: &str = "opportune.libre.sh/";
const INJECTED: &str = "/metadata/annotations/opportune.libre.sh~1injected";
const STATUS: &str = "/metadata/annotations/opportune.libre.sh~1status";

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// The policies, by name; each selects the case's namespace besides what it says itself.
    #[serde(default)]
    pub policies: BTreeMap<String, Value>,
    /// Labels and annotations of the Namespace, without our prefix. Where nothing is said, injection is on.
    #[serde(default)]
    pub namespace: NamespaceSpec,
    /// Objects that stand in the namespace.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// What was applied first, and under which policies.
    pub before: Option<Before>,
    /// What is applied.
    #[serde(default)]
    pub workload: WorkloadSpec,
}

/// Labels and annotations of a Namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceSpec {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// What was applied before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The policies of that time.
    #[serde(default)]
    pub policies: BTreeMap<String, Value>,
    /// What was applied then; the same as now, where nothing is said.
    pub workload: Option<WorkloadSpec>,
}

/// A workload.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadSpec {
    kind: String,
    image: String,
    /// Annotations of the pod template, without our prefix.
    annotations: BTreeMap<String, String>,
    /// The workload's own labels.
    labels: BTreeMap<String, String>,
    /// Variables of its first container.
    env: BTreeMap<String, String>,
    /// Names of further containers.
    sidecars: Vec<String>,
    /// The record that it brings along.
    record: Option<Value>,
    /// Whether another controller owns it.
    is_controlled: bool,
}

/// What comes of a case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outcome {
    /// The refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub denied: String,
    /// The annotation `status`; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The variables, as `CONTAINER NAME=VALUE`; those from a Secret as `CONTAINER NAME from KEY`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The volumes that were chosen, as `PATH SIZE CLASS`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// The warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

// === impl Case ===

impl Case {
    /// All cases of a folder, with the file that each stands in.
    pub fn all(folder: &Path) -> Vec<(String, Self)> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_cases = |path: &std::path::PathBuf| {
            path.extension().is_some_and(|extension| extension == "yaml")
                && path.file_name().is_some_and(|name| name != "cluster.yaml")
        };
        let mut files: Vec<_> = files.filter(is_cases).collect();
        files.sort();
        let read = |path: &std::path::PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            let cases: Vec<Self> =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let file = path.file_stem().unwrap().to_string_lossy().into_owned();
            cases.into_iter().map(move |case| (file.clone(), case)).collect::<Vec<_>>()
        };
        files.iter().flat_map(read).collect()
    }

    /// The Namespace.
    pub fn namespace(&self, name: &str) -> Value {
        let mut labels = keyed(&self.namespace.labels);
        labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": labels, "annotations": keyed(&self.namespace.annotations)}})
    }

    /// The objects that stand in the namespace.
    pub fn objects(&self, namespace: &str) -> Vec<Value> {
        let placed = self.objects.iter().cloned().map(|mut object| {
            object["metadata"]["namespace"] = json!(namespace);
            object
        });
        placed.collect()
    }

    /// The workload that was applied before, where one was.
    pub fn workload_before(&self) -> Option<&WorkloadSpec> {
        let before = self.before.as_ref()?;
        Some(before.workload.as_ref().unwrap_or(&self.workload))
    }
}

/// Policies as objects, whose names begin with `prefix`, and that act in no other namespace.
pub fn policies(specs: &BTreeMap<String, Value>, prefix: &str, namespace: &str) -> Vec<Value> {
    let policy = |(name, spec): (&String, &Value)| {
        let mut spec = spec.clone();
        spec["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = json!(namespace);
        json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy",
            "metadata": {"name": format!("{prefix}{name}")}, "spec": spec})
    };
    specs.iter().map(policy).collect()
}

fn keyed(map: &BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(key, value)| (format!("{PREFIX}{key}"), json!(value))).collect()
}

// === impl NamespaceSpec ===

impl Default for NamespaceSpec {
    fn default() -> Self {
        let labels = BTreeMap::from([("inject".to_owned(), "enabled".to_owned())]);
        Self { labels, annotations: BTreeMap::new() }
    }
}

// === impl WorkloadSpec ===

impl Default for WorkloadSpec {
    fn default() -> Self {
        Self {
            kind: "Deployment".to_owned(),
            image: "example.org/unknown:1".to_owned(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            sidecars: Vec::new(),
            record: None,
            is_controlled: false,
        }
    }
}

impl WorkloadSpec {
    /// The object.
    pub fn object(&self, namespace: &str) -> Value {
        let env: Vec<Value> =
            self.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut app = json!({"name": "app", "image": self.image});
        if !env.is_empty() {
            app["env"] = env.into();
        }
        let sidecars = self.sidecars.iter().map(|name| json!({"name": name, "image": "example.org/side:1"}));
        let containers: Vec<Value> = std::iter::once(app).chain(sidecars).collect();
        let mut object = json!({"apiVersion": "apps/v1", "kind": self.kind,
            "metadata": {"name": "app", "namespace": namespace, "labels": self.labels, "annotations": {"who": "us"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": {
                "metadata": {"labels": {"app": "app"}, "annotations": keyed(&self.annotations)},
                "spec": {"containers": containers}}}});
        if self.kind == "StatefulSet" {
            object["spec"]["serviceName"] = json!("app");
        }
        if let Some(record) = &self.record {
            object["metadata"]["annotations"][format!("{PREFIX}injected")] = json!(record.to_string());
        }
        if self.is_controlled {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.org/v1", "kind": "Operator",
                "name": "op", "uid": "d9607e19-f88f-11e6-a518-42010a800195", "controller": true}]);
        }
        object
    }
}

/// What has to come of each case, by its name.
pub type Expected = BTreeMap<String, Outcome>;

/// Reads what has to come of the cases of a folder.
pub fn expected(folder: &Path) -> Expected {
    serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap()
}

// === impl Outcome ===

impl Outcome {
    /// What came of a case that was admitted.
    pub fn of(object: &Value, warnings: &[String]) -> Self {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
        let env = containers.flat_map(|container| {
            let entries = container["env"].as_array().into_iter().flatten();
            entries.map(|entry| {
                let (container, name) = (text(&container["name"]), text(&entry["name"]));
                match entry.pointer("/valueFrom/secretKeyRef/key") {
                    Some(key) => format!("{container} {name} from {}", text(key)),
                    None => format!("{container} {name}={}", text(&entry["value"])),
                }
            })
        });
        let record = object.pointer(INJECTED).and_then(Value::as_str).unwrap_or("{}");
        let record: Value = serde_json::from_str(record).unwrap();
        let claims = record["claims"].as_object().into_iter().flatten();
        let claims =
            claims.map(|(path, claim)| format!("{path} {} {}", text(&claim["size"]), text(&claim["class"])));
        let templates = object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
        let templates = templates.map(|template| {
            let size = text(&template["spec"]["resources"]["requests"]["storage"]);
            format!("template {size} {}", text(&template["spec"]["storageClassName"]))
        });
        Self {
            denied: String::new(),
            status: object.pointer(STATUS).map(text).unwrap_or_default().to_owned(),
            env: env.collect(),
            volumes: claims.chain(templates).collect(),
            warnings: warnings.to_vec(),
        }
    }

    /// What came of a case that was refused.
    pub fn refused(reason: &str) -> Self {
        Self { denied: reason.to_owned(), ..Self::default() }
    }

    /// The same with other names in it.
    pub fn renamed(&self, names: &[(&str, &str)]) -> Self {
        let one = |text: &String| names.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
        let all = |texts: &Vec<String>| texts.iter().map(one).collect();
        Self {
            denied: one(&self.denied),
            status: one(&self.status),
            env: all(&self.env),
            volumes: all(&self.volumes),
            warnings: all(&self.warnings),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
