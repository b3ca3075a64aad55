//! Services: what is kept of them, and the offers that they make.
use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Consumers, CredentialsSecret, LabelSelector, Labels, Offer, OfferId, Origin, Source,
    object::{self, ObjectError},
    recipe::{Recipe, Recipes},
};
use crate::{
    intent::Intent,
    keys,
    name::{is_dns_subdomain, is_setting_name},
    settings::{self, Fact, Problem, Settings},
};

/// What is kept of a Service; of one that can be no offer, only which pods it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceFacts {
    pub namespace: Arc<str>,
    pub name: Box<str>,
    /// The mark, and those that recipes look at.
    pub labels: Labels,
    /// Those of our own prefix, where it is marked.
    pub annotations: Labels,
    pub ports: Box<[ServicePort]>,
    pub selector: Labels,
    pub external_name: Option<Box<str>>,
    pub is_headless: bool,
}

/// What bears on the recognition of a Service.
pub(super) struct Surroundings<'a> {
    pub recipes: &'a Recipes,
    /// The images of the pods behind it.
    pub images: &'a [String],
    /// The ConfigMaps beside it, by name.
    pub config_map: &'a dyn Fn(&str) -> Option<&'a Labels>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServicePort {
    pub name: Option<Box<str>>,
    pub number: u16,
}

// === impl ServiceFacts ===

impl ServiceFacts {
    pub(super) fn read(service: &Value, recipes: &Recipes) -> Result<Self, ObjectError> {
        let (namespace, name) = object::namespaced_name(service)?;
        let spec = service.get("spec").unwrap_or(&Value::Null);
        let text = |key: &str| spec.get(key).and_then(Value::as_str);
        let labels: Labels = object::labels(service, "labels")
            .filter(|(key, _)| *key == keys::OFFERS || recipes.reads_label(key))
            .collect();
        let is_marked = labels.get(keys::OFFERS).is_some();
        let annotations = object::labels(service, "annotations")
            .filter(|(key, _)| is_marked && key.starts_with(keys::PREFIX));
        let ports = spec.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let read = Self {
            namespace: namespace.into(),
            name: name.into(),
            labels,
            annotations: annotations.collect(),
            ports: ports.iter().filter_map(port).collect(),
            selector: object::string_map(spec.get("selector")),
            external_name: (text("type") == Some("ExternalName"))
                .then(|| text("externalName").unwrap_or_default().into()),
            is_headless: text("clusterIP") == Some("None"),
        };
        match is_marked || recipes.may_recognise(&read) {
            true => Ok(read),
            false => Ok(Self { labels: Labels::new(), ports: Box::default(), ..read }),
        }
    }

