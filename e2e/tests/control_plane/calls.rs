//! Which writes reach the webhook at all, by the API server's own audit log: it notes each call of each webhook.
use crate::{
    trial::{Cluster, trials},
    webhook::{self, CONFIGURATION, REQUIRES, SOON, WANTS},
    workload::{Kind, annotation, fault, live, manifest, plain, text, wishing},
    writer::Writer,
};
use anyhow::Result;
use opportune_e2e::{AuditEvent, ControlPlane, Namespace, eventually};
use serde_json::{Value, json};

const BOTH: [Kind; 2] = [Kind::Deployment, Kind::StatefulSet];
/// What the API server puts before the number of a call.
const CALL: &str = "mutation.webhook.admission.k8s.io/round_";

async fn a_workload_without_annotations_never_reaches_us(cluster: Cluster) -> Result<()> {
    let object = Object::new(&cluster).await?;
    for kind in BOTH {
        let mut manifest = plain(kind, "web");
        object.expect(&manifest, &[], || Writer::Apply.begin(&cluster, &object.namespace, &manifest)).await?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        manifest["spec"]["replicas"] = 2.into();
        manifest["metadata"]["labels"]["team"] = "a".into();
        object.expect(&manifest, &[], || Writer::Apply.write(&cluster, &object.namespace, &manifest)).await?;
    }
    Ok(())
}

async fn one_call_for_each_write_that_matters(cluster: Cluster) -> Result<()> {
    let object = Object::new(&cluster).await?;
    let namespace = &object.namespace;
    for kind in BOTH {
        let mut manifest = wishing(kind, "wants", &[("wants", "ldap")]);
        object.expect(&manifest, &[WANTS], || Writer::ServerSide.begin(&cluster, namespace, &manifest)).await?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        object.expect(&manifest, &[WANTS], || Writer::ServerSide.write(&cluster, namespace, &manifest)).await?;

        let mut manifest = wishing(kind, "requires", &[("requires", "ldap"), ("wants", "mail")]);
        object.expect(&manifest, &[REQUIRES], || Writer::Replace.begin(&cluster, namespace, &manifest)).await?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        object.expect(&manifest, &[REQUIRES], || Writer::Replace.write(&cluster, namespace, &manifest)).await?;

        // On the workload's own metadata the same keys count.
        let mut manifest = plain(kind, "own");
        manifest["metadata"]["annotations"] = json!({"opportune.libre.sh/requires": "ldap"});
        object.expect(&manifest, &[REQUIRES], || Writer::Apply.begin(&cluster, namespace, &manifest)).await?;
    }
    Ok(())
}

async fn a_workload_on_a_claim_of_ours_is_updated_by_the_webhook_that_must_not_be_missed(
    cluster: Cluster,
) -> Result<()> {
    let object = Object::new(&cluster).await?;
    let namespace = &object.namespace;
    for kind in BOTH {
        let mut manifest = manifest(kind, "web");
        object.expect(&manifest, &[WANTS], || Writer::Apply.begin(&cluster, namespace, &manifest)).await?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/web:2".into();
        object.expect(&manifest, &[REQUIRES], || Writer::Apply.write(&cluster, namespace, &manifest)).await?;
    }
    Ok(())
}

