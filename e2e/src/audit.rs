//! The API server's audit log: who wrote what, and what the webhooks did to it.
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, path::Path};

/// Every write, at the level at which the API server notes each webhook's patch as an annotation.
pub(crate) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: None
  resources:
  - group: coordination.k8s.io
  - group: events.k8s.io
  - group: ''
    resources: [events]
- level: Request
";

/// One write that the API server answered.
#[derive(Debug, Clone)]
pub struct AuditEvent(Value);

// === impl AuditEvent ===

impl AuditEvent {
    /// The whole event, of the kind `Event` in `audit.k8s.io/v1`.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Whether it is about this object: `resource` in the plural and lower case, as in `deployments`.
    #[must_use]
    pub fn is_about(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let is = |field: &str, value: &str| {
            self.0.pointer(&format!("/objectRef/{field}")).and_then(Value::as_str).unwrap_or_default()
                == value
        };
        is("resource", resource) && is("namespace", namespace) && is("name", name)
    }

    /// What was done, as in `create`.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.0.get("verb").and_then(Value::as_str).unwrap_or_default()
    }

    /// The annotations: webhooks' own, and `patch.webhook.admission.k8s.io/...` of the API server.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        let annotations = self.0.get("annotations").and_then(Value::as_object);
        annotations.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

/// All events so far. A line that is still being written is left out.
pub(crate) fn read(path: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read(path).with_context(|| format!("reading the audit log {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(AuditEvent).collect())
}
