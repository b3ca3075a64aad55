//! RFC 6902 operations, written one by one: objects are never compared as a whole nor written back.
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf};
use serde_json::Value;

use super::owners::Owner;
use crate::json::{
    Json,
    write::{separate, write_string},
};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Adds a value, or puts it in the place of what is there.
    Add {
        /// Where.
        path: PointerBuf,
        /// What.
        value: Json<'static>,
    },
    /// Puts a value in the place of what is there.
    Replace {
        /// Where.
        path: PointerBuf,
        /// What.
        value: Json<'static>,
    },
    /// Takes away what is there.
    Remove {
        /// Where.
        path: PointerBuf,
    },
}

/// One entry that should stand in a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// What the list is keyed by.
    pub key: String,
    /// The entry.
    pub value: Json<'static>,
    /// Whether it stands where the user's entry of that key stands now.
    pub takes_place: bool,
}

/// A list as it is, and what we know of it.
pub(super) struct List<'a> {
    /// Where it stands.
    pub path: PointerBuf,
    /// What stands there.
    pub current: Option<&'a Json<'a>>,
    /// The key of an entry.
    pub key_of: &'a dyn for<'e> Fn(&'e Json<'e>) -> &'e str,
    /// Whose its entries are; the user's, where nothing stands at an entry's place.
    pub owners: &'a [Owner],
    /// The user's entry that ours took the place of.
    pub displaced: &'a dyn Fn(&str) -> Option<Json<'static>>,
    /// What stood there while the user had nothing in it: nothing at all, or an empty list or null.
    pub when_empty: Option<&'a Value>,
}

/// Operations under way.
#[derive(Debug, Default)]
pub(super) struct Operations(Vec<Operation>);

// === impl Operation ===

