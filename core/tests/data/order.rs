//! Which profile an image takes, where several match it.
use std::sync::Arc;

use opportune_core::{
    discover::{Catalog, Inventory, Recipes},
    inject::profile::Profiles,
};
use rstest::rstest;
use serde_json::json;

/// An image that the pattern matches.
pub fn example(pattern: &str) -> String {
    let image = pattern.replace("*/", "registry.example/").replace("*.", "x.").replace('*', "x");
    format!("{image}:1.2.3")
}

fn named(name: &str, pattern: &str) -> String {
    format!("{{name: {name}, app: X, images: [\"{pattern}\"]}}")
}

/// Built-in profiles and AppProfiles, by name and pattern.
fn catalog(built_in: &[(&str, &str)], resources: &[(&str, &str)]) -> Catalog {
    let texts: Vec<_> = built_in.iter().map(|(name, pattern)| named(name, pattern)).collect();
    let profiles = Profiles::read(texts.iter().map(|text| ("x.yaml", text.as_str())), &|_| None).unwrap();
    let mut inventory = Inventory::new(Arc::new(Recipes::default()), profiles);
    for (name, pattern) in resources {
        let object = json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "AppProfile",
            "metadata": {"name": name}, "spec": {"images": [pattern]}});
        inventory.apply(&object).unwrap();
    }
    inventory.snapshot()
}

const AB: &str = "docker.io/a/b";

#[rstest]
#[case::the_longest(&[("x", "*/b"), ("y", "*/a/b")], &[], "y", &[])]
#[case::a_wildcard_counts_nothing(&[("x", "**/**a/b"), ("y", "*/a/b")], &[], "x", &["y"])]
#[case::then_by_name(&[("y", AB), ("x", AB)], &[], "x", &["y"])]
#[case::the_clusters_first(&[("a", AB)], &[("y", AB), ("x", AB)], "x", &["y", "a"])]
#[case::the_longest_before_the_clusters(&[("x", AB)], &[("y", "*/a/b")], "x", &[])]
#[case::the_clusters_in_place_of_ours(&[("x", AB)], &[("x", "*/a/b")], "x", &[])]
fn the_order_is_defined(
    #[case] built_in: &[(&str, &str)],
    #[case] resources: &[(&str, &str)],
    #[case] taken: &str,
    #[case] runners_up: &[&str],
) {
    let catalog = catalog(built_in, resources);
    let profiles = catalog.profiles();
    assert_eq!(profiles.by_image("a/b:1").unwrap().name, taken);
    let others: Vec<_> = profiles.runners_up("a/b:1").into_iter().map(|p| p.name.as_str()).collect();
    assert_eq!(others, runners_up);
}

#[test]
fn an_image_that_nothing_matches_has_no_runners_up() {
    let catalog = catalog(&[("x", AB)], &[]);
    assert!(catalog.profiles().by_image("a/c").is_none());
    assert!(catalog.profiles().runners_up("a/c").is_empty());
}

#[test]
fn no_two_built_in_profiles_tie_on_any_of_their_patterns() {
    let profiles = Profiles::built_in().unwrap();
    for profile in profiles.iter() {
        for pattern in profile.images() {
            let image = example(pattern);
            let taken = profiles.by_image(&image).map(|profile| profile.name.as_str());
            assert_eq!(taken, Some(profile.name.as_str()), "{image} of {pattern}");
            let others: Vec<_> = profiles.runners_up(&image).iter().map(|p| p.name.as_str()).collect();
            assert!(others.is_empty(), "{image} fits {} and {others:?} alike", profile.name);
        }
    }
}

#[rstest]
#[case("*", "spec.images: `*` matches every image: name a part of it")]
#[case("*:1.*", "spec.images: `*` matches every image: name a part of it")]
#[case("a/b:x y", "spec.images: `x y` is not a pattern of tags")]
#[case("https://a/b", "spec.images: `https://a/b` is an address: leave its scheme out")]
fn a_bad_pattern_of_an_app_profile_is_named(#[case] pattern: &str, #[case] expected: &str) {
    let mut inventory = Inventory::new(Arc::new(Recipes::default()), Profiles::default());
    let object = json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "AppProfile",
        "metadata": {"name": "x"}, "spec": {"images": [pattern]}});
    assert_eq!(inventory.apply(&object).unwrap_err().to_string(), expected);
}
