//! The fields of a credential's file, each given out by its name and kind (pure).
//!
//! One reader for all kinds of files, so that whatever is wrong with a field is told with its name. Names are of the
//! program that reads; of those in a file only harmless ones are repeated.

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::{KeyError, KeyReason, key};

/// A JSON object of a file, without doubled fields.
#[derive(Default)]
pub(super) struct Fields {
    /// Where it stands: empty, or the names that lead to it, with a dot behind each.
    place: String,
    values: BTreeMap<String, Value>,
}

enum Value {
    Text(Zeroizing<String>),
    Number(u64),
    Object(BTreeMap<String, Self>),
    Null,
    Other,
}

impl Fields {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it is no object in JSON, or a field stands twice in it.
    pub(super) fn read(content: &[u8]) -> Result<Self, KeyError> {
        let text = key::text(content)?;
        let Object(values) = serde_json::from_str(text).map_err(|error| key::json_error(text, &error))?;
        Ok(Self { place: String::new(), values })
    }

    /// Whether the field is there, whatever it holds but `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !matches!(value, Value::Null))
    }

    /// Takes out a field of text that is no secret.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, KeyError> {
        Ok(self.secret(name)?.map(|mut text| std::mem::take(&mut *text)))
    }

    /// Takes out a field of text.
    pub(super) fn secret(&mut self, name: &str) -> Result<Option<Zeroizing<String>>, KeyError> {
        match self.values.remove(name) {
            Some(Value::Text(text)) => Ok(Some(text)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(self.wrong(name, "is not text; accepted: text, in quotes")),
        }
    }

    /// Takes out a number; `accepted` says which.
    pub(super) fn number(&mut self, name: &str, accepted: &str) -> Result<Option<u64>, KeyError> {
        match self.values.remove(name) {
            Some(Value::Number(number)) => Ok(Some(number)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(self.wrong(name, &format!("is not a whole number; accepted: {accepted}, without quotes"))),
        }
    }

    /// Takes out an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, KeyError> {
        match self.values.remove(name) {
            Some(Value::Object(values)) => Ok(Some(Self { place: format!("{}{name}.", self.place), values })),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(self.wrong(name, "is not an object; accepted: fields in braces")),
        }
    }

    /// All fields, if every one is text.
    pub(super) fn texts(self) -> Option<BTreeMap<String, Zeroizing<String>>> {
        let text = |(name, value)| match value {
            Value::Text(text) => Some((name, text)),
            _ => None,
        };
        self.values.into_iter().map(text).collect()
    }

    fn wrong(&self, name: &str, what: &str) -> KeyError {
        KeyError::new(KeyReason::InvalidField, format!("`{}{name}` {what}", self.place))
    }
}

struct Object(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                values(map).map(Object)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// By hand, since what serde derives overlooks a doubled field that it does not know.
fn values<'de, A: MapAccess<'de>>(mut map: A) -> Result<BTreeMap<String, Value>, A::Error> {
    let mut values = BTreeMap::new();
    while let Some(name) = map.next_key::<String>()? {
        if values.contains_key(&name) {
            // Anything may stand in a wrong file.
            let is_harmless = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let name = if is_harmless { format!("`{name}`") } else { "a field".to_owned() };
            return Err(A::Error::custom(format_args!("{name}{TWICE}")));
        }
        values.insert(name, map.next_value()?);
    }
    Ok(values)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(Zeroizing::new(text)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Number(number))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                values(map).map(Value::Object)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// What an error says behind the name of a doubled field.
pub(super) const TWICE: &str = " stands twice";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fields {
        Fields::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_field_has_its_kind_or_an_error_with_its_name() {
        let mut fields = read(
            r#"{"t":"x","s":"hunter2","n":7,"o":{"n":"7","t":1,"o":[],"deep":{"t":{}}},"z":null,"list":[{"a":1,"a":2}]}"#,
        );
        assert!(fields.has("t") && fields.has("list") && !fields.has("z") && !fields.has("gone"));
        assert_eq!(fields.text("t").unwrap().as_deref(), Some("x"));
        assert_eq!(fields.secret("s").unwrap().as_deref().map(String::as_str), Some("hunter2"));
        assert_eq!(fields.number("n", "1 to 9").unwrap(), Some(7));
        for absent in ["z", "gone"] {
            assert_eq!((fields.text(absent).unwrap(), fields.number(absent, "").unwrap()), (None, None));
            assert!(fields.secret(absent).unwrap().is_none() && fields.object(absent).unwrap().is_none());
        }
        let mut inner = fields.object("o").unwrap().unwrap();
        let mut deep = inner.object("deep").unwrap().unwrap();
        for (error, said) in [
            (fields.text("list").unwrap_err(), "`list` is not text; accepted: text, in quotes"),
            (inner.number("n", "1 to 9").unwrap_err(), "`o.n` is not a whole number; accepted: 1 to 9, without quotes"),
            (inner.text("t").unwrap_err(), "`o.t` is not text; accepted: text, in quotes"),
            (inner.object("o").err().unwrap(), "`o.o` is not an object; accepted: fields in braces"),
            (deep.secret("t").unwrap_err(), "`o.deep.t` is not text; accepted: text, in quotes"),
        ] {
            assert_eq!((error.reason, error.message.as_str()), (KeyReason::InvalidField, said));
        }
        for number in ["-1", "1.5", "1e3", "true", "99999999999999999999"] {
            assert!(read(&format!("{{\"n\":{number}}}")).number("n", "").is_err(), "{number}");
        }
        let texts = |text: &str| read(text).texts().map(|texts| texts.len());
        assert_eq!([texts("{}"), texts(r#"{"a":"b","c":"d"}"#), texts(r#"{"a":1}"#)], [Some(0), Some(2), None]);
    }

    #[test]
    fn a_field_that_stands_twice_is_named_unless_its_name_may_be_anything() {
        for (text, said) in [
            ("{\"type\":\"a\",\n\"type\":\"b\"}", "`type` stands twice, line 2; accepted: once"),
            (r#"{"type":null,"type":7}"#, "`type` stands twice, line 1; accepted: once"),
            (r#"{"a":{"b":{"file":1,"file":1}}}"#, "`file` stands twice, line 1; accepted: once"),
            (r#"{"Hunter2":1,"Hunter2":1}"#, "a field stands twice, line 1; accepted: once"),
        ] {
            let error = Fields::read(text.as_bytes()).err().unwrap();
            assert_eq!((error.reason, error.message.as_str()), (KeyReason::DuplicateField, said));
        }
    }
}
