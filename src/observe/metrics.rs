//! The figures that Prometheus scrapes: closed label sets, no object names.
//!
//! Every series exists from the start, so that a rate is right from the first event, and so that a label outside its
//! set can't come into being: it counts as `other`.
use super::recent::Recent;
use crate::watch::Pulses;
use opportune_core::{discover::Catalog, review::Facts};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const KINDS: &[&str] = &["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", OTHER];
const OPERATIONS: &[&str] = &["CREATE", "UPDATE", OTHER];
const OUTCOMES: &[&str] = &[
    "patched",
    "unchanged",
    "denied",
    "failed_open",
    "ignored",
    NOT_A_REVIEW,
    NOT_READY,
    SHED,
    PANICKED,
    OTHER,
];
const INTENTS: &[&str] = &["ldap", "mail", "analytics", "storage", "custom"];
const RESULTS: &[&str] =
    &["bound", "kept", "absent", "incomplete", "declined", "forbidden", "conflict", "withdrawn", OTHER];
const DELIVERIES: &[&str] =
    &["delivered", "updated", "repaired", "removed", "withdrawn", "failed", "conflict", "refused", OTHER];
/// Seconds: from the 0.1 ms of a good answer to the 10 s after which no API server waits any more.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const OTHER: &str = "other";
const NOT_A_REVIEW: &str = "not_a_review";
const NOT_READY: &str = "not_ready";
const SHED: &str = "shed";
const PANICKED: &str = "panicked";

/// All figures of one process, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: HashMap<[&'static str; 3], IntCounter>,
    intents: HashMap<[&'static str; 2], IntCounter>,
    duration: Histogram,
    recent: Recent,
    deliveries: HashMap<[&'static str; 1], IntCounter>,
    missed: IntGauge,
}

// === impl Metrics ===

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// Never with the names in this file; the error is the registry's.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = counters(
            &registry,
            "opportune_admission_requests_total",
            "Reviews answered.",
            [("kind", KINDS), ("operation", OPERATIONS), ("outcome", OUTCOMES)],
        )?;
        let intents = counters(
            &registry,
            "opportune_intents_total",
            "Intents decided, and what came of them.",
            [("intent", INTENTS), ("result", RESULTS)],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "opportune_admission_duration_seconds",
                "From the head of a request to its answer, waiting and reading included.",
            )
            .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(duration.clone()))?;
        let deliveries = counters(
            &registry,
            "opportune_deliveries_total",
            "Objects that a controller made, changed, put right, removed or took back, and those that it could not make.",
            [("result", DELIVERIES)],
        )?;
        let missed = IntGauge::new(
            "opportune_workloads_missed",
            "Workloads that were made or changed while the webhook was away or too busy, and could be served now.",
        )?;
        registry.register(Box::new(missed.clone()))?;
        register_build_info(&registry)?;
        Ok(Self { registry, requests, intents, duration, recent: Recent::new(), deliveries, missed })
    }

    /// Counts what came of one delivery.
    pub fn delivered(&self, result: &str) {
        increment(&self.deliveries, &[known(DELIVERIES, result, OTHER)]);
    }

    /// How many workloads were missed.
    pub fn set_missed(&self, count: usize) {
        self.missed.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts one answered review, unless its uid was counted a moment ago; its duration counts each time.
    pub fn answered(&self, facts: &Facts, took: Duration) {
        self.duration.observe(took.as_secs_f64());
        if !self.recent.is_new(&facts.uid) {
            return;
        }
        self.count_request(facts.kind, facts.operation, facts.outcome);
        for (intent, result) in &facts.intents {
            let key = [known(INTENTS, intent, "custom"), known(RESULTS, result, OTHER)];
            increment(&self.intents, &key);
        }
    }

    /// Counts one body that was no review.
    pub fn not_a_review(&self) {
        self.count_request(OTHER, OTHER, NOT_A_REVIEW);
    }

    /// Counts one request for a policy that is not known here yet.
    pub fn not_ready(&self) {
        self.count_request(OTHER, OTHER, NOT_READY);
    }

    /// Counts one request that there was no time for.
    pub fn shed(&self) {
        self.count_request(OTHER, OTHER, SHED);
    }

    /// Counts one request whose handling panicked.
    pub fn panicked(&self) {
        self.count_request(OTHER, OTHER, PANICKED);
    }

    /// All figures in Prometheus' text format, with those that are looked up rather than counted: the offers in
    /// `catalog`, when the certificate expires, and when each watch was last heard of.
    ///
    /// # Errors
    /// The encoder's, when two families have one name.
    pub fn render(
        &self,
        catalog: &Catalog,
        certificate_expiry: Option<SystemTime>,
        pulses: &Pulses,
    ) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(offers(catalog)?.collect());
        if let Some(expiry) = certificate_expiry {
            let gauge = Gauge::new(
                "opportune_certificate_expiry_timestamp_seconds",
                "When the serving certificate expires, in seconds since 1970.",
            )?;
            gauge.set(seconds(expiry));
            families.extend(gauge.collect());
        }
        families.extend(last_events(pulses)?.collect());
        // A family without a series, such as the offers of an empty catalog, has no text form.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    fn count_request(&self, kind: &str, operation: &str, outcome: &str) {
        let key =
            [known(KINDS, kind, OTHER), known(OPERATIONS, operation, OTHER), known(OUTCOMES, outcome, OTHER)];
        increment(&self.requests, &key);
    }
}

