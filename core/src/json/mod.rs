//! JSON that borrows its text: what an object of a review becomes to be looked at once. `serde_json::Value` copies each string, and
//! makes a hash table of each object, so that the user's order is kept; here an object is the list of its members.
//!
//! Objects are equal whatever the order of their members. Of members that have the same name, the last one counts.
mod read;
pub(crate) mod skim;
pub(crate) mod write;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde_json::{Number, Value};

/// Any JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Json<'a> {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, borrowed where it holds no escapes.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
    /// Any of these, as it stands in a text: nobody looks into it, and only the same text is equal to it.
    Raw(Cow<'a, str>),
}

/// The members of an object, in their order.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<Member<'a>>);

type Member<'a> = (Cow<'a, str>, Json<'a>);

/// As many members are compared each with each.
const FEW: usize = 16;

// === impl Json ===

impl<'a> Json<'a> {
    /// An object of these members.
    pub(crate) fn object<const N: usize>(members: [(&'a str, Self); N]) -> Self {
        Self::Object(Object(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect()))
    }

    /// The member of that name, where it is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.as_object_mut()?.get_mut(name)
    }

    /// The member of that name, or the item of that index.
    pub(crate) fn child_mut(&mut self, token: &str) -> Option<&mut Self> {
        match self {
            Self::Object(object) => object.get_mut(token),
            Self::Array(items) => items.get_mut(token.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// What stands at a place below it.
    pub fn at(&self, place: &[&str]) -> Option<&Self> {
        place.iter().try_fold(self, |value, field| value.get(field))
    }

    /// A string member; empty where there is none.
    pub fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Self::as_str).unwrap_or_default()
    }

    /// Its text, where it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Its items, where it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Its members, where it is an object.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn as_object_mut(&mut self) -> Option<&mut Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    pub(crate) fn is_object(&self) -> bool {
        self.as_object().is_some()
    }

    pub(crate) fn is_array(&self) -> bool {
        self.as_array().is_some()
    }

    /// Whether it is `null`, or has neither items nor members.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Array(items) => items.is_empty(),
            Self::Object(object) => object.is_empty(),
            Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Raw(_) => false,
        }
    }

    /// The same with a text of its own.
    pub(crate) fn to_static(&self) -> Json<'static> {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(number) => Json::Number(number.clone()),
            Self::String(text) => Json::String(Cow::Owned(text.clone().into_owned())),
            Self::Array(items) => Json::Array(items.iter().map(Self::to_static).collect()),
            Self::Object(object) => Json::Object(
                object.iter().map(|(name, value)| (name.to_owned(), value.to_static())).collect(),
            ),
            Self::Raw(text) => Json::Raw(Cow::Owned(text.clone().into_owned())),
        }
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

impl From<bool> for Json<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::from(text.as_str()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(map) => {
                let members = map.iter().map(|(name, value)| (Cow::from(name), Self::from(value)));
                Self::Object(Object(members.collect()))
            }
        }
    }
}

