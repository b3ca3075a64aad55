//! Wishes: what a workload's annotations say, parsed once.
use std::collections::{BTreeMap, BTreeSet};

use super::list;
use crate::{
    intent::Intent,
    json::{Json, Object},
    keys,
    name::{self, is_dns_label, is_env_name},
    size::is_size,
    template::Template,
    workload::Workload,
};

/// Everything that a workload asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Use these if they are there.
    pub wants: BTreeSet<Intent>,
    /// Refuse the workload where they are not.
    pub requires: BTreeSet<Intent>,
    /// Never these.
    pub declines: BTreeSet<Intent>,
    /// Nothing at all.
    pub declines_all: bool,
    /// Only this offer, as `name` or `namespace/name`.
    pub uses: BTreeMap<Intent, String>,
    /// Which profile to take.
    pub profile: ProfileChoice,
    /// Only these containers.
    pub containers: Option<BTreeSet<String>>,
    /// Mappings in place of the profile's, in the order of their lines.
    pub env: BTreeMap<Intent, Vec<(String, Template)>>,
    /// Whether settings are also mounted as files.
    pub files: bool,
    /// Data paths and the sizes of their volumes.
    pub storage: BTreeMap<String, Option<String>>,
    /// Whether claims outlive the workload.
    pub retain: Retain,
    /// What happens when an offer appears or changes later, where it is said.
    pub refresh: Option<Refresh>,
    /// Whether the workload is to be left alone.
    pub opted_out: bool,
    /// Whether it takes no defaults from its namespace.
    pub disinherits: bool,
    /// Keys of ours that nobody knows: probably slips of the pen.
    pub unknown_keys: Vec<String>,
}

/// Which profile a workload takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProfileChoice {
    /// The one that its images match.
    #[default]
    ByImage,
    /// None: the generic names.
    None,
    /// That one.
    Named(String),
}

/// Whether claims outlive their workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retain {
    /// They do.
    #[default]
    Keep,
    /// They go with it.
    Delete,
}

/// What happens when an offer appears or changes after admission.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refresh {
    /// Nothing.
    Never,
    /// An Event.
    #[default]
    Notify,
    /// A rollout.
    Rollout,
}

impl std::fmt::Display for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Notify => "notify",
            Self::Rollout => "rollout",
        })
    }
}

/// An annotation outside its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {reason}")]
pub struct AnnotationError {
    /// The annotation's key.
    pub key: String,
    /// What is wrong with its value, and what was expected.
    pub reason: String,
}

type Parsed<T> = Result<T, String>;

/// The most lines of one mapping, and the most bytes of all our annotations together: the server takes 256 KiB.
const MAX_LINES: usize = 500;
const MAX_BYTES: usize = 256 * 1024;

// === impl Wishes ===

impl Wishes {
    /// Reads a workload's annotations; the pod template's come before its own.
    ///
    /// # Errors
    /// [`AnnotationError`] for the first one, by key, that is outside its grammar.
    pub fn read(workload: &Workload<'_>) -> Result<Self, AnnotationError> {
        Self::parse(workload.template_annotations(), workload.own_annotations())
    }

    /// Reads annotations; those of `first` hide those of `second`.
    ///
    /// # Errors
    /// [`AnnotationError`] for the first one, by key, that is outside its grammar.
    pub fn parse(first: Option<&Object<'_>>, second: Option<&Object<'_>>) -> Result<Self, AnnotationError> {
        let mut merged: BTreeMap<&str, &Json<'_>> = BTreeMap::new();
        for (key, value) in second.into_iter().chain(first).flat_map(Object::iter) {
            if is_users(key) {
                merged.insert(key, value);
            }
        }
        let mut wishes = Self::default();
        let mut bytes = 0;
        for (key, value) in merged {
            bytes += value.as_str().map_or(0, str::len);
            if bytes > MAX_BYTES {
                let reason = "with it, our annotations have more than 256 KiB".to_owned();
                return Err(AnnotationError { key: key.to_owned(), reason });
            }
            wishes.read_one(key, value)?;
        }
        Ok(wishes)
    }

