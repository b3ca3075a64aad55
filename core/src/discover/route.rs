//! Routes: at which address the world reaches the pods of a workload, as an Ingress or an HTTPRoute says.
//!
//! Of each object only the best way to each Service is kept, and of a namespace only the ways to Services that select
//! pods. A route never reaches into another namespace: whoever writes one could give others an address.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use serde_json::Value;

use super::{
    Labels, Taken,
    namespaced::Namespaced,
    object::{self, ObjectError},
    service::ServiceFacts,
    sorted::Sorted,
};
use crate::name::is_dns_subdomain;

/// Where the world reaches an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppAddress {
    /// `https://host/path/`: the slash at its end is always there.
    pub url: String,
    /// The name of the host alone.
    pub host: String,
}

/// The kinds of objects that lead to Services.
pub(super) const ROUTES: [&str; 2] = ["Ingress", "HTTPRoute"];

/// To how many Services one object may lead: a bound on memory; nobody writes so long a list by hand.
const MAX_SERVICES: usize = 256;
/// The longest path that is used, in bytes.
const MAX_PATH: usize = 1024;

/// All routes of the cluster, and what follows from them for each namespace.
#[derive(Debug, Default)]
pub(super) struct Routes {
    known: Namespaced<(&'static str, String), Ways>,
    /// Namespaces whose routes, or the pods behind them, changed since they were last settled.
    changed: BTreeSet<String>,
    addresses: Sorted<(Arc<str>, Arc<Addresses>)>,
}

/// The best way to each Service, by its name.
type Ways = BTreeMap<String, Way>;

/// One way to a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    is_encrypted: bool,
    host: String,
    /// Without the slash at its end, so the root is empty.
    path: String,
}

/// The addresses of one namespace's pods: each Service's selector and the best way to it, found by one label that it
/// selects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses(HashMap<String, HashMap<String, Vec<(Labels, Way)>>>);

// === impl Routes ===

impl Routes {
    /// Takes an Ingress or an HTTPRoute, in place of what was known of it.
    pub(super) fn apply(&mut self, kind: &'static str, object: &Value) -> Result<Taken, ObjectError> {
        let (namespace, name) = object::namespaced_name(object)?;
        let ways = if kind == "Ingress" { ingress(object) } else { http_route(object, &namespace) };
        if ways.is_empty() {
            self.remove(kind, &namespace, &name);
            return Ok(Taken::Ignored);
        }
        if self.known.put(&namespace, (kind, name), ways) {
            self.changed.insert(namespace);
        }
        Ok(Taken::Known)
    }

    pub(super) fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        let Some(kind) = ROUTES.iter().find(|known| **known == kind) else { return };
        if self.known.remove(namespace, &(*kind, name.to_owned())) {
            self.changed.insert(namespace.to_owned());
        }
    }

    /// Namespaces and names of the objects of one kind.
    pub(super) fn names(&self, kind: &str) -> impl Iterator<Item = (&String, &String)> {
        self.known.keys().filter(move |(_, (of, _))| *of == kind).map(|(space, (_, name))| (space, name))
    }

    /// The pods behind a namespace's Services are others now.
    pub(super) fn reselect(&mut self, namespace: &str) {
        if self.known.has_any(namespace) {
            self.changed.insert(namespace.to_owned());
        }
    }

    /// Whether there is nothing to find anew.
    pub(super) fn is_settled(&self) -> bool {
        self.changed.is_empty()
    }

    /// Finds the addresses of the namespaces that changed; says whether any is another one than before.
    pub(super) fn settle(&mut self, services: &Sorted<Arc<ServiceFacts>>) -> bool {
        let mut is_changed = false;
        for namespace in std::mem::take(&mut self.changed) {
            let routes = self.known.within(&namespace);
            let selector =
                |name: &str| services.get(|service| service.place().cmp(&(namespace.as_str(), name)))?.pods();
            let found = Some(Addresses::of(routes, selector)).filter(|addresses| !addresses.0.is_empty());
            let stands = |(name, _): &(Arc<str>, _)| name.as_ref().cmp(namespace.as_str());
            if self.addresses.get(stands).map(|(_, known)| known.as_ref()) != found.as_ref() {
                is_changed = true;
                match found {
                    Some(found) => {
                        self.addresses.insert((namespace.as_str().into(), Arc::new(found)), stands);
                    }
                    None => drop(self.addresses.remove(stands)),
                }
            }
        }
        is_changed
    }

    /// The addresses of all namespaces as they were last settled.
    pub(super) fn addresses(&self) -> Sorted<(Arc<str>, Arc<Addresses>)> {
        self.addresses.clone()
    }
}

// === impl Way ===

impl Way {
    /// The less, the better: encrypted ones, then those to all of a host, then by the names' bytes, so that it never
    /// depends on which object was seen first.
    fn rank(&self) -> (bool, bool, &str, &str) {
        (!self.is_encrypted, !self.path.is_empty(), &self.host, &self.path)
    }

    fn address(&self) -> AppAddress {
        let Self { host, path, .. } = self;
        let scheme = if self.is_encrypted { "https" } else { "http" };
        AppAddress { url: format!("{scheme}://{host}{path}/"), host: host.clone() }
    }
}

/// Adds a way to a Service, where it is a better one than what is known.
fn add(ways: &mut Ways, service: &str, way: Way) {
    let has_room = ways.len() < MAX_SERVICES;
    match ways.get_mut(service) {
        Some(known) if way.rank() < known.rank() => *known = way,
        Some(_) => {}
        None if has_room && is_dns_subdomain(service) => {
            ways.insert(service.to_owned(), way);
        }
        None => {}
    }
}