impl From<&Json<'_>> for Value {
    fn from(json: &Json<'_>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::String(text.clone().into_owned()),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(object) => {
                Self::Object(object.iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
            }
            // What can't be read stays for nobody to read.
            Json::Raw(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().rfind(|(other, _)| other == name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json<'a>> {
        self.0.iter_mut().rfind(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Each member, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, name: impl Into<Cow<'a, str>>, value: Json<'a>) {
        self.0.push((name.into(), value));
    }

    /// Puts a value in the place of what has that name, or behind all.
    pub(crate) fn set(&mut self, name: &str, value: Json<'a>) {
        match self.get_mut(name) {
            Some(member) => *member = value,
            None => self.push(name.to_owned(), value),
        }
    }

    pub(crate) fn retain(&mut self, keep: &dyn Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.retain(&|other| other != name);
    }

    /// Of members that have the same name, the last one stays.
    fn without_doubles(mut members: Vec<Member<'a>>) -> Self {
        let has_doubles = match members.len() {
            count if count <= FEW => members
                .iter()
                .enumerate()
                .any(|(place, (name, _))| members.iter().take(place).any(|(earlier, _)| earlier == name)),
            count => members.iter().map(|(name, _)| name).collect::<HashSet<_>>().len() < count,
        };
        if has_doubles {
            let mut seen = HashSet::new();
            members.reverse();
            members.retain(|(name, _)| seen.insert(name.clone()));
            members.reverse();
        }
        Self(members)
    }
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let mut pairs = self.0.iter().zip(&other.0);
        if pairs.clone().all(|((name, _), (same, _))| name == same) {
            return pairs.all(|((_, value), (_, other))| value == other);
        }
        // Not looked for one by one: who sends a large object in another order must not keep us busy.
        let others: HashMap<&str, &Json<'_>> = other.iter().collect();
        self.iter().all(|(name, value)| others.get(name) == Some(&value))
    }
}

impl<'a, N: Into<Cow<'a, str>>> FromIterator<(N, Json<'a>)> for Object<'a> {
    fn from_iter<T: IntoIterator<Item = (N, Json<'a>)>>(members: T) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Json<'_> {
        Json::read(text).unwrap()
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        assert_eq!(
            read(r#"{"a": 1, "b": [{"c": null, "d": 1.5}]}"#),
            read(r#"{"b": [{"d": 1.5, "c": null}], "a": 1}"#)
        );
        assert_ne!(read(r#"{"a": 1, "b": 2}"#), read(r#"{"a": 1, "b": 3}"#));
        assert_ne!(read(r#"{"a": 1, "b": 2}"#), read(r#"{"a": 1, "c": 2}"#));
        assert_ne!(read(r#"{"a": 1}"#), read(r#"{"a": 1, "b": 2}"#));
        assert_ne!(read(r#"[1, 2]"#), read(r#"[2, 1]"#));
    }

    #[test]
    fn of_members_with_the_same_name_the_last_one_counts() {
        assert_eq!(read(r#"{"a": 1, "b": 2, "a": 3}"#), read(r#"{"b": 2, "a": 3}"#));
        let many: Vec<String> = (0..100).map(|number| format!(r#""{}": {number}"#, number % 50)).collect();
        let object = read_object(&many);
        assert_eq!(object.len(), 50);
        assert_eq!(object.get("7").and_then(Json::as_u64), Some(57));
    }

    fn read_object(members: &[String]) -> Object<'static> {
        let text = format!("{{{}}}", members.join(","));
        read(&text).to_static().as_object().unwrap().clone()
    }

    #[test]
    fn a_string_is_borrowed_unless_it_holds_an_escape() {
        let read = read(r#"{"plain": "text", "esc\u0061ped": "a\nb"}"#);
        let members = &read.as_object().unwrap().0;
        assert!(matches!(&members[0], (Cow::Borrowed("plain"), Json::String(Cow::Borrowed("text")))));
        assert_eq!(members[1], (Cow::from("escaped"), Json::from("a\nb")));
    }

    #[test]
    fn what_is_not_read_is_the_same_as_the_same_text_and_written_as_it_stands() {
        let text = r#"{"a": [1, {}]}"#;
        let raw = Json::Raw(text.into());
        assert_eq!(raw, raw.to_static());
        assert_ne!(raw, read(text));
        assert_ne!(raw, Json::Raw(r#"{"a":[1,{}]}"#.into()));
        let mut written = Vec::new();
        raw.write(&mut written);
        assert_eq!(written, text.as_bytes());
        assert_eq!(Value::from(&raw), json!({"a": [1, {}]}));
    }

    #[test]
    fn what_is_nested_too_deeply_is_an_error() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(Json::read(&deep).is_err());
    }

    /// The same with the members of each object the other way round.
    fn reversed(json: &Json<'_>) -> Json<'static> {
        match json {
            Json::Array(items) => Json::Array(items.iter().map(reversed).collect()),
            Json::Object(object) => {
                let members: Vec<_> = object.iter().collect();
                let members = members.into_iter().rev();
                Json::Object(members.map(|(name, value)| (name.to_owned(), reversed(value))).collect())
            }
            scalar => scalar.to_static(),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(|number: f64| json!(number)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Texts that are JSON, or nearly.
    fn nearly_json() -> impl Strategy<Value = String> {
        let torn = (values(), any::<prop::sample::Index>(), r#"[a{}\[\]",:\\u0-9 n\n-]{0,3}"#, 0..3_usize);
        let torn = torn.prop_map(|(value, at, other, length)| {
            let mut text: Vec<char> = value.to_string().chars().collect();
            let at = at.index(text.len());
            text.splice(at..text.len().min(at + length), other.chars());
            text.into_iter().collect()
        });
        prop_oneof![torn, r#"[a{}\[\]",:\\u0-9 n\n-]{0,30}"#]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn it_reads_what_serde_json_reads_and_nothing_else(text in nearly_json()) {
            let read = Json::read(&text).ok().map(|json| Value::from(&json));
            prop_assert_eq!(read, serde_json::from_str::<Value>(&text).ok());
        }

        #[test]
        fn it_says_what_serde_json_says(value in values(), other in values()) {
            let text = value.to_string();
            let json = read(&text);
            prop_assert_eq!(&json, &Json::from(&value));
            prop_assert_eq!(Value::from(&json), value.clone());
            let mut written = Vec::new();
            json.write(&mut written);
            prop_assert_eq!(String::from_utf8(written).unwrap(), text.clone());
            prop_assert_eq!(&json.to_static(), &json);
            prop_assert_eq!(&reversed(&json), &json);
            prop_assert_eq!(reversed(&json) == Json::from(&other), value == other);
            prop_assert_eq!(json == Json::from(&other), value == other);
        }
    }
}
