//! A review as it came, borrowed from its bytes. Of its objects only what decisions look at is kept, as raw JSON: half of what an
//! API server sends is `managedFields`.
use std::borrow::Cow;

use serde::Deserialize;

use super::{
    API_VERSION, NotAReview,
    spec::{self, Rest},
};
use crate::{
    json::{
        Json, Object as Members,
        skim::{Malformed, Skim},
    },
    workload::Kind,
};

/// A review with a request that has a uid.
#[derive(Debug)]
pub struct Review<'a> {
    pub(super) uid: Cow<'a, str>,
    /// The kind that it is about, where that is one that can be injected.
    pub(super) kind: Option<Kind>,
    /// Whether it is about an object itself, and not about a subresource of one.
    pub(super) is_whole: bool,
    pub(super) operation: Operation,
    pub(super) namespace: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) object: Object<'a>,
    pub(super) old: Object<'a>,
}

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Update,
    Other,
}

/// An object of a review; of its parts, those that are there, as JSON as it stands there.
#[derive(Debug, Default)]
pub(super) enum Object<'a> {
    #[default]
    Absent,
    /// The parts of it that are looked at.
    Parts(Box<Parts<'a>>),
    /// One of a shape that no API server sends.
    Odd(&'a str),
}

/// What is looked at of an object; whoever decides sees no more of it.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub api_version: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub metadata: Option<Metadata<'a>>,
    pub spec: Option<&'a str>,
}

/// What is looked at of its metadata.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a> {
    pub name: Option<&'a str>,
    pub labels: Option<&'a str>,
    pub annotations: Option<&'a str>,
    pub owner_references: Option<&'a str>,
}

#[derive(Default)]
struct Envelope<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    request: Option<Request<'a>>,
}

#[derive(Default)]
struct Request<'a> {
    uid: Cow<'a, str>,
    kind: Option<&'a str>,
    sub_resource: Option<Cow<'a, str>>,
    operation: Cow<'a, str>,
    namespace: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    object: Object<'a>,
    old_object: Object<'a>,
}

#[derive(Deserialize)]
struct GroupVersionKind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

// === impl Review ===

impl<'a> Review<'a> {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// [`NotAReview`] when the bytes are not an `admission.k8s.io/v1` AdmissionReview with a request.
    pub fn read(body: &'a [u8]) -> Result<Self, NotAReview> {
        let body = simdutf8::compat::from_utf8(body).map_err(NotAReview::unreadable)?;
        let Envelope { api_version, kind, request } = Envelope::read(body).map_err(NotAReview::unreadable)?;
        if kind != "AdmissionReview" || api_version != API_VERSION {
            return Err(NotAReview::new(format!(
                "expected an AdmissionReview of {API_VERSION}, got kind `{kind}` of `{api_version}`"
            )));
        }
        let request = request.ok_or_else(|| NotAReview::new("the review has no request"))?;
        if request.uid.is_empty() {
            return Err(NotAReview::new("the review's request has no uid"));
        }
        Ok(Self {
            uid: request.uid,
            kind: request.kind.and_then(kind_of),
            is_whole: request.sub_resource.is_none_or(|name| name.is_empty()),
            operation: match request.operation.as_ref() {
                "CREATE" => Operation::Create,
                "UPDATE" => Operation::Update,
                _ => Operation::Other,
            },
            namespace: request.namespace,
            name: request.name,
            object: request.object,
            old: request.old_object,
        })
    }

    /// The workload's namespace.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
    }
}

