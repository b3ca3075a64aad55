//! What can be wrong with an install, looked at one thing at a time: facts and advice; printing is the caller's.
//!
//! Checks don't depend on each other's success, and what may not be looked at is a finding too. Nothing is written: the
//! trial workloads are dry runs. No Secret's content is read.
mod certificates;
mod installed;
mod lease;
mod offers;
mod pods;
mod probe;
mod rights;
mod webhooks;
mod workloads;

use kube::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cluster::{
        CONFIGURATION, Cluster,
        look::{Look, with_causes},
    },
    knowledge::Folders,
    register::{CONFIGURATIONS, Reach},
    watch::{self, Scope},
};
use opportune_core::{
    admit::{Mode, Options},
    discover::{Catalog, Inventory},
};

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It could not be looked at from here, and that is nobody's fault.
    Skip,
    /// Somebody should look at it, or it could not be looked at.
    Warn,
    /// It is broken.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check: a stable word.
    pub check: &'static str,
    /// How it is.
    pub result: Mark,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub todo: Option<String>,
}

/// What is examined.
pub struct Subject<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The namespace in which Opportune should be.
    pub namespace: &'a str,
    /// Where to try the webhook, in place of a namespace that is found.
    pub probe_namespace: Option<&'a str>,
    /// Recipes and profiles of the operator's own.
    pub folders: &'a Folders,
}

/// Why nothing was examined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not answer at all.
    #[error("the cluster ({cluster}) does not answer: {reason}")]
    Silent {
        /// Which.
        cluster: String,
        /// What the client says.
        reason: String,
    },
    /// Recipes or profiles can't be used.
    #[error(transparent)]
    Knowledge(#[from] crate::knowledge::Error),
}

// === impl Mark ===

impl Mark {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

// === impl Finding ===

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, result: Mark::Ok, what: what.into(), todo: None }
    }

    fn skip(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, result: Mark::Skip, what: what.into(), todo: None }
    }

    fn warn(check: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, result: Mark::Warn, what: what.into(), todo: Some(todo.into()) }
    }

    fn fail(check: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, result: Mark::Fail, what: what.into(), todo: Some(todo.into()) }
    }

    /// What could not be looked at, where that is so.
    fn blind<T>(check: &'static str, look: &Look<T>) -> Option<Self> {
        let why = look.blocked()?;
        Some(Self::warn(
            check,
            format!("can't look: {why}"),
            "ask somebody who may, or go on without this check",
        ))
    }
}

/// Examines a cluster; `tell` hears what is looked at next.
///
/// # Errors
/// [`Error`], where there is nothing to examine.
pub async fn examine(subject: &Subject<'_>, tell: &dyn Fn(&str)) -> Result<Vec<Finding>, Error> {
    let Subject { cluster, namespace, .. } = *subject;
    let client = &cluster.client;
    let inventory = subject.folders.inventory()?;
    tell("server and resources");
    let version = match installed::version(client).await {
        Look::Failed(reason) => return Err(Error::Silent { cluster: cluster.to_string(), reason }),
        look => installed::judge_version(&look),
    };
    let mut findings = vec![version];
    findings.extend(installed::crds(client).await);
    findings.extend(installed::policies(client).await);

    tell("webhook configuration");
    let look = CONFIGURATIONS.get(client, None, CONFIGURATION).await;
    let configuration = look.found();
    findings.extend(webhooks::judge(&look, namespace));
    findings.extend(webhooks::way(client, configuration).await);
    tell("pods");
    findings.extend(pods::look(client, namespace, is_called_by_url(configuration)).await);
    tell("certificates");
    findings.extend(certificates::look(subject, configuration).await);
    tell("lease (two looks)");
    findings.push(lease::look(client, namespace).await);

    let options = options(configuration.and_then(Reach::of).as_ref(), namespace);
    let (found, providers) = use_of_it(client, inventory, &options, tell).await;
    findings.extend(found);
    tell("a trial through the API server (dry run)");
    findings.extend(probe::look(subject, &options).await);
    tell("rights of our ServiceAccounts");
    findings.extend(rights::look(client, namespace, configuration, &options.kinds, &providers).await);
    Ok(findings)
}

/// What there is to be had, and who counts on it; and the namespaces whose credentials are offered.
async fn use_of_it(
    client: &Client,
    inventory: Inventory,
    options: &Options,
    tell: &dyn Fn(&str),
) -> (Vec<Finding>, Vec<String>) {
    let mut findings = Vec::new();
    tell("offers and storage classes");
    let catalog = match watch::read(client, inventory, Scope::Cluster).await {
        Ok(reading) => {
            findings.extend(offers::judge(&reading));
            reading.catalog
        }
        Err(error) => {
            let todo = "try again; without it the checks on offers and namespaces say little";
            findings.push(Finding::warn("offers", format!("can't look: {}", with_causes(&error)), todo));
            Catalog::default()
        }
    };
    findings.push(offers::default_class(client).await);
    tell("workloads");
    findings.extend(workloads::look(client, &catalog, options).await);
    (findings, offers::with_credentials(&catalog))
}

/// Where injection is on, as the configuration says.
fn options(reach: Option<&Reach>, namespace: &str) -> Options {
    let mut options = Options { mode: reach.map_or(Mode::OptIn, |reach| reach.mode), ..Options::default() };
    options.excluded_namespaces.push(namespace.to_owned());
    options.kinds = reach.map(|reach| reach.kinds.clone()).unwrap_or_default();
    options.excluded_namespaces.extend(reach.into_iter().flat_map(|r| r.excluded_namespaces.iter().cloned()));
    options
}

fn is_called_by_url(configuration: Option<&Value>) -> bool {
    configuration.is_some_and(|object| object.pointer("/webhooks/0/clientConfig/url").is_some())
}

/// A text of an object; empty where there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a pointer; empty where there is none.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The first few names, and how many more there are.
fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

/// A number with its noun.
fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
