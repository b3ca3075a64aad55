//! A workload's own address, from the Ingress or HTTPRoute that leads to it.
use crate::{
    trial::{Cluster, trials},
    webhook::{self, SOON},
    workload::{Kind, generation, live, text, variables, wishing},
};
use anyhow::{Result, ensure};
use opportune_e2e::{Namespace, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// How soon a CRD that was just installed is watched: it is looked for every 15 s.
const INSTALLED: Duration = Duration::from_secs(60);

/// As small as the API server takes it: the real one is installed by who has a gateway.
const GATEWAY: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: { api-approved.kubernetes.io: "unapproved, a trial" }
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: { plural: httproutes, singular: httproute, kind: HTTPRoute, listKind: HTTPRouteList }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
"#;

async fn an_ingress_tells_a_workload_its_address_at_its_next_change(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let mut app = App::create(&cluster)?;
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": app.namespace()},
        "spec": {
            "tls": [{"hosts": ["blog.example.org"], "secretName": "certificate"}],
            "rules": [{"host": "blog.example.org", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}],
        },
    });
    app.is_told(&ingress, "https://blog.example.org/", SOON).await?;
    cluster.kubectl(&["-n", app.namespace(), "delete", "ingress", "web"])?;
    app.becomes("", SOON).await
}

async fn an_http_route_counts_once_the_gateway_api_is_there(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let mut app = App::create(&cluster)?;
    cluster.apply(GATEWAY)?;
    let crd = "crd/httproutes.gateway.networking.k8s.io";
    cluster.kubectl(&["wait", "--for=condition=Established", crd, "--timeout=30s"])?;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": app.namespace()},
        "spec": {
            "hostnames": ["wiki.example.org"],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/w"}}], "backendRefs": [{"name": "web", "port": 80}]}],
        },
    });
    app.is_told(&route, "https://wiki.example.org/w/", INSTALLED).await
}

/// A Deployment that wants to know its address, and its Service.
struct App<'a> {
    cluster: &'a Cluster,
    namespace: Namespace,
    manifest: Value,
    changes: u32,
}

// === impl App ===

impl<'a> App<'a> {
    fn create(cluster: &'a Cluster) -> Result<Self> {
        let namespace = webhook::namespace(cluster, "routes")?;
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace.name()},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        cluster.apply(&service.to_string())?;
        let lines = "SITE=[[app.url]]\nRELAY=[[mail.host]]";
        let mut manifest = wishing(Kind::Deployment, "web", &[("wants", "mail"), ("env.mail", lines)]);
        manifest["metadata"]["namespace"] = namespace.name().into();
        cluster.apply(&manifest.to_string())?;
        let app = Self { cluster, namespace, manifest, changes: 0 };
        let created = app.live()?;
        ensure!(site(&created).is_empty() && variables(&created, "RELAY").len() == 1, "{created:#}");
        Ok(app)
    }

    fn namespace(&self) -> &str {
        self.namespace.name()
    }

    fn live(&self) -> Result<Value> {
        live(self.cluster, self.namespace(), &self.manifest)
    }

    /// A route changes nothing by itself; the next change of the pod template brings its address.
    async fn is_told(&mut self, route: &Value, address: &str, limit: Duration) -> Result<()> {
        let before = generation(&self.live()?);
        self.cluster.apply(&route.to_string())?;
        ensure!(generation(&self.live()?) == before, "a route changed a workload");
        self.becomes(address, limit).await
    }

    /// Changes its pod template until it has this address.
    async fn becomes(&mut self, address: &str, limit: Duration) -> Result<()> {
        eventually("a workload has another address", limit, async || {
            self.changes += 1;
            self.manifest["spec"]["template"]["metadata"]["annotations"]["change"] =
                self.changes.to_string().into();
            self.cluster.apply(&self.manifest.to_string())?;
            Ok((site(&self.live()?) == address).then_some(()))
        })
        .await
    }
}

fn site(object: &Value) -> String {
    variables(object, "SITE").first().map(|entry| text(entry, "/value").to_owned()).unwrap_or_default()
}

trials![
    shared an_ingress_tells_a_workload_its_address_at_its_next_change,
    shared an_http_route_counts_once_the_gateway_api_is_there,
];
