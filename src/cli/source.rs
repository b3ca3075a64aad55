//! Where a command's catalog comes from: files, or a live cluster.
use std::path::PathBuf;

use clap::Args;
use opportune_core::discover::Catalog;

use super::{Failure, offline, style};
use crate::{
    cluster::{Cluster, look::with_causes},
    knowledge::Folders,
    watch::{self, Scope, Unread},
};

/// Against which cluster.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// The cluster's objects: files and folders; `-` is standard input. Without it, the cluster of the current
    /// kubeconfig is read.
    #[arg(long, value_name = "PATH", num_args = 1.., env = "OPPORTUNE_CATALOG", value_delimiter = ',')]
    pub catalog: Vec<PathBuf>,
    /// The context of the kubeconfig to use, in place of the current one.
    #[arg(long, value_name = "NAME", conflicts_with = "catalog")]
    pub context: Option<String>,
    #[command(flatten)]
    pub folders: Folders,
}

// === impl ClusterArgs ===

impl ClusterArgs {
    /// The catalog of the files that were named, else of the live cluster; what a person with few rights can't see of it
    /// is told, and what stands in `namespace` is read then.
    ///
    /// # Errors
    /// Bad input, or a cluster that does not answer.
    pub fn read(&self, namespace: Option<&str>) -> Result<Catalog, Failure> {
        match self.is_live() {
            true => block_on(self.read_live(namespace)).map(|(catalog, _)| catalog),
            false => offline::catalog(&self.catalog, &self.folders),
        }
    }

    /// Whether a live cluster is meant.
    pub fn is_live(&self) -> bool {
        self.catalog.is_empty()
    }

    /// The way to the live cluster.
    ///
    /// # Errors
    /// No cluster is configured, or what configures it can't be used.
    pub async fn connect(&self) -> Result<Cluster, Failure> {
        Cluster::connect(self.context.as_deref()).await.map_err(|error| {
            let why = with_causes(&error);
            Failure::input(format!(
                "{why}\n  Set KUBECONFIG, or give the cluster's objects by --catalog PATH"
            ))
        })
    }

    /// The catalog of the live cluster, and what of it could not be read.
    ///
    /// # Errors
    /// As [`ClusterArgs::read`].
    pub async fn read_live(&self, namespace: Option<&str>) -> Result<(Catalog, Vec<Unread>), Failure> {
        let cluster = self.connect().await?;
        self.read_from(&cluster, namespace.unwrap_or(&cluster.namespace)).await
    }

    /// The catalog of a cluster that we are connected to, and what of it could not be read.
    ///
    /// # Errors
    /// Recipes or profiles that can't be read, or a cluster that does not answer.
    pub async fn read_from(
        &self,
        cluster: &Cluster,
        namespace: &str,
    ) -> Result<(Catalog, Vec<Unread>), Failure> {
        let inventory = self.folders.inventory().map_err(|error| Failure::input(with_causes(&error)))?;
        let reading = watch::read(&cluster.client, inventory, Scope::Namespace(namespace)).await;
        let reading = reading
            .map_err(|error| Failure::input(format!("can't read the cluster: {}", with_causes(&error))))?;
        reading.unread.iter().for_each(|unread| tell(unread, namespace));
        reading
            .left_out
            .iter()
            .for_each(|object| style::warn(&format!("left out: {}", style::plain(object))));
        Ok((reading.catalog, reading.unread))
    }
}

/// Refuses to read standard input (`-`) more than once.
///
/// # Errors
/// It is named twice.
pub fn ensure_stdin_once(files: &[PathBuf], catalog: &[PathBuf]) -> Result<(), Failure> {
    match files.iter().chain(catalog).filter(|path| path.as_os_str() == "-").count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::Usage("standard input (`-`) can be read only once".into())),
    }
}

/// Warns of what could not be read.
pub fn tell(unread: &Unread, namespace: &str) {
    let Unread { resource, reason, .. } = unread;
    style::warn(&match unread.is_partly_read {
        true => format!("{resource}: {reason}: only namespace {namespace} was read"),
        false => format!("{resource}: {reason}: not read"),
    });
}

/// Runs what talks to a cluster to its end.
///
/// # Errors
/// What it returns; or that no thread can be had.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::input(error.to_string()))?;
    runtime.block_on(work)
}
