//! The inventory: one object in, its offers out. Only what offers need is kept of an object.
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    Catalog, Labels, NamespaceFacts, Offer, OfferId, Recipes, Source,
    config_maps::ConfigMaps,
    declared,
    object::{self, DEFAULT_NAMESPACE, ObjectError},
    policy::{Policies, Policy},
    route::{ROUTES, Routes},
    service::{ServiceFacts, Surroundings},
    sorted::Sorted,
    workloads::{WORKLOADS, Workloads},
};
use crate::{
    decide::NamespaceDefaults,
    inject::profile::{Profile, Profiles},
    keys,
};

/// What an object became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is known now, in place of an earlier version.
    Known,
    /// It is of a kind, or a class, that nothing is offered by.
    Ignored,
}

/// Namespace, where there is one, and name of an object.
pub type NamespacedName = (Option<String>, String);

/// What the cluster holds, fed one object at a time.
#[derive(Debug, Default)]
pub struct Inventory {
    recipes: Arc<Recipes>,
    built_in: Profiles,
    /// What follows from all this, changed offer by offer: snapshots are copies of it.
    catalog: Catalog,
    /// By namespace and name.
    services: Sorted<Arc<ServiceFacts>>,
    config_maps: ConfigMaps,
    workloads: Workloads,
    /// All offers of the catalog, by id.
    offers: Sorted<Arc<Offer>>,
    routes: Routes,
    /// Namespaces where what stands around Services changed since the last snapshot.
    changed: BTreeSet<String>,
    profiles: BTreeMap<String, Arc<Profile>>,
    policies: Policies,
    /// Whether a snapshot would differ from the last one.
    is_changed: bool,
}

// === impl Inventory ===

impl Inventory {
    /// An empty inventory that knows these recipes and profiles.
    pub fn new(recipes: Arc<Recipes>, profiles: Profiles) -> Self {
        Self {
            catalog: Catalog::new(recipes.clone(), Arc::new(profiles.clone())),
            recipes,
            built_in: profiles,
            is_changed: true,
            ..Self::default()
        }
    }

    /// Namespace and name of an object, as [`Inventory::retain`] compares them.
    ///
    /// # Errors
    /// [`ObjectError`] where it has no name.
    pub fn key(object: &Value) -> Result<NamespacedName, ObjectError> {
        key(object)
    }

    /// Takes one object, in place of what was known of it.
    ///
    /// # Errors
    /// [`ObjectError`] names the field that can't be read; nothing else is lost by it.
    pub fn apply(&mut self, object: &Value) -> Result<Taken, ObjectError> {
        let taken = self.take(object);
        if taken.is_err() {
            // What can't be read must not go on as it was before.
            self.forget(object);
        }
        taken
    }

    /// Forgets what our own resource, or a StorageClass, was.
    fn forget(&mut self, object: &Value) {
        if let Some(kind @ ("AppProfile" | "InjectionPolicy" | "StorageClass" | "ServiceOffer")) =
            kind(object)
            && let Ok(key) = key(object)
        {
            self.remove_key(kind, &key);
        }
    }

    /// Forgets an object that is no more; what only its name says is enough.
    ///
    /// # Errors
    /// [`ObjectError`] where it has no name.
    pub fn remove(&mut self, object: &Value) -> Result<(), ObjectError> {
        if let Some(kind) = kind(object) {
            self.remove_key(kind, &key(object)?);
        }
        Ok(())
    }

    /// Forgets all objects of one kind but those in `present`: what a new listing of the cluster did not find is no more.
    pub fn retain(&mut self, kind: &str, present: &HashSet<NamespacedName>) {
        for key in self.known(kind) {
            if !present.contains(&key) {
                self.remove_key(kind, &key);
            }
        }
    }

    /// The ConfigMaps that recipes look for beside their Services, by namespace and name.
    pub fn sought_config_maps(&self) -> BTreeSet<&(String, String)> {
        self.config_maps.sought()
    }

    fn known(&self, kind: &str) -> Vec<NamespacedName> {
        let nested = |namespace: &String, name: &String| (Some(namespace.clone()), name.clone());
        match kind {
            "Service" => {
                let places = self.services.iter().map(|service| (&*service.namespace, &*service.name));
                places.map(|(space, name)| (Some(space.to_owned()), name.to_owned())).collect()
            }
            "ConfigMap" => self.config_maps.names().map(|(ns, n)| nested(ns, n)).collect(),
            "Namespace" => self.catalog.namespaces().map(|(name, _)| (None, name.to_owned())).collect(),
            "AppProfile" => self.profiles.keys().map(|name| (None, name.clone())).collect(),
            "InjectionPolicy" => self.policies.names().map(|name| (None, name.clone())).collect(),
            kind if ROUTES.contains(&kind) => self.routes.names(kind).map(|(ns, n)| nested(ns, n)).collect(),
            kind if WORKLOADS.contains(&kind) => {
                self.workloads.names(kind).map(|(ns, n)| nested(ns, n)).collect()
            }
            _ => {
                let ids = self.offers.iter().map(|offer| &offer.id);
                ids.filter(|id| id.source.kind() == kind)
                    .map(|id| (id.namespace.clone(), id.name.clone()))
                    .collect()
            }
        }
    }

