//! The spec of a workload that is new: of its pods and their containers, no more becomes a tree than decisions look at. Nothing
//! else compares them; of an update, all of the template is compared with what it was.
use crate::{
    json::{
        Json, Object,
        skim::{Malformed, Skim},
    },
    workload::{CONTAINERS, INIT_CONTAINERS, Kind},
};

/// What is looked at of the pods besides their containers, and as a whole.
const OF_A_POD: [&str; 2] = ["volumes", "securityContext"];
/// What is looked at of a container.
const OF_A_CONTAINER: [&str; 4] = ["name", "image", "env", "volumeMounts"];

/// A spec, without what nobody looks at; `None` where it can't be read.
pub(super) fn read(raw: &str, kind: Kind) -> Option<Json<'_>> {
    let (_, place) = kind.pod_spec().split_first()?;
    let mut reader = Skim::new(raw);
    let spec = spec(&mut reader, place).ok()?;
    reader.end().is_ok().then_some(spec)
}

/// A spec in which that of the pods stands at a place.
fn spec<'a>(reader: &mut Skim<'a>, place: &[&str]) -> Result<Json<'a>, Malformed> {
    object(reader, |key, value| match place.split_first() {
        Some((first, place)) if *first == key => spec(value, place).map(Some),
        Some(_) => Json::take(value).map(Some),
        None if [CONTAINERS, INIT_CONTAINERS].contains(&key) => containers(value).map(Some),
        None if OF_A_POD.contains(&key) => Json::take(value).map(Some),
        None => value.pass().map(|()| None),
    })
}

fn containers<'a>(reader: &mut Skim<'a>) -> Result<Json<'a>, Malformed> {
    if !reader.is_at_array() {
        return Json::take(reader);
    }
    let mut containers = Vec::new();
    reader.items(|item| {
        containers.push(object(item, |key, value| match OF_A_CONTAINER.contains(&key) {
            true => Json::take(value).map(Some),
            false => value.pass().map(|()| None),
        })?);
        Ok(())
    })?;
    Ok(Json::Array(containers))
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