// === impl Addresses ===

impl Addresses {
    /// `selector` finds which pods a Service of that name leads to.
    fn of<'a>(routes: impl Iterator<Item = &'a Ways>, selector: impl Fn(&str) -> Option<&'a Labels>) -> Self {
        let mut best: BTreeMap<&str, &Way> = BTreeMap::new();
        for (service, way) in routes.flatten() {
            let known = best.entry(service).or_insert(way);
            if way.rank() < known.rank() {
                *known = way;
            }
        }
        let mut addresses = Self::default();
        for (service, way) in best {
            let Some(selector) = selector(service) else { continue };
            // By the label that the fewest others are found by: one that all pods have would make the list long.
            let rarest = selector.iter().min_by_key(|(key, value)| addresses.by_label(key, value).len());
            if let Some((key, value)) = rarest {
                let values = addresses.0.entry(key.to_owned()).or_default();
                values.entry(value.to_owned()).or_default().push((selector.clone(), way.clone()));
            }
        }
        addresses
    }

    fn by_label(&self, key: &str, value: &str) -> &[(Labels, Way)] {
        self.0.get(key).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    /// The best address of pods with these labels.
    pub(super) fn find(&self, pod_labels: &Labels) -> Option<AppAddress> {
        pod_labels
            .iter()
            .flat_map(|(key, value)| self.by_label(key, value))
            .filter(|(selector, _)| pod_labels.has_all(selector))
            .map(|(_, way)| way)
            .min_by_key(|way| way.rank())
            .map(Way::address)
    }
}

// === reading ===

fn ingress(object: &Value) -> Ways {
    let secured = Secured::read(object);
    let mut ways = Ways::new();
    for rule in list(object.get("spec"), "rules") {
        let Some(host) = rule.get("host").and_then(Value::as_str).filter(|host| is_host(host)) else {
            continue;
        };
        let is_encrypted = secured.covers(host);
        for path in list(rule.get("http"), "paths") {
            let Some(service) = path.pointer("/backend/service/name").and_then(Value::as_str) else {
                continue;
            };
            let is_plain = matches!(text(path, "pathType"), Some("Prefix" | "Exact"));
            let path = text(path, "path").filter(|_| is_plain).and_then(plain_path).unwrap_or_default();
            add(&mut ways, service, Way { is_encrypted, host: host.to_owned(), path });
        }
    }
    ways
}

/// Which hosts an Ingress has certificates for.
struct Secured<'a> {
    hosts: HashSet<&'a str>,
    /// An entry without hosts is for all of them.
    is_everything: bool,
}

impl<'a> Secured<'a> {
    fn read(ingress: &'a Value) -> Self {
        let mut secured = Self { hosts: HashSet::new(), is_everything: false };
        for entry in list(ingress.get("spec"), "tls").iter().filter(|entry| entry.is_object()) {
            match entry.get("hosts") {
                None | Some(Value::Null) => secured.is_everything = true,
                Some(Value::Array(hosts)) if hosts.is_empty() => secured.is_everything = true,
                Some(hosts) => {
                    secured.hosts.extend(hosts.as_array().into_iter().flatten().filter_map(Value::as_str));
                }
            }
        }
        secured
    }

    /// A wildcard stands for one label.
    fn covers(&self, host: &str) -> bool {
        let wildcard = || host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.is_everything
            || self.hosts.contains(host)
            || wildcard().is_some_and(|wildcard| self.hosts.contains(wildcard.as_str()))
    }
}

/// The ways of an HTTPRoute. Which listener it hangs on would say whether it is encrypted: that is not looked at, since one
/// that is not mostly redirects to one that is.
fn http_route(object: &Value, namespace: &str) -> Ways {
    let mut ways = Ways::new();
    let hosts = list(object.get("spec"), "hostnames").iter().filter_map(Value::as_str);
    let Some(host) = hosts.filter(|host| is_host(host)).min() else { return ways };
    for rule in list(object.get("spec"), "rules") {
        // The root is the empty path, so it is the least.
        let path = list(Some(rule), "matches").iter().map(matched_path).min().unwrap_or_default();
        for backend in list(Some(rule), "backendRefs") {
            let is_service = matches!(text(backend, "kind"), None | Some("Service"))
                && matches!(text(backend, "group"), None | Some(""))
                && text(backend, "namespace").is_none_or(|of| of == namespace);
            let is_used = backend.get("weight").and_then(Value::as_i64) != Some(0);
            if let (Some(service), true) = (text(backend, "name"), is_service && is_used) {
                let (host, path) = (host.to_owned(), path.clone());
                add(&mut ways, service, Way { is_encrypted: true, host, path });
            }
        }
    }
    ways
}

fn matched_path(found: &Value) -> String {
    let Some(path) = found.get("path") else { return String::new() };
    let is_plain = matches!(text(path, "type"), None | Some("PathPrefix" | "Exact"));
    text(path, "value").filter(|_| is_plain).and_then(plain_path).unwrap_or_default()
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn list<'a>(object: Option<&'a Value>, field: &str) -> &'a [Value] {
    object.and_then(|object| object.get(field)?.as_array()).map_or(&[], Vec::as_slice)
}

/// Whether this is the name of one host: no wildcard, no number, nothing that means something in an address.
fn is_host(text: &str) -> bool {
    is_dns_subdomain(text) && text.parse::<Ipv4Addr>().is_err()
}

/// A path that can stand in any address, without the slash at its end.
fn plain_path(path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
    let Some(parts) = path.strip_prefix('/') else { return path.is_empty().then(String::new) };
    (path.len() <= MAX_PATH && parts.split('/').all(is_segment)).then(|| path.to_owned())
}