async fn what_changes_nothing_that_we_look_at_is_no_call(cluster: Cluster) -> Result<()> {
    let object = Object::new(&cluster).await?;
    let namespace = &object.namespace;
    for kind in BOTH {
        let manifest = manifest(kind, "web");
        let target = format!("{kind:?}/web");
        let create = || Writer::ServerSide.begin(&cluster, namespace, &manifest);
        object.expect(&manifest, &[WANTS], create).await?;
        let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["-n", namespace], arguments].concat());
        let patch = |arguments: &[&str]| kubectl(&[&["patch", &target, "--type=merge"], arguments].concat());

        let apply = || Writer::ServerSide.write(&cluster, namespace, &manifest);
        object.expect(&manifest, &[], apply).await?;
        object.expect(&manifest, &[], || kubectl(&["scale", &target, "--replicas=2"])).await?;
        let autoscale = || patch(&["--subresource=scale", "-p", r#"{"spec":{"replicas":3}}"#]);
        object.expect(&manifest, &[], autoscale).await?;
        object.expect(&manifest, &[], || patch(&["-p", r#"{"spec":{"replicas":4}}"#])).await?;
        object.expect(&manifest, &[], || kubectl(&["label", &target, "team=a"])).await?;
        object.expect(&manifest, &[], || kubectl(&["annotate", &target, "example.org/note=a"])).await?;
        let status = || patch(&["--subresource=status", "-p", r#"{"status":{"readyReplicas":0}}"#]);
        object.expect(&manifest, &[], status).await?;
        assert_eq!(fault(&live(&cluster, namespace, &manifest)?), None);
    }
    Ok(())
}

async fn our_annotations_come_back_to_who_takes_them_away(cluster: Cluster) -> Result<()> {
    let object = Object::new(&cluster).await?;
    let namespace = &object.namespace;
    for kind in BOTH {
        let manifest = wishing(kind, "web", &[("wants", "ldap")]);
        Writer::Apply.begin(&cluster, namespace, &manifest)?;
        let before = live(&cluster, namespace, &manifest)?;
        for change in ["opportune.libre.sh/injected-", "opportune.libre.sh/status-", "opportune.libre.sh/status=x"] {
            let annotate = || {
                let target = format!("{kind:?}/web");
                cluster.kubectl(&["-n", namespace, "annotate", "--overwrite", &target, change])
            };
            object.expect(&manifest, &[WANTS], annotate).await?;
            let after = live(&cluster, namespace, &manifest)?;
            for key in ["injected", "status"] {
                assert_eq!(annotation(&after, key), annotation(&before, key), "{change}");
            }
        }
    }
    Ok(())
}

async fn the_audit_log_says_for_each_intent_what_became_of_it(cluster: Cluster) -> Result<()> {
    let services = &webhook::shared(&cluster).await?.services;
    let object = Object::new(&cluster).await?;
    let manifest = wishing(Kind::Deployment, "web", &[("wants", "ldap, mail, cache"), ("requires", "analytics")]);
    let create = || Writer::Apply.begin(&cluster, &object.namespace, &manifest);
    object.expect(&manifest, &[REQUIRES], create).await?;
    let event = object.events(&manifest)?.pop().unwrap();
    let notes: Vec<(&str, &str)> = event
        .annotations()
        .filter_map(|(key, value)| Some((key.strip_prefix(&format!("{REQUIRES}/"))?, value)))
        .collect();
    let [ldap, mail, analytics] = ["openldap", "mail", "matomo"].map(|name| format!("{services}/{name}"));
    let expected = [("analytics", &*analytics), ("cache", "absent: no offer"), ("ldap", &ldap), ("mail", &mail)];
    assert_eq!(notes, expected);
    Ok(())
}

/// Writes to objects of one namespace, counted.
struct Object<'a> {
    cluster: &'a ControlPlane,
    namespace: Namespace,
}

// === impl Object ===

impl<'a> Object<'a> {
    async fn new(cluster: &'a Cluster) -> Result<Self> {
        webhook::shared(cluster).await?;
        Ok(Self { cluster, namespace: webhook::namespace(cluster, "calls")? })
    }

    /// Does one write of an object, which has to call these webhooks of ours, each once, and no others.
    async fn expect(
        &self,
        manifest: &Value,
        webhooks: &[&str],
        write: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        let before = self.events(manifest)?.len();
        write()?;
        let events = eventually("the write is in the audit log", SOON, async || {
            let events = self.events(manifest)?;
            Ok((events.len() > before).then_some(events))
        })
        .await?;
        let called: Vec<String> = events[before..].iter().flat_map(calls).collect();
        let name = text(manifest, "/metadata/name");
        assert_eq!(called, webhooks, "{name}");
        Ok(())
    }

    /// The writes of one object that did not come from a controller and were not refused.
    fn events(&self, manifest: &Value) -> Result<Vec<AuditEvent>> {
        let resource = format!("{}s", text(manifest, "/kind").to_lowercase());
        let name = text(manifest, "/metadata/name");
        let mut events = self.cluster.audit()?;
        events.retain(|event| {
            event.is_about(&resource, &self.namespace, name)
                && text(event.json(), "/user/username") == "e2e-admin"
                && event.json()["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300)
        });
        Ok(events)
    }
}

/// The webhooks of ours that were called for one write, once for each call.
fn calls(event: &AuditEvent) -> Vec<String> {
    event
        .annotations()
        .filter(|(key, _)| key.starts_with(CALL))
        .filter_map(|(_, note)| serde_json::from_str::<Value>(note).ok())
        .filter(|note| note["configuration"] == CONFIGURATION)
        .map(|note| text(&note, "/webhook").to_owned())
        .collect()
}

trials![
    shared a_workload_without_annotations_never_reaches_us,
    shared one_call_for_each_write_that_matters,
    shared a_workload_on_a_claim_of_ours_is_updated_by_the_webhook_that_must_not_be_missed,
    shared what_changes_nothing_that_we_look_at_is_no_call,
    shared our_annotations_come_back_to_who_takes_them_away,
    shared the_audit_log_says_for_each_intent_what_became_of_it,
];
