//! Where injection is on, and what no label and no tenant can change.
use crate::{
    offers::service,
    trial::{Cluster, trials},
    webhook::{self, Webhook},
    workload::{Kind, annotation, fault, live, manifest, plain, variables, wishing},
    writer::Writer,
};
use anyhow::{Result, ensure};
use opportune_e2e::{ControlPlane, Options};
use serde_json::Value;

const INJECT: &str = "opportune.libre.sh/inject";
const OURS: &str = "opportune-system";

async fn only_namespaces_that_opt_in_are_injected(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let labels: [&[(&str, &str)]; 3] = [&[], &[(INJECT, "disabled")], &[(INJECT, "true")]];
    for labels in labels {
        let namespace = cluster.labelled_namespace("outside", labels)?;
        ensure_untouched(&cluster, &namespace)?;
    }
    let namespace = webhook::namespace(&cluster, "inside")?;
    assert_eq!(fault(&dry_run(&cluster, &namespace, &manifest(Kind::Deployment, "web"))?), None);
    Ok(())
}

async fn a_requirement_that_the_cluster_can_not_meet_is_refused_with_the_reason(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "refused")?;
    let kubectl = cluster.kubectl_for(&cluster.kubeconfig())?;
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let manifest = wishing(kind, "web", &[("requires", "ldap, nothing-of-this-kind")]);
        let said = kubectl.refused(&["-n", &namespace, "apply", "-f", "-"], &manifest.to_string())?;
        let reason = "opportune: nothing-of-this-kind is required but absent: no offer";
        ensure!(said.contains(reason), "{said}");
    }
    Ok(())
}

async fn kube_system_and_our_own_namespace_are_never_injected(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    for namespace in ["kube-system", OURS] {
        cluster.kubectl(&["label", "--overwrite", "namespace", namespace, &format!("{INJECT}=enabled")])?;
        ensure_untouched(&cluster, namespace)?;
    }
    Ok(())
}

async fn cluster_wide_all_namespaces_are_injected_but_those_that_opt_out() -> Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let webhook = Webhook::start(&plane, &["--mode", "cluster-wide", "--exclude-namespaces", "default"])?;
    webhook.is_at_work(&plane).await?;
    let labels: [&[(&str, &str)]; 3] = [&[], &[(INJECT, "enabled")], &[(INJECT, "true")]];
    for labels in labels {
        let namespace = plane.labelled_namespace("inside", labels)?;
        assert_eq!(fault(&dry_run(&plane, &namespace, &manifest(Kind::Deployment, "web"))?), None);
    }
    let namespace = plane.labelled_namespace("outside", &[(INJECT, "disabled")])?;
    ensure_untouched(&plane, &namespace)?;
    for namespace in ["kube-system", OURS, "default"] {
        ensure_untouched(&plane, namespace)?;
    }
    Ok(())
}

/// Neither by what is wanted nor by what is required.
fn ensure_untouched(plane: &ControlPlane, namespace: &str) -> Result<()> {
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        for wished in [manifest(kind, "web"), wishing(kind, "web", &[("requires", "nothing-of-this-kind")])] {
            let answer = dry_run(plane, namespace, &wished)?;
            ensure!(variables(&answer, "LDAP_HOST").is_empty(), "injected in {namespace}");
            ensure!(answer["metadata"].get("annotations").is_none(), "annotated in {namespace}");
        }
    }
    Ok(())
}

async fn a_tenants_service_is_offered_to_nobody_else(cluster: Cluster) -> Result<()> {
    let services = &webhook::shared(&cluster).await?.services;
    let tenant = webhook::namespace(&cluster, "tenant")?;
    let other = webhook::namespace(&cluster, "other")?;
    let mut fake = service(&tenant, "openldap", "ldap", 389, "base-dn: dc=evil,dc=example", None);
    fake["metadata"]["annotations"]["opportune.libre.sh/priority"] = "1000".into();
    cluster.apply(&fake.to_string())?;
    // In its own namespace it is used: so it was seen.
    let wanted = wishing(Kind::Deployment, "web", &[("wants", "ldap")]);
    opportune_e2e::eventually("the tenant uses its own directory", webhook::SOON, async || {
        let answer = dry_run(&cluster, &tenant, &wanted)?;
        Ok((annotation(&answer, "status") == format!("ldap={tenant}/openldap")).then_some(()))
    })
    .await?;

    let answer = dry_run(&cluster, &other, &wanted)?;
    assert_eq!(annotation(&answer, "status"), format!("ldap={services}/openldap"));
    let use_of = |name: &str| -> Result<String> {
        let wanted = wishing(Kind::Deployment, "web", &[("wants", "ldap"), ("use.ldap", name)]);
        Ok(annotation(&dry_run(&cluster, &other, &wanted)?, "status").to_owned())
    };
    // One that is not for it and one that is not there are told by the same words.
    let (named, missing) = (format!("{tenant}/openldap"), format!("{tenant}/nothing"));
    assert_eq!(use_of(&named)?, format!("ldap=absent: no offer named {named}"));
    assert_eq!(use_of(&missing)?, format!("ldap=absent: no offer named {missing}"));
    Ok(())
}

async fn a_workload_may_be_left_alone(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "alone")?;
    let alone = |kind, wishes: &[(&str, &str)]| {
        wishing(kind, "web", &[wishes, &[("inject", "false"), ("wants", "ldap, mail")]].concat())
    };
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let never = dry_run(&cluster, &namespace, &alone(kind, &[]))?;
        assert_eq!(never.pointer("/metadata/annotations"), None);
        assert_eq!(variables(&never, "LDAP_HOST").len(), 0);

        // What was injected is taken out.
        let wanted = wishing(kind, "web", &[("wants", "ldap, mail")]);
        Writer::ServerSide.begin(&cluster, &namespace, &wanted)?;
        assert_eq!(variables(&live(&cluster, &namespace, &wanted)?, "LDAP_HOST").len(), 1);
        Writer::ServerSide.write(&cluster, &namespace, &alone(kind, &[]))?;
        let object = live(&cluster, &namespace, &wanted)?;
        let container = "/spec/template/spec/containers/0/env";
        assert_eq!(object.pointer(container), plain(kind, "web").pointer(container));
        assert_eq!(annotation(&object, "injected"), "");
    }
    Ok(())
}

/// What the API server would store.
fn dry_run(plane: &ControlPlane, namespace: &str, manifest: &Value) -> Result<Value> {
    let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
    let arguments = ["-n", namespace, "create", "--dry-run=server", "-o=json", "-f", "-"];
    Ok(serde_json::from_str(&kubectl.feed(&arguments, &manifest.to_string())?)?)
}

trials![
    shared only_namespaces_that_opt_in_are_injected,
    shared a_requirement_that_the_cluster_can_not_meet_is_refused_with_the_reason,
    shared kube_system_and_our_own_namespace_are_never_injected,
    own cluster_wide_all_namespaces_are_injected_but_those_that_opt_out,
    shared a_tenants_service_is_offered_to_nobody_else,
    shared a_workload_may_be_left_alone,
];
