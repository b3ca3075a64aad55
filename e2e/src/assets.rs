//! The programs of a control plane, as `e2e/build` leaves them.
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

const VERSIONS: &str = include_str!("../versions");

/// Where the programs are, and of which Kubernetes.
#[derive(Debug, Clone)]
pub struct Assets {
    version: String,
    programs: PathBuf,
    tools: PathBuf,
}

// === impl Assets ===

impl Assets {
    /// Those of the Kubernetes that `OPPORTUNE_E2E_KUBERNETES` names, or of the default one.
    ///
    /// # Errors
    /// One is missing.
    pub fn find() -> Result<Self> {
        let asked = std::env::var("OPPORTUNE_E2E_KUBERNETES").unwrap_or_default();
        let version = match asked.as_str() {
            "" => named("kubernetes")?,
            "oldest" => named("oldest")?,
            version => version.strip_prefix('v').unwrap_or(version).to_owned(),
        };
        let cache = repository()?.join(".cache");
        let assets =
            Self { programs: cache.join("kubernetes").join(&version), tools: cache.join("tools"), version };
        for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"] {
            assets.program(name)?;
        }
        Ok(assets)
    }

    /// The version of Kubernetes, such as `1.36.3`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path of one of the control plane's programs, or of kubectl.
    ///
    /// # Errors
    /// It is missing.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        present(self.programs.join(name), &self.version)
    }

    pub(crate) fn helm(&self) -> Result<PathBuf> {
        present(self.tools.join("helm"), &self.version)
    }
}

/// The folder of the repository.
pub(crate) fn repository() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("e2e/ lies in no folder")?.to_owned())
}

fn present(path: PathBuf, version: &str) -> Result<PathBuf> {
    ensure!(
        path.is_file(),
        "{} is missing: make it by `OPPORTUNE_E2E_KUBERNETES={version} e2e/build`",
        path.display()
    );
    Ok(path)
}

fn named(key: &str) -> Result<String> {
    VERSIONS
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .with_context(|| format!("e2e/versions names no \"{key}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_read_from_the_file_that_the_build_reads() {
        for key in ["kubernetes", "oldest", "helm"] {
            let version = named(key).unwrap();
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{key}: {version}");
        }
    }
}