    /// Namespace and name: no other Service has both.
    pub(super) fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// Which pods it leads to, where it leads to pods.
    pub(super) fn pods(&self) -> Option<&Labels> {
        Some(&self.selector).filter(|selector| !selector.is_empty() && self.external_name.is_none())
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)
    }

    /// The offer that this Service makes: what it is marked as, else what it is recognised as.
    ///
    /// # Errors
    /// When it is marked as an offer of something that is no intent.
    pub(super) fn offer(&self, around: &Surroundings<'_>) -> Result<Option<Offer>, ObjectError> {
        let (recipes, images) = (around.recipes, around.images);
        if let Some(intent) = self.labels.get(keys::OFFERS) {
            let intent = Intent::parse(intent)
                .map_err(|error| ObjectError::new(format!("metadata.labels[{}]: {error}", keys::OFFERS)))?;
            let recipe = recipes.fit(&intent, self, images);
            return Ok(Some(self.marked(intent, recipe, around)));
        }
        let recognised = recipes.recognise(self, images);
        Ok(recognised.map(|recipe| self.recognised(recipe, around)))
    }

    fn recognised(&self, recipe: &Recipe, around: &Surroundings<'_>) -> Offer {
        self.base(recipe.intent.clone(), Origin::Recognised, Some(recipe), around, Settings::default())
    }

    fn marked(&self, intent: Intent, recipe: Option<&Recipe>, around: &Surroundings<'_>) -> Offer {
        let mut problems = Vec::new();
        let mut settings = Settings::default();
        if let Some(text) = self.annotation(keys::SETTINGS) {
            read_settings(text, &mut settings, &mut problems);
        }
        let credentials = self.credentials(&intent, &mut settings, &mut problems);
        let names_secret = self.annotation(keys::CREDENTIALS).is_some();
        let consumers = self.consumers(names_secret, &mut problems);
        let priority = self.annotation(keys::PRIORITY).map_or(Ok(0), |text| text.trim().parse());
        if priority.is_err() {
            problems.push(Problem::new("priority", "expected a whole number"));
        }
        let mut offer = self.base(intent, Origin::Marked, recipe, around, settings);
        problems.append(&mut offer.problems);
        Offer { problems, credentials, consumers, priority: priority.unwrap_or(0), ..offer }
    }

    /// What both kinds of offers of a Service have: its address, and what the recipe knows.
    fn base(
        &self,
        intent: Intent,
        origin: Origin,
        recipe: Option<&Recipe>,
        around: &Surroundings<'_>,
        mut settings: Settings,
    ) -> Offer {
        let host = match &self.external_name {
            Some(target) => target.to_string(),
            None => format!("{}.{}.svc", self.name, self.namespace),
        };
        settings.set_default("host", || Fact::Literal(host));
        let best = recipe.and_then(|recipe| recipe.best_port(self));
        let (port, tls) = match best {
            Some((port, tls)) => (Some(port), tls),
            None => (self.ports.first(), None),
        };
        if let Some(port) = port {
            let number = port.number.to_string();
            settings.set_default("port", || Fact::Literal(number.clone()));
            if let (Some(tls), true) = (tls, settings.literal("port") == Some(number.as_str())) {
                settings.set_default("tls", || Fact::Literal(tls.to_owned()));
            }
        }
        let mut problems = Vec::new();
        if let Some(names) = recipe.and_then(|recipe| recipe.config_map.as_ref()) {
            let config_map = (around.config_map)(&names.beside(&self.name));
            let told = names.settings.iter().filter(|(setting, _)| settings.get(setting).is_none());
            let told: Vec<_> = told
                .filter_map(|(setting, key)| Some((setting.clone(), config_map?.get(key)?.into())))
                .collect();
            add_settings(told, &mut settings, &mut problems);
        }
        problems.extend(finish(&mut settings, &intent, recipe, around.recipes));
        Offer {
            intent,
            id: OfferId::namespaced(&self.namespace, &self.name, Source::Service),
            origin,
            recipe: recipe.map(|recipe| recipe.name.clone()),
            hint: recipe.and_then(|recipe| recipe.hint.clone()),
            priority: 0,
            consumers: Consumers::Selected(LabelSelector::default()),
            settings,
            credentials: None,
            problems,
            is_trap: recipe.is_some_and(|recipe| recipe.is_trap),
            pods: self.selector.clone(),
        }
    }

    fn credentials(
        &self,
        intent: &Intent,
        settings: &mut Settings,
        problems: &mut Vec<Problem>,
    ) -> Option<CredentialsSecret> {
        let secret = self.annotation(keys::CREDENTIALS)?.trim();
        let mut keys_by_setting = BTreeMap::new();
        for pair in self.annotation(keys::CREDENTIALS_KEYS).unwrap_or_default().split([',', ' ', '\n', '\t'])
        {
            match pair.split_once('=') {
                _ if pair.is_empty() => {}
                Some((setting, key)) => {
                    keys_by_setting.insert(setting.to_owned(), key.to_owned());
                }
                None => problems.push(Problem::new("credentials-keys", "expected setting=KEY pairs")),
            }
        }
        add_credentials(secret, &keys_by_setting, intent, settings, problems)
    }

    fn consumers(&self, has_credentials: bool, problems: &mut Vec<Problem>) -> Consumers {
        match self.annotation(keys::CONSUMERS).map(str::trim) {
            None if has_credentials => Consumers::OwnNamespace,
            None => Consumers::Selected(LabelSelector::default()),
            // An empty list is nobody, never everybody.
            Some("") => Consumers::OwnNamespace,
            Some(text) => LabelSelector::parse(text).map(Consumers::Selected).unwrap_or_else(|error| {
                problems.push(Problem::new("consumers", error.to_string()));
                Consumers::OwnNamespace
            }),
        }
    }
}

