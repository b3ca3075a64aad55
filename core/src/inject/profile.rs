//! Profiles: data that says how one app takes settings.
use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use wildmatch::WildMatch;

use crate::{
    api::AppProfileSpec,
    data::{self, Confidence, DataError, Proof},
    decide::{data_path, is_size},
    intent::{Intent, Known},
    name::{is_dns_label, is_env_name},
    settings,
    template::Template,
};

/// All profiles that are known.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    /// By name.
    profiles: BTreeMap<String, Arc<Profile>>,
}

/// How one app takes settings.
#[derive(Debug)]
pub struct Profile {
    /// Its name, a DNS label.
    pub name: String,
    /// The app, for people.
    pub app: String,
    /// The group that the app's data must belong to.
    pub gid: Option<i64>,
    /// By intent, what the app takes.
    pub intents: BTreeMap<Intent, Mapping>,
    images: Vec<ImagePattern>,
    data: Vec<DataPath>,
    is_built_in: bool,
}

/// How an app takes one intent.
#[derive(Debug)]
pub struct Mapping {
    /// How.
    pub takes: Takes,
    /// How sure we are, and where it was read.
    pub proof: Proof,
}

/// How an app takes one intent.
#[derive(Debug)]
pub enum Takes {
    /// By environment variables.
    Env(EnvMapping),
    /// Not from outside: how a person sets it.
    Unsupported(String),
}

/// The variables of one intent.
#[derive(Debug, Default)]
pub struct EnvMapping {
    /// By name.
    pub variables: BTreeMap<String, Variable>,
    /// Other names by which the app reads the same value.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Whether the app reads them only while it sets itself up.
    pub first_boot_only: bool,
    /// Settings without which nothing is injected.
    pub needs: Vec<String>,
    /// Whether local users could no longer log in.
    pub replaces_login: bool,
    /// What a person should know.
    pub note: Option<String>,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone)]
pub enum Variable {
    /// A template.
    Template(Template),
    /// A word of the app for each value of a setting; nothing for the others.
    Map {
        /// The setting.
        setting: String,
        /// The app's words.
        words: BTreeMap<String, String>,
        /// Values that the app can't do.
        unsupported: Vec<String>,
    },
}

#[derive(Debug)]
struct ImagePattern {
    text: String,
    repository: WildMatch,
    tag: Option<WildMatch>,
}

