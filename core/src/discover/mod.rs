//! Cluster objects in, offers out.

/// All offers, profiles and namespaces known at one moment: an immutable snapshot.
#[derive(Debug, Default)]
pub struct Catalog {}

impl Catalog {
    /// How many offers there are, by intent label (`ldap`, `mail`, `analytics`, `storage`, `custom`) and state
    /// (`complete`, `incomplete`): the figures of `opportune_catalog_offers`.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, usize)> {
        Vec::new()
    }
}