impl Operation {
    /// Where it is done.
    pub fn path(&self) -> &PointerBuf {
        match self {
            Self::Add { path, .. } | Self::Replace { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// Appends operations as a JSON patch.
pub(crate) fn write(operations: &[Operation], out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, operation) in operations.iter().enumerate() {
        separate(place, out);
        let (op, value) = match operation {
            Operation::Add { value, .. } => ("add", Some(value)),
            Operation::Replace { value, .. } => ("replace", Some(value)),
            Operation::Remove { .. } => ("remove", None),
        };
        out.extend_from_slice(br#"{"op":""#);
        out.extend_from_slice(op.as_bytes());
        out.extend_from_slice(br#"","path":"#);
        write_string(operation.path().as_str(), out);
        if let Some(value) = value {
            out.extend_from_slice(br#","value":"#);
            value.write(out);
        }
        out.push(b'}');
    }
    out.push(b']');
}

impl From<&Operation> for PatchOperation {
    fn from(operation: &Operation) -> Self {
        let path = operation.path().clone();
        match operation {
            Operation::Add { value, .. } => Self::Add(AddOperation { path, value: value.into() }),
            Operation::Replace { value, .. } => Self::Replace(ReplaceOperation { path, value: value.into() }),
            Operation::Remove { .. } => Self::Remove(RemoveOperation { path }),
        }
    }
}

/// A place that is not there: an operation can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing to change at {0}")]
pub(crate) struct NoSuchPlace(PointerBuf);

/// Applies operations, as RFC 6902 has it.
pub(crate) fn apply(operations: &[Operation], object: &mut Json<'_>) -> Result<(), NoSuchPlace> {
    operations.iter().try_for_each(|operation| {
        apply_one(operation, object).ok_or_else(|| NoSuchPlace(operation.path().clone()))
    })
}

fn apply_one(operation: &Operation, object: &mut Json<'_>) -> Option<()> {
    let Some((parent, token)) = operation.path().split_back() else {
        match operation {
            Operation::Add { value, .. } | Operation::Replace { value, .. } => *object = value.clone(),
            Operation::Remove { .. } => return None,
        }
        return Some(());
    };
    let token = token.decoded();
    let parent = parent.tokens().try_fold(object, |json, token| json.child_mut(&token.decoded()))?;
    match (operation, parent) {
        (Operation::Add { value, .. }, Json::Object(object)) => object.set(&token, value.clone()),
        (Operation::Add { value, .. }, Json::Array(items)) => {
            let index = if token == "-" { items.len() } else { token.parse().ok()? };
            (index <= items.len()).then(|| items.insert(index, value.clone()))?;
        }
        (Operation::Replace { value, .. }, parent) => *parent.child_mut(&token)? = value.clone(),
        (Operation::Remove { .. }, Json::Object(object)) => {
            object.get(&token)?;
            object.remove(&token);
        }
        (Operation::Remove { .. }, Json::Array(items)) => {
            let index = token.parse().ok().filter(|index| *index < items.len())?;
            items.remove(index);
        }
        _ => return None,
    }
    Some(())
}

/// The operations as those who apply or send them take them.
pub fn standard(operations: &[Operation]) -> Vec<PatchOperation> {
    operations.iter().map(PatchOperation::from).collect()
}

// === impl Operations ===

impl Operations {
    pub(super) fn into_inner(self) -> Vec<Operation> {
        self.0
    }

    pub(super) fn add(&mut self, path: PointerBuf, value: Json<'static>) {
        self.0.push(Operation::Add { path, value });
    }

    pub(super) fn replace(&mut self, path: PointerBuf, value: Json<'static>) {
        self.0.push(Operation::Replace { path, value });
    }

    pub(super) fn remove(&mut self, path: PointerBuf) {
        self.0.push(Operation::Remove { path });
    }

    /// Makes a list hold the user's entries and what is wanted: ours that are still wanted stay in their place, others
    /// are replaced or removed, new ones are appended.
    pub(super) fn reconcile(&mut self, list: &List<'_>, wanted: Vec<Wanted>) {
        let entries = list.current.and_then(Json::as_array).unwrap_or_default();
        let mut wanted: Vec<Option<Wanted>> = wanted.into_iter().map(Some).collect();
        let mut take = |key: &str, in_place: bool| {
            let found = wanted
                .iter_mut()
                .find(|w| w.as_ref().is_some_and(|w| w.key == key && (!in_place || w.takes_place)));
            found.and_then(Option::take).map(|wanted| wanted.value)
        };
        let at = |index: usize| below(&list.path, &index.to_string());
        let mut removed = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = (list.key_of)(entry);
            let new = match list.owners.get(index) {
                None | Some(Owner::User) => take(key, true),
                Some(Owner::Both(theirs)) => Some(take(key, true).unwrap_or_else(|| theirs.clone())),
                Some(Owner::Ours(_)) => match take(key, false).or_else(|| (list.displaced)(key)) {
                    Some(new) => Some(new),
                    None => {
                        removed.push(index);
                        None
                    }
                },
            };
            if let Some(new) = new.filter(|new| new != entry) {
                self.replace(at(index), new);
            }
        }
        let appended: Vec<Json<'static>> = wanted.into_iter().flatten().map(|wanted| wanted.value).collect();
        if removed.len() == entries.len() && !removed.is_empty() && appended.is_empty() {
            match list.when_empty {
                Some(original) => self.replace(list.path.clone(), Json::from(original).to_static()),
                None => self.remove(list.path.clone()),
            }
            return;
        }
        for index in removed.iter().rev() {
            self.remove(at(*index));
        }
        self.append(list, appended);
    }

    fn append(&mut self, list: &List<'_>, entries: Vec<Json<'static>>) {
        if entries.is_empty() {
            return;
        }
        if !list.current.is_some_and(Json::is_array) {
            self.add(list.path.clone(), Json::Array(entries));
            return;
        }
        let end = below(&list.path, "-");
        self.0.extend(entries.into_iter().map(|value| Operation::Add { path: end.clone(), value }));
    }
}

/// A path of these tokens, which are escaped.
pub(super) fn path(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}

/// The path of a child.
pub(super) fn below(path: &PointerBuf, token: &str) -> PointerBuf {
    let mut below = path.clone();
    below.push_back(token);
    below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(1)),
            Just(json!([1, {"a": [2]}])),
            Just(json!({"a": {"a~/b": [3, 4]}, "b": null})),
            Just(json!({"a": [{"b": 5}, 6, []]})),
        ]
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let token =
            prop_oneof![Just("a"), Just("b"), Just("a~/b"), Just("0"), Just("1"), Just("2"), Just("-")];
        let path = prop::collection::vec(token, 0..4).prop_map(|tokens| path(&tokens));
        (path, value(), 0..3_usize).prop_map(|(path, value, kind)| {
            let value = Json::from(&value).to_static();
            match kind {
                0 => Operation::Add { path, value },
                1 => Operation::Replace { path, value },
                _ => Operation::Remove { path },
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn operations_do_what_those_of_json_patch_do(
            before in value(),
            operations in prop::collection::vec(operation(), 0..4),
        ) {
            let mut expected = before.clone();
            let is_expected = json_patch::patch(&mut expected, &standard(&operations)).is_ok();
            let mut after = Json::from(&before);
            let is_applied = apply(&operations, &mut after).is_ok();
            prop_assert_eq!(is_applied, is_expected);
            if is_applied {
                prop_assert_eq!(Value::from(&after), expected);
            }
        }
    }
}
