//! Recipes: data that recognises well-known services and says what it knows of them.
mod written;

use std::collections::{BTreeMap, BTreeSet};

use wildmatch::WildMatch;

pub(super) use self::written::ConfigMapNames;
use self::written::{Port, Written, WrittenEvidence};
use super::{
    Labels,
    service::{ServiceFacts, ServicePort},
};
use crate::{
    data::{self, DataError, Proof},
    intent::{Intent, Known},
    name::is_dns_label,
    settings,
    template::Template,
};

/// The evidence that a recipe needs: an image, a label set or a port name alone is not enough.
const THRESHOLD: u32 = 3;
const STRONG: u32 = 2;
const WEAK: u32 = 1;

/// All recipes, by name.
#[derive(Debug, Default)]
pub struct Recipes {
    recipes: Vec<Recipe>,
    /// The keys of labels that any recipe looks at.
    label_keys: BTreeSet<String>,
    /// What every recipe of a product agrees on.
    products: BTreeMap<(Intent, String), BTreeMap<String, Template>>,
}

/// How one well-known service looks, and what is known of it.
#[derive(Debug)]
pub struct Recipe {
    /// Its name, a DNS label.
    pub name: String,
    /// For people.
    pub title: String,
    /// What the service offers.
    pub intent: Intent,
    /// The product.
    pub provider: Option<String>,
    /// Whether the service takes requests and never serves them.
    pub is_trap: bool,
    /// How to supply what can't be recognised.
    pub hint: Option<String>,
    /// What holds for every instance.
    pub settings: BTreeMap<String, Template>,
    /// How sure we are, and where it was read.
    pub proof: Proof,
    /// The ConfigMap beside the Service that tells settings.
    pub(super) config_map: Option<ConfigMapNames>,
    ports: Vec<Port>,
    evidence: Evidence,
    excluded_names: Vec<WildMatch>,
    provisioners: Vec<String>,
}

#[derive(Debug, Default)]
struct Evidence {
    images: Vec<WildMatch>,
    labels: Vec<BTreeMap<String, WildMatch>>,
    port_names: Vec<String>,
    port_numbers: Vec<u16>,
    names: Vec<WildMatch>,
}

/// The JSON Schema of a recipe's file.
pub fn recipe_schema() -> schemars::Schema {
    schemars::schema_for!(Written)
}

static BUILT_IN: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/src/discover/recipes");

// === impl Recipes ===

impl Recipes {
    /// The recipes that come with the program.
    ///
    /// # Errors
    /// [`DataError`] names the file and the field; a test keeps this from happening.
    pub fn built_in() -> Result<Self, DataError> {
        Self::read(data::files(&BUILT_IN))
    }

    /// The recipes that come with the program and others, from `(file name, text)` pairs; one of the same name takes the
    /// place of ours.
    ///
    /// # Errors
    /// [`DataError`] for a file that is no recipe, and for two of one name.
    pub fn built_in_with<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DataError> {
        let others = Self::read(files)?;
        let mut recipes = Self::built_in()?.recipes;
        recipes.retain(|recipe| others.recipes.iter().all(|other| other.name != recipe.name));
        recipes.extend(others.recipes);
        Ok(Self::new(recipes))
    }

