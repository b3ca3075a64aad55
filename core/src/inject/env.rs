//! Environment variables: an offer's settings in the names and words of an app.
use std::{
    borrow::{Borrow, Cow},
    collections::{BTreeSet, HashMap},
};

use super::{
    Target,
    additions::Entry,
    fitted::Fitted,
    mapping::{Mapping, Variables},
    profile::Variable,
};
use crate::{
    decide::{Absence, Question, Skipped},
    discover::Offer,
    encode::is_plain,
    intent::Intent,
    json::Json,
    name::hex,
    settings::Fact,
    template::{Part, Placeholder, Template, references},
    workload::Container,
};

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// It may be seen; dollars are escaped.
    Value(String),
    /// A key of the delivered Secret, composed of a template or a setting as it is.
    Key(String, Option<Template>),
}

/// The sources of variables, by name and in order.
type Sources<'a> = Vec<(Cow<'a, str>, Source)>;

/// How much one intent may add to one workload, in bytes: etcd takes 1.5 MiB an object.
const MAX_BYTES: usize = 512 * 1024;

/// The variables of one intent in the target's containers.
///
/// # Errors
/// Why the app can't use the offer.
pub(super) fn fit(
    target: &Target<'_>,
    question: &Question<'_>,
    offer: &Offer,
    is_required: bool,
) -> Result<Fitted, Absence> {
    let intent = question.intent;
    let mut fitted = Fitted::default();
    let mapping = Mapping::of(target, question, offer, is_required, &mut fitted)?;
    let mut sources = sources(target, intent, offer, &mapping.variables)?;
    match sources_of_own(target, intent, offer, &mapping, &sources) {
        Ok(own) => sources.splice(0..0, own).for_each(drop),
        // What the workload adds to what is enforced must not be a way to be rid of it.
        Err(absence) => fitted.notes.push(format!("its own mapping is left out: {absence}")),
    }
    let aliases = |name: &str| mapping.aliases.and_then(|aliases| aliases.get(name));
    let has_secret = sources.iter().any(|(_, source)| matches!(source, Source::Key(..)));
    let secret = if has_secret { fitted.secret(intent, offer) } else { String::new() };
    let overwriting = target.terms.overwriting(intent);
    let entry = |(name, source): &(Cow<'_, str>, Source)| {
        Entry::new(intent, name.as_ref(), source.variable(name, &secret))
    };
    let wanted: Vec<Entry> = sources.iter().map(entry).collect();
    for container in &target.containers {
        let mut entries = Vec::new();
        for entry in &wanted {
            let name = &entry.key;
            let users = container.variable(name);
            let other = users.filter(|users| **users != entry.value);
            if let (Some(policy), Some(users)) = (overwriting, other) {
                fitted.overwrite(container, name, users, policy);
            } else if let Some(skipped) = set_by_user(container, name, aliases(name)) {
                fitted.is_evaded |= users.is_none() || other.is_some();
                if !fitted.skipped.contains(&skipped) {
                    fitted.skipped.push(skipped);
                }
                continue;
            }
            entries.push(entry.clone());
        }
        if !entries.is_empty() {
            fitted.additions.env.insert(container.name.to_owned(), entries);
        }
    }
    for (_, source) in sources {
        if let Source::Key(key, Some(template)) = source {
            fitted.composed.insert(key, template);
        }
    }
    Ok(fitted)
}

/// Where the values of variables come from; those whose settings are not all known are left out.
fn sources<'a>(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    variables: &Variables<'a>,
) -> Result<Sources<'a>, Absence> {
    let mut sources = Vec::new();
    for (name, variable) in variables {
        if let Some(source) = source(target, intent, offer, name, variable)? {
            sources.push((name.clone(), source));
        }
    }
    ensure_bounded(target, &sources)?;
    Ok(sources)
}

/// The same for what the workload's own mapping adds to `others`.
fn sources_of_own<'a>(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    mapping: &Mapping<'a>,
    others: &Sources<'_>,
) -> Result<Sources<'a>, Absence> {
    let own = sources(target, intent, offer, &mapping.added)?;
    ensure_bounded(target, own.iter().chain(others)).map(|()| own)
}

fn ensure_bounded<'a>(
    target: &Target<'_>,
    sources: impl IntoIterator<Item = &'a (Cow<'a, str>, Source)>,
) -> Result<(), Absence> {
    let bytes: usize = sources.into_iter().map(|(name, source)| name.len() + source.len()).sum();
    match bytes.saturating_mul(target.containers.len()) > MAX_BYTES {
        true => Err(Absence::TooMuch),
        false => Ok(()),
    }
}

