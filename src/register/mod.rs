//! The two webhook configurations, for running outside the cluster; inside it the chart makes the same ones, from the same
//! file.
mod controller;
pub mod policies;
mod reach;

pub use self::{
    controller::controller,
    reach::{CONFIGURATIONS, Reach},
};

use crate::cluster::{CONFIGURATION, POLICIES_CONFIGURATION};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use opportune_core::{admit::Mode, keys, workload::Kinds};
use serde_json::{Value, json};

/// The webhooks in everything that does not depend on the cluster; shared with the chart.
const WEBHOOKS: &str = include_str!("../../manifests/chart/files/webhooks.yaml");
/// What the text above has in place of `true` or `false`.
const PROTECT_STORAGE: &str = "PROTECT_STORAGE";
/// What it has in place of the controller's name, as a text of CEL.
const CONTROLLER: &str = "'CONTROLLER'";
/// Not the manager that writes `caBundle`: what one of them leaves out stays the other's.
const FIELD_MANAGER: &str = "opportune-register";

/// Which workloads reach us, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// `https://HOST:PORT`; `/mutate` is appended.
    pub url: String,
    /// Where injection is on.
    pub mode: Mode,
    /// Which kinds of workloads.
    pub kinds: Kinds,
    /// Namespaces that are never touched, besides kube-system.
    pub excluded_namespaces: Vec<String>,
    /// Whether a workload on a claim of ours can't be updated while the webhook is away.
    pub protect_storage: bool,
}

/// Why a configuration could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that comes with the program is broken.
    #[error("the webhooks that come with the program can't be read: {0}")]
    Webhooks(String),
    /// The API server does not say who we are.
    #[error(
        "can't ask the API server as whom we write (create selfsubjectreviews.authentication.k8s.io): {0}"
    )]
    Caller(#[source] Box<kube::Error>),
    /// It says that we are nobody.
    #[error("the API server gives us no user name: whose annotations are ours can't be registered")]
    Nameless,
    /// The API server refused or did not answer.
    #[error("can't register the webhook configuration {name}: {source}")]
    Api {
        /// The configuration.
        name: &'static str,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
}

// === impl Registration ===

impl Registration {
    /// Writes both configurations. The webhooks of policies stay as they are, and so does a `caBundle` that somebody else
    /// writes: `authority` (PEM) is there where nobody does, as for a self-signed certificate. The controller is whom the
    /// client speaks for: outside the cluster, the webhook and the controller are one user.
    ///
    /// # Errors
    /// [`Error`] of the first that could not be written.
    pub async fn apply(&self, client: &Client, authority: Option<&str>) -> Result<(), Error> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
        ));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let webhooks = self.webhooks(authority, &controller::own_name(client).await?)?;
        let configurations = [
            (CONFIGURATION, configuration(CONFIGURATION, Some(webhooks))),
            (POLICIES_CONFIGURATION, configuration(POLICIES_CONFIGURATION, None)),
        ];
        for (name, configuration) in configurations {
            let applied = api.patch(name, &params, &Patch::Apply(&configuration)).await;
            applied.map_err(|source| Error::Api { name, source: Box::new(source) })?;
            tracing::info!(configuration = name, "registered");
        }
        Ok(())
    }

    /// The webhooks of configuration `opportune`; `controller` is the user that may change our own annotations.
    ///
    /// # Errors
    /// [`Error::Webhooks`]; a test keeps this from happening.
    pub fn webhooks(&self, authority: Option<&str>, controller: &str) -> Result<Vec<Value>, Error> {
        // The name last: what stands in it is no placeholder.
        let text = WEBHOOKS
            .replace(PROTECT_STORAGE, if self.protect_storage { "true" } else { "false" })
            .replace(CONTROLLER, &controller::literal(controller));
        let mut webhooks: Vec<Value> =
            serde_saphyr::from_str(&text).map_err(|error| Error::Webhooks(error.to_string()))?;
        webhooks.retain_mut(|webhook| narrow(webhook, &self.kinds));
        for webhook in &mut webhooks {
            let Some(webhook) = webhook.as_object_mut() else {
                return Err(Error::Webhooks("a webhook is not a map".to_owned()));
            };
            let url = format!("{}/mutate", self.url.trim_end_matches('/'));
            let client_config = match authority {
                Some(pem) => json!({"url": url, "caBundle": STANDARD.encode(pem)}),
                None => json!({"url": url}),
            };
            webhook.insert("clientConfig".to_owned(), client_config);
            webhook.insert("namespaceSelector".to_owned(), self.namespace_selector());
        }
        Ok(webhooks)
    }

    fn namespace_selector(&self) -> Value {
        let mut excluded = vec![keys::KUBE_SYSTEM];
        excluded.extend(self.excluded_namespaces.iter().map(String::as_str));
        excluded.sort_unstable();
        excluded.dedup();
        let by_mode = match self.mode {
            Mode::OptIn => json!({"key": keys::INJECT, "operator": "In", "values": ["enabled"]}),
            Mode::ClusterWide => json!({"key": keys::INJECT, "operator": "NotIn", "values": ["disabled"]}),
        };
        json!({"matchExpressions": [
            by_mode,
            {"key": keys::NAMESPACE_NAME, "operator": "NotIn", "values": excluded},
        ]})
    }
}