    fn remove_key(&mut self, kind: &str, (namespace, name): &NamespacedName) {
        let space = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        match kind {
            "Service" => {
                self.services.remove(|service| service.place().cmp(&(space, name)));
                self.config_maps.forget_service(space, name);
                self.routes.reselect(space);
                self.drop_offer(&OfferId::namespaced(space, name, Source::Service));
            }
            "Namespace" => self.set_facts(name, None),
            "ConfigMap" => self.config_maps.remove(space, name, &mut self.changed),
            "StorageClass" => self.drop_offer(&OfferId::of_cluster(name, Source::StorageClass)),
            "ServiceOffer" => self.drop_offer(&OfferId::namespaced(space, name, Source::ServiceOffer)),
            "AppProfile" => {
                if self.profiles.remove(name).is_some() {
                    self.set_profiles();
                }
            }
            "InjectionPolicy" => self.is_changed |= self.policies.remove(name),
            kind if ROUTES.contains(&kind) => self.routes.remove(kind, space, name),
            _ => self.workloads.remove(kind, space, name, &mut self.changed),
        }
    }

    fn take(&mut self, object: &Value) -> Result<Taken, ObjectError> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        match (group, text("kind")) {
            ("", "Service") => self.apply_service(object),
            ("", "Namespace") => self.apply_namespace(object),
            ("", "ConfigMap") => self.config_maps.apply(object, &self.recipes, &mut self.changed),
            ("storage.k8s.io", "StorageClass") => {
                let offer = declared::storage_class(object, &self.recipes)?;
                let id = OfferId::of_cluster(&object::name(object)?, Source::StorageClass);
                Ok(self.set_offer(&id, offer))
            }
            ("networking.k8s.io", "Ingress") => self.routes.apply("Ingress", object),
            ("gateway.networking.k8s.io", "HTTPRoute") => self.routes.apply("HTTPRoute", object),
            (keys::GROUP, "ServiceOffer") => {
                let offer = declared::service_offer(object, &self.recipes)?;
                Ok(self.set_offer(&offer.id.clone(), Some(offer)))
            }
            (keys::GROUP, "AppProfile") => {
                let profile = Profile::from_resource(object).map_err(ObjectError::new)?;
                self.profiles.insert(profile.name.clone(), Arc::new(profile));
                self.set_profiles();
                Ok(Taken::Known)
            }
            (keys::GROUP, "InjectionPolicy") => {
                self.is_changed |= self.policies.apply(Policy::from_resource(object)?);
                Ok(Taken::Known)
            }
            ("apps" | "", kind) => match WORKLOADS.iter().find(|known| **known == kind) {
                Some(kind) => self.workloads.apply(kind, object, &self.recipes, &mut self.changed),
                None => Ok(Taken::Ignored),
            },
            _ => Ok(Taken::Ignored),
        }
    }

    /// Whether nothing was told since the last snapshot that could make a difference; [`Inventory::changed`] would look.
    pub fn is_settled(&self) -> bool {
        !self.is_changed && self.changed.is_empty() && self.routes.is_settled()
    }

    /// All that is known now, where that is something else than at the last snapshot: most of what a cluster tells, such
    /// as the status of a Deployment, makes no difference to us.
    pub fn changed(&mut self) -> Option<Catalog> {
        self.settle();
        self.is_changed.then(|| self.snapshot())
    }

    /// All that is known now.
    pub fn snapshot(&mut self) -> Catalog {
        self.settle();
        self.is_changed = false;
        self.catalog.addresses = self.routes.addresses();
        self.catalog.policies = self.policies.sorted();
        self.catalog.gone_policies = self.policies.gone();
        self.catalog.clone()
    }

    /// Draws what follows from what changed.
    fn settle(&mut self) {
        for namespace in std::mem::take(&mut self.changed) {
            self.recognise_all(&namespace);
        }
        self.is_changed |= self.routes.settle(&self.services);
    }

    fn apply_service(&mut self, object: &Value) -> Result<Taken, ObjectError> {
        let mut service = ServiceFacts::read(object, &self.recipes)?;
        let beside = self.services.get(|other| other.namespace.cmp(&service.namespace));
        if let Some(beside) = beside {
            service.namespace = Arc::clone(&beside.namespace);
        }
        let taken = self.recognise(&service);
        let service = Arc::new(service);
        let known = self.services.get(|other| other.place().cmp(&service.place()));
        if known.and_then(|known| known.pods()) != service.pods() {
            self.routes.reselect(&service.namespace);
        }
        self.services.insert(Arc::clone(&service), |other| other.place().cmp(&service.place()));
        taken
    }

    fn apply_namespace(&mut self, object: &Value) -> Result<Taken, ObjectError> {
        let name = object::name(object)?;
        let own = [(keys::NAMESPACE_NAME, name.as_str())];
        let labels: Labels = object::labels(object, "labels").chain(own).collect();
        let is_provider = labels.has(keys::PROVIDER, "true");
        let annotations: Labels = object::labels(object, "annotations").collect();
        let provides = annotations.get(keys::PROVIDES);
        let list = |text: &str| crate::decide::list(text).map(str::to_owned).collect();
        let facts = NamespaceFacts {
            labels,
            provides: is_provider.then(|| provides.map(list)),
            defaults: NamespaceDefaults::read(&annotations).map(Arc::new),
        };
        self.set_facts(&name, Some(facts));
        Ok(Taken::Known)
    }

    fn set_facts(&mut self, namespace: &str, facts: Option<NamespaceFacts>) {
        let known = self.catalog.facts(namespace);
        if known == facts.as_ref() {
            return;
        }
        self.is_changed = true;
        let provides = |facts: &NamespaceFacts| facts.provides.clone();
        let provides_otherwise = known.map(provides) != facts.as_ref().map(provides);
        let stands = |(name, _): &(Arc<str>, _)| name.as_ref().cmp(namespace);
        match facts {
            Some(facts) => self.catalog.namespaces.insert((namespace.into(), Arc::new(facts)), stands),
            None => drop(self.catalog.namespaces.remove(stands)),
        }
        if provides_otherwise {
            // Its offers have others to reach.
            for offer in self.offers.range(|offer| offer.id.namespace.as_deref().cmp(&Some(namespace))) {
                self.catalog.put(offer);
            }
        }
    }

    fn set_profiles(&mut self) {
        self.catalog.profiles = Arc::new(self.built_in.with(self.profiles.values().cloned()));
        self.is_changed = true;
    }

    /// Looks at a namespace's Services again.
    fn recognise_all(&mut self, namespace: &str) {
        // A copy shares them all.
        let services = self.services.clone();
        for service in services.range(|service| service.namespace.as_ref().cmp(namespace)) {
            // What is wrong with a Service was told when it came.
            let _ = self.recognise(service);
        }
    }

    fn recognise(&mut self, service: &ServiceFacts) -> Result<Taken, ObjectError> {
        let sought = Cell::new(None);
        let around = Surroundings {
            recipes: &self.recipes,
            images: &self.workloads.images_behind(service),
            config_map: &|name| {
                sought.set(Some(name.to_owned()));
                self.config_maps.get(&service.namespace, name)
            },
        };
        let offer = service.offer(&around);
        self.config_maps.seek(&service.namespace, &service.name, sought.take());
        let id = OfferId::namespaced(&service.namespace, &service.name, Source::Service);
        match offer {
            Ok(offer) => Ok(self.set_offer(&id, offer)),
            Err(error) => {
                self.drop_offer(&id);
                Err(error)
            }
        }
    }

    fn drop_offer(&mut self, id: &OfferId) {
        if let Some(offer) = self.offers.remove(|offer| offer.id.cmp(id)) {
            self.catalog.take_out(&offer);
            self.is_changed = true;
        }
    }

    /// The offer that an object makes now.
    fn set_offer(&mut self, id: &OfferId, offer: Option<Offer>) -> Taken {
        let Some(offer) = offer else {
            self.drop_offer(id);
            return Taken::Ignored;
        };
        if self.offers.get(|known| known.id.cmp(id)).is_none_or(|known| **known != offer) {
            self.drop_offer(id);
            let offer = Arc::new(offer);
            self.catalog.put(&offer);
            self.offers.insert(offer, |known| known.id.cmp(id));
            self.is_changed = true;
        }
        Taken::Known
    }
}

fn kind(object: &Value) -> Option<&str> {
    object.get("kind").and_then(Value::as_str)
}

fn key(object: &Value) -> Result<NamespacedName, ObjectError> {
    match kind(object) {
        Some("Namespace" | "StorageClass" | "AppProfile" | "InjectionPolicy") => {
            Ok((None, object::name(object)?))
        }
        _ => object::namespaced_name(object).map(|(namespace, name)| (Some(namespace), name)),
    }
}
