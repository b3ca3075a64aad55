//! The examples of the guide are read as they stand there.
use std::{fs, path::PathBuf, sync::Arc};

use opportune_core::{
    discover::{Inventory, Recipes},
    inject::profile::Profiles,
};

/// The YAML examples of the guide that begin with this line.
fn examples(first_line: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/teach-your-app.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.filter(|block| block.starts_with(first_line)).collect()
}

#[test]
fn the_guides_profile_recipe_and_resource_can_be_used() {
    let profile = examples("name: minutes");
    Profiles::read([("minutes.yaml", profile[0].as_str())], &|_| None).unwrap();
    let file = examples("    files:");
    let mapped = format!(
        "name: x\napp: X\nimages: [docker.io/x/x]\nintents:\n  ldap:\n    confidence: memory\n{}",
        file[0]
    );
    Profiles::read([("file.yaml", mapped.as_str())], &|_| None).unwrap();
    let recipe = examples("name: tinydir");
    Recipes::read([("tinydir.yaml", recipe[0].as_str())]).unwrap();
    let resource = examples("apiVersion");
    let object = serde_saphyr::from_str(&resource[0]).unwrap();
    let mut inventory = Inventory::new(Arc::new(Recipes::default()), Profiles::default());
    inventory.apply(&object).unwrap();
    let catalog = inventory.snapshot();
    assert!(catalog.profiles().by_image("example/minutes:2.1").is_some());
    assert!(catalog.profiles().by_image("example/minutes:3").is_none());
}