#[derive(Debug)]
struct DataPath {
    path: String,
    size: Option<String>,
    tags: Option<WildMatch>,
    except_tags: Option<WildMatch>,
    is_optional: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    app: String,
    images: Vec<String>,
    tags: Option<String>,
    gid: Option<i64>,
    #[serde(default)]
    data: Vec<WrittenData>,
    #[serde(default)]
    intents: BTreeMap<Intent, WrittenMapping>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenData {
    path: String,
    size: Option<String>,
    tags: Option<String>,
    except_tags: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(rename = "note")]
    _note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenMapping {
    env: Option<BTreeMap<String, WrittenVariable>>,
    unsupported: Option<String>,
    #[serde(default)]
    aliases: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    first_boot_only: bool,
    #[serde(default)]
    needs: Vec<String>,
    login: Option<Login>,
    note: Option<String>,
    confidence: Confidence,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    unverified: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Login {
    Additive,
    Replaces,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum WrittenVariable {
    Template(String),
    Map {
        map: String,
        to: BTreeMap<String, String>,
        #[serde(default)]
        unsupported: Vec<String>,
    },
}

static BUILT_IN: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/src/inject/profiles");

// === impl Profiles ===

impl Profiles {
    /// The profiles that come with the program.
    ///
    /// # Errors
    /// [`DataError`] names the file and the field; a test keeps this from happening.
    pub fn built_in() -> Result<Self, DataError> {
        Self::read(data::files(&BUILT_IN))
    }

    /// Reads profiles from `(file name, text)` pairs.
    ///
    /// # Errors
    /// [`DataError`] for a file that is no profile, and for two of one name.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DataError> {
        let mut profiles = BTreeMap::new();
        for (file, text) in files {
            let profile = Profile::read(file, text)?;
            let name = profile.name.clone();
            if profiles.insert(name.clone(), Arc::new(profile)).is_some() {
                return Err(DataError::new(file, format!("two profiles are named {name}")));
            }
        }
        Ok(Self { profiles })
    }

    /// These and others; one of the same name takes the place of ours.
    pub fn with(&self, others: impl IntoIterator<Item = Arc<Profile>>) -> Self {
        let mut profiles = self.profiles.clone();
        profiles.extend(others.into_iter().map(|profile| (profile.name.clone(), profile)));
        Self { profiles }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.profiles.get(name)
    }

    /// The profile that matches an image best: the longest pattern; of two as long, one of the cluster's before a
    /// built-in one, then the first by name.
    pub fn by_image(&self, image: &str) -> Option<&Arc<Profile>> {
        let (repository, tag) = repository(image);
        let matching = self.profiles.values().filter_map(|profile| {
            let specificity = profile.specificity(&repository, &tag)?;
            Some((std::cmp::Reverse(specificity), profile.is_built_in, &profile.name, profile))
        });
        matching.min_by_key(|(specificity, built_in, name, _)| (*specificity, *built_in, *name)).map(|m| m.3)
    }
}

// === impl Profile ===

impl Profile {
    fn read(file: &str, text: &str) -> Result<Self, DataError> {
        let written: Written = data::parse(file, text)?;
        let fail = |reason: String| DataError::new(file, reason);
        if !is_dns_label(&written.name) {
            return Err(fail(format!("name: `{}` is not a DNS label", written.name)));
        }
        if written.images.is_empty() {
            return Err(fail("images: name at least one".into()));
        }
        let mut intents = BTreeMap::new();
        for (intent, mapping) in written.intents {
            let mapping =
                mapping.check(&intent).map_err(|reason| fail(format!("intents.{intent}.{reason}")))?;
            intents.insert(intent, mapping);
        }
        let data = written.data.into_iter().map(DataPath::try_from);
        let tag = written.tags.as_deref().map(WildMatch::new);
        let images = written.images.into_iter().map(|text| ImagePattern {
            repository: WildMatch::new(&text),
            tag: tag.clone(),
            text,
        });
        Ok(Self {
            name: written.name,
            app: written.app,
            gid: written.gid,
            intents,
            images: images.collect(),
            data: data.collect::<Result<_, _>>().map_err(|reason| fail(format!("data: {reason}")))?,
            is_built_in: true,
        })
    }

    /// Reads an `AppProfile`.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub(crate) fn from_resource(object: &Value) -> Result<Self, String> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !is_dns_label(name) {
            return Err("metadata.name: not a DNS label".into());
        }
        let spec = object.get("spec").ok_or("spec: missing")?;
        let spec = AppProfileSpec::deserialize(spec).map_err(|error| format!("spec: {error}"))?;
        if spec.images.is_empty() {
            return Err("spec.images: name at least one".into());
        }
        let mut intents = BTreeMap::new();
        for (intent, env) in spec.env {
            let mapping = WrittenMapping::of_env(env.into_iter().collect());
            let mapping = mapping.check(&intent).map_err(|reason| format!("spec.env.{intent}: {reason}"))?;
            intents.insert(intent, mapping);
        }
        let data = spec.data.into_iter().map(|(path, size)| {
            let data = WrittenData {
                path,
                size: Some(size),
                tags: None,
                except_tags: None,
                optional: false,
                _note: None,
            };
            DataPath::try_from(data)
        });
        Ok(Self {
            name: name.to_owned(),
            app: name.to_owned(),
            gid: None,
            intents,
            images: spec.images.iter().map(|text| ImagePattern::with_tag(text)).collect(),
            data: data.collect::<Result<_, _>>().map_err(|reason| format!("spec.data: {reason}"))?,
            is_built_in: false,
        })
    }

    /// How many characters of the best matching pattern are not wild; `None` where none matches.
    fn specificity(&self, repository: &str, tag: &str) -> Option<usize> {
        let matching = self.images.iter().filter(|pattern| {
            pattern.repository.matches(repository)
                && pattern.tag.as_ref().is_none_or(|glob| glob.matches(tag))
        });
        matching.map(|pattern| pattern.text.chars().filter(|c| *c != '*').count()).max()
    }

    /// The paths at which an image of this app keeps data, with their default sizes.
    pub fn data_paths<'a>(&'a self, image: &str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let (_, tag) = repository(image);
        self.data
            .iter()
            .filter(move |data| {
                !data.is_optional
                    && data.tags.as_ref().is_none_or(|glob| glob.matches(&tag))
                    && !data.except_tags.as_ref().is_some_and(|glob| glob.matches(&tag))
            })
            .map(|data| (data.path.as_str(), data.size.as_deref()))
    }

    /// The default size of a path that the app is known to keep data at.
    pub fn size_of(&self, path: &str) -> Option<&str> {
        self.data.iter().find(|data| data.path == path)?.size.as_deref()
    }

    /// The patterns of its images.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|pattern| pattern.text.as_str())
    }

    /// Whether any of its patterns matches the image.
    pub fn has_image(&self, image: &str) -> bool {
        let (repository, tag) = repository(image);
        self.specificity(&repository, &tag).is_some()
    }
}

// === impl ImagePattern ===

