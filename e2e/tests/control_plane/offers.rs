//! What a cluster offers: a directory, a mail server and analytics in one namespace, and storage of both kinds.
use anyhow::Result;
use opportune_e2e::{ControlPlane, Namespace};
use serde_json::{Value, json};

/// The StorageClass for many pods at once.
pub const SHARED_CLASS: &str = "e2e-cephfs";
/// The StorageClass for one pod.
pub const BLOCK_CLASS: &str = "e2e-rbd";

/// Makes all of them, complete, for every namespace; the credentials of the first two go to every namespace as well.
pub fn install(plane: &ControlPlane) -> Result<Namespace> {
    let namespace = plane.labelled_namespace("services", &[("opportune.libre.sh/provider", "true")])?;
    let objects = [
        secret(&namespace, "reader", json!({"bind-dn": "cn=reader,dc=example,dc=org", "password": "s3cret"})),
        secret(&namespace, "sender", json!({"username": "blog", "password": "s3cret"})),
        service(&namespace, "openldap", "ldap", 389, "base-dn: dc=example,dc=org", Some("reader")),
        service(&namespace, "mail", "mail", 587, "from: noreply@example.org", Some("sender")),
        service(
            &namespace,
            "matomo",
            "analytics",
            80,
            "provider: matomo\nurl: https://stats.example.org/\nsite-id: 7",
            None,
        ),
        storage_class(SHARED_CLASS, "rook-ceph.cephfs.csi.ceph.com"),
        storage_class(BLOCK_CLASS, "rook-ceph.rbd.csi.ceph.com"),
    ];
    plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    Ok(namespace)
}

/// A Service that is marked as an offer for all, with these settings.
pub fn service(
    namespace: &str,
    name: &str,
    intent: &str,
    port: u16,
    settings: &str,
    credentials: Option<&str>,
) -> Value {
    let mut annotations =
        json!({"opportune.libre.sh/settings": settings, "opportune.libre.sh/consumers": "*"});
    if let Some(secret) = credentials {
        annotations["opportune.libre.sh/credentials"] = secret.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"opportune.libre.sh/offers": intent},
            "annotations": annotations,
        },
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    })
}

/// A StorageClass of this provisioner.
pub fn storage_class(name: &str, provisioner: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
    })
}

/// A Secret with these keys.
pub fn secret(namespace: &str, name: &str, keys: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": keys,
    })
}
