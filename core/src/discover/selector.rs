//! Label selectors, as Kubernetes evaluates them.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::{api, keys};

/// A label selector; an empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that an object must have.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schemars(schema_with = "api::label_rules")]
    match_labels: Labels,
    /// Further conditions on its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "api::requirement_rules")]
    match_expressions: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a label selector: expected for example `{}=blog`, `env in (a,b)` or `*`",
    .0.escape_debug(),
    keys::NAMESPACE_NAME
)]
pub struct NotASelector(String);

// === impl LabelSelector ===

impl LabelSelector {
    /// Reads the text form, as `kubectl -l` takes it; `*` selects everything.
    ///
    /// # Errors
    /// [`NotASelector`] for any other text, the empty one included.
    pub fn parse(text: &str) -> Result<Self, NotASelector> {
        let fail = || NotASelector(text.chars().take(100).collect());
        if text.trim() == "*" {
            return Ok(Self::default());
        }
        let match_expressions: Option<Vec<_>> = split_outside_parentheses(text).map(requirement).collect();
        Ok(Self { match_labels: Labels::new(), match_expressions: match_expressions.ok_or_else(fail)? })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        labels.has_all(&self.match_labels)
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Sets of pairs, of each of which a label set that matches has one: the keys by which an index can find the selector
    /// again. None where it asks for nothing in particular.
    pub(super) fn index_keys(&self) -> impl Iterator<Item = Vec<(&str, &str)>> {
        let labels = self.match_labels.iter().map(|pair| vec![pair]);
        let choices =
            self.match_expressions.iter().filter(|requirement| requirement.operator == Operator::In);
        labels.chain(choices.map(|r| r.values.iter().map(|value| (r.key.as_str(), value.as_str())).collect()))
    }
}

// === impl Requirement ===

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let is_listed = || value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        match self.operator {
            Operator::In => is_listed(),
            Operator::NotIn => !is_listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
}

fn requirement(text: &str) -> Option<Requirement> {
    let new = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        let is_fine = is_key(key) && values.iter().all(|value| is_value(value));
        is_fine.then(|| Requirement { key: key.to_owned(), operator, values })
    };
    if let Some((left, rest)) = text.split_once('(') {
        let (key, operator) = match left.trim().rsplit_once(char::is_whitespace)? {
            (key, "in") => (key, Operator::In),
            (key, "notin") => (key, Operator::NotIn),
            _ => return None,
        };
        let values = rest.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        return new(key, operator, values);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return new(key, Operator::NotIn, vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return new(key, Operator::In, vec![value.trim().to_owned()]);
    }
    match text.strip_prefix('!') {
        Some(key) => new(key, Operator::DoesNotExist, Vec::new()),
        None => new(text, Operator::Exists, Vec::new()),
    }
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => crate::name::is_dns_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[rstest]
    #[case("*", true)]
    #[case("a=1", true)]
    #[case("a==1,b", true)]
    #[case("a in (0, 1), !c", true)]
    #[case("a notin (0,2)", true)]
    #[case("x.y/z notin (0,2)", true)]
    #[case("c!=1", true)]
    #[case("a!=1", false)]
    #[case("b=2", false)]
    #[case("c", false)]
    #[case("!a", false)]
    fn a_text_selects_as_kubectl_does(#[case] text: &str, #[case] expected: bool) {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches(&labels(&[("a", "1"), ("b", "")])), expected);
    }

    #[rstest]
    fn what_is_no_selector_selects_nothing(
        #[values("", " ", "a=b=c", "a in b", "a in (b", ",", "a,", "(", ")", "a b", "é", "a=$(x)")]
        text: &str,
    ) {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}
