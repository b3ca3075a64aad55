//! Discovery: cluster objects in, offers out.
//!
//! [`Inventory`] is fed one object at a time, from a file or a watch alike; [`Catalog`] is its immutable snapshot, which
//! answers who may use what in the time that the answer takes, and is made in the time that the change takes.
mod catalog;
mod config_maps;
mod declared;
mod difference;
mod index;
mod inventory;
mod labels;
mod namespaced;
mod object;
mod offer;
mod policy;
mod recipe;
mod route;
mod selector;
mod service;
mod sorted;
mod workloads;

pub use catalog::{Catalog, NamespaceFacts, NamespaceLabel, NotForNamespace};
pub use difference::Difference;
pub use inventory::{Inventory, NamespacedName, Taken};
pub use labels::Labels;
pub use object::ObjectError;
pub use offer::{Consumers, CredentialsSecret, Offer, OfferId, Origin, Source};
pub use policy::Policy;
pub use recipe::{Recipe, Recipes, recipe_schema};
pub use route::AppAddress;
pub use selector::{LabelSelector, NotASelector};
