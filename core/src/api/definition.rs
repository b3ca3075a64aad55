//! The CustomResourceDefinitions: the types' JSON Schemas, made structural as Kubernetes wants them.
use schemars::{
    JsonSchema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

use super::{AppProfile, InjectionPolicy, ServiceOffer};
use crate::keys::{API_VERSION, GROUP};

/// What an API server has to know of one resource beside its schema.
struct Resource {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    scope: &'static str,
    has_status: bool,
    columns: &'static [Column],
    schema: fn() -> Value,
}

/// A column of `kubectl get`: title, type and path; those of priority 1 are shown by `-o wide`.
struct Column(&'static str, &'static str, &'static str, i64);

const AGE: Column = Column("Age", "date", ".metadata.creationTimestamp", 0);

const RESOURCES: [Resource; 3] = [
    Resource {
        kind: "AppProfile",
        plural: "appprofiles",
        short: "appprof",
        scope: "Cluster",
        has_status: false,
        columns: &[Column("Images", "string", ".spec.images", 0)],
        schema: structural::<AppProfile>,
    },
    Resource {
        kind: "InjectionPolicy",
        plural: "injectionpolicies",
        short: "injpol",
        scope: "Cluster",
        has_status: true,
        columns: &[
            Column("Enforce", "string", ".spec.enforce", 0),
            Column("Defaults", "string", ".spec.defaults", 0),
            AGE,
        ],
        schema: structural::<InjectionPolicy>,
    },
    Resource {
        kind: "ServiceOffer",
        plural: "serviceoffers",
        short: "offer",
        scope: "Namespaced",
        has_status: true,
        columns: &[
            Column("Intent", "string", ".spec.intent", 0),
            Column("Provider", "string", ".spec.provider", 0),
            Column("Priority", "integer", ".spec.priority", 0),
            Column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status", 0),
            Column("Consumers", "integer", ".status.consumers", 0),
            AGE,
            Column("Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", 1),
        ],
        schema: structural::<ServiceOffer>,
    },
];

/// The CustomResourceDefinitions of our resources, by name.
pub fn definitions() -> Vec<Value> {
    RESOURCES.iter().map(Resource::definition).collect()
}

// === impl Resource ===

impl Resource {
    fn definition(&self) -> Value {
        let version = API_VERSION.rsplit_once('/').map_or(API_VERSION, |(_, version)| version);
        let mut served = json!({
            "name": version,
            "served": true,
            "storage": true,
            "additionalPrinterColumns": self.columns.iter().map(Column::printed).collect::<Vec<_>>(),
            "schema": {"openAPIV3Schema": (self.schema)()},
        });
        if let (true, Some(fields)) = (self.has_status, served.as_object_mut()) {
            fields.insert("subresources".to_owned(), json!({"status": {}}));
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{GROUP}", self.plural)},
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                    "shortNames": [self.short],
                    "categories": ["opportune"],
                },
                "scope": self.scope,
                "versions": [served],
            },
        })
    }
}

// === impl Column ===

impl Column {
    fn printed(&self) -> Value {
        let Self(name, kind, path, priority) = self;
        let mut column = json!({"name": name, "type": kind, "jsonPath": path});
        if let (1.., Some(fields)) = (*priority, column.as_object_mut()) {
            fields.insert("priority".to_owned(), json!(priority));
        }
        column
    }
}

/// The schema of a resource, without references, in Kubernetes' dialect.
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
        settings.transforms.push(Box::new(Structural));
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    let mut schema = schema.to_value();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let own = ["apiVersion", "kind"].map(|name| (name.to_owned(), json!({"type": "string"})));
        let own = own.into_iter().chain([("metadata".to_owned(), json!({"type": "object"}))]);
        *properties = own.chain(std::mem::take(properties)).collect();
    }
    in_order(schema)
}

/// Takes away what a structural schema may not hold: `additionalProperties: false` (unknown fields are pruned, or refused by
/// the server's field validation), `nullable`, and defaults that say no more than that a field may be absent.
#[derive(Debug, Clone)]
struct Structural;

impl Transform for Structural {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("nullable");
            fields.retain(|key, value| match key.as_str() {
                "additionalProperties" => *value != Value::Bool(false),
                "default" => !is_empty(value),
                _ => true,
            });
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = unwrapped(text);
            }
        }
        transform_subschemas(self, schema);
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A doc comment with one line for each of its paragraphs.
fn unwrapped(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// The same schema with a description before what it describes, and all that is no name of a field in one order.
fn in_order(schema: Value) -> Value {
    const FIRST: [&str; 3] = ["description", "type", "format"];
    match schema {
        Value::Object(mut fields) => {
            let mut sorted = Map::new();
            for key in FIRST {
                sorted.extend(fields.shift_remove(key).map(|value| (key.to_owned(), value)));
            }
            let mut rest: Vec<(String, Value)> = fields.into_iter().collect();
            rest.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, value) in rest {
                let value = match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => properties
                        .into_iter()
                        .map(|(name, property)| (name, in_order(property)))
                        .collect::<Map<_, _>>()
                        .into(),
                    ("items" | "additionalProperties", value) => in_order(value),
                    (_, value) => value,
                };
                sorted.insert(key, value);
            }
            Value::Object(sorted)
        }
        other => other,
    }
}