/// Adds what the recipe and the product are known to have, and what follows.
pub(super) fn finish(
    settings: &mut Settings,
    intent: &Intent,
    recipe: Option<&Recipe>,
    recipes: &Recipes,
) -> Vec<Problem> {
    if let Some(provider) = recipe.and_then(|recipe| recipe.provider.as_ref()) {
        settings.set_default("provider", || Fact::Literal(provider.clone()));
    }
    let provider = settings.literal("provider").map(str::to_owned);
    // A recipe speaks for its own product only: somebody may have said that it is another.
    let own = recipe.filter(|recipe| recipe.provider == provider).map(|recipe| &recipe.settings);
    let facts = own.or_else(|| recipes.product_facts(intent, provider.as_deref()?));
    let facts = facts.into_iter().flatten().map(|(name, template)| (name.as_str(), template));
    settings.complete(intent, facts)
}

/// Adds what a named Secret holds: the mapped keys, and the intent's own credentials where nothing else is said.
pub(super) fn add_credentials(
    secret: &str,
    keys_by_setting: &BTreeMap<String, String>,
    intent: &Intent,
    settings: &mut Settings,
    problems: &mut Vec<Problem>,
) -> Option<CredentialsSecret> {
    if !is_dns_subdomain(secret) {
        problems.push(Problem::new("credentials", "expected the name of a Secret in the same namespace"));
        return None;
    }
    for (setting, key) in keys_by_setting {
        let is_key = !key.is_empty()
            && key.len() <= 253
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if is_setting_name(setting) && is_key {
            settings.set(setting, Fact::Credential(vec![key.clone()]));
        } else {
            problems
                .push(Problem::new("credentials-keys", "expected a setting's name and a key of the Secret"));
        }
    }
    // A custom intent's Secret whose keys are named holds those only: nobody knows what else it should have.
    let is_implied = intent.known().is_some() || keys_by_setting.is_empty();
    for (setting, keys) in settings::implied_credentials(intent) {
        let alias = if setting == "bind-dn" { "username" } else { setting };
        if is_implied && settings.get(setting).is_none() && settings.get(alias).is_none() {
            settings.set(setting, Fact::Credential(keys));
        }
    }
    Some(CredentialsSecret { name: secret.to_owned() })
}

/// Reads the annotation `settings`: a YAML map of scalars, as they are written.
fn read_settings(text: &str, settings: &mut Settings, problems: &mut Vec<Problem>) {
    let options = || serde_saphyr::options! { with_snippet: false };
    // As strings first: a number keeps the digits that it was written with.
    if let Ok(map) = serde_saphyr::from_str_with_options::<BTreeMap<String, String>>(text, options()) {
        add_settings(map.into_iter().map(|(name, value)| (name, Value::String(value))), settings, problems);
        return;
    }
    match serde_saphyr::from_str_with_options::<Value>(text, options()) {
        Ok(Value::Object(map)) => add_settings(map, settings, problems),
        Ok(Value::Null) => {}
        _ => problems
            .push(Problem::new("settings", "expected a YAML map, such as `base-dn: dc=example,dc=org`")),
    }
}

/// Adds settings as somebody gave them; what can't be used is reported and left out.
pub(super) fn add_settings(
    given: impl IntoIterator<Item = (String, Value)>,
    settings: &mut Settings,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in given {
        if let Err(problem) = settings::check_name(&name) {
            problems.push(problem);
            continue;
        }
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                problems.push(Problem::new(name, "expected a string, a number or a boolean"));
                continue;
            }
        };
        match settings::check_value(&name, &value) {
            Ok(()) => settings.set(&name, Fact::Literal(value)),
            Err(problem) => problems.push(problem),
        }
    }
}

fn port(port: &Value) -> Option<ServicePort> {
    let number = port.get("port").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())?;
    // A name server's UDP twin is nothing that an app connects to.
    let is_udp = port.get("protocol").and_then(Value::as_str) == Some("UDP");
    let name = port.get("name").and_then(Value::as_str).map(Into::into);
    (!is_udp).then_some(ServicePort { name, number })
}