/// Where a variable's value comes from; `None` where a setting that it names is not known.
fn source(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    name: &str,
    variable: &Variable,
) -> Result<Option<Source>, Absence> {
    let template = match variable {
        Variable::Template(template) => template,
        Variable::Map { setting, words, unsupported } => {
            let Some(value) = offer.settings.literal(setting) else { return Ok(None) };
            if unsupported.iter().any(|word| word == value) {
                return Err(Absence::UnsupportedMode {
                    app: target.app(),
                    setting: format!("{intent}.{setting}"),
                    value: value.to_owned(),
                });
            }
            return Ok(words.get(value).map(|word| Source::Value(escape_dollars(word))));
        }
    };
    let mut facts: Vec<Cow<'_, Fact>> = Vec::new();
    for placeholder in template.placeholders() {
        let fact = match placeholder.is_app {
            true => target.app_setting(&placeholder.setting).map(|value| Cow::Owned(Fact::Literal(value))),
            false => offer.settings.get(&placeholder.setting).map(Cow::Borrowed),
        };
        match fact {
            Some(fact) => facts.push(fact),
            None => return Ok(None),
        }
    }
    check_unencoded(template, &facts, template.single().is_none())?;
    if !facts.iter().any(|fact| fact.is_secret()) {
        return Ok(Some(Source::Value(fill(template, &facts))));
    }
    if let Some(placeholder) = template.single() {
        return Ok(Some(Source::Key(placeholder.setting.clone(), None)));
    }
    if !template.references().is_empty() {
        return Err(Absence::MixesReference(name.to_owned()));
    }
    // The Secret is shared by all workloads of the namespace: what is said of this one is a part of the key's name.
    let Some(template) = template.for_app(intent, &|setting| target.app_setting(setting)) else {
        return Ok(None);
    };
    let key = format!("{name}.{}", hex(&[template.source()], 6));
    Ok(Some(Source::Key(key, Some(template))))
}

/// An unencoded value in a composed template must be harmless in any language. (A credential is checked when the
/// controller composes it.)
pub(super) fn check_unencoded<F: Borrow<Fact>>(
    template: &Template,
    facts: &[F],
    is_composed: bool,
) -> Result<(), Absence> {
    if !is_composed {
        return Ok(());
    }
    for (placeholder, fact) in template.placeholders().zip(facts) {
        if placeholder.encoding.is_none() && fact.borrow().literal().is_some_and(|value| !is_plain(value)) {
            return Err(Absence::Unsafe(placeholder.setting.clone()));
        }
    }
    Ok(())
}

/// The template's text with its settings in it, so that the kubelet expands no dollar of theirs.
fn fill<F: Borrow<Fact>>(template: &Template, facts: &[F]) -> String {
    let mut facts = facts.iter();
    let mut out = String::new();
    let parts = template.parts();
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) => {
                let is_before_setting = index + 1 < parts.len();
                out.push_str(&escape_open_end(text, is_before_setting));
            }
            Part::Setting(placeholder) => {
                let value = facts.next().and_then(|fact| fact.borrow().literal()).unwrap_or_default();
                out.push_str(&escape_dollars(&encoded(placeholder, value)));
            }
        }
    }
    out
}

/// A value as its placeholder wants it written.
pub(super) fn encoded(placeholder: &Placeholder, value: &str) -> String {
    placeholder.encoding.map_or_else(|| value.to_owned(), |encoding| encoding.encode(value))
}

fn escape_dollars(text: &str) -> String {
    text.replace('$', "$$")
}

/// Doubles a template's own dollar where a setting that follows could become the name that it expands.
fn escape_open_end(text: &str, is_before_setting: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = after;
            continue;
        }
        let is_open = after.is_empty() || (after.starts_with('(') && !after.contains(')'));
        out.push_str(if is_open && is_before_setting { "$$" } else { "$" });
        rest = after;
    }
    out + rest
}

