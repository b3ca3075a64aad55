//! Templates: text in which `[[intent.setting]]` or `[[intent.setting|encoding]]` stands for a setting of an offer.
//!
//! Only the template's own intent and `app` can be named. Everything else in double brackets (`[[servers]]` in TOML, a
//! shell's `[[ -f x ]]`) is plain text.
use std::collections::BTreeSet;

use crate::{
    encode::Encoding,
    intent::{APP, Intent},
    name::is_setting_name,
    settings,
};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text that stays as it is.
    Text(String),
    /// A setting.
    Setting(Placeholder),
}

/// `[[intent.setting|encoding]]`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Placeholder {
    /// Whether the consumer (`app`) is named instead of the offer.
    pub is_app: bool,
    /// The setting's canonical name.
    pub setting: String,
    /// How its value is written.
    pub encoding: Option<Encoding>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A setting that the intent doesn't have.
    #[error("unknown setting `{0}`")]
    UnknownSetting(String),
    /// An encoding that doesn't exist.
    #[error("unknown encoding `{0}`: expected uri, json, toml, ini, php, ruby, shell or html")]
    UnknownEncoding(String),
    /// A setting of another intent.
    #[error("`{0}` belongs to another intent: only {1}.* and app.* can be named here")]
    ForeignIntent(String, String),
    /// More than [`Template::MAX_BYTES`].
    #[error("the template is longer than 64 KiB")]
    TooLong,
}

// === impl Template ===

impl Template {
    /// The longest template that is read.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads a template of `intent`.
    ///
    /// # Errors
    /// [`TemplateError`] for an unknown setting or encoding, another intent's setting, or an overlong text.
    pub fn parse(text: &str, intent: &Intent) -> Result<Self, TemplateError> {
        if text.len() > Self::MAX_BYTES {
            return Err(TemplateError::TooLong);
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("[[") {
            plain.push_str(before);
            let placeholder = match inside(after) {
                Some((inner, tail)) => placeholder(inner, intent)?.map(|p| (p, tail)),
                None => None,
            };
            rest = match placeholder {
                Some((placeholder, tail)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Setting(placeholder));
                    tail
                }
                None => {
                    // One bracket only, so that `[[[ldap.host]]` still finds its placeholder.
                    plain.push('[');
                    rest.get(before.len() + 1..).unwrap_or_default()
                }
            };
            if !rest.contains("[[") {
                break;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { source: text.to_owned(), parts })
    }

    /// The text that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The settings that it names, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Setting(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The one setting that is its whole text, as it is.
    pub fn single(&self) -> Option<&Placeholder> {
        match self.parts.as_slice() {
            [Part::Setting(placeholder)] if placeholder.encoding.is_none() => Some(placeholder),
            _ => None,
        }
    }

    /// The same template with what is said of the consumer (`app.*`) written out; `None` where that is not known.
    pub(crate) fn for_app(&self, intent: &Intent, app: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        if !self.placeholders().any(|placeholder| placeholder.is_app) {
            return Some(self.clone());
        }
        let mut parts: Vec<Part> = Vec::with_capacity(self.parts.len());
        let mut source = String::new();
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text.clone(),
                Part::Setting(placeholder) if placeholder.is_app => {
                    let value = app(&placeholder.setting)?;
                    placeholder.encoding.map_or_else(|| value.clone(), |encoding| encoding.encode(&value))
                }
                Part::Setting(placeholder) => {
                    let encoding =
                        placeholder.encoding.map_or_else(String::new, |e| format!("|{}", e.name()));
                    source.push_str(&format!("[[{intent}.{}{encoding}]]", placeholder.setting));
                    parts.push(part.clone());
                    continue;
                }
            };
            source.push_str(&text);
            match parts.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ => parts.push(Part::Text(text)),
            }
        }
        Some(Self { source, parts })
    }

    /// The variables that its text names as `$(NAME)`, which the kubelet expands.
    pub fn references(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(references(text)),
                Part::Setting(_) => None,
            })
            .flatten()
            .collect()
    }
}

