//! What a request says, as a tree, read into the types of calls.
//!
//! **Invariant:** whatever is refused is refused by the name of its field and in words that
//! do not tell how it is read: no type of this program, nothing of a library.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// How much of what was found is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 80;

/// One value of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    /// Text in a query, which may spell a number or a truth value.
    Word(String),
    List(Vec<Input>),
    /// In the order of the request; names that come twice are both there.
    Object(Vec<(String, Input)>),
}

/// Why a request is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The field, with those around it; empty for the whole.
    field: String,
    why: String,
}

impl Refused {
    fn of(field: &str, why: impl Into<String>) -> Self {
        Self { field: shown(field), why: why.into() }
    }

    /// The same of a field that is in this one.
    fn within(mut self, outer: &str) -> Self {
        let joint = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{}{joint}{}", shown(outer), self.field);
        self
    }

    /// The sentence, with what the whole is called.
    pub(super) fn told(&self, whole: &str) -> String {
        match self.field.as_str() {
            "" => format!("{whole} {}", self.why),
            field => format!("field \"{field}\" {}", self.why),
        }
    }
}

/// A text of a request in an answer: one line, and not more than helps.
fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let rest = if end < text.len() { "…" } else { "" };
    format!("{}{rest}", cove_types::escape_bytes(&text.as_bytes()[..end]))
}

