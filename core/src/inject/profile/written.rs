//! Profiles read and checked: YAML files, and our resource `AppProfile`.
use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::Value;
use wildmatch::WildMatch;

use super::{
    Block, ConfigFile, Content, DataPath, ImagePattern, Mapped, Mapping, Profile, Takes, Variable,
    fields::{
        Login, Written, WrittenBlock, WrittenData, WrittenFile, WrittenMap, WrittenMapping, WrittenVariable,
        WrittenWhen,
    },
};
use crate::{
    api::AppProfileSpec,
    data::{self, Confidence, DataError, Proof},
    decide::data_path,
    intent::{Intent, Known},
    name::{is_dns_label, is_env_name},
    settings,
    size::is_size,
    template::Template,
};

/// Where no configuration file of an app belongs.
const SYSTEM_PATHS: [&str; 13] = [
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/sbin",
    "/var/run",
];

// === impl Profile ===

impl Profile {
    pub(super) fn read(
        file: &str,
        text: &str,
        source: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DataError> {
        let written: Written = data::parse(file, text)?;
        let fail = |reason: String| DataError::new(file, reason);
        if !is_dns_label(&written.name) {
            return Err(fail(format!("name: `{}` is not a DNS label", written.name)));
        }
        if written.images.is_empty() {
            return Err(fail("images: name at least one".into()));
        }
        for pattern in &written.images {
            data::check_image_pattern(pattern).map_err(|reason| fail(format!("images: {reason}")))?;
        }
        if let Some(pattern) = &written.tags {
            data::check_tag_pattern(pattern).map_err(|reason| fail(format!("tags: {reason}")))?;
        }
        let mut intents = BTreeMap::new();
        for (intent, mapping) in written.intents {
            let mapping = mapping
                .check(&intent, source)
                .map_err(|reason| fail(format!("intents.{intent}.{reason}")))?;
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
        let images = spec.images.iter().map(|text| ImagePattern::with_tag(text));
        let mut intents = BTreeMap::new();
        for (intent, env) in spec.env {
            let mapping = WrittenMapping::of_env(env.into_iter().collect());
            let mapping =
                mapping.check(&intent, &|_| None).map_err(|reason| format!("spec.env.{intent}: {reason}"))?;
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
            images: images.collect::<Result<_, _>>().map_err(|reason| format!("spec.images: {reason}"))?,
            data: data.collect::<Result<_, _>>().map_err(|reason| format!("spec.data: {reason}"))?,
            is_built_in: false,
        })
    }
}

// === impl WrittenMapping ===

impl WrittenMapping {
    fn of_env(env: BTreeMap<String, String>) -> Self {
        Self {
            env: env.into_iter().map(|(name, text)| (name, WrittenVariable::Template(text))).collect(),
            files: Vec::new(),
            unsupported: None,
            aliases: BTreeMap::new(),
            first_boot_only: false,
            needs: Vec::new(),
            only: BTreeMap::new(),
            login: None,
            note: None,
            confidence: Confidence::Memory,
            sources: Vec::new(),
            unverified: Vec::new(),
        }
    }

    fn check(self, intent: &Intent, source: &dyn Fn(&str) -> Option<String>) -> Result<Mapping, String> {
        let proof = Proof { confidence: self.confidence, sources: self.sources, unverified: self.unverified };
        proof.check()?;
        if self.login.is_some() && intent.known() != Some(Known::Ldap) {
            return Err("login: only a directory can replace the login".into());
        }
        let is_mapped = !self.env.is_empty() || !self.files.is_empty();
        if let Some(how) = self.unsupported {
            return match is_mapped || how.trim().is_empty() {
                true => Err("unsupported: say how a person sets it, and give no `env` and `files`".into()),
                false => Ok(Mapping { takes: Takes::Unsupported(how), proof }),
            };
        }
        if !is_mapped {
            return Err("env: give `env`, `files` or `unsupported`".into());
        }
        let mut variables = BTreeMap::new();
        for (name, variable) in self.env {
            let variable = variable.check(&name, intent).map_err(|reason| format!("env.{name}: {reason}"))?;
            variables.insert(name, variable);
        }
        let mut only = BTreeMap::new();
        for (name, values) in self.only {
            let setting = name.strip_prefix(intent.as_str()).and_then(|rest| rest.strip_prefix('.'));
            match setting.filter(|setting| settings::is_known(intent, setting)) {
                Some(setting) => only.insert(setting.to_owned(), values),
                None => return Err(format!("only: unknown setting `{name}`")),
            };
        }
        if let Some(unknown) = self.needs.iter().find(|name| !settings::is_known(intent, name)) {
            return Err(format!("needs: unknown setting `{unknown}`"));
        }
        if let Some(stray) = self.aliases.keys().find(|name| !variables.contains_key(*name)) {
            return Err(format!("aliases: `{stray}` is not in env"));
        }
        let files =
            self.files.into_iter().map(|file| file.check(intent, source)).collect::<Result<_, _>>()?;
        let mapped = Mapped {
            variables,
            files,
            aliases: self.aliases,
            first_boot_only: self.first_boot_only,
            needs: self.needs,
            only,
            replaces_login: self.login == Some(Login::Replaces),
            note: self.note,
        };
        Ok(Mapping { takes: Takes::Mapped(mapped), proof })
    }
}

// === impl WrittenFile ===

impl WrittenFile {
    fn check(self, intent: &Intent, source: &dyn Fn(&str) -> Option<String>) -> Result<ConfigFile, String> {
        let path = data_path(&self.path).map_err(|reason| format!("files: {reason}"))?;
        let is_below = |system: &&&str| {
            path.strip_prefix(**system).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(system) = SYSTEM_PATHS.iter().find(is_below) {
            return Err(format!("files: {path} is in {system}, where no app keeps its configuration"));
        }
        let content = match (self.source, self.blocks.is_empty()) {
            (Some(name), true) => {
                let text = source(&name)
                    .ok_or_else(|| format!("files: there is no text file `{name}` beside the profiles"))?;
                Content::Fixed(text)
            }
            (None, false) => {
                let blocks = self.blocks.into_iter().map(|block| block.check(intent));
                Content::Blocks(
                    blocks.collect::<Result<_, _>>().map_err(|reason| format!("files: {path}: {reason}"))?,
                )
            }
            _ => return Err(format!("files: {path}: give either `source` or `blocks`")),
        };
        Ok(ConfigFile { path, content })
    }
}

// === impl WrittenBlock ===

impl WrittenBlock {
    fn check(self, intent: &Intent) -> Result<Block, String> {
        let (text, when) = match self {
            Self::Text(text) => (text, None),
            Self::When(WrittenWhen { when, is, text }) => {
                let setting = when.strip_prefix(intent.as_str()).and_then(|rest| rest.strip_prefix('.'));
                match setting.filter(|setting| settings::is_known(intent, setting)) {
                    Some(setting) => (text, Some((setting.to_owned(), is))),
                    None => return Err(format!("when: unknown setting `{when}`")),
                }
            }
        };
        let template = Template::parse(&text, intent).map_err(|error| error.to_string())?;
        Ok(Block { template, when })
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
            Self::Map(WrittenMap { map, to, unsupported }) => {
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
        for pattern in [&written.tags, &written.except_tags].into_iter().flatten() {
            data::check_tag_pattern(pattern)?;
        }
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
