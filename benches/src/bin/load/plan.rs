//! What is measured: which servers, with which bodies, and how many requests at once.
use super::client::Protocol;
use crate::sample::{self, Others, WANTED};
use anyhow::{Context, Result, ensure};
use opportune_core::discover::Catalog;
use serde_json::Value;

/// Rows that are compared with each other: all get bodies of one size.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) protocol: Protocol,
    pub(super) at_once: &'static [usize],
    pub(super) rows: Vec<Row>,
}

/// One server with one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) server: Kind,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Echo,
    Select,
    Parse,
    /// The program, with a catalog from a file.
    Opportune,
    /// Its server, with a catalog in memory that stays as it is.
    Still,
    /// The same with a catalog that changes.
    Changing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Create,
    CreateAsking,
    /// Another workload each time.
    CreateNumbered,
    Update,
    UpdateInjected,
    /// Another image each time.
    UpdateOfImage,
    Scale,
}

/// The bodies, made once.
pub(super) struct Bodies {
    create_asking: Vec<u8>,
    create_numbered: Vec<u8>,
    update_injected: Vec<u8>,
    update_of_image: Vec<u8>,
}

const ALL: &[usize] = &[1, 8, 64];
const SOME: &[usize] = &[8];

/// Everything; with `only`, the sections in whose title it stands.
pub(super) fn sections(only: Option<&str>) -> Vec<Section> {
    use {Body::*, Kind::*};
    let row = |name, server, body| Row { name, server, body };
    let create = || {
        vec![
            row("echo", Echo, CreateAsking),
            row("select", Select, CreateAsking),
            row("parse", Parse, CreateAsking),
            row("opportune, full injection", Opportune, CreateNumbered),
            row("opportune, the same again", Opportune, CreateAsking),
            row("opportune, nothing to do", Opportune, Create),
        ]
    };
    let update = vec![
        row("echo", Echo, UpdateInjected),
        row("parse", Parse, UpdateInjected),
        row("opportune, injected before, another image", Opportune, UpdateOfImage),
        row("opportune, injected before, no change", Opportune, UpdateInjected),
        row("opportune, nothing to do", Opportune, Update),
    ];
    let scale =
        vec![row("echo", Echo, Scale), row("parse", Parse, Scale), row("opportune", Opportune, Scale)];
    let changing = vec![
        row("opportune, still catalog", Still, CreateNumbered),
        row("opportune, 1,000 changes a second", Changing, CreateNumbered),
        row("opportune, the same again, still", Still, CreateAsking),
        row("opportune, the same again, changing", Changing, CreateAsking),
    ];
    let section = |title, protocol, at_once, rows| Section { title, protocol, at_once, rows };
    let mut sections = vec![
        section("CREATE over HTTP/1.1", Protocol::Http1, ALL, create()),
        section("CREATE over HTTP/2", Protocol::Http2, ALL, create()),
        section("UPDATE over HTTP/1.1", Protocol::Http1, SOME, update),
        section("Scale over HTTP/1.1", Protocol::Http1, SOME, scale),
        section("Changing catalog over HTTP/1.1", Protocol::Http1, SOME, changing),
    ];
    sections.retain(|section| only.is_none_or(|only| section.title.contains(only)));
    sections
}

// === impl Kind ===

impl Kind {
    /// Those that do nothing unasked.
    pub(super) const AT_REST: [Self; 5] =
        [Self::Echo, Self::Select, Self::Parse, Self::Opportune, Self::Still];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Select => "select",
            Self::Parse => "parse",
            Self::Opportune => "opportune",
            Self::Still => "opportune-still",
            Self::Changing => "opportune-changing",
        }
    }
}

// === impl Row ===

impl Row {
    /// Whether the answer must have a patch.
    fn is_patched(&self) -> bool {
        match self.server {
            Kind::Echo => false,
            Kind::Select | Kind::Parse => true,
            _ => matches!(self.body, Body::CreateAsking | Body::CreateNumbered),
        }
    }

    /// Fails where this is not the answer to expect; gives the number of its operations, and their bytes.
    pub(super) fn check(&self, body: &[u8], answer: &[u8]) -> Result<(usize, usize)> {
        let context = || format!("{} answers {}", self.name, String::from_utf8_lossy(answer));
        let parsed: Value = serde_json::from_slice(answer).with_context(context)?;
        let at = |value: &Value, pointer: &str| value.pointer(pointer).cloned().unwrap_or_default();
        ensure!(at(&parsed, "/response/allowed") == true, context());
        let patch = sample::patch_of(answer);
        ensure!(patch.is_some() == self.is_patched(), context());
        if self.server == Kind::Echo {
            return Ok((0, 0));
        }
        // It has no patch, as a failure has none.
        if self.body == Body::UpdateOfImage {
            for intent in WANTED {
                let offer = at(&parsed, &format!("/response/auditAnnotations/{intent}"));
                ensure!(offer.is_string(), "{intent} was not decided: {}", context());
            }
        }
        let review: Value = serde_json::from_slice(body)?;
        ensure!(at(&parsed, "/response/uid") == at(&review, "/request/uid"), context());
        let Some(patch) = patch else { return Ok((0, 0)) };
        if self.server >= Kind::Opportune {
            let mut object = at(&review, "/request/object");
            json_patch::patch(&mut object, &patch).with_context(context)?;
            // Of each of the four, and a reference to a Secret: the Deployment has such of its own.
            let added = serde_json::to_string(&patch)?;
            for part in ["LDAP", "SMTP", "ANALYTICS", "/srv/uploads", "secretKeyRef"] {
                ensure!(added.contains(part), "{part} was not injected: {}", context());
            }
        }
        Ok((patch.len(), serde_json::to_vec(&patch)?.len()))
    }
}

// === impl Bodies ===

impl Bodies {
    pub(super) fn new() -> Self {
        let catalog: Catalog = sample::catalog(sample::LARGE, Others::ForOthers);
        Self {
            create_asking: sample::create(&WANTED),
            create_numbered: sample::create_numbered(&WANTED),
            update_injected: sample::update_without_change(&WANTED, &catalog),
            update_of_image: sample::update_of_image(&WANTED, &catalog),
        }
    }

    pub(super) fn get(&self, body: Body) -> &[u8] {
        match body {
            Body::Create => sample::CREATE,
            Body::CreateAsking => &self.create_asking,
            Body::CreateNumbered => &self.create_numbered,
            Body::Update => sample::UPDATE,
            Body::UpdateInjected => &self.update_injected,
            Body::UpdateOfImage => &self.update_of_image,
            Body::Scale => sample::SCALE,
        }
    }
}
