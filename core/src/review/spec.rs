//! The spec of a workload: of its pods and their containers, no more becomes a tree than decisions look at.
use crate::{
    json::{
        Json, Object,
        skim::{Malformed, Skim},
    },
    workload::{CONTAINERS, INIT_CONTAINERS, Kind},
};

/// What becomes of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is left out: of a workload that is new, nobody compares it.
    Dropped,
    /// It stays as it stands there: of an update, the whole template is compared with what it was, and an API server writes what is
    /// the same in the same way.
    Raw,
}

/// What is looked at of the pods besides their containers, and as a whole.
const OF_A_POD: [&str; 2] = ["volumes", "securityContext"];
/// What is looked at of a container.
const OF_A_CONTAINER: [&str; 4] = ["name", "image", "env", "volumeMounts"];

/// A spec, of which the rest is not read; `None` where it can't be read.
pub(super) fn read(raw: &str, kind: Kind, rest: Rest) -> Option<Json<'_>> {
    let (_, place) = kind.pod_spec().split_first()?;
    let mut reader = Skim::new(raw);
    let spec = rest.spec(&mut reader, place).ok()?;
    reader.end().is_ok().then_some(spec)
}

// === impl Rest ===

impl Rest {
    /// A spec in which that of the pods stands at a place.
    fn spec<'a>(self, reader: &mut Skim<'a>, place: &[&str]) -> Result<Json<'a>, Malformed> {
        object(reader, |key, value| match place.split_first() {
            Some((first, place)) if *first == key => self.spec(value, place).map(Some),
            Some(_) => Json::take(value).map(Some),
            None if [CONTAINERS, INIT_CONTAINERS].contains(&key) => self.containers(value).map(Some),
            None if OF_A_POD.contains(&key) => Json::take(value).map(Some),
            None => self.take(value),
        })
    }

    fn containers<'a>(self, reader: &mut Skim<'a>) -> Result<Json<'a>, Malformed> {
        if !reader.is_at_array() {
            return Json::take(reader);
        }
        let mut containers = Vec::new();
        reader.items(|item| {
            containers.push(object(item, |key, value| match OF_A_CONTAINER.contains(&key) {
                true => Json::take(value).map(Some),
                false => self.take(value),
            })?);
            Ok(())
        })?;
        Ok(Json::Array(containers))
    }

    /// What is not looked at.
    fn take<'a>(self, reader: &mut Skim<'a>) -> Result<Option<Json<'a>>, Malformed> {
        let raw = reader.raw()?;
        Ok((self == Self::Raw).then(|| Json::Raw(raw.into())))
    }
}

/// An object of the members of which `member` makes something; anything else is taken as it is.
fn object<'a>(
    reader: &mut Skim<'a>,
    mut member: impl FnMut(&str, &mut Skim<'a>) -> Result<Option<Json<'a>>, Malformed>,
) -> Result<Json<'a>, Malformed> {
    if !reader.is_at_object() {
        return Json::take(reader);
    }
    let mut object = Object::default();
    reader.members(|key, value| {
        if let Some(value) = member(&key, value)? {
            object.push(key, value);
        }
        Ok(())
    })?;
    Ok(Json::Object(object))
}