    /// Reads one annotation besides those that were read.
    ///
    /// # Errors
    /// [`AnnotationError`] where it is outside its grammar.
    pub(super) fn read_one(&mut self, key: &str, value: &Json<'_>) -> Result<(), AnnotationError> {
        let fail = |reason: String| AnnotationError { key: key.to_owned(), reason };
        let value = value.as_str().ok_or_else(|| fail("not a string: put it in quotes".into()))?;
        self.take(key, value).map_err(fail)
    }

    fn take(&mut self, key: &str, value: &str) -> Parsed<()> {
        match key {
            keys::WANTS => self.wants = intents(value)?,
            keys::REQUIRES => self.requires = intents(value)?,
            keys::DECLINES => {
                let (all, some): (Vec<_>, Vec<_>) = list(value).partition(|item| *item == "*");
                self.declines_all = !all.is_empty();
                self.declines = some.into_iter().map(intent).collect::<Parsed<_>>()?;
            }
            keys::PROFILE => self.profile = profile(value)?,
            keys::CONTAINERS => self.containers = Some(containers(value)?),
            keys::FILES => self.files = truth(value)?,
            keys::STORAGE => self.storage = storage(value)?,
            keys::RETAIN => self.retain = if truth(value)? { Retain::Keep } else { Retain::Delete },
            keys::REFRESH => self.refresh = Some(refresh(value)?),
            keys::INJECT => self.opted_out = !truth(value)?,
            keys::INHERIT => self.disinherits = !truth(value)?,
            _ => return self.take_prefixed(key, value),
        }
        Ok(())
    }

    fn take_prefixed(&mut self, key: &str, value: &str) -> Parsed<()> {
        if let Some(suffix) = key.strip_prefix(keys::USE_PREFIX) {
            self.uses.insert(intent(suffix)?, offer_name(value)?);
        } else if let Some(suffix) = key.strip_prefix(keys::ENV_PREFIX) {
            let intent = intent(suffix)?;
            let lines = env(value, &intent)?;
            self.env.insert(intent, lines);
        } else {
            self.unknown_keys.push(key.to_owned());
        }
        Ok(())
    }

    /// The intents that are asked for, each with whether it is required; empty where the workload opted out.
    pub fn asked(&self) -> BTreeMap<Intent, bool> {
        if self.opted_out {
            return BTreeMap::new();
        }
        let wants = self.wants.iter().map(|intent| (intent.clone(), false));
        wants.chain(self.requires.iter().map(|intent| (intent.clone(), true))).collect()
    }

    /// Whether an intent is asked for, and if so whether it is required.
    pub(super) fn asks(&self, intent: &Intent) -> Option<bool> {
        match (self.requires.contains(intent), self.wants.contains(intent)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// Whether an intent is declined.
    pub fn has_declined(&self, intent: &Intent) -> bool {
        self.declines_all || self.declines.contains(intent)
    }

    /// Eight hexadecimal digits that change with the set of wishes (what is asked, declined, and chosen by name).
    pub fn digest(&self) -> String {
        let join = |set: &BTreeSet<Intent>| set.iter().map(Intent::as_str).collect::<Vec<_>>().join(" ");
        let uses: Vec<String> = self.uses.iter().map(|(intent, name)| format!("{intent}={name}")).collect();
        let declines = if self.declines_all { "*".to_owned() } else { join(&self.declines) };
        name::hex(&[&join(&self.wants), &join(&self.requires), &declines, &uses.join(" ")], 8)
    }
}

/// Whether a key is one of ours that users write.
pub(crate) fn is_users(key: &str) -> bool {
    key.starts_with(keys::PREFIX) && ![keys::INJECTED, keys::STATUS, keys::REFRESHED].contains(&key)
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn intent(text: &str) -> Parsed<Intent> {
    Intent::parse(text).map_err(|error| error.to_string())
}

fn intents(value: &str) -> Parsed<BTreeSet<Intent>> {
    list(value).map(intent).collect()
}

fn truth(value: &str) -> Parsed<bool> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("`{}` is neither true nor false", shown(other))),
    }
}

