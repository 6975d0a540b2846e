//! The calls of the API as its document has them.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::caller::Call;
use super::values;

/// One call.
#[derive(Debug, Clone)]
pub struct Operation {
    pub id: String,
    pub method: String,
    /// With its parameters in braces.
    pub path: String,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
}

/// One parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    /// `path`, `query` or `header`.
    pub place: String,
    pub is_required: bool,
}

/// What a call takes as its body.
#[derive(Debug, Clone)]
pub enum Body {
    Json(Vec<Field>),
    Bytes(String),
}

/// One member of a JSON body.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub is_required: bool,
    /// The JSON types that it may have.
    pub types: Vec<String>,
}

fn document() -> Value {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi/cove-1.json");
    serde_json::from_slice(&std::fs::read(place).unwrap()).unwrap()
}

/// The paths, each with the methods that it has.
pub fn paths() -> Vec<(String, Vec<String>)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = |calls: &Value| {
        calls.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect()
    };
    paths.map(|(path, calls)| (path.clone(), methods(calls))).collect()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
        None => schema,
    }
}

fn types(document: &Value, schema: &Value) -> Vec<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().flat_map(|one| types(document, one)).collect();
    }
    match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => {
            several.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        }
        other => panic!("a field without a type: {schema} ({other})"),
    }
}

fn fields(document: &Value, schema: &Value) -> Vec<Field> {
    let schema = resolved(document, schema);
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let members = schema["properties"].as_object().unwrap();
    members
        .iter()
        .map(|(name, schema)| Field {
            name: name.clone(),
            is_required: required.contains(&name.as_str()),
            types: types(document, schema),
        })
        .collect()
}

/// All calls.
pub fn operations() -> Vec<Operation> {
    let document = document();
    let mut operations = Vec::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let parameters = call["parameters"].as_array().into_iter().flatten();
            let content = &call["requestBody"]["content"];
            let body = match content["application/json"].as_object() {
                Some(json) => Some(Body::Json(fields(&document, &json["schema"]))),
                None => content
                    .as_object()
                    .and_then(|kinds| kinds.keys().next())
                    .map(|kind| Body::Bytes(kind.clone())),
            };
            operations.push(Operation {
                id: call["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                parameters: parameters
                    .map(|one| Parameter {
                        name: one["name"].as_str().unwrap().to_owned(),
                        place: one["in"].as_str().unwrap().to_owned(),
                        is_required: one["required"] == true,
                    })
                    .collect(),
                body,
            });
        }
    }
    assert!(operations.len() > 25, "the document was read");
    operations
}

/// What a call is made of, so that one part of it can be bad.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The values in the path, escaped.
    pub path: Vec<(String, String)>,
    /// The pairs of the query, escaped.
    pub query: Vec<(String, String)>,
    pub headers: Vec<Vec<u8>>,
    pub json: Option<Map<String, Value>>,
}

/// Escapes whatever is not plain in a path or query.
pub fn escaped(text: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(*byte));
            }
            byte => write!(escaped, "%{byte:02X}").unwrap(),
        }
    }
    escaped
}

impl Operation {
    /// What is needed for a lawful call, and no more.
    pub fn parts(&self, entry: &str) -> Parts {
        let pairs = |place: &str| {
            let parameters = self.parameters.iter().filter(|one| one.place == place);
            parameters
                .filter(|one| one.is_required || place == "path")
                .map(|one| (one.name.clone(), escaped(values::lawful(&one.name, entry).as_bytes())))
                .collect()
        };
        let json = match &self.body {
            Some(Body::Json(fields)) => {
                let needed = fields.iter().filter(|field| field.is_required);
                Some(
                    needed
                        .map(|field| {
                            (field.name.clone(), json!(values::lawful(&field.name, entry)))
                        })
                        .collect(),
                )
            }
            _ => None,
        };
        Parts { path: pairs("path"), query: pairs("query"), headers: Vec::new(), json }
    }

    /// The call with these parts.
    pub fn call(&self, parts: &Parts) -> Call {
        let mut target = self.path.clone();
        for (name, value) in &parts.path {
            target = target.replace(&format!("{{{name}}}"), value);
        }
        let query: Vec<String> =
            parts.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !query.is_empty() {
            write!(target, "?{}", query.join("&")).unwrap();
        }
        let mut call = Call::new(&self.method, &target);
        call.headers.clone_from(&parts.headers);
        match (&self.body, &parts.json) {
            (Some(Body::Json(_)), Some(json)) => call.json(&Value::Object(json.clone())),
            // which is no archive either
            (Some(Body::Bytes(kind)), _) => call.body(kind, "bytes"),
            _ => call,
        }
    }
}
