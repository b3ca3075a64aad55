//! Which namespaces and kinds the API server calls us for, read back from a webhook configuration.
use crate::cluster::{
    CONFIGURATION,
    look::{Kind, Look},
};
use kube::Client;
use opportune_core::{
    admit::Mode,
    keys,
    workload::{self, Kinds},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// The resource of webhook configurations.
pub const CONFIGURATIONS: Kind =
    Kind::of("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations");

/// Which namespaces the API server calls us for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where injection is on.
    pub mode: Mode,
    /// Namespaces that are never touched, kube-system among them.
    pub excluded_namespaces: Vec<String>,
    /// Which kinds of workloads it calls us for.
    pub kinds: Kinds,
}

// === impl Reach ===

impl Reach {
    /// What the configuration `opportune` of a cluster says; `Missing` where there is none, or where its selectors are
    /// not like those that we write.
    pub async fn read(client: &Client) -> Look<Self> {
        match CONFIGURATIONS.get(client, None, CONFIGURATION).await.map(|object| Self::of(&object)) {
            Look::Found(Some(reach)) => Look::Found(reach),
            Look::Found(None) | Look::Missing => Look::Missing,
            Look::Forbidden(right) => Look::Forbidden(right),
            Look::Failed(reason) => Look::Failed(reason),
        }
    }

    /// What a configuration says by the selector of its first webhook; `None` where we would not have written it so.
    pub fn of(configuration: &Value) -> Option<Self> {
        let expressions =
            configuration.pointer("/webhooks/0/namespaceSelector/matchExpressions")?.as_array()?;
        let values = |key: &str, operator: &str| {
            let wanted = |e: &&Value| {
                e.get("key").is_some_and(|k| k == key) && e.get("operator").is_some_and(|o| o == operator)
            };
            let values = expressions.iter().find(wanted)?.get("values")?.as_array()?;
            Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
        };
        let mode = match (values(keys::INJECT, "In"), values(keys::INJECT, "NotIn")) {
            (Some(on), None) if on == ["enabled"] => Mode::OptIn,
            (None, Some(off)) if off == ["disabled"] => Mode::ClusterWide,
            _ => return None,
        };
        let excluded_namespaces = values(keys::NAMESPACE_NAME, "NotIn").unwrap_or_default();
        Some(Self { mode, excluded_namespaces, kinds: kinds(configuration) })
    }
}

/// The kinds in the rules of a configuration; where it names none, the default ones.
fn kinds(configuration: &Value) -> Kinds {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned();
    let webhooks = list(configuration, "webhooks").into_iter().flatten();
    let rules = webhooks.flat_map(|webhook| list(&webhook, "rules").unwrap_or_default());
    let resources = rules.flat_map(|rule| list(&rule, "resources").unwrap_or_default());
    let known = resources.filter_map(|resource| resource.as_str()?.parse::<workload::Kind>().ok());
    let known: BTreeSet<_> = known.collect();
    if known.is_empty() { Kinds::default() } else { known.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Registration;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    fn what_we_register_is_read_back(
        #[values(Mode::OptIn, Mode::ClusterWide)] mode: Mode,
        #[values(Kinds::default(), Kinds::all(), Kinds::from_iter([workload::Kind::Pod]))] kinds: Kinds,
    ) {
        let excluded_namespaces = vec!["attic".to_owned(), "opportune-system".to_owned()];
        let url = "https://192.0.2.7:8443".to_owned();
        let registration =
            Registration { url, mode, kinds: kinds.clone(), excluded_namespaces, protect_storage: true };
        let reach = Reach::of(&json!({"webhooks": registration.webhooks(None, "us").unwrap()})).unwrap();
        assert_eq!((reach.mode, reach.kinds), (mode, kinds));
        assert_eq!(reach.excluded_namespaces, ["attic", "kube-system", "opportune-system"]);
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"webhooks": [{"namespaceSelector": {}}]}))]
    #[case(json!({"webhooks": [{"namespaceSelector": {"matchExpressions": [
        {"key": keys::INJECT, "operator": "In", "values": ["enabled", "canary"]}]}}]}))]
    fn what_we_did_not_write_is_not_guessed_at(#[case] configuration: Value) {
        assert_eq!(Reach::of(&configuration), None);
    }
}