fn profile(value: &str) -> Parsed<ProfileChoice> {
    match value.trim() {
        "none" => Ok(ProfileChoice::None),
        name if is_dns_label(name) => Ok(ProfileChoice::Named(name.to_owned())),
        other => Err(format!("`{}` is not the name of a profile", shown(other))),
    }
}

fn containers(value: &str) -> Parsed<BTreeSet<String>> {
    let names: BTreeSet<String> = list(value).map(str::to_owned).collect();
    match names.iter().find(|name| !is_dns_label(name)) {
        Some(bad) => Err(format!("`{}` is not the name of a container", shown(bad))),
        None if names.is_empty() => Err("names no container".into()),
        None => Ok(names),
    }
}

fn refresh(value: &str) -> Parsed<Refresh> {
    match value.trim() {
        "never" => Ok(Refresh::Never),
        "notify" => Ok(Refresh::Notify),
        "rollout" => Ok(Refresh::Rollout),
        other => Err(format!("`{}` is not never, notify or rollout", shown(other))),
    }
}

fn offer_name(value: &str) -> Parsed<String> {
    let value = value.trim();
    let is_fine = match value.split_once('/') {
        Some((namespace, name)) => is_dns_label(namespace) && name::is_dns_subdomain(name),
        None => name::is_dns_subdomain(value),
    };
    match is_fine {
        true => Ok(value.to_owned()),
        false => Err(format!("`{}` is not an offer: expected name or namespace/name", shown(value))),
    }
}

fn env(value: &str, intent: &Intent) -> Parsed<Vec<(String, Template)>> {
    let mut lines: Vec<(String, Template)> = Vec::new();
    let mut names = BTreeSet::new();
    for (number, line) in value.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |reason: String| format!("line {}: {reason}", number + 1);
        let (name, template) = line
            .split_once('=')
            // Not repeated: somebody may have written a password into it.
            .ok_or_else(|| fail("no `=` in it: expected NAME=template".into()))?;
        let (name, template) = (name.trim_end(), template.trim_start());
        if !is_env_name(name) {
            return Err(fail("what stands before `=` can't name a variable".into()));
        }
        if !names.insert(name) {
            return Err(fail(format!("{name} is set twice")));
        }
        if names.len() > MAX_LINES {
            return Err(fail(format!("more than {MAX_LINES} variables")));
        }
        if template.chars().any(|c| c.is_control() && c != '\t') {
            return Err(fail(format!("{name} has control characters")));
        }
        let template = Template::parse(template, intent).map_err(|error| fail(error.to_string()))?;
        lines.push((name.to_owned(), template));
    }
    Ok(lines)
}

fn storage(value: &str) -> Parsed<BTreeMap<String, Option<String>>> {
    let mut paths = BTreeMap::new();
    for item in list(value) {
        let (path, size) = match item.split_once('=') {
            Some((path, size)) => (path, Some(size)),
            None => (item, None),
        };
        let path = data_path(path)?;
        if let Some(size) = size {
            is_size(size)
                .then_some(())
                .ok_or_else(|| format!("`{}` is not a size: expected for example 10Gi", shown(size)))?;
        }
        if paths.insert(path.clone(), size.map(str::to_owned)).is_some_and(|old| old.as_deref() != size) {
            return Err(format!("{path} has two sizes"));
        }
    }
    Ok(paths)
}

