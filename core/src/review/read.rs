//! A review as it came, borrowed from its bytes. Of its objects only what decisions look at is kept, as raw JSON: half of what an
//! API server sends is `managedFields`.
use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, value::RawValue};

use super::{API_VERSION, NotAReview};
use crate::workload::Kind;

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

/// An object of a review.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Absent,
    /// The parts of it that are looked at.
    Parts(Box<Parts<'a>>),
    /// One of a shape that no API server sends.
    Odd(&'a RawValue),
}

/// What is looked at of an object; whoever decides sees no more of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parts<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub api_version: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub metadata: Option<Metadata<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub spec: Option<&'a RawValue>,
}

/// What is looked at of its metadata.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub labels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub annotations: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub owner_references: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Envelope<'a, O> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a, O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Request<'a, O> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    object: Option<O>,
    old_object: Option<O>,
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

/// A field that is there, as it stands there: `null`, too.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(reader: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

// === impl Review ===

impl<'a> Review<'a> {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// [`NotAReview`] when the bytes are not an `admission.k8s.io/v1` AdmissionReview with a request.
    pub fn read(body: &'a [u8]) -> Result<Self, NotAReview> {
        let body = std::str::from_utf8(body)
            .map_err(|error| NotAReview::new(format!("the body is not an AdmissionReview: {error}")))?;
        match serde_json::from_str::<Envelope<'a, Parts<'a>>>(body) {
            Ok(envelope) => Self::of(envelope, |parts| Object::Parts(Box::new(parts))),
            // Where an object has another shape, the review can be answered all the same.
            Err(_) => {
                let envelope = serde_json::from_str::<Envelope<'a, &'a RawValue>>(body);
                let envelope = envelope.map_err(|error| NotAReview::unreadable(&error))?;
                Self::of(envelope, Object::Odd)
            }
        }
    }

    fn of<O>(envelope: Envelope<'a, O>, object: impl Fn(O) -> Object<'a>) -> Result<Self, NotAReview> {
        let Envelope { api_version, kind, request } = envelope;
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
            object: request.object.map_or(Object::Absent, &object),
            old: request.old_object.map_or(Object::Absent, &object),
        })
    }

    /// The workload's namespace.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
    }
}

fn kind_of(raw: &RawValue) -> Option<Kind> {
    let named: GroupVersionKind<'_> = serde_json::from_str(raw.get()).ok()?;
    let is_this = |kind: &Kind| kind.group() == named.group && kind.name() == named.kind;
    Kind::ALL.into_iter().find(is_this).filter(|_| named.version == "v1")
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
    /// What is looked at of it; `null` where it is absent.
    pub(super) fn value(&self) -> Result<Value, NotAReview> {
        match self {
            Self::Absent => Ok(Value::Null),
            Self::Odd(raw) => value(raw),
            Self::Parts(parts) => parts.value(),
        }
    }

    /// All that is looked at, as it stands there; parts that are absent are told from such that are empty.
    pub(super) fn texts(&self) -> Vec<Option<&str>> {
        match self {
            Self::Absent => vec![None],
            Self::Odd(raw) => vec![Some("odd"), Some(raw.get())],
            Self::Parts(parts) => {
                let has_metadata = parts.metadata.as_ref().map(|_| "metadata");
                let fields = parts.metadata().into_iter().chain(parts.fields());
                let fields = fields.map(|(_, raw)| raw.map(RawValue::get));
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

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Its fields, in the order in which an API server writes them.
    fn fields(&self) -> [(&'static str, Option<&'a RawValue>); 3] {
        [("kind", self.kind), ("apiVersion", self.api_version), ("spec", self.spec)]
    }

    /// The fields of its metadata.
    fn metadata(&self) -> [(&'static str, Option<&'a RawValue>); 4] {
        let of = |field: fn(&Metadata<'a>) -> Option<&'a RawValue>| self.metadata.as_ref().and_then(field);
        [
            ("name", of(|metadata| metadata.name)),
            ("labels", of(|metadata| metadata.labels)),
            ("annotations", of(|metadata| metadata.annotations)),
            ("ownerReferences", of(|metadata| metadata.owner_references)),
        ]
    }

    fn value(&self) -> Result<Value, NotAReview> {
        let mut object = Map::new();
        if self.metadata.is_some() {
            let mut metadata = Map::new();
            fill(&mut metadata, &self.metadata())?;
            object.insert("metadata".into(), Value::Object(metadata));
        }
        fill(&mut object, &self.fields())?;
        Ok(Value::Object(object))
    }
}

fn fill(map: &mut Map<String, Value>, fields: &[(&str, Option<&RawValue>)]) -> Result<(), NotAReview> {
    for (name, raw) in fields {
        if let Some(raw) = raw {
            map.insert((*name).to_owned(), value(raw)?);
        }
    }
    Ok(())
}

fn value(raw: &RawValue) -> Result<Value, NotAReview> {
    serde_json::from_str(raw.get()).map_err(|error| NotAReview::unreadable(&error))
}
