//! A JSON object that is read key by key, so that what nobody read can be told. A config.json is hostile: whoever wrote it may have
//! written anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// What a config.json asks for that this runtime cannot honour, each with its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    told: Vec<String>,
    /// What is passed over with a word.
    warnings: Vec<String>,
    /// Keys that were not known, and ask for something.
    unknown: Vec<String>,
}

/// -1 in 32 bits: for setresuid(2), chown(2) and their like it says "as it is", which is root's.
pub(crate) const NO_ID: u32 = u32::MAX;

/// Lines of one message.
const MAX_TOLD: usize = 40;

impl Problems {
    pub(crate) fn add(&mut self, key: &str, problem: &str) {
        let key: String = key.escape_debug().take(200).collect();
        self.told.push(format!("`{key}`: {problem}"));
    }

    pub(crate) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// A key that is known, and not honoured.
    pub(crate) fn pass_over(&mut self, key: String) {
        self.unknown.push(key);
    }

    /// Warnings, and keys that were not known.
    pub(crate) fn into_rest(self) -> (Vec<String>, Vec<String>) {
        (self.warnings, self.unknown)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for problem in self.told.iter().take(MAX_TOLD) {
            write!(f, "\n  {problem}")?;
        }
        match self.told.len().checked_sub(MAX_TOLD) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n  and {more} more"),
        }
    }
}

/// An object at `path` of the document. What is taken is gone; [`Object::rest`] notes what is left.
#[derive(Debug)]
pub(crate) struct Object {
    path: String,
    map: Map<String, Value>,
}

impl Object {
    pub(crate) fn root(map: Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            map,
        }
    }

    pub(crate) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            [&self.path, ".", key].concat()
        }
    }

    /// A value that says something: not null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, key: &str, problems: &mut Problems) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            _ => self.mistyped(key, "is not a string", problems),
        }
    }

    pub(crate) fn path(&mut self, key: &str, problems: &mut Problems) -> Option<PathBuf> {
        self.text(key, problems).map(PathBuf::from)
    }

    pub(crate) fn flag(&mut self, key: &str, problems: &mut Problems) -> Option<bool> {
        let value = self.take(key)?;
        value
            .as_bool()
            .or_else(|| self.mistyped(key, "is not true or false", problems))
    }

    pub(crate) fn integer(&mut self, key: &str, problems: &mut Problems) -> Option<i64> {
        let value = self.take(key)?;
        value
            .as_i64()
            .or_else(|| self.mistyped(key, "is not a whole number", problems))
    }

    /// A whole number of the kernel's: whatever its type can hold.
    pub(crate) fn number<T: TryFrom<i64> + TryFrom<u64>>(
        &mut self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let value = self.take(key)?;
        let number = match (value.as_i64(), value.as_u64()) {
            (Some(number), _) => T::try_from(number).ok(),
            (None, Some(number)) => T::try_from(number).ok(),
            (None, None) => None,
        };
        number.or_else(|| self.mistyped(key, "is not a whole number in its range", problems))
    }

    /// An object of texts.
    pub(crate) fn text_map(
        &mut self,
        key: &str,
        problems: &mut Problems,
    ) -> BTreeMap<String, String> {
        let Some(object) = self.object(key, problems) else {
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (name, value) in object.map {
            match value {
                Value::String(text) => drop(texts.insert(name, text)),
                Value::Null => {}
                _ => problems.add(&format!("{}.{name}", object.path), "is not a string"),
            }
        }
        texts
    }

    /// The objects of an object, with their keys.
    pub(crate) fn named(&mut self, key: &str, problems: &mut Problems) -> Vec<(String, Self)> {
        let Some(object) = self.object(key, problems) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in object.map {
            let path = format!("{}.{name}", object.path);
            match value {
                Value::Object(map) => named.push((name, Self { path, map })),
                _ => problems.add(&path, "is not an object"),
            }
        }
        named
    }

    /// An id of a user or group.
    pub(crate) fn id(&mut self, key: &str, problems: &mut Problems) -> Option<u32> {
        let value = self.integer(key, problems)?;
        u32::try_from(value)
            .ok()
            .filter(|id| *id != NO_ID)
            .or_else(|| self.mistyped(key, "is not an id", problems))
    }

    pub(crate) fn array(&mut self, key: &str, problems: &mut Problems) -> Vec<Value> {
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => self
                .mistyped(key, "is not an array", problems)
                .unwrap_or_default(),
        }
    }

    pub(crate) fn texts(&mut self, key: &str, problems: &mut Problems) -> Vec<String> {
        let mut texts = Vec::new();
        let values = self.array(key, problems);
        texts.reserve_exact(values.len());
        for (at, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                _ => problems.add(&self.key(&format!("{key}[{at}]")), "is not a string"),
            }
        }
        texts
    }

    pub(crate) fn object(&mut self, key: &str, problems: &mut Problems) -> Option<Self> {
        match self.take(key)? {
            Value::Object(map) => Some(Self {
                path: self.key(key),
                map,
            }),
            _ => self.mistyped(key, "is not an object", problems),
        }
    }

    pub(crate) fn objects(&mut self, key: &str, problems: &mut Problems) -> Vec<Self> {
        let mut objects = Vec::new();
        let list = self.key(key);
        for (at, value) in self.array(key, problems).into_iter().enumerate() {
            let path = [&list, "[", &at.to_string(), "]"].concat();
            match value {
                Value::Object(map) => objects.push(Self { path, map }),
                _ => problems.add(&path, "is not an object"),
            }
        }
        objects
    }

    /// Notes each key that nobody took and that asks for something.
    pub(crate) fn rest(self, problems: &mut Problems) {
        for (key, value) in &self.map {
            if !asks_nothing(value) {
                let key: String = self.key(key).escape_debug().take(200).collect();
                problems.unknown.push(key);
            }
        }
    }

    fn mistyped<T>(&self, key: &str, problem: &str, problems: &mut Problems) -> Option<T> {
        problems.add(&self.key(key), problem);
        None
    }
}

