//! Profiles: data that says how one app takes settings.
mod fields;
mod written;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use wildmatch::WildMatch;

use crate::{
    data::{self, DataError, Proof},
    intent::Intent,
    template::Template,
};

/// All profiles that are known.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    /// By name.
    profiles: BTreeMap<String, Arc<Profile>>,
    /// Those that have a pattern which ends like this, behind its last slash.
    by_end: HashMap<String, Vec<Arc<Profile>>>,
    /// Those that have a pattern which is wild there.
    wild: Vec<Arc<Profile>>,
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
    /// By environment variables and configuration files.
    Mapped(Mapped),
    /// Not from outside: how a person sets it.
    Unsupported(String),
}

/// The variables and files of one intent.
#[derive(Debug, Default)]
pub struct Mapped {
    /// By name.
    pub variables: BTreeMap<String, Variable>,
    /// Configuration files.
    pub files: Vec<ConfigFile>,
    /// Other names by which the app reads the same value.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Whether the app reads them only while it sets itself up.
    pub first_boot_only: bool,
    /// Settings without which nothing is injected.
    pub needs: Vec<String>,
    /// Values of settings with which the app works; with others nothing is injected.
    pub only: BTreeMap<String, Vec<String>>,
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

/// A configuration file, mounted read-only at its path.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where the app reads it.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// What a configuration file holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Always the same.
    Fixed(String),
    /// These, one after the other; one that names a setting which is not known is left out.
    Blocks(Vec<Block>),
}

/// A part of a configuration file.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its text.
    pub template: Template,
    /// A setting, and the values with which the block is there.
    pub when: Option<(String, Vec<String>)>,
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

static BUILT_IN: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/src/inject/profiles");

/// The JSON Schema of a profile's file.
pub fn profile_schema() -> schemars::Schema {
    schemars::schema_for!(fields::Written)
}

// === impl Profiles ===

impl Profiles {
    /// Whether none was added, changed or taken away.
    pub(crate) fn are_those(&self, others: &Self) -> bool {
        let mut pairs = self.profiles.iter().zip(&others.profiles);
        self.profiles.len() == others.profiles.len()
            && pairs.all(|((name, profile), (other, before))| name == other && Arc::ptr_eq(profile, before))
    }

    /// The profiles that come with the program.
    ///
    /// # Errors
    /// [`DataError`] names the file and the field; a test keeps this from happening.
    pub fn built_in() -> Result<Self, DataError> {
        Self::read(data::files(&BUILT_IN), &|path| Some(BUILT_IN.get_file(path)?.contents_utf8()?.to_owned()))
    }

    /// Reads profiles from `(file name, text)` pairs; `source` finds the text files that they name.
    ///
    /// # Errors
    /// [`DataError`] for a file that is no profile, and for two of one name.
    pub fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        source: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DataError> {
        let mut profiles = BTreeMap::new();
        for (file, text) in files {
            let profile = Profile::read(file, text, source)?;
            let name = profile.name.clone();
            if profiles.insert(name.clone(), Arc::new(profile)).is_some() {
                return Err(DataError::new(file, format!("two profiles are named {name}")));
            }
        }
        Ok(Self::new(profiles))
    }

    fn new(profiles: BTreeMap<String, Arc<Profile>>) -> Self {
        let mut indexed = Self::default();
        for profile in profiles.values() {
            for pattern in &profile.images {
                let end = end(&pattern.repository.pattern()).to_owned();
                let list = match end.contains(['*', '?']) {
                    true => &mut indexed.wild,
                    false => indexed.by_end.entry(end).or_default(),
                };
                if !list.last().is_some_and(|last| Arc::ptr_eq(last, profile)) {
                    list.push(Arc::clone(profile));
                }
            }
        }
        Self { profiles, ..indexed }
    }

    /// These and others; one of the same name takes the place of ours.
    pub fn with(&self, others: impl IntoIterator<Item = Arc<Profile>>) -> Self {
        let mut profiles = self.profiles.clone();
        profiles.extend(others.into_iter().map(|profile| (profile.name.clone(), profile)));
        Self::new(profiles)
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
        self.best(image).into_iter().next()
    }

    /// The profiles that match an image as well as the one that [`Self::by_image`] takes, and come after it.
    pub fn runners_up(&self, image: &str) -> Vec<&Arc<Profile>> {
        self.best(image).into_iter().skip(1).collect()
    }

    /// The profiles with the longest pattern that matches: the cluster's before the built-in ones, each by name.
    fn best(&self, image: &str) -> Vec<&Arc<Profile>> {
        let (repository, tag) = repository(image);
        let likely = self.by_end.get(end(&repository)).into_iter().flatten().chain(&self.wild);
        let matching = likely.filter_map(|p| Some((p.specificity(&repository, &tag)?, p)));
        let matching: Vec<(usize, &Arc<Profile>)> = matching.collect();
        let longest = matching.iter().map(|(specificity, _)| *specificity).max();
        let mut best: Vec<_> =
            matching.into_iter().filter(|(s, _)| Some(*s) == longest).map(|(_, profile)| profile).collect();
        best.sort_by_key(|profile| (profile.is_built_in, profile.name.as_str()));
        best.dedup_by(|a, b| Arc::ptr_eq(a, b));
        best
    }
}

// === impl Profile ===

impl Profile {
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
    ///
    /// # Errors
    /// A sentence to report.
    fn with_tag(text: &str) -> Result<Self, String> {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (text, None),
        };
        data::check_image_pattern(repository)?;
        tag.map_or(Ok(()), data::check_tag_pattern)?;
        let tag = tag.map(WildMatch::new);
        Ok(Self { text: text.to_owned(), repository: WildMatch::new(repository), tag })
    }
}

/// What stands behind the last slash.
fn end(repository: &str) -> &str {
    repository.rsplit_once('/').map_or(repository, |(_, end)| end)
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