    /// Reads recipes from `(file name, text)` pairs.
    ///
    /// # Errors
    /// [`DataError`] for a file that is no recipe, and for two of one name.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DataError> {
        let mut recipes: Vec<Recipe> = Vec::new();
        for (file, text) in files {
            let recipe = Recipe::read(file, text)?;
            if recipes.iter().any(|other| other.name == recipe.name) {
                return Err(DataError::new(file, format!("two recipes are named {}", recipe.name)));
            }
            recipes.push(recipe);
        }
        Ok(Self::new(recipes))
    }

    fn new(mut recipes: Vec<Recipe>) -> Self {
        recipes.sort_by(|a, b| a.name.cmp(&b.name));
        let products = products(&recipes);
        let sets = recipes.iter().flat_map(|recipe| &recipe.evidence.labels);
        let label_keys = sets.flat_map(BTreeMap::keys).cloned().collect();
        Self { recipes, label_keys, products }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.iter()
    }

    /// The recipe that recognises a Service best, given the images behind it; the first by name where two do equally.
    pub(super) fn recognise(&self, service: &ServiceFacts, images: &[String]) -> Option<&Recipe> {
        let weigh = |recipe: &Recipe| recipe.weigh(service, images);
        // What one recipe knows to be a double is none of another's either.
        if self.recipes.iter().any(|recipe| recipe.is_double(service) && weigh(recipe).is_some()) {
            return None;
        }
        best(self.recipes.iter(), weigh)
    }

    /// Whether a Service might be recognised, whatever comes to stand behind it.
    pub(super) fn may_recognise(&self, service: &ServiceFacts) -> bool {
        // A headless one is a double to each.
        !service.is_headless && self.recipes.iter().any(|recipe| recipe.may_weigh(service))
    }

    /// Whether any recipe looks at labels of this key.
    pub(super) fn reads_label(&self, key: &str) -> bool {
        self.label_keys.contains(key)
    }

    /// Whether any recipe knows this image.
    pub(super) fn knows_image(&self, image: &str) -> bool {
        self.recipes.iter().any(|recipe| recipe.evidence.knows_image(image))
    }

    /// The recipe that fits a Service that is said to offer `intent`: by its evidence, else the intent's general one.
    pub(super) fn fit(&self, intent: &Intent, service: &ServiceFacts, images: &[String]) -> Option<&Recipe> {
        let of_intent = self.recipes.iter().filter(|recipe| &recipe.intent == intent);
        best(of_intent, |recipe| recipe.weigh(service, images))
            .or_else(|| self.recipes.iter().find(|recipe| recipe.name == intent.as_str()))
    }

    /// The keys of ConfigMaps that any recipe reads.
    pub(super) fn config_keys(&self) -> impl Iterator<Item = &str> {
        let maps = self.recipes.iter().filter_map(|recipe| recipe.config_map.as_ref());
        maps.flat_map(|map| map.settings.values()).map(String::as_str)
    }

    /// The storage recipe of a provisioner: equal, or after a dot (Rook puts its namespace before).
    pub(super) fn by_provisioner(&self, provisioner: &str) -> Option<&Recipe> {
        self.recipes.iter().find(|recipe| {
            recipe.provisioners.iter().any(|known| {
                provisioner
                    .strip_suffix(known.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        })
    }

    /// What holds for every instance of a product, however it was installed.
    pub(super) fn product_facts(
        &self,
        intent: &Intent,
        provider: &str,
    ) -> Option<&BTreeMap<String, Template>> {
        self.products.get(&(intent.clone(), provider.to_owned()))
    }
}

/// The first recipe of the greatest weight that is enough; of two as heavy, one that names a product comes first.
fn best<'a>(
    recipes: impl Iterator<Item = &'a Recipe>,
    weigh: impl Fn(&Recipe) -> Option<u32>,
) -> Option<&'a Recipe> {
    let mut best: Option<(&Recipe, (u32, bool))> = None;
    for recipe in recipes {
        if let Some(weight) = weigh(recipe).map(|weight| (weight, recipe.provider.is_some()))
            && best.is_none_or(|(_, so_far)| weight > so_far)
        {
            best = Some((recipe, weight));
        }
    }
    best.map(|(recipe, _)| recipe)
}

fn products(recipes: &[Recipe]) -> BTreeMap<(Intent, String), BTreeMap<String, Template>> {
    let mut products: BTreeMap<(Intent, String), BTreeMap<String, Template>> = BTreeMap::new();
    for recipe in recipes {
        let Some(provider) = recipe.provider.clone() else { continue };
        products
            .entry((recipe.intent.clone(), provider))
            .and_modify(|agreed| agreed.retain(|name, template| recipe.settings.get(name) == Some(template)))
            .or_insert_with(|| recipe.settings.clone());
    }
    products
}

// === impl ConfigMapNames ===

impl ConfigMapNames {
    /// The ConfigMap's name beside that Service.
    pub(super) fn beside(&self, service: &str) -> String {
        self.name.replace('*', service)
    }
}

// === impl Recipe ===