impl ImagePattern {
    /// A pattern of an AppProfile: a colon after the last slash begins the tag's.
    fn with_tag(text: &str) -> Self {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(WildMatch::new(tag))),
            _ => (text, None),
        };
        Self { text: text.to_owned(), repository: WildMatch::new(repository), tag }
    }
}

// === impl WrittenMapping ===

impl WrittenMapping {
    fn of_env(env: BTreeMap<String, String>) -> Self {
        Self {
            env: Some(env.into_iter().map(|(name, text)| (name, WrittenVariable::Template(text))).collect()),
            unsupported: None,
            aliases: BTreeMap::new(),
            first_boot_only: false,
            needs: Vec::new(),
            login: None,
            note: None,
            confidence: Confidence::Memory,
            sources: Vec::new(),
            unverified: Vec::new(),
        }
    }

    fn check(self, intent: &Intent) -> Result<Mapping, String> {
        let proof = Proof { confidence: self.confidence, sources: self.sources, unverified: self.unverified };
        proof.check()?;
        if self.login.is_some() && intent.known() != Some(Known::Ldap) {
            return Err("login: only a directory can replace the login".into());
        }
        let takes = match (self.env, self.unsupported) {
            (Some(env), None) => {
                let mut variables = BTreeMap::new();
                for (name, variable) in env {
                    let variable =
                        variable.check(&name, intent).map_err(|reason| format!("env.{name}: {reason}"))?;
                    variables.insert(name, variable);
                }
                let known =
                    |names: &[String]| names.iter().find(|name| !settings::is_known(intent, name)).cloned();
                if let Some(unknown) = known(&self.needs) {
                    return Err(format!("needs: unknown setting `{unknown}`"));
                }
                if let Some(stray) = self.aliases.keys().find(|name| !variables.contains_key(*name)) {
                    return Err(format!("aliases: `{stray}` is not in env"));
                }
                Takes::Env(EnvMapping {
                    variables,
                    aliases: self.aliases,
                    first_boot_only: self.first_boot_only,
                    needs: self.needs,
                    replaces_login: self.login == Some(Login::Replaces),
                    note: self.note,
                })
            }
            (None, Some(how)) if !how.trim().is_empty() => Takes::Unsupported(how),
            _ => return Err("env: give either `env` or `unsupported`".into()),
        };
        Ok(Mapping { takes, proof })
    }
}

// === impl WrittenVariable ===

impl WrittenVariable {
    fn check(self, name: &str, intent: &Intent) -> Result<Variable, String> {
        if !is_env_name(name) {
            return Err("not the name of a variable".into());
        }
        match self {
            Self::Template(text) => {
                Template::parse(&text, intent).map(Variable::Template).map_err(|error| error.to_string())
            }
            Self::Map { map, to, unsupported } => {
                let setting = map.strip_prefix(intent.as_str()).and_then(|rest| rest.strip_prefix('.'));
                match setting.filter(|setting| settings::is_known(intent, setting)) {
                    Some(setting) => {
                        Ok(Variable::Map { setting: setting.to_owned(), words: to, unsupported })
                    }
                    None => Err(format!("map: unknown setting `{map}`")),
                }
            }
        }
    }
}

impl TryFrom<WrittenData> for DataPath {
    type Error = String;
    fn try_from(written: WrittenData) -> Result<Self, String> {
        if let Some(size) = written.size.as_deref().filter(|size| !is_size(size)) {
            return Err(format!("`{size}` is not a size"));
        }
        Ok(Self {
            path: data_path(&written.path)?,
            size: written.size,
            tags: written.tags.as_deref().map(WildMatch::new),
            except_tags: written.except_tags.as_deref().map(WildMatch::new),
            is_optional: written.optional,
        })
    }
}

/// An image's normalised repository and tag: `wordpress:6` is `docker.io/library/wordpress` and `6`.
pub fn repository(image: &str) -> (String, String) {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    };
    let name = match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            name.strip_prefix("index.").unwrap_or(name).to_owned()
        }
        Some(_) => format!("docker.io/{name}"),
    };
    (name, tag.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("wordpress", "docker.io/library/wordpress", "")]
    #[case("wordpress:6-apache", "docker.io/library/wordpress", "6-apache")]
    #[case("bitnami/wordpress@sha256:0011", "docker.io/bitnami/wordpress", "")]
    #[case("registry.local:5000/a/b:1@sha256:0011", "registry.local:5000/a/b", "1")]
    #[case("localhost/a", "localhost/a", "")]
    #[case("index.docker.io/library/x", "docker.io/library/x", "")]
    fn an_image_is_normalised(#[case] image: &str, #[case] name: &str, #[case] tag: &str) {
        assert_eq!(repository(image), (name.to_owned(), tag.to_owned()));
    }
}
