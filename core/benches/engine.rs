//! What a review costs: parsing, deciding and patching a WordPress Deployment of 16.8 KB, with catalogs of any size.
//!
//! `cargo bench --bench engine` measures each part; `cargo bench --bench engine -- --check` compares a large catalog with a
//! small one, in turns, and fails where the large one costs more than 1.2 times as much.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may panic when its own input is wrong"
)]
use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use opportune_core::{
    admit::{Options, Request, admit},
    discover::{Catalog, Inventory, Recipes},
    inject::profile::Profiles,
    review,
};
use serde_json::{Value, json};

/// As an API server sends it for a server-side apply; half of it is `managedFields`.
const REVIEW: &[u8] = include_bytes!("fixtures/deployment-create-ssa.json");
/// The namespace that the review is about.
const ASKED: &str = "default";
const INTENTS: [&str; 5] = ["ldap", "mail", "analytics", "storage", "cache"];
const NAMESPACES: usize = 1000;
/// Every tenth namespace is a provider's.
const PROVIDERS: usize = 100;
const SIZES: [usize; 3] = [10, 1000, 10_000];
/// How much more a large catalog may cost than a small one.
const ALLOWED: f64 = 1.2;

/// Who the offers are for that the asked namespace doesn't need.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Others {
    /// For somebody else: in tenants' own namespaces, or by the names or the team of the consumers.
    ForOthers,
    /// For everyone, the asked namespace included.
    ForEveryone,
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--check") {
        return check();
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn measure(criterion: &mut Criterion) {
    let body = body();
    let review: Value = serde_json::from_slice(&body).unwrap();
    criterion.bench_function("parse", |bench| {
        bench.iter(|| serde_json::from_slice::<Value>(black_box(&body)).unwrap());
    });
    for (name, others) in [("for others", Others::ForOthers), ("for everyone", Others::ForEveryone)] {
        let catalogs = SIZES.map(|size| (size, catalog(size, others)));
        let mut group = criterion.benchmark_group(format!("decide and patch, offers {name}"));
        for (size, catalog) in &catalogs {
            group.bench_with_input(BenchmarkId::from_parameter(size), catalog, |bench, catalog| {
                bench.iter(|| decide(black_box(&review), catalog));
            });
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("answer, offers {name}"));
        for (size, catalog) in &catalogs {
            group.bench_with_input(BenchmarkId::from_parameter(size), catalog, |bench, catalog| {
                bench.iter(|| answer(black_box(&body), catalog));
            });
        }
        group.finish();
    }
}

