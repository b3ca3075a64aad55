//! Decision: which offer satisfies which wish, and why not.
mod choose;
mod conflicts;
mod consider;
mod namespace;
mod plan;
mod terms;
mod wishes;

pub use choose::{Choice, InUse, LeftOut, Question, choose};
pub use conflicts::conflicts;
pub use consider::{Considered, Standing, consider};
pub use namespace::NamespaceDefaults;
pub(crate) use plan::MAX_STATUS;
pub use plan::{Absence, Decision, Outcome, Plan, Skipped};
pub use terms::{Asker, Enforced, PolicySize, Preference, Ruling, Subject, Term, Terms};
pub use wishes::{AnnotationError, ProfileChoice, Refresh, Retain, Wishes};
pub(crate) use wishes::{data_path, is_users};

/// The items of a list: separated by commas, white space or both.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}
