//! Who may call the webhook: with `--client-ca`, the API server's client certificate alone.
use crate::{trial::trials, webhook};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Options, free_address};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::{fs, net::SocketAddr, path::Path};

const WORKLOAD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: blog, labels: {opportune.libre.sh/inject: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: blog}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}, annotations: {opportune.libre.sh/wants: ldap}}
    spec: {containers: [{name: app, image: example.org/app:1}]}
"#;

/// An authority of clients of this name, a certificate of the API server by it, and that one's key, as PEM.
pub fn authority(name: &str) -> Result<(String, String, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

/// An authority of clients, a certificate of the API server by it, and the files by which it presents that to `webhook`.
fn write_client(folder: &Path, webhook: SocketAddr) -> Result<()> {
    let (authority, certificate, key) = authority("callers")?;
    fs::write(folder.join("ca.crt"), authority)?;
    fs::write(folder.join("client.crt"), certificate)?;
    fs::write(folder.join("client.key"), key)?;
    let folder = folder.display();
    fs::write(
        format!("{folder}/client.kubeconfig"),
        format!(
            "apiVersion: v1\nkind: Config\nusers:\n- name: '{webhook}'\n  user:\n    \
             client-certificate: {folder}/client.crt\n    client-key: {folder}/client.key\n"
        ),
    )?;
    fs::write(
        format!("{folder}/admission.yaml"),
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: MutatingAdmissionWebhook\n  configuration:\n    \
             apiVersion: apiserver.config.k8s.io/v1\n    kind: WebhookAdmissionConfiguration\n    \
             kubeConfigFile: {folder}/client.kubeconfig\n"
        ),
    )?;
    Ok(())
}

/// The `status` that a workload is admitted with, by an API server with or without the certificate.
async fn status_of_a_call(with_certificate: bool) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (listen, admin) = (free_address()?, free_address()?);
    write_client(folder.path(), listen)?;
    let flag = format!("--admission-control-config-file={}", folder.path().join("admission.yaml").display());
    let api_server_flags = if with_certificate { vec![flag] } else { Vec::new() };
    let cluster = ControlPlane::start(Options { api_server_flags, ..Options::default() })?;
    let client_ca = format!("--client-ca={}", folder.path().join("ca.crt").display());
    let program = webhook::serve(&cluster, listen, admin, &[&client_ca])?;
    cluster.apply(WORKLOAD)?;
    let path = r"jsonpath={.metadata.annotations.opportune\.libre\.sh/status}";
    let status = cluster.kubectl(&["get", "deployment", "app", "-n", "blog", "-o", path]);
    status.with_context(|| program.log().unwrap_or_default())
}

async fn only_the_certificate_of_the_api_server_gets_in() -> Result<()> {
    let known = status_of_a_call(true).await?;
    ensure!(known == "ldap=absent: no offer", "with the certificate: {known:?}");
    let unknown = status_of_a_call(false).await?;
    ensure!(unknown.is_empty(), "without the certificate: {unknown:?}");
    Ok(())
}

trials![own only_the_certificate_of_the_api_server_gets_in];