/// An absolute path without `.`, `..`, empty parts or colons; a slash at its end is dropped.
pub(crate) fn data_path(path: &str) -> Parsed<String> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let mut parts = trimmed.split('/');
    let is_absolute = parts.next() == Some("");
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains([':', '\\']) && !part.contains(char::is_control)
    };
    match is_absolute && trimmed.len() > 1 && trimmed.len() <= 1024 && parts.all(is_part) {
        true => Ok(trimmed.to_owned()),
        false => Err(format!("`{}` is not an absolute path without `..`", shown(path))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read(key: &str, value: &str) -> Result<Wishes, AnnotationError> {
        let map = Object::from_iter([(format!("{}{key}", keys::PREFIX), Json::from(value))]);
        Wishes::parse(Some(&map), None)
    }

    #[rstest]
    #[case("ldap, mail")]
    #[case("ldap mail")]
    #[case(" ldap,,mail\n ldap")]
    #[case("mail,ldap")]
    fn a_list_is_a_set(#[case] text: &str) {
        let asked: Vec<String> =
            read("wants", text).unwrap().asked().keys().map(ToString::to_string).collect();
        assert_eq!(asked, ["ldap", "mail"]);
    }

    #[rstest]
    #[case("wants", "LDAP", "`LDAP` is not an intent")]
    #[case("wants", "ldap; mail", "`ldap;` is not an intent")]
    #[case("wants", "app", "`app` is not an intent")]
    #[case("requires", "../x", "is not an intent")]
    #[case("use.ldap", "a/b/c", "expected name or namespace/name")]
    #[case("use.ldap", "", "expected name or namespace/name")]
    #[case("use.LDAP", "x", "is not an intent")]
    #[case("profile", "a b", "not the name of a profile")]
    #[case("containers", " ", "names no container")]
    #[case("containers", "a/b", "not the name of a container")]
    #[case("env.ldap", "HOST", "line 1: no `=` in it")]
    #[case("env.ldap", "A=1\n9=[[ldap.host]]", "line 2: what stands before `=` can't name")]
    #[case("env.ldap", "A=1\nA=2", "line 2: A is set twice")]
    #[case("env.ldap", "A=[[ldap.nope]]", "line 1: unknown setting `ldap.nope`")]
    #[case("env.ldap", "A=[[mail.host]]", "belongs to another intent")]
    #[case("files", "yes", "`yes` is neither true nor false")]
    #[case("storage", "data=1Gi", "not an absolute path")]
    #[case("storage", "/a/../b=1Gi", "not an absolute path without `..`")]
    #[case("storage", "/=1Gi", "not an absolute path")]
    #[case("storage", "/a//b=1Gi", "not an absolute path")]
    #[case("storage", "/a=0", "`0` is not a size")]
    #[case("storage", "/a=10GB", "`10GB` is not a size")]
    #[case("storage", "/a=-1Gi", "is not a size")]
    #[case("storage", "/a=1Gi /a=2Gi", "/a has two sizes")]
    #[case("refresh", "always", "not never, notify or rollout")]
    #[case("inject", "no", "neither true nor false")]
    fn what_is_outside_the_grammar_is_named(#[case] key: &str, #[case] value: &str, #[case] message: &str) {
        let error = read(key, value).unwrap_err();
        assert_eq!(error.key, format!("opportune.libre.sh/{key}"));
        assert!(error.reason.contains(message), "{error}");
    }

    #[test]
    fn the_template_hides_the_workload() {
        let map = |text: &'static str| Object::from_iter([(keys::WANTS, Json::from(text))]);
        let wishes = Wishes::parse(Some(&map("ldap")), Some(&map("mail"))).unwrap();
        assert_eq!(wishes.asked().into_keys().map(String::from).collect::<Vec<_>>(), ["ldap"]);
    }

    #[test]
    fn lines_may_be_blank_or_comments() {
        let wishes = read("env.cache", "\n# the cache\nURL = redis://[[cache.host]]\n\n").unwrap();
        let (_, lines) = wishes.env.first_key_value().unwrap();
        assert_eq!(lines[0].0, "URL");
        assert_eq!(lines[0].1.source(), "redis://[[cache.host]]");
    }

    #[test]
    fn an_annotation_that_is_no_string_is_named() {
        let map = Object::from_iter([(keys::INJECT, Json::from(false))]);
        let error = Wishes::parse(Some(&map), None).unwrap_err();
        assert_eq!(error.to_string(), "annotation opportune.libre.sh/inject: not a string: put it in quotes");
    }

    #[test]
    fn a_slip_of_the_pen_is_found() {
        assert_eq!(read("want", "ldap").unwrap().unknown_keys, ["opportune.libre.sh/want"]);
    }
}