/// Compares the smallest catalog with the largest ones, in turns, so that a slow moment of the machine hits all alike.
fn check() -> ExitCode {
    let body = body();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let (small, large) = (SIZES[0], SIZES[2]);
    let catalogs = [
        (format!("{small} offers"), catalog(small, Others::ForOthers)),
        (format!("{large} offers for others"), catalog(large, Others::ForOthers)),
        (format!("{large} offers for everyone"), catalog(large, Others::ForEveryone)),
    ];
    let mut is_fine = true;
    for (part, run) in [
        ("decide and patch", &(|catalog: &Catalog| decide(&review, catalog)) as &dyn Fn(&Catalog) -> usize),
        ("answer", &|catalog: &Catalog| answer(&body, catalog)),
    ] {
        let means = means(&catalogs.each_ref().map(|(_, catalog)| catalog), run);
        for ((name, _), mean) in catalogs.iter().zip(means) {
            let ratio = mean / means[0];
            let verdict = if ratio <= ALLOWED { "fine" } else { "TOO MUCH" };
            is_fine &= ratio <= ALLOWED;
            println!("{part:<16}  {name:<28}{:>8.1} µs, ratio {ratio:.2} ({verdict})", mean * 1e6);
        }
    }
    println!("allowed ratio: {ALLOWED}");
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds for one run with each catalog: means over many rounds, without the slowest tenth, which is mostly the machine.
fn means<const N: usize>(catalogs: &[&Catalog; N], run: &dyn Fn(&Catalog) -> usize) -> [f64; N] {
    const ROUNDS: usize = 300;
    const RUNS: u32 = 20;
    let mut times = [const { Vec::<Duration>::new() }; N];
    for round in 0..ROUNDS + ROUNDS / 10 {
        for turn in 0..N {
            // Another one begins each round.
            let index = (turn + round) % N;
            let begun = Instant::now();
            for _ in 0..RUNS {
                black_box(run(black_box(catalogs[index])));
            }
            // The first rounds warm up.
            if round >= ROUNDS / 10 {
                times[index].push(begun.elapsed() / RUNS);
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times.truncate(ROUNDS - ROUNDS / 10);
        times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64
    })
}

/// Decides on a review that is parsed already, and gives the number of operations.
fn decide(review: &Value, catalog: &Catalog) -> usize {
    let request = Request { namespace: ASKED, object: &review["request"]["object"], old: None };
    admit(&request, catalog, &Options::default()).patch.len()
}

/// Answers the bytes of a review, and gives the length of the answer.
fn answer(body: &[u8], catalog: &Catalog) -> usize {
    review::answer(body, catalog, &Options::default()).unwrap().body.len()
}

/// The review, with wishes for everything.
fn body() -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(REVIEW).unwrap();
    let annotations = &mut review["request"]["object"]["spec"]["template"]["metadata"]["annotations"];
    annotations["opportune.libre.sh/wants"] = INTENTS.join(", ").into();
    annotations["opportune.libre.sh/storage"] = "/srv/uploads=5Gi".into();
    serde_json::to_vec(&review).unwrap()
}

// What the cluster has.

/// A catalog of `size` offers in a thousand namespaces: five that the asked namespace may use, one for each intent, and
/// others.
fn catalog(size: usize, others: Others) -> Catalog {
    let recipes = Arc::new(Recipes::built_in().unwrap());
    let mut inventory = Inventory::new(recipes, Profiles::built_in().unwrap());
    for index in 0..NAMESPACES {
        inventory.apply(&namespace(index)).unwrap();
    }
    inventory.apply(&asked_namespace()).unwrap();
    for (index, intent) in INTENTS.into_iter().enumerate() {
        let consumers = match index % 3 {
            0 => json!({"matchExpressions": [names_in(&[ASKED, "elsewhere"])]}),
            1 => json!({"matchLabels": {"team": "web"}}),
            _ => json!({}),
        };
        // First by priority, so that each catalog gives the same answer.
        inventory.apply(&offer(intent, &provider(0), &format!("best-{intent}"), 1, &consumers)).unwrap();
    }
    for index in INTENTS.len()..size {
        let intent = INTENTS[index % INTENTS.len()];
        let name = format!("offer-{index}");
        let object = match (others, index % 3) {
            (Others::ForEveryone, _) => offer(intent, &provider(index), &name, 0, &json!({})),
            (Others::ForOthers, 0) => {
                let selector = json!({"matchExpressions": [names_in(&[&tenant(index), &tenant(index + 7)])]});
                offer(intent, &provider(index), &name, 0, &selector)
            }
            (Others::ForOthers, 1) => {
                let selector = json!({"matchLabels": {"team": format!("team-{}", index % 50)}});
                offer(intent, &provider(index), &name, 0, &selector)
            }
            (Others::ForOthers, _) => offer(intent, &tenant(index), &name, 0, &json!({})),
        };
        inventory.apply(&object).unwrap();
    }
    let catalog = inventory.snapshot();
    assert_eq!(catalog.offers().filter(|offer| offer.is_complete()).count(), size);
    if others == Others::ForOthers {
        let may_use = catalog.offers().filter(|offer| catalog.admits(offer, ASKED).is_ok()).count();
        assert_eq!(may_use, INTENTS.len());
    }
    catalog
}

fn provider(index: usize) -> String {
    format!("namespace-{}", index % PROVIDERS * 10)
}

fn tenant(index: usize) -> String {
    let number = index % NAMESPACES;
    format!("namespace-{}", if number.is_multiple_of(10) { number + 1 } else { number })
}

fn names_in(names: &[&str]) -> Value {
    json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names})
}

fn namespace(index: usize) -> Value {
    let is_provider = if index.is_multiple_of(10) { "true" } else { "false" };
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": format!("namespace-{index}"),
            "labels": {
                "opportune.libre.sh/inject": "enabled",
                "opportune.libre.sh/provider": is_provider,
                "team": format!("team-{}", index % 50),
            },
        },
    })
}

fn asked_namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": ASKED, "labels": {"opportune.libre.sh/inject": "enabled", "team": "web"}},
    })
}

fn offer(intent: &str, namespace: &str, name: &str, priority: i64, selector: &Value) -> Value {
    let host = format!("{name}.{namespace}.svc");
    let settings = match intent {
        "ldap" => json!({"host": host, "port": 636, "base-dn": "dc=example,dc=org"}),
        "mail" => json!({"host": host, "port": 587, "from": "no-reply@example.org"}),
        "analytics" => json!({"provider": "matomo", "url": "https://stats.example.org/", "site-id": 7}),
        "storage" => json!({"class": "shared", "kind": "shared"}),
        _ => json!({"host": host, "port": 6379}),
    };
    json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "intent": intent,
            "priority": priority,
            "consumers": {"namespaceSelector": selector},
            "settings": settings,
        },
    })
}