/// Written out as empty or off by many a tool.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.values().all(asks_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_took_is_told_by_its_key() {
        let json = r#"{"a": 1, "b": {"c": [{"d": "x", "e": true}], "f": []}, "g": {"h": null, "i": ""}, "k\n": 2}"#;
        let mut problems = Problems::default();
        let mut root = Object::root(serde_json::from_str(json).unwrap());
        assert_eq!(root.integer("a", &mut problems), Some(1));
        let mut b = root.object("b", &mut problems).unwrap();
        for mut c in b.objects("c", &mut problems) {
            assert_eq!(c.text("d", &mut problems).as_deref(), Some("x"));
            c.rest(&mut problems);
        }
        b.rest(&mut problems);
        root.rest(&mut problems);
        assert!(problems.is_empty());
        assert_eq!(problems.into_rest().1, ["b.c[0].e", "k\\n"]);
    }

    #[test]
    fn a_value_of_another_type_is_told() {
        let json = r#"{"text": 1, "flag": "x", "integer": 1.5, "id": 4294967295, "array": {}, "object": [], "texts": [1], "objects": [2]}"#;
        let mut problems = Problems::default();
        let mut root = Object::root(serde_json::from_str(json).unwrap());
        assert_eq!(root.text("text", &mut problems), None);
        assert_eq!(root.flag("flag", &mut problems), None);
        assert_eq!(root.integer("integer", &mut problems), None);
        assert_eq!(root.id("id", &mut problems), None);
        assert!(root.array("array", &mut problems).is_empty());
        assert!(root.object("object", &mut problems).is_none());
        assert!(root.texts("texts", &mut problems).is_empty());
        assert!(root.objects("objects", &mut problems).is_empty());
        assert_eq!(
            problems.to_string().replace("\n  ", "\n"),
            "\n`text`: is not a string\n`flag`: is not true or false\n`integer`: is not a whole number\n`id`: is not an id\n`array`: is not an \
             array\n`object`: is not an object\n`texts[0]`: is not a string\n`objects[0]`: is not an object"
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut problems = Problems::default();
        (0..50).for_each(|at| problems.add(&at.to_string(), "is not honoured"));
        assert!(
            problems
                .to_string()
                .ends_with("`39`: is not honoured\n  and 10 more")
        );
    }
}