fn known(set: &[&'static str], label: &str, otherwise: &'static str) -> &'static str {
    set.iter().copied().find(|known| *known == label).unwrap_or(otherwise)
}

fn increment<const N: usize>(counters: &HashMap<[&'static str; N], IntCounter>, key: &[&'static str; N]) {
    // Every combination of known labels is there.
    if let Some(counter) = counters.get(key) {
        counter.inc();
    }
}

/// A counter for each combination of labels.
fn counters<const N: usize>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: [(&str, &[&'static str]); N],
) -> Result<HashMap<[&'static str; N], IntCounter>, prometheus::Error> {
    let family = IntCounterVec::new(Opts::new(name, help), &labels.map(|(label, _)| label))?;
    let mut counters = HashMap::new();
    let mut keys: Vec<Vec<&'static str>> = vec![Vec::new()];
    for (_, values) in labels {
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(|value| [key.as_slice(), &[*value]].concat()))
            .collect();
    }
    for key in keys {
        let counter = family.get_metric_with_label_values(&key)?;
        // Each key has one value for each of the N labels.
        if let Ok(key) = key.try_into() {
            counters.insert(key, counter);
        }
    }
    registry.register(Box::new(family))?;
    Ok(counters)
}

fn offers(catalog: &Catalog) -> Result<IntGaugeVec, prometheus::Error> {
    let family = IntGaugeVec::new(
        Opts::new("opportune_catalog_offers", "Offers known now, by intent and whether they can be used."),
        &["intent", "state"],
    )?;
    for (intent, state, count) in catalog.counts() {
        let intent = known(INTENTS, intent, "custom");
        family.get_metric_with_label_values(&[intent, state])?.add(i64::try_from(count).unwrap_or(i64::MAX));
    }
    Ok(family)
}

fn last_events(pulses: &Pulses) -> Result<GaugeVec, prometheus::Error> {
    let family = GaugeVec::new(
        Opts::new(
            "opportune_catalog_last_event_timestamp_seconds",
            "When the watch of a resource was last heard of, be it that nothing changed, in seconds since 1970.",
        ),
        &["resource"],
    )?;
    for (resource, heard) in pulses.heard() {
        family.get_metric_with_label_values(&[resource])?.set(seconds(heard));
    }
    Ok(family)
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn register_build_info(registry: &Registry) -> Result<(), prometheus::Error> {
    let family = IntGaugeVec::new(
        Opts::new("opportune_build_info", "Always 1; what is running stands in the labels."),
        &["version", "revision"],
    )?;
    let revision = option_env!("OPPORTUNE_REVISION").unwrap_or("unknown");
    family.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), revision])?.set(1);
    registry.register(Box::new(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(uid: &str) -> Facts {
        Facts {
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
            name: "wordpress".to_owned(),
            kind: "Deployment",
            operation: "CREATE",
            outcome: "patched",
            reason: String::new(),
            intents: vec![("ldap", "bound"), ("mail", "absent")],
        }
    }

    fn rendered(metrics: &Metrics) -> String {
        metrics.render(&Catalog::default(), None, &Pulses::default()).unwrap()
    }

    #[test]
    fn a_review_counts_once_by_its_uid_and_its_time_each_time() {
        let metrics = Metrics::new().unwrap();
        metrics.answered(&facts("a"), Duration::from_millis(1));
        metrics.answered(&facts("a"), Duration::from_millis(1));
        metrics.answered(&facts("b"), Duration::from_millis(1));
        let text = rendered(&metrics);
        assert!(text.contains(
            r#"opportune_admission_requests_total{kind="Deployment",operation="CREATE",outcome="patched"} 2"#
        ));
        assert!(text.contains(r#"opportune_intents_total{intent="ldap",result="bound"} 2"#));
        assert!(text.contains("opportune_admission_duration_seconds_count 3"));
    }

    #[test]
    fn a_label_outside_its_set_counts_as_other() {
        let metrics = Metrics::new().unwrap();
        let strange =
            Facts { kind: "Rocket", outcome: "launched", intents: vec![("fuel", "lit")], ..facts("a") };
        metrics.answered(&strange, Duration::ZERO);
        let text = rendered(&metrics);
        assert!(text.contains(r#"{kind="other",operation="CREATE",outcome="other"} 1"#));
        assert!(text.contains(r#"opportune_intents_total{intent="custom",result="other"} 1"#));
        assert!(!text.contains("Rocket"));
    }

    #[test]
    fn names_of_objects_are_no_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.answered(&facts("some-uid"), Duration::ZERO);
        let text = rendered(&metrics);
        assert!(!text.contains("wordpress") && !text.contains("shop") && !text.contains("some-uid"));
    }

    #[test]
    fn what_is_looked_up_is_rendered_beside_what_is_counted() {
        let metrics = Metrics::new().unwrap();
        let text = metrics
            .render(
                &Catalog::default(),
                Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
                &Pulses::default(),
            )
            .unwrap();
        assert!(text.contains("opportune_certificate_expiry_timestamp_seconds 1800000000"));
        assert!(text.contains(r#"opportune_build_info{revision="unknown",version=""#));
    }
}