/// Words as a person lists them.
fn listed(words: &[&str], joint: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} {joint} {last}", first.join(", ")),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told("the request"))
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::of("", why.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of(field, "is missing")
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = match expected {
            [] => "there are none here".to_owned(),
            [one] => format!("\"{one}\" is the one here"),
            several => format!("here are {}", listed(several, "and")),
        };
        Self::of(field, format!("is unknown: {known}"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::of(field, "is there twice")
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::of("", format!("is {}, found \"{}\"", listed(expected, "or"), shown(found)))
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::of("", "is of another type")
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::of("", "is out of range")
    }
}

impl Input {
    /// What it is, as a refusal says it.
    fn found(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => shown(&number.to_string()),
            Self::Text(text) | Self::Word(text) => format!("\"{}\"", shown(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    fn is_not(&self, expected: &str) -> Refused {
        Refused::of("", format!("is {expected}, found {}", self.found()))
    }

    /// As a whole number up to `last`.
    fn whole(&self, last: u64) -> Result<u64, Refused> {
        let number = match self {
            Self::Number(number) => number.as_u64(),
            // no sign and no space, as in JSON
            Self::Word(word) if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
            _ => None,
        };
        let is_not = || match last {
            u64::MAX => self.is_not("a whole number from 0"),
            last => self.is_not(&format!("a whole number from 0 to {last}")),
        };
        number.filter(|number| *number <= last).ok_or_else(is_not)
    }

    /// The members of a query string, in UTF-8 behind its escapes.
    pub(super) fn query(text: &str) -> Result<Self, Refused> {
        let mut members = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = unescaped(name)?;
            let value = unescaped(value).map_err(|refused| refused.within(&name))?;
            members.push((name, Self::Word(value)));
        }
        Ok(Self::Object(members))
    }
}

/// A part of a query without its escapes.
fn unescaped(text: &str) -> Result<String, Refused> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
                let pair = rest.next().and_then(digit).zip(rest.next().and_then(digit));
                let broken = || Refused::of("", "has a % without two hexadecimal digits");
                let (high, low) = pair.ok_or_else(broken)?;
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| {
        Refused::of("", "is not UTF-8; a byte of a path that is none is written \\xNN")
    })
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Input;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Input, E> {
                Ok(Input::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Input, E> {
                Ok(Input::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Input, E> {
                Ok(Input::Number(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Input, E> {
                Ok(Input::Number(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Input, E> {
                Ok(serde_json::Number::from_f64(value).map_or(Input::Null, Input::Number))
            }
            fn visit_str<E>(self, value: &str) -> Result<Input, E> {
                Ok(Input::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Input, E> {
                Ok(Input::Text(value))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Input, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = from.next_element()? {
                    list.push(one);
                }
                Ok(Input::List(list))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut from: A) -> Result<Input, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Input::Object(members))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}

/// What is left of an object.
struct Members {
    rest: std::vec::IntoIter<(String, Input)>,
    value: Option<(String, Input)>,
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        let key = seed.deserialize(Input::Text(name.clone()))?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (name, value) = self.value.take().unwrap_or((String::new(), Input::Null));
        seed.deserialize(value).map_err(|refused| refused.within(&name))
    }
}

/// What is left of a list.
struct Elements(std::iter::Enumerate<std::vec::IntoIter<Input>>);

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some((at, value)) = self.0.next() else { return Ok(None) };
        let within = |refused: Refused| refused.within(&format!("[{at}]"));
        seed.deserialize(value).map(Some).map_err(within)
    }
}

macro_rules! whole_numbers {
    ($($name:ident: $last:expr),*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            visitor.visit_u64(self.whole($last)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Input {
    type Error = Refused;

    whole_numbers!(
        deserialize_u8: u8::MAX.into(),
        deserialize_u16: u16::MAX.into(),
        deserialize_u32: u32::MAX.into(),
        deserialize_u64: u64::MAX
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Self::Text(text) | Self::Word(text) => visitor.visit_string(text),
            Self::List(list) => visitor.visit_seq(Elements(list.into_iter().enumerate())),
            Self::Object(members) => {
                visitor.visit_map(Members { rest: members.into_iter(), value: None })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self {
            Self::Bool(value) => visitor.visit_bool(*value),
            Self::Word(word) if word == "true" => visitor.visit_bool(true),
            Self::Word(word) if word == "false" => visitor.visit_bool(false),
            other => Err(other.is_not("true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) | Self::Word(text) => visitor.visit_string(text),
            other => Err(other.is_not("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Null => visitor.visit_none(),
            present => visitor.visit_some(present),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) | Self::Word(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(other.is_not("text")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            list @ Self::List(_) => list.deserialize_any(visitor),
            other => Err(other.is_not("a list")),
        }
    }

    // A struct could be read from a list as well; here it is an object.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self {
            object @ Self::Object(_) => object.deserialize_any(visitor),
            other => Err(other.is_not("an object")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Until {
        Captured,
        Saved,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Part {
        of: u8,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Call {
        slug: String,
        count: Option<u32>,
        force: Option<bool>,
        until: Option<Until>,
        read: Option<Part>,
        #[serde(default)]
        paths: Vec<String>,
    }

    fn json(text: &str) -> Result<Call, String> {
        let input: Input = serde_json::from_str(text).unwrap();
        Call::deserialize(input).map_err(|refused| refused.told("the body"))
    }

    fn query(text: &str) -> Result<Call, String> {
        let read = Input::query(text).and_then(Call::deserialize);
        read.map_err(|refused| refused.told("the query"))
    }

    #[test]
    fn what_a_request_says_is_read() {
        let text = r#"{"slug":"a","count":3,"force":true,"until":"saved","read":{"of":1},
            "paths":["b"]}"#;
        let call = json(text).unwrap();
        assert_eq!((call.count, call.force, call.until), (Some(3), Some(true), Some(Until::Saved)));
        assert_eq!((call.read, call.paths), (Some(Part { of: 1 }), vec!["b".to_owned()]));
        let call = query("slug=%C3%A4+b&count=3&&force=false&until=captured").unwrap();
        assert_eq!((call.slug.as_str(), call.count, call.force), ("ä b", Some(3), Some(false)));
        assert_eq!(json(r#"{"slug":"a","count":null}"#).unwrap().count, None);
    }

    #[test]
    fn what_is_refused_is_named_in_plain_words() {
        for (text, said) in [
            ("[]", "the body is an object, found a list"),
            ("[\"a\"]", "the body is an object, found a list"),
            ("{}", "field \"slug\" is missing"),
            (r#"{"slug":5}"#, "field \"slug\" is text, found 5"),
            (r#"{"slug":null}"#, "field \"slug\" is text, found null"),
            (r#"{"slug":"a","slug":"b"}"#, "field \"slug\" is there twice"),
            (
                r#"{"slug":"a","\u001b":1}"#,
                "field \"\\x1b\" is unknown: here are slug, count, force, until, read and paths",
            ),
            (
                r#"{"slug":"a","count":-1}"#,
                "field \"count\" is a whole number from 0 to 4294967295, found -1",
            ),
            (
                r#"{"slug":"a","count":1.5}"#,
                "field \"count\" is a whole number from 0 to 4294967295, found 1.5",
            ),
            (r#"{"slug":"a","force":"true"}"#, "field \"force\" is true or false, found \"true\""),
            (
                r#"{"slug":"a","until":"later"}"#,
                "field \"until\" is captured or saved, found \"later\"",
            ),
            (r#"{"slug":"a","until":{}}"#, "field \"until\" is text, found an object"),
            (r#"{"slug":"a","read":[1]}"#, "field \"read\" is an object, found a list"),
            (
                r#"{"slug":"a","read":{"of":256}}"#,
                "field \"read.of\" is a whole number from 0 to 255, found 256",
            ),
            (
                r#"{"slug":"a","read":{"x":1}}"#,
                "field \"read.x\" is unknown: \"of\" is the one here",
            ),
            (r#"{"slug":"a","paths":["a",7]}"#, "field \"paths[1]\" is text, found 7"),
            (r#"{"slug":"a","paths":"a"}"#, "field \"paths\" is a list, found \"a\""),
        ] {
            assert_eq!(json(text).unwrap_err(), said, "{text}");
        }
        for (text, said) in [
            ("", "field \"slug\" is missing"),
            ("slug=a&slug=b", "field \"slug\" is there twice"),
            (
                "slug=%FF",
                "field \"slug\" is not UTF-8; a byte of a path that is none is written \\xNN",
            ),
            ("slug=%f", "field \"slug\" has a % without two hexadecimal digits"),
            ("%zz=a", "the query has a % without two hexadecimal digits"),
            (
                "slug=a&count=+1",
                "field \"count\" is a whole number from 0 to 4294967295, found \" 1\"",
            ),
            ("slug=a&force=1", "field \"force\" is true or false, found \"1\""),
        ] {
            assert_eq!(query(text).unwrap_err(), said, "{text}");
        }
    }
}
