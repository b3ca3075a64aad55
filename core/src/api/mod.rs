//! Our own resources, as they are written (`opportune.libre.sh/v1alpha1`), and the schemas by which an API server refuses
//! bad ones.
//!
//! The doc comments of these types are what `kubectl explain` and the reference say.
mod app_profile;
mod definition;
mod injection_policy;
mod rules;
mod service_offer;
mod templates;

pub use app_profile::{AppProfile, AppProfileSpec};
pub use definition::definitions;
pub use injection_policy::{
    InjectionPolicy, InjectionPolicySpec, InjectionPolicyStatus, OnAbsent, Refresh, StorageDefaults,
};
pub(crate) use rules::{label_rules, requirement_rules};
pub use service_offer::{
    Condition, Consumers, Credentials, SecretRef, ServiceOffer, ServiceOfferSpec, ServiceOfferStatus,
};