impl Recipe {
    fn read(file: &str, text: &str) -> Result<Self, DataError> {
        let written: Written = data::parse(file, text)?;
        let fail = |reason: String| DataError::new(file, reason);
        if !is_dns_label(&written.name) {
            return Err(fail(format!("name: `{}` is not a DNS label", written.name)));
        }
        let is_storage = written.intent.known() == Some(Known::Storage);
        if is_storage == written.provisioners.is_empty() || is_storage != written.ports.is_empty() {
            return Err(fail("storage needs `provisioners`, everything else needs `ports`".into()));
        }
        for port in &written.ports {
            if !port.tls.as_deref().is_none_or(|tls| ["none", "starttls", "tls"].contains(&tls)) {
                return Err(fail("ports: tls is none, starttls or tls".into()));
            }
        }
        if written.ports.iter().any(|port| port.name.is_none() && port.number.is_none()) {
            return Err(fail("ports: give each a name or a number".into()));
        }
        for pattern in &written.evidence.images {
            data::check_image_pattern(pattern).map_err(|reason| fail(format!("match.images: {reason}")))?;
        }
        let from_config_map = written.config_map.iter().flat_map(|map| map.settings.keys());
        if let Some(unknown) =
            from_config_map.into_iter().find(|name| !settings::is_known(&written.intent, name))
        {
            return Err(fail(format!("config-map.settings: unknown setting `{unknown}`")));
        }
        let mut templates = BTreeMap::new();
        for (name, text) in written.settings {
            if !settings::is_known(&written.intent, &name) {
                return Err(fail(format!("settings: unknown setting `{name}`")));
            }
            let template = Template::parse(&text, &written.intent)
                .map_err(|error| fail(format!("settings.{name}: {error}")))?;
            templates.insert(name, template);
        }
        let proof = Proof {
            confidence: written.confidence,
            sources: written.sources,
            unverified: written.unverified,
        };
        proof.check().map_err(fail)?;
        Ok(Self {
            name: written.name,
            title: written.title,
            intent: written.intent,
            provider: written.provider,
            is_trap: written.trap,
            hint: written.hint,
            settings: templates,
            proof,
            config_map: written.config_map,
            ports: written.ports,
            evidence: written.evidence.into(),
            excluded_names: written.exclude.names.iter().map(|glob| WildMatch::new(glob)).collect(),
            provisioners: written.provisioners,
        })
    }

    /// Whether the Service is a double of the one to use: headless, read-only and the like.
    fn is_double(&self, service: &ServiceFacts) -> bool {
        service.is_headless || self.excluded_names.iter().any(|glob| glob.matches(&service.name))
    }

    /// How much speaks for this recipe, where it is enough and there is a port to use.
    fn weigh(&self, service: &ServiceFacts, images: &[String]) -> Option<u32> {
        self.weigh_with(service, || images.iter().any(|image| self.evidence.knows_image(image)))
    }

    /// Whether it would be enough if an image that it knows were behind the Service.
    fn may_weigh(&self, service: &ServiceFacts) -> bool {
        self.weigh_with(service, || !self.evidence.images.is_empty()).is_some()
    }

    fn weigh_with(&self, service: &ServiceFacts, has_image: impl Fn() -> bool) -> Option<u32> {
        self.best_port(service)?;
        let evidence = &self.evidence;
        let signals = [
            (STRONG, has_image()),
            (STRONG, evidence.labels.iter().any(|set| has_labels(&service.labels, set))),
            (
                STRONG,
                service.ports.iter().any(|p| {
                    p.name.as_deref().is_some_and(|n| evidence.port_names.iter().any(|known| known == n))
                }),
            ),
            (WEAK, service.ports.iter().any(|p| evidence.port_numbers.contains(&p.number))),
            (WEAK, evidence.names.iter().any(|glob| glob.matches(&service.name))),
        ];
        let weight = signals.iter().filter(|(_, holds)| *holds).map(|(weight, _)| weight).sum();
        (weight >= THRESHOLD).then_some(weight)
    }

    /// The port that an app should use, with its TLS mode.
    pub(super) fn best_port<'a>(&self, service: &'a ServiceFacts) -> Option<(&'a ServicePort, Option<&str>)> {
        self.ports.iter().find_map(|wanted| {
            let by_name =
                |p: &&ServicePort| wanted.name.is_some() && p.name.as_deref() == wanted.name.as_deref();
            let by_number = |p: &&ServicePort| wanted.number == Some(p.number);
            let port = service.ports.iter().find(by_name).or_else(|| service.ports.iter().find(by_number))?;
            Some((port, wanted.tls.as_deref()))
        })
    }
}

impl Evidence {
    fn knows_image(&self, image: &str) -> bool {
        self.images.iter().any(|glob| glob.matches(image))
    }
}

fn has_labels(labels: &Labels, wanted: &BTreeMap<String, WildMatch>) -> bool {
    !wanted.is_empty()
        && wanted.iter().all(|(key, glob)| labels.get(key).is_some_and(|value| glob.matches(value)))
}

impl From<WrittenEvidence> for Evidence {
    fn from(written: WrittenEvidence) -> Self {
        let globs = |texts: Vec<String>| texts.iter().map(|glob| WildMatch::new(glob)).collect();
        let labels = written
            .labels
            .into_iter()
            .map(|set| set.into_iter().map(|(key, value)| (key, WildMatch::new(&value))).collect());
        Self {
            labels: labels.collect(),
            images: globs(written.images),
            port_names: written.port_names,
            port_numbers: written.port_numbers,
            names: globs(written.names),
        }
    }
}
