//! The figures of a `/metrics` page.
use std::collections::BTreeMap;

/// One look at a `/metrics` page. Tests compare two of them: a counter of the API server also counts what others do.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Samples ===

impl Samples {
    /// Reads Prometheus's text form; lines that are no samples are left out.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        Self(page.lines().filter_map(sample).collect())
    }

    /// The sum of all series of this name that carry these labels, among others; none is 0.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.0.iter().filter(carries).map(|sample| sample.value).sum()
    }

    /// Whether there is a series of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let name = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, rest) = line.split_at_checked(name).filter(|(name, _)| !name.is_empty())?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// What stands in braces, and what follows them.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => value.push(match characters.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.insert(key.to_owned(), value);
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{code=\"200\",name=\"a, b\"} 3
calls_total{code=\"500\",name=\"say \\\"{}\\\"\"} 4 1700000000
calls_total_other 9
up 1e+00
";

    #[test]
    fn series_of_one_name_are_added_up() {
        let samples = Samples::parse(PAGE);
        assert_eq!(samples.sum("calls_total", &[]), 7.0);
        assert_eq!(samples.sum("calls_total", &[("code", "200"), ("name", "a, b")]), 3.0);
        assert_eq!(samples.sum("calls_total", &[("name", "say \"{}\"")]), 4.0);
        assert_eq!(samples.sum("calls_total", &[("name", "c")]), 0.0);
        assert_eq!(samples.sum("up", &[]), 1.0);
    }

    #[test]
    fn a_missing_series_is_told_from_one_at_zero() {
        assert!(Samples::parse(PAGE).has("up"));
        assert!(!Samples::parse(PAGE).has("down"));
    }
}
