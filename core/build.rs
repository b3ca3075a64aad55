//! Builds again when a recipe or a profile comes or goes.
fn main() {
    println!("cargo:rerun-if-changed=src/discover/recipes");
    println!("cargo:rerun-if-changed=src/inject/profiles");
}