/// Puts every variable behind those that it names as `$(NAME)`: the kubelet expands only what stands before. Variables that
/// name each other stay as they come.
pub(super) fn order_by_references(entries: &mut Vec<Entry>) {
    if !entries.iter().any(|entry| has_references(&entry.value)) {
        return;
    }
    let places: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.key.as_str(), place)).collect();
    let mut waiting_for = vec![0_usize; entries.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for (place, entry) in entries.iter().enumerate() {
        let names: BTreeSet<&str> = references(entry.value.text("value")).into_iter().collect();
        for needed in names.iter().filter_map(|name| places.get(name)).filter(|needed| **needed != place) {
            if let (Some(count), Some(by)) = (waiting_for.get_mut(place), needed_by.get_mut(*needed)) {
                *count += 1;
                by.push(place);
            }
        }
    }
    let is_ready = |(place, count): (usize, &usize)| (*count == 0).then_some(place);
    let mut ready: BTreeSet<usize> = waiting_for.iter().enumerate().filter_map(is_ready).collect();
    let mut order = Vec::with_capacity(entries.len());
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for next in needed_by.get(place).into_iter().flatten() {
            if let Some(count) = waiting_for.get_mut(*next) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*next);
                }
            }
        }
    }
    let circular = waiting_for.iter().enumerate().filter(|(_, count)| **count > 0).map(|(place, _)| place);
    order.extend(circular.collect::<Vec<_>>());
    let mut taken: Vec<Option<Entry>> = std::mem::take(entries).into_iter().map(Some).collect();
    entries.extend(order.into_iter().filter_map(|place| taken.get_mut(place)?.take()));
}

fn set_by_user(container: &Container<'_>, name: &str, aliases: Option<&Vec<String>>) -> Option<Skipped> {
    if container.variable(name).is_some() {
        return Some(Skipped::new(name, "set by the workload"));
    }
    let alias = aliases.into_iter().flatten().find(|alias| container.variable(alias).is_some())?;
    Some(Skipped::new(name, format!("set by the workload as {alias}")))
}

// === impl Source ===

impl Source {
    /// The entry of a container's list; `secret` names the delivered Secret.
    fn variable(&self, name: &str, secret: &str) -> Json<'static> {
        let text = |text: &str| Json::from(text.to_owned());
        match self {
            // The server leaves an empty value out, and the entry would no longer be as we wrote it.
            Self::Value(value) if value.is_empty() => Json::object([("name", text(name))]),
            Self::Value(value) => Json::object([("name", text(name)), ("value", text(value))]),
            Self::Key(key, _) => {
                let reference = Json::object([("name", text(secret)), ("key", text(key))]);
                let source = Json::object([("secretKeyRef", reference)]);
                Json::object([("name", text(name)), ("valueFrom", source)])
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Value(text) | Self::Key(text, _) => text.len(),
        }
    }
}

// === impl Target ===

impl Target<'_> {
    fn app_setting(&self, setting: &str) -> Option<String> {
        let address = self.address.as_ref();
        let value = match setting {
            "name" => self.workload.name,
            "namespace" => self.namespace,
            "url" => &address?.url,
            "host" => &address?.host,
            _ => return None,
        };
        (!value.is_empty()).then(|| value.to_owned())
    }

    pub(super) fn app(&self) -> String {
        self.profile.map_or_else(|| "the app".to_owned(), |profile| profile.name.clone())
    }
}

/// Whether a variable names another one.
pub(super) fn has_references(entry: &Json<'_>) -> bool {
    !references(entry.text("value")).is_empty()
}

/// Whether an entry of a container's list takes its value from a Secret.
pub(crate) fn has_secret(entry: &Json<'_>) -> bool {
    entry.at(&["valueFrom", "secretKeyRef"]).is_some_and(|secret| !secret.text("name").is_empty())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("[[ldap.host]]", "$(DB_PASSWORD)", "$$(DB_PASSWORD)")]
    #[case("$[[ldap.host]]", "x", "$$x")]
    #[case("$([[ldap.host]])", "DB", "$$(DB)")]
    #[case("$(A)-[[ldap.host]]", "x", "$(A)-x")]
    #[case("$$(A)-[[ldap.host]]", "x", "$$(A)-x")]
    #[case("$$$[[ldap.host]]", "x", "$$$$x")]
    #[case("${A}[[ldap.host]]$", "x", "${A}x$")]
    fn the_kubelet_expands_no_setting(#[case] text: &str, #[case] value: &str, #[case] expected: &str) {
        let template = Template::parse(text, &Intent::parse("ldap").unwrap()).unwrap();
        assert_eq!(fill(&template, &[Fact::Literal(value.into())]), expected);
    }
}
