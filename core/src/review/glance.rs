//! What needs no decision, seen from raw JSON: nothing asks for anything, or nothing that we look at has changed. Most of what
//! happens in a cluster is of this kind.
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::read::{Operation, Parts, Review};
use crate::{
    admit::{AdmissionResult, CatalogState, Inheritance, Options},
    discover::Catalog,
    json::{
        Json,
        skim::{Malformed, Skim},
    },
    keys,
    workload::{Kind, has_controller},
};

/// How our keys begin, and how an escape does; made ready once to be looked for.
static OURS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(keys::PREFIX));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r"\u"));

/// The parts of a spec that say whether pods are made anew.
#[derive(Default, PartialEq)]
struct Spec<'a> {
    template: Option<&'a str>,
    job_template: Option<&'a str>,
    volume_claim_templates: Option<&'a str>,
}

// === impl Review ===

impl Review<'_> {
    /// What becomes of it, where that can be seen without a decision. What it says is what a decision would come to.
    pub(super) fn at_a_glance(&self, catalog: &Catalog, options: &Options) -> Option<AdmissionResult> {
        let kind = self.kind.filter(|kind| self.is_whole && options.kinds.has(*kind))?;
        let new = self.object.parts().filter(|parts| parts.is_a(kind))?;
        let is_settled = match self.operation {
            Operation::Create => !new.may_ask() && self.is_unruled(catalog, options),
            Operation::Update => {
                let old = self.old.parts().filter(|parts| parts.is_a(kind))?;
                let asks_nothing = || {
                    // What a StatefulSet's claim templates lack is put back, whoever left it out.
                    kind != Kind::StatefulSet
                        && !(new.may_ask() || old.may_ask())
                        && self.is_unruled(catalog, options)
                };
                new.is_unchanged_since(old, kind) || asks_nothing()
            }
            Operation::Other => return None,
        };
        if !is_settled {
            return None;
        }
        let namespace = self.namespace();
        let is_left_alone = options.selection.policy().is_none() && new.is_made_by_another(kind);
        let is_ours = options.is_ruled(catalog, namespace) || options.is_on(catalog, namespace);
        Some(match is_ours && !is_left_alone {
            true => AdmissionResult::Unchanged,
            false => AdmissionResult::Ignored,
        })
    }

    /// Whether nobody but the workload itself can ask for something in its namespace.
    fn is_unruled(&self, catalog: &Catalog, options: &Options) -> bool {
        let namespace = self.namespace();
        options.catalog == CatalogState::Read
            && options.selection.policy().is_none()
            && catalog.policies_in(namespace).next().is_none()
            && (options.inheritance == Inheritance::Off || catalog.namespace_defaults(namespace).is_none())
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Whether it says to be of that kind, as an API server writes it.
    fn is_a(&self, kind: Kind) -> bool {
        let is = |raw: Option<&str>, word: &str| {
            let inner = raw.and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"'));
            inner == Some(word)
        };
        is(self.kind, kind.name()) && is(self.api_version, kind.api_version())
    }

    /// Whether one of our annotations may stand in it.
    fn may_ask(&self) -> bool {
        let annotations = self.metadata.as_ref().and_then(|metadata| metadata.annotations);
        [annotations, self.spec].into_iter().flatten().any(may_name_ours)
    }

    fn is_made_by_another(&self, kind: Kind) -> bool {
        let owners = self.metadata.as_ref().and_then(|metadata| metadata.owner_references);
        let owners = owners.filter(|_| kind.is_made_once());
        let owners = owners.and_then(|raw| Json::read(raw).ok());
        owners.is_some_and(|owners| has_controller(&owners))
    }

    /// Whether an update leaves the pod template and all annotations as they are, byte for byte: an API server writes what is
    /// the same in the same way.
    fn is_unchanged_since(&self, old: &Self, kind: Kind) -> bool {
        let annotations = |parts: &Self| parts.metadata.as_ref().and_then(|metadata| metadata.annotations);
        if kind.is_made_once() || annotations(self) != annotations(old) {
            return false;
        }
        if self.spec == old.spec {
            return true;
        }
        let (Some(new), Some(old)) = (self.spec(), old.spec()) else { return false };
        let has_template = if kind == Kind::CronJob { new.job_template } else { new.template }.is_some();
        has_template && new == old
    }

    fn spec(&self) -> Option<Spec<'a>> {
        Spec::read(&mut Skim::new(self.spec?)).ok()
    }
}

// === impl Spec ===

impl<'a> Spec<'a> {
    fn read(reader: &mut Skim<'a>) -> Result<Self, Malformed> {
        let mut spec = Self::default();
        reader.members(|key, value| {
            match key.as_ref() {
                "template" => spec.template = value.unless_null(Skim::raw)?,
                "jobTemplate" => spec.job_template = value.unless_null(Skim::raw)?,
                "volumeClaimTemplates" => spec.volume_claim_templates = value.unless_null(Skim::raw)?,
                _ => value.pass()?,
            }
            Ok(())
        })?;
        Ok(spec)
    }
}

/// Whether one of our keys may stand in a piece of JSON: plainly, or behind an escape that no API server writes in a key.
fn may_name_ours(json: &str) -> bool {
    // What Go's encoder escapes: `<`, `>`, `&`, line and paragraph separators, and what is no text at all.
    const HARMLESS: [&str; 6] = ["003c", "003e", "0026", "2028", "2029", "fffd"];
    let is_harmless = |after: &str| HARMLESS.iter().any(|code| after.starts_with(code));
    let mut escapes = ESCAPE.find_iter(json.as_bytes()).filter_map(|at| json.get(at + 2..));
    OURS.find(json.as_bytes()).is_some() || escapes.any(|after| !is_harmless(after))
}