/// Leaves of a webhook's rules what is about those kinds; says whether anything is left.
fn narrow(webhook: &mut Value, kinds: &Kinds) -> bool {
    let Some(rules) = webhook.get_mut("rules").and_then(Value::as_array_mut) else { return true };
    let is_on = |resource: &Value| {
        resource.as_str().is_some_and(|plural| kinds.iter().any(|kind| kind.plural() == plural))
    };
    rules.retain_mut(|rule| {
        let Some(resources) = rule.get_mut("resources").and_then(Value::as_array_mut) else { return true };
        resources.retain(is_on);
        !resources.is_empty()
    });
    !rules.is_empty()
}

fn configuration(name: &str, webhooks: Option<Vec<Value>>) -> Value {
    let mut configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "opportune"}},
    });
    if let (Some(map), Some(webhooks)) = (configuration.as_object_mut(), webhooks) {
        map.insert("webhooks".to_owned(), webhooks.into());
    }
    configuration
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::workload::Kind;

    fn registration(mode: Mode, protect_storage: bool) -> Registration {
        Registration {
            url: "https://192.0.2.7:8443/".to_owned(),
            mode,
            kinds: Kinds::default(),
            excluded_namespaces: vec!["opportune-system".to_owned(), "kube-system".to_owned()],
            protect_storage,
        }
    }

    #[test]
    fn both_webhooks_point_here_and_are_told_apart_by_their_conditions() {
        let webhooks = registration(Mode::OptIn, true).webhooks(None, "us").unwrap();
        let of = |key: &str| webhooks.iter().map(|webhook| webhook[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("name"), ["wants.opportune.libre.sh", "requires.opportune.libre.sh"]);
        assert_eq!(of("failurePolicy"), ["Ignore", "Fail"]);
        for webhook in &webhooks {
            assert_eq!(webhook["clientConfig"], json!({"url": "https://192.0.2.7:8443/mutate"}));
            assert_eq!(webhook["sideEffects"], "None");
            assert_eq!(webhook["timeoutSeconds"], 5);
            assert_eq!(
                webhook["namespaceSelector"]["matchExpressions"][1]["values"],
                json!(["kube-system", "opportune-system"])
            );
        }
        let conditions = of("matchConditions");
        assert_eq!(conditions[0][0], conditions[1][0]);
        assert_eq!(conditions[0][1], conditions[1][1]);
        assert_ne!(conditions[0][2], conditions[1][2]);
        assert_eq!(conditions[0][3], conditions[1][3]);
    }

    #[test]
    fn each_kind_is_in_the_rules_of_two_webhooks_and_only_where_it_is_on() {
        for kind in Kind::ALL {
            let kinds = Kinds::from_iter([kind]);
            let registration = Registration { kinds, ..registration(Mode::OptIn, true) };
            let webhooks = registration.webhooks(None, "us").unwrap();
            assert_eq!(webhooks.len(), 2, "{kind:?}");
            for webhook in &webhooks {
                let operations =
                    if kind.is_made_once() { json!(["CREATE"]) } else { json!(["CREATE", "UPDATE"]) };
                let rule = json!([{"apiGroups": [kind.group()], "apiVersions": ["v1"], "scope": "Namespaced",
                    "operations": operations, "resources": [kind.plural()]}]);
                assert_eq!(webhook["rules"], rule);
            }
        }
        let all = Registration { kinds: Kinds::all(), ..registration(Mode::OptIn, true) };
        let webhooks = all.webhooks(None, "us").unwrap();
        let names: Vec<_> = webhooks.iter().map(|webhook| webhook["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "wants.opportune.libre.sh",
                "requires.opportune.libre.sh",
                "wants.runs.opportune.libre.sh",
                "requires.runs.opportune.libre.sh"
            ]
        );
    }

    #[test]
    fn the_controller_is_told_by_its_name_and_by_its_field_manager() {
        let name = "o'brien:\n- CONTROLLER";
        let webhooks = registration(Mode::OptIn, true).webhooks(None, name).unwrap();
        assert_eq!(controller(&json!({"webhooks": webhooks})).as_deref(), Some(name));
        for webhook in &webhooks {
            let expression = webhook["matchConditions"][3]["expression"].as_str().unwrap();
            let manager = format!("fieldManager.orValue('') == '{}' &&", crate::cluster::FIELD_MANAGER);
            assert!(expression.contains(&manager), "{expression}");
        }
    }

    #[test]
    fn nothing_of_the_placeholder_is_left() {
        for protect_storage in [true, false] {
            let webhooks = registration(Mode::ClusterWide, protect_storage).webhooks(None, "us").unwrap();
            let text = serde_json::to_string(&webhooks).unwrap();
            assert!(!text.contains(PROTECT_STORAGE) && !text.contains(CONTROLLER));
            assert!(text.contains(if protect_storage {
                "(true && oldObject"
            } else {
                "(false && oldObject"
            }));
        }
    }
}
