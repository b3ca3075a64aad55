//! Reading: a text becomes a tree that borrows from it.
use serde_json::Value;

use super::{
    Json, Object,
    skim::{Malformed, Skim},
};

/// How many objects and arrays may stand in each other, as for `serde_json`.
const MAX_DEPTH: u32 = 127;

// === impl Json ===

impl<'a> Json<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// [`Malformed`] where it is no JSON, or nested too deeply.
    pub(crate) fn read(text: &'a str) -> Result<Self, Malformed> {
        let mut reader = Skim::new(text);
        let whole = Self::take(&mut reader)?;
        reader.end().map(|()| whole)
    }

    /// Takes what comes next of a text.
    ///
    /// # Errors
    /// As [`Json::read`].
    pub(crate) fn take(reader: &mut Skim<'a>) -> Result<Self, Malformed> {
        take(reader, MAX_DEPTH)
    }
}

fn take<'a>(reader: &mut Skim<'a>, depth: u32) -> Result<Json<'a>, Malformed> {
    if reader.is_at_string() {
        return reader.string().map(Json::String);
    }
    let deeper = depth.checked_sub(1).ok_or_else(|| reader.malformed("JSON that is nested less deeply"));
    if reader.is_at_object() {
        let deeper = deeper?;
        let mut members = Vec::new();
        reader.members(|name, value| {
            members.push((name, take(value, deeper)?));
            Ok(())
        })?;
        return Ok(Json::Object(Object::without_doubles(members)));
    }
    if reader.is_at_array() {
        let deeper = deeper?;
        let mut items = Vec::new();
        reader.items(|item| {
            items.push(take(item, deeper)?);
            Ok(())
        })?;
        return Ok(Json::Array(items));
    }
    let malformed = reader.malformed("JSON");
    match serde_json::from_str(reader.raw()?) {
        Ok(Value::Null) => Ok(Json::Null),
        Ok(Value::Bool(value)) => Ok(Json::Bool(value)),
        Ok(Value::Number(number)) => Ok(Json::Number(number)),
        _ => Err(malformed),
    }
}
