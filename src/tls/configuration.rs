//! The webhooks of a MutatingWebhookConfiguration that are ours, read and changed as raw JSON: what we don't know of a
//! webhook survives our writing it.
use base64::{Engine, engine::general_purpose::STANDARD};
use opportune_core::keys::GROUP;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

/// One of our webhooks, as an API server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) webhook: String,
    /// The name that the API server wants the certificate to bear.
    pub(super) host: String,
    /// The authorities that it trusts.
    pub(super) trusted: Vec<CertificateDer<'static>>,
}

/// Our webhooks in `configuration`.
pub(super) fn entries(configuration: &Value) -> Vec<Entry> {
    let webhooks = configuration.get("webhooks").and_then(Value::as_array);
    webhooks.into_iter().flatten().filter(|webhook| is_ours(webhook)).map(entry).collect()
}

/// Sets the `caBundle` of our webhooks to `bundle` (PEM) where it is another, and says whether there was any such.
pub(super) fn trust(configuration: &mut Value, bundle: &str) -> bool {
    let encoded = Value::String(STANDARD.encode(bundle));
    let mut is_changed = false;
    let webhooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten().filter(|webhook| is_ours(webhook)) {
        let client = webhook.get_mut("clientConfig").and_then(Value::as_object_mut);
        // The API server refuses a webhook without a clientConfig.
        let Some(client) = client else { continue };
        if client.get("caBundle") != Some(&encoded) {
            client.insert("caBundle".to_owned(), encoded.clone());
            is_changed = true;
        }
    }
    is_changed
}

fn is_ours(webhook: &Value) -> bool {
    let name = webhook.get("name").and_then(Value::as_str).unwrap_or_default();
    name.strip_suffix(GROUP).is_some_and(|rest| rest.ends_with('.'))
}

fn entry(webhook: &Value) -> Entry {
    let text = |pointer: &str| webhook.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let url = text("/clientConfig/url");
    let service = [text("/clientConfig/service/name"), text("/clientConfig/service/namespace")];
    let host = match super::host_of(url) {
        Some(host) => host,
        None => format!("{}.{}.svc", service[0], service[1]),
    };
    let pem = STANDARD.decode(text("/clientConfig/caBundle")).unwrap_or_default();
    // As the API server does, what can't be read is passed over.
    let trusted = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    Entry { webhook: text("/name").to_owned(), host, trusted }
}

/// A configuration for tests: what `webhooks` name, each with the same bundle.
#[cfg(test)]
pub(super) fn sample(name: &str, webhooks: &[&str], bundle: &str) -> Value {
    use serde_json::json;
    let webhook = |name: &&str| {
        let service = json!({"name": "opportune", "namespace": "opportune-system", "path": "/mutate"});
        json!({"name": name, "clientConfig": {"service": service, "caBundle": STANDARD.encode(bundle)}, "new": [1.5]})
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "webhooks": webhooks.iter().map(webhook).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const OURS: &str = "wants.opportune.libre.sh";

    #[test]
    fn only_our_webhooks_are_changed_and_nothing_else_of_them() {
        let foreign = ["wants.example.com", "opportune.libre.sh", "wants.notopportune.libre.sh"];
        let names = [OURS, foreign[0], foreign[1], foreign[2], "policy.opportune.libre.sh"];
        let mut configuration = sample("opportune", &names, "old");
        assert!(trust(&mut configuration, "new"));
        let mut expected = sample("opportune", &names, "old");
        for index in [0, 4] {
            expected["webhooks"][index]["clientConfig"]["caBundle"] = json!(STANDARD.encode("new"));
        }
        assert_eq!(configuration, expected);
    }

    #[test]
    fn a_bundle_that_is_right_is_left_alone() {
        let mut configuration = sample("opportune", &[OURS], "same");
        assert!(!trust(&mut configuration, "same"));
        assert!(!trust(&mut sample("opportune", &["wants.example.com"], "old"), "new"));
    }

    #[rstest]
    #[case::no_webhooks(json!({}))]
    #[case::null(json!({"webhooks": null}))]
    #[case::empty(json!({"webhooks": []}))]
    #[case::odd(json!({"webhooks": [1, {"name": 2}, {"clientConfig": []}]}))]
    fn a_configuration_without_webhooks_is_none_to_change(#[case] mut configuration: Value) {
        assert!(!trust(&mut configuration, "new"));
        assert_eq!(entries(&configuration), []);
    }

    #[rstest]
    #[case::service(json!({"service": {"name": "hook", "namespace": "ours"}}), "hook.ours.svc")]
    #[case::url(json!({"url": "https://hook.example:8443/mutate"}), "hook.example")]
    #[case::address(json!({"url": "https://192.0.2.7/mutate"}), "192.0.2.7")]
    #[case::address6(json!({"url": "https://[2001:db8::1]:443/mutate"}), "2001:db8::1")]
    fn the_api_server_wants_the_name_that_it_calls(#[case] client: Value, #[case] host: &str) {
        let entries = entries(&json!({"webhooks": [{"name": OURS, "clientConfig": client}]}));
        assert_eq!(entries, [Entry { webhook: OURS.to_owned(), host: host.to_owned(), trusted: vec![] }]);
    }

    #[rstest]
    #[case::nothing("")]
    #[case::text("Cg==")]
    #[case::no_base64("%")]
    fn a_bundle_that_holds_nothing_trusts_nobody(#[case] bundle: &str) {
        let client = json!({"url": "https://a.example", "caBundle": bundle});
        assert!(
            entries(&json!({"webhooks": [{"name": OURS, "clientConfig": client}]}))[0].trusted.is_empty()
        );
    }
}
