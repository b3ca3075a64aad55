//! The program `opportune`.
fn main() {}