/// What stands before the next closing brackets, where they are near enough to close a placeholder, and what comes after.
fn inside(text: &str) -> Option<(&str, &str)> {
    const LONGEST: usize = 200;
    let near = text.as_bytes().get(..LONGEST.min(text.len()))?;
    let end = near.windows(2).position(|pair| pair == b"]]")?;
    Some((text.get(..end)?, text.get(end + 2..)?))
}

/// The placeholder inside double brackets, or `None` where they hold something else.
fn placeholder(inner: &str, intent: &Intent) -> Result<Option<Placeholder>, TemplateError> {
    let (name, encoding) = match inner.split_once('|') {
        Some((name, encoding)) => (name.trim(), Some(encoding.trim())),
        None => (inner.trim(), None),
    };
    let Some((prefix, setting)) = name.split_once('.') else { return Ok(None) };
    let is_own = prefix == intent.as_str();
    if !is_own && prefix != APP {
        let is_intent = Intent::parse(prefix).is_ok_and(|named| named.known().is_some());
        return match is_intent && is_setting_name(setting) {
            true => Err(TemplateError::ForeignIntent(name.to_owned(), intent.to_string())),
            false => Ok(None),
        };
    }
    let is_known = match is_own {
        true => settings::is_known(intent, setting),
        false => settings::APP_SETTINGS.contains(&setting),
    };
    if !is_known {
        return Err(TemplateError::UnknownSetting(name.chars().take(100).collect()));
    }
    let encoding = match encoding {
        Some(name) => Some(
            Encoding::parse(name)
                .ok_or_else(|| TemplateError::UnknownEncoding(name.chars().take(40).collect()))?,
        ),
        None => None,
    };
    Ok(Some(Placeholder { is_app: !is_own, setting: setting.to_owned(), encoding }))
}

/// The names in `$(NAME)`; `$$` is an escaped dollar and hides what follows.
pub fn references(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        rest = match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, tail)) => {
                names.push(name);
                tail
            }
            None => after.strip_prefix('$').unwrap_or(after),
        };
    }
    names
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn ldap(text: &str) -> Result<Template, TemplateError> {
        Template::parse(text, &Intent::parse("ldap").unwrap())
    }

    #[rstest]
    #[case("[[ldap.host]]", 1, 1)]
    #[case("[[ ldap.host ]]:[[ldap.port]]", 3, 2)]
    #[case("[[servers]]\nhost = [[ldap.host|toml]]", 2, 1)]
    #[case("[[[ldap.host]]]", 3, 1)]
    #[case("[[ -f x.y ]] && {{user}} %{uid} ${X} [[other.thing]]", 1, 0)]
    #[case("[[ldap.host", 1, 0)]
    #[case("", 0, 0)]
    fn a_template_is_text_and_settings(#[case] text: &str, #[case] parts: usize, #[case] settings: usize) {
        let template = ldap(text).unwrap();
        assert_eq!(template.parts().len(), parts, "{template:?}");
        assert_eq!(template.placeholders().count(), settings);
        assert_eq!(template.source(), text);
    }

    #[rstest]
    #[case("[[ldap.nope]]", "unknown setting `ldap.nope`")]
    #[case("[[ldap.baseDN]]", "unknown setting `ldap.baseDN`")]
    #[case("[[app.password]]", "unknown setting `app.password`")]
    #[case(
        "[[ldap.host|xml]]",
        "unknown encoding `xml`: expected uri, json, toml, ini, php, ruby, shell or html"
    )]
    #[case("[[mail.from]]", "`mail.from` belongs to another intent: only ldap.* and app.* can be named here")]
    fn what_is_wrong_is_named(#[case] text: &str, #[case] message: &str) {
        assert_eq!(ldap(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn references_are_what_the_kubelet_expands() {
        assert_eq!(references("$(A)-$$(B)-$C-$(D"), ["A"]);
        assert_eq!(references("$$$(A)"), ["A"]);
    }
}
