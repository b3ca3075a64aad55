//! The ways in which people and programs write an object.
use crate::workload::{Kind, plain, text};
use anyhow::Result;
use opportune_e2e::{ControlPlane, Tool};
use serde_json::{Value, json};

/// One way to write an object, and to write it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// `kubectl create`, then `kubectl replace`.
    Replace,
    /// `kubectl apply`: a three-way merge by the client.
    Apply,
    /// `kubectl apply --server-side`: merged by the server, by who owns what.
    ServerSide,
    /// `kubectl patch`: lists are merged by name.
    StrategicPatch,
    /// `kubectl patch --type=merge`: lists are replaced.
    MergePatch,
    /// `kubectl patch --type=json`: the whole pod template is replaced.
    JsonPatch,
}

// === impl Writer ===

impl Writer {
    pub const ALL: [Self; 6] = [
        Self::Replace,
        Self::Apply,
        Self::ServerSide,
        Self::StrategicPatch,
        Self::MergePatch,
        Self::JsonPatch,
    ];

    /// A name for an object that it writes.
    pub fn object(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Writes what is not there yet. Those that can only change begin with something plain; with a StatefulSet it is
    /// the thing itself, as claim templates come with the first write or never.
    pub fn begin(self, plane: &ControlPlane, namespace: &str, manifest: &Value) -> Result<String> {
        let create = |manifest: &Value| {
            let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
            kubectl.feed(&["-n", namespace, "create", "-f", "-"], &manifest.to_string())
        };
        match self {
            Self::Replace => create(manifest),
            Self::Apply | Self::ServerSide => self.write(plane, namespace, manifest),
            Self::StrategicPatch | Self::MergePatch | Self::JsonPatch => {
                match text(manifest, "/kind") == "Deployment" {
                    true => create(&plain(Kind::Deployment, text(manifest, "/metadata/name")))?,
                    false => create(manifest)?,
                };
                self.write(plane, namespace, manifest)
            }
        }
    }

    /// Writes what is there already.
    pub fn write(self, plane: &ControlPlane, namespace: &str, manifest: &Value) -> Result<String> {
        let kubectl = plane.kubectl_for(&plane.kubeconfig())?;
        let (arguments, input): (&[&str], String) = match self {
            Self::Replace => (&["replace", "-f", "-"], manifest.to_string()),
            Self::Apply => (&["apply", "-f", "-"], manifest.to_string()),
            Self::ServerSide => {
                (&["apply", "--server-side", "--field-manager=team", "-f", "-"], manifest.to_string())
            }
            Self::StrategicPatch => (&["--type=strategic"], manifest.to_string()),
            Self::MergePatch => (&["--type=merge"], manifest.to_string()),
            Self::JsonPatch => {
                let template = &manifest["spec"]["template"];
                (
                    &["--type=json"],
                    json!([{"op": "replace", "path": "/spec/template", "value": template}]).to_string(),
                )
            }
        };
        let mut all = vec!["-n", namespace];
        if let Self::StrategicPatch | Self::MergePatch | Self::JsonPatch = self {
            all.extend(["patch", text(manifest, "/kind"), text(manifest, "/metadata/name")]);
            all.extend(arguments);
            all.extend(["-p", &input]);
            return kubectl.run(&all);
        }
        all.extend(arguments);
        if self == Self::Replace {
            return replace(&kubectl, &all, &input);
        }
        kubectl.feed(&all, &input)
    }
}

/// `kubectl replace` with these arguments: it reads before it writes, and a controller may write in between.
pub fn replace(kubectl: &Tool, arguments: &[&str], input: &str) -> Result<String> {
    loop {
        match kubectl.feed(arguments, input) {
            Err(error) if error.to_string().contains("the object has been modified") => {}
            result => return result,
        }
    }
}