fn kind_of(raw: &str) -> Option<Kind> {
    let named: GroupVersionKind<'_> = serde_json::from_str(raw).ok()?;
    let is_this = |kind: &Kind| kind.group() == named.group && kind.name() == named.kind;
    Kind::ALL.into_iter().find(is_this).filter(|_| named.version == "v1")
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    fn read(body: &'a str) -> Result<Self, Malformed> {
        let (mut envelope, mut reader) = (Self::default(), Skim::new(body));
        reader.members(|key, value| {
            match key.as_ref() {
                "apiVersion" => envelope.api_version = value.string()?,
                "kind" => envelope.kind = value.string()?,
                "request" => envelope.request = value.unless_null(Request::read)?,
                _ => value.pass()?,
            }
            Ok(())
        })?;
        reader.end().map(|()| envelope)
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    fn read(reader: &mut Skim<'a>) -> Result<Self, Malformed> {
        let mut request = Self::default();
        reader.members(|key, value| {
            match key.as_ref() {
                "uid" => request.uid = value.string()?,
                "kind" => request.kind = Some(value.raw()?),
                "subResource" => request.sub_resource = value.unless_null(Skim::string)?,
                "operation" => request.operation = value.string()?,
                "namespace" => request.namespace = value.unless_null(Skim::string)?,
                "name" => request.name = value.unless_null(Skim::string)?,
                "object" => request.object = value.unless_null(Object::read)?.unwrap_or_default(),
                "oldObject" => request.old_object = value.unless_null(Object::read)?.unwrap_or_default(),
                _ => value.pass()?,
            }
            Ok(())
        })?;
        Ok(request)
    }
}

// === impl Operation ===

impl Operation {
    /// As Kubernetes writes it, or `other`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Other => "other",
        }
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    fn read(reader: &mut Skim<'a>) -> Result<Self, Malformed> {
        if !reader.is_at_object() {
            return reader.raw().map(Self::Odd);
        }
        let (begin, mut parts, mut is_odd) = (reader.position(), Parts::default(), false);
        reader.members(|key, value| {
            match key.as_ref() {
                "apiVersion" => parts.api_version = Some(value.raw()?),
                "kind" => parts.kind = Some(value.raw()?),
                "metadata" if value.is_at_object() => parts.metadata = Some(Metadata::read(value)?),
                "metadata" => is_odd |= value.raw()? != "null",
                "spec" => parts.spec = Some(value.raw()?),
                _ => value.pass()?,
            }
            Ok(())
        })?;
        Ok(match is_odd {
            true => Self::Odd(reader.since(begin)),
            false => Self::Parts(Box::new(parts)),
        })
    }

    /// What is looked at of it; `null` where it is absent.
    pub(super) fn value(&self) -> Result<Json<'a>, NotAReview> {
        match self {
            Self::Absent => Ok(Json::Null),
            Self::Odd(raw) => value(raw),
            Self::Parts(parts) => parts.value(value),
        }
    }

    /// What is looked at of a workload.
    pub(super) fn workload(&self, kind: Kind, rest: Rest) -> Result<Json<'a>, NotAReview> {
        match self {
            // What can't be read in part is read whole, and what is wrong with it is told.
            Self::Parts(parts) => {
                parts.value(|raw| spec::read(raw, kind, rest).map_or_else(|| value(raw), Ok))
            }
            Self::Absent | Self::Odd(_) => self.value(),
        }
    }

    /// All that is looked at, as it stands there; parts that are absent are told from such that are empty.
    pub(super) fn texts(&self) -> Vec<Option<&str>> {
        match self {
            Self::Absent => vec![None],
            Self::Odd(raw) => vec![Some("odd"), Some(raw)],
            Self::Parts(parts) => {
                let has_metadata = parts.metadata.as_ref().map(|_| "metadata");
                let fields = parts.metadata().into_iter().chain(parts.fields());
                let fields = fields.map(|(_, raw)| raw);
                [Some("parts"), has_metadata].into_iter().chain(fields).collect()
            }
        }
    }

    pub(super) fn parts(&self) -> Option<&Parts<'a>> {
        match self {
            Self::Parts(parts) => Some(parts),
            Self::Absent | Self::Odd(_) => None,
        }
    }
}

// === impl Metadata ===

impl<'a> Metadata<'a> {
    fn read(reader: &mut Skim<'a>) -> Result<Self, Malformed> {
        let mut metadata = Self::default();
        reader.members(|key, value| {
            match key.as_ref() {
                "name" => metadata.name = Some(value.raw()?),
                "labels" => metadata.labels = Some(value.raw()?),
                "annotations" => metadata.annotations = Some(value.raw()?),
                "ownerReferences" => metadata.owner_references = Some(value.raw()?),
                _ => value.pass()?,
            }
            Ok(())
        })?;
        Ok(metadata)
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Its fields, in the order in which an API server writes them.
    fn fields(&self) -> [(&'static str, Option<&'a str>); 3] {
        [("kind", self.kind), ("apiVersion", self.api_version), ("spec", self.spec)]
    }

    /// The fields of its metadata.
    fn metadata(&self) -> [(&'static str, Option<&'a str>); 4] {
        let of = |field: fn(&Metadata<'a>) -> Option<&'a str>| self.metadata.as_ref().and_then(field);
        [
            ("name", of(|metadata| metadata.name)),
            ("labels", of(|metadata| metadata.labels)),
            ("annotations", of(|metadata| metadata.annotations)),
            ("ownerReferences", of(|metadata| metadata.owner_references)),
        ]
    }

    fn value(&self, spec: impl Fn(&'a str) -> Result<Json<'a>, NotAReview>) -> Result<Json<'a>, NotAReview> {
        let mut object = Members::default();
        if self.metadata.is_some() {
            let mut metadata = Members::default();
            fill(&mut metadata, &self.metadata())?;
            object.push("metadata", Json::Object(metadata));
        }
        fill(&mut object, &[("kind", self.kind), ("apiVersion", self.api_version)])?;
        if let Some(raw) = self.spec {
            object.push("spec", spec(raw)?);
        }
        Ok(Json::Object(object))
    }
}

fn fill<'a>(object: &mut Members<'a>, fields: &[(&'static str, Option<&'a str>)]) -> Result<(), NotAReview> {
    for (name, raw) in fields {
        if let Some(raw) = raw {
            object.push(*name, value(raw)?);
        }
    }
    Ok(())
}

fn value(raw: &str) -> Result<Json<'_>, NotAReview> {
    Json::read(raw).map_err(NotAReview::unreadable)
}
